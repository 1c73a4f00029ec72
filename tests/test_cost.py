"""The intrinsic cost, how energies add up, and observation codes."""

import hashlib

import pytest
import torch

from hjepa.cost import (
    AGENT,
    INTERACTIONS,
    interaction,
    intrinsic_energy,
    object_ahead,
    observation_code,
    path_energy,
    situation,
    total_energy,
)
from hjepa.modules.drive.effort import EffortDrive
from hjepa.modules.drive.elliptical import EllipticalDrive
from hjepa.modules.drive.guardrail import GuardrailDrive
from hjepa.modules.drive.task import TaskDrive
from hjepa.modules.intrinsic_cost.drives import DrivesCost
from tests.test_drive import SPEC, ExactMemory, memory_of, signals

KINDS = (TaskDrive, GuardrailDrive, EllipticalDrive, GuardrailDrive)


def make(kinds=KINDS, floors=None):
    configs = tuple(kind.Config() for kind in kinds)
    drives = [kind(one, SPEC) for kind, one in zip(kinds, configs, strict=True)]
    return DrivesCost(DrivesCost.Config(drives=configs, floors=floors or {}), SPEC, drives)


def digest(module):
    whole = b"".join(name.encode() + value.numpy().tobytes() for name, value in module.state_dict().items())
    return hashlib.sha256(whole).hexdigest()


def test_r24_cost_is_the_weighted_sum_of_drives_and_critics():
    energies, weights = torch.tensor([[1.0, -2.0, 0.5]]), torch.tensor([[2.0, 1.0, 4.0]])
    intrinsic = intrinsic_energy(energies, weights)
    assert intrinsic.tolist() == [1 * 2 - 2 * 1 + 0.5 * 4]
    assert total_energy(intrinsic, torch.tensor([3.0]), torch.tensor([0.5])).tolist() == [3.5]


def test_r24_a_path_counts_the_critic_once_at_its_end():
    intrinsic = torch.tensor([[1.0, 2.0, 4.0], [0.0, 0.0, 0.0]])
    found = path_energy(intrinsic, torch.tensor([8.0, 16.0]), 0.5)
    assert found.tolist() == [1 + 1 + 1 + 1, 2.0]


def test_r28_energies_are_additive_and_batched():
    torch.manual_seed(0)
    energies, weights = torch.randn(3, 5, 4), torch.rand(3, 1, 4)
    whole = intrinsic_energy(energies, weights)
    assert whole.shape == (3, 5)
    parts = intrinsic_energy(energies[..., :2], weights[..., :2])
    parts = parts + intrinsic_energy(energies[..., 2:], weights[..., 2:])
    torch.testing.assert_close(whole, parts)
    paths = torch.stack([path_energy(whole[row], torch.ones(()), 0.9) for row in range(3)])
    torch.testing.assert_close(path_energy(whole, torch.ones(3), 0.9), paths)


def test_r25_training_the_agent_leaves_the_intrinsic_cost_as_it_is():
    torch.manual_seed(0)
    cost, state = make(), torch.nn.Linear(8, 8)
    agent = torch.nn.ModuleList([cost, state])
    before = digest(cost)
    optimiser = torch.optim.AdamW(agent.parameters(), lr=1.0, weight_decay=0.5)
    perceived = signals(state=state(torch.randn(2, 8)))
    energies = cost.perceived(perceived, ExactMemory(), memory_of()) + cost.predicted(state(torch.randn(2, 8))[:, :4])
    energies.sum().backward()
    optimiser.step()
    assert not list(cost.parameters())
    assert digest(cost) == before


def test_r25_a_drive_that_could_learn_is_refused():
    class Learning(TaskDrive):
        def __init__(self, config, spec):
            super().__init__(config, spec)
            self.weight = torch.nn.Parameter(torch.ones(()))

    with pytest.raises(ValueError, match="has parameters"):
        make((Learning,))


def test_r26_guardrails_are_not_weighed_below_their_floors():
    weights = torch.tensor([[-1.0, 0.0, 0.5, 0.1], [3.0, 2.0, -2.0, 9.0]])
    clamped = make(floors={"guardrail_2": 0.25}).clamp(weights)
    assert clamped.tolist() == [[0.0, 1.0, 0.5, 0.25], [3.0, 2.0, 0.0, 9.0]]


def test_r26_a_floor_for_what_is_no_guardrail_is_refused():
    with pytest.raises(ValueError, match="'task' is not a guardrail"):
        make(floors={"task": 1.0})


def test_names_tell_repeated_drives_apart():
    assert make().names == ("task", "guardrail", "elliptical", "guardrail_2")
    assert make((EffortDrive,)).names == ("effort",)


def test_r27_columns_are_the_drives_own_energies():
    cost = make()
    given = signals(reward=[1.0, 0.0], action=[2, 2])
    found = cost.perceived(given, ExactMemory(), memory_of())
    for column, drive in enumerate(cost.drives):
        assert torch.equal(found[:, column], drive.perceived(given, ExactMemory(), memory_of()))
    readouts = torch.tensor([[[-1.0, -1.0, -1.0, 2.0]]])
    assert cost.predicted(readouts).tolist() == [[[-1.0, 0.0, -1.0, 2.0]]]


def test_codes_tell_views_apart_and_are_the_same_for_ever():
    torch.manual_seed(0)
    image = torch.randint(0, 11, (7, 7, 3), dtype=torch.uint8)
    changed = image.expand(147, 7, 7, 3).clone()
    changed.view(147, 147).diagonal().add_(1)
    codes = observation_code(torch.cat([image[None], changed]))
    assert codes.unique().numel() == 148
    assert torch.equal(codes[:1], observation_code(image[None])) and codes.min() >= 0
    assert observation_code(torch.zeros(7, 7, 3, dtype=torch.uint8)).item() == 456838581817088
    assert observation_code(image.expand(2, 3, 7, 7, 3)).shape == (2, 3)


def test_codes_spread_over_hash_bins():
    torch.manual_seed(0)
    codes = observation_code(torch.randint(0, 3, (4096, 7, 7, 3), dtype=torch.uint8))
    filled = (codes % 4096).unique().numel() / 4096
    assert filled == pytest.approx(1 - 0.3679, abs=0.03)


def test_in_a_full_view_what_lies_ahead_is_next_to_the_agent_wherever_it_is():
    """Column 5, row 2 of a wide grid; around it a key, a ball, a box and an open door, east, south, west and north."""
    image = torch.ones(9, 6, 3, dtype=torch.uint8)
    image[5, 2] = torch.tensor((AGENT, 0, 0))
    for (column, row), around in zip(((6, 2), (5, 3), (4, 2), (5, 1)), (5, 6, 7, 4), strict=True):
        image[column, row] = torch.tensor((around, 0, 0))
    views = image.repeat(4, 1, 1, 1)
    views[:, 5, 2, 2] = torch.arange(4)
    assert object_ahead(observation_code(views)).tolist() == [5, 6, 7, 4]
    corner = torch.ones(1, 9, 6, 3, dtype=torch.uint8)
    corner[0, 0, 0] = torch.tensor((AGENT, 0, 2))
    assert observation_code(corner).shape == (1,), "the edge of the grid is no error"


def test_a_code_tells_what_lies_ahead():
    image = torch.zeros(10, 7, 7, 3, dtype=torch.uint8)
    image[:, 3, 5, 0] = torch.arange(10, dtype=torch.uint8)
    assert object_ahead(observation_code(image)).tolist() == list(range(10))


def test_an_interaction_is_what_lies_ahead_what_is_in_hand_and_the_action():
    image = torch.randint(0, 3, (1, 7, 7, 3), dtype=torch.uint8)
    code = observation_code(image)
    kinds = {int(interaction(code, torch.tensor([action]))) for action in range(7)}
    for row, channel, value in ((5, 0, 9), (5, 2, 3), (6, 0, 5)):
        changed = image.clone()
        changed[0, 3, row, channel] = value
        kinds.add(int(interaction(observation_code(changed), torch.tensor([0]))))
    elsewhere = image.clone()
    elsewhere[0, 0, 0] = 7
    assert interaction(observation_code(elsewhere), torch.tensor([0])) == interaction(code, torch.tensor([0]))
    assert len(kinds) == 10 and max(kinds) < INTERACTIONS


def test_a_situation_is_the_view_and_an_exact_memory_of_the_episode():
    code = torch.tensor([5, 5, 6])
    maps = torch.zeros(3, 2, 4, 4, dtype=torch.uint8)
    maps[1, 1, 2, 3] = 1
    here = situation(code, maps)
    assert len(set(here.tolist())) == 3 and bool((here >= 0).all())
    assert torch.equal(situation(code, maps.clone()), here)
    assert torch.equal(situation(code, torch.randn(3, 8)), code)
    assert torch.equal(situation(code, maps[:, :, :0]), code)
