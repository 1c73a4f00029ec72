"""The goal critic: right order on a corridor, zero without a goal, and what its targets are made of."""

from copy import deepcopy

import pytest
import torch

from hjepa.modules.critic.goal import GoalCritic
from hjepa.nets import update_average
from hjepa.types import CriticBatch, LevelSpec

CELLS, TIME = 12, 8


def critic(discount=0.95, **config):
    spec = LevelSpec(0, CELLS, 4, CELLS, 4, 1, 1, 4, 2, 2, CELLS, 1, 0, discount)
    return GoalCritic(GoalCritic.Config(**({"width": 64} | config)), spec)


def walks(rows=64, drift=0.5):
    """Windows, shorter than the corridor, of a walk that steps right with probability `drift`, else left."""
    steps = 2 * (torch.rand(rows, TIME) < drift).long() - 1
    cells = [torch.randint(0, CELLS, (rows,))]
    for time in range(TIME - 1):
        cells.append((cells[-1] + steps[:, time]).clamp(0, CELLS - 1))
    states = torch.nn.functional.one_hot(torch.stack(cells, 1), CELLS).float()
    return window(states, torch.arange(TIME) < TIME - 1)


def window(states, reaches):
    rows, time = states.shape[:2]
    following = (torch.arange(time) + 1).clamp_max(time - 1).expand(rows, -1)
    energies, reaches = torch.zeros(rows, time), reaches.expand(rows, -1)
    none = torch.zeros(rows, time, dtype=torch.bool)
    actions, tokens = torch.zeros(rows, time, dtype=torch.int64), torch.zeros(rows, time, 0, 0)
    return CriticBatch(states, states, actions, energies, following, reaches, none, tokens)


def distances(module):
    """d[s, g] of every pair of cells."""
    cells = torch.eye(CELLS)
    shape = (CELLS, CELLS, CELLS)
    state, goal = cells[:, None].expand(shape), cells[None].expand(shape)
    has_goal = torch.ones(CELLS, CELLS, dtype=torch.bool)
    return module(state, goal, has_goal, torch.zeros(CELLS, CELLS, 0, 0)).detach()


def train(module, make, updates):
    target = deepcopy(module).requires_grad_(False)
    optimiser = torch.optim.AdamW(module.parameters(), lr=3e-3, weight_decay=0)
    batches = [make() for _ in range(32)]
    for update in range(updates):
        loss, info = module.loss(batches[update % 32], target)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        update_average(target, module, 0.05)
    return info


def test_r31_distances_on_a_corridor_are_in_order_beyond_the_window():
    torch.manual_seed(0)
    module = critic()
    train(module, walks, updates=400)
    learned = distances(module)
    assert learned.diagonal().max() < 0.03
    for far_to_near in (learned[:, -1], learned[0].flip(0)):
        assert (far_to_near[2:].diff() < 0).all(), far_to_near
        assert far_to_near[:3].min() > far_to_near[3]


def test_r31_a_drift_to_the_right_makes_the_left_far():
    """A walk that only steps right takes exactly k steps to the k-th cell, and never comes back."""
    torch.manual_seed(0)
    module = critic()
    train(module, lambda: walks(drift=1.0), updates=400)
    learned = distances(module)
    torch.testing.assert_close(learned[4, 5:9], 1 - 0.95 ** torch.arange(1, 5), atol=0.06, rtol=0)
    assert learned[8, :6].min() > 0.7


def test_zero_without_a_goal_and_in_the_unit_interval():
    torch.manual_seed(0)
    module = critic()
    state, goal, tokens = torch.randn(5, CELLS), torch.randn(5, CELLS), torch.zeros(5, 0, 0)
    has_goal = torch.tensor([True, False, True, False, True])
    value = module(state, goal, has_goal, tokens)
    assert (value[~has_goal] == 0).all()
    assert ((value[has_goal] > 0) & (value[has_goal] < 1)).all()


def test_goals_of_the_window_stay_in_the_episode():
    torch.manual_seed(0)
    states = torch.arange(TIME).float()[None, :, None].expand(32, -1, CELLS)
    reaches = torch.ones(TIME, dtype=torch.bool)
    reaches[[3, TIME - 1]] = False
    later, steps = critic()._later(window(states, reaches))
    start = torch.arange(TIME).expand(32, -1)
    assert torch.equal(later, start + steps)
    assert (later[:, :4] <= 3).all() and (later[:, 4:] >= 4).all()
    assert set(steps[:, 0].tolist()) == {0, 1, 2, 3}


def test_imagined_loss_pulls_predicted_states_only():
    torch.manual_seed(0)
    module = critic()
    predicted, actual = torch.randn(8, CELLS, requires_grad=True), torch.randn(8, CELLS, requires_grad=True)
    tokens = torch.zeros(8, 0, 0)
    module.imagined_loss(predicted, actual, tokens)[0].backward()
    assert actual.grad is None and predicted.grad.abs().sum() > 0
    assert module.imagined_loss(actual, actual, tokens)[0] == 0


def test_golden_loss():
    torch.manual_seed(0)
    module = critic()
    loss, info = module.loss(walks(), deepcopy(module))
    assert loss.item() == pytest.approx(1.2612987756729126, rel=1e-4)
    assert all(value.dim() == 0 and not value.requires_grad for value in info.values())
