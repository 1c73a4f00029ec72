"""The quasimetric critic: its axioms hold whatever the weights, and it finds shortest ways from random walks."""

import pytest
import torch

from hjepa.modules.critic.quasimetric import QuasimetricCritic
from hjepa.types import CriticBatch, LevelSpec

CELLS, TIME = 8, 24


def critic(**config):
    torch.manual_seed(0)
    spec = LevelSpec(0, CELLS, 4, CELLS, 4, 1, 1, 4, 2, 2, CELLS, 1, 0, 0.95)
    return QuasimetricCritic(QuasimetricCritic.Config(**({"width": 64} | config)), spec)


def distance(module, state, goal):
    some = torch.ones(state.shape[:-1], dtype=torch.bool)
    return module(state, goal, some, torch.zeros(*state.shape[:-1], 0, 0))


def walk(rows=32):
    """Random walks to and fro on a ring, with rests: the way that was gone is seldom the shortest."""
    steps = torch.randint(-1, 2, (rows, TIME))
    cells = (torch.randint(0, CELLS, (rows, 1)) + steps.cumsum(1)) % CELLS
    states = torch.nn.functional.one_hot(cells, CELLS).float()
    time = torch.arange(TIME)
    following = (time + 1).clamp_max(TIME - 1).expand(rows, -1)
    no = torch.zeros(rows, TIME, dtype=torch.bool)
    nothing = torch.zeros(rows, TIME)
    return CriticBatch(
        states, states, nothing.long(), nothing, following, (time < TIME - 1).expand(rows, -1), no,
        torch.zeros(rows, TIME, 0, 0),
    )  # fmt: skip


def test_it_is_a_quasimetric_before_any_learning() -> None:
    module = critic()
    a, b, c = torch.randn(3, 500, CELLS)
    assert (distance(module, a, a).abs() < 1e-5).all() and (distance(module, a, b) > 0).all()
    assert (distance(module, a, c) <= distance(module, a, b) + distance(module, b, c) + 2e-3).all()
    assert (distance(module, a, b) - distance(module, b, a)).abs().max() > 1e-3


def test_it_learns_the_shortest_way_round_a_ring_from_dawdling_walks() -> None:
    module = critic(tightness=50.0)
    optimiser = torch.optim.AdamW(module.parameters(), lr=3e-3, weight_decay=0)
    batches = [walk() for _ in range(16)]
    for update in range(250):
        loss, _ = module.loss(batches[update % 16], module)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    cells = torch.eye(CELLS)
    found = distance(module, cells[:, None].expand(CELLS, CELLS, CELLS), cells.expand(CELLS, CELLS, CELLS)).detach()
    apart = (torch.arange(CELLS) - torch.arange(CELLS)[:, None]) % CELLS
    true = apart.minimum(CELLS - apart)
    # The goals are in their order, and a way takes about the steps that it must.
    assert torch.corrcoef(torch.stack((found.flatten(), true.flatten().float())))[0, 1] > 0.95
    assert found[true == 1].mean() == pytest.approx(1.0, abs=0.3)


def test_no_goal_costs_nothing_and_one_goal_for_many_states_is_as_many_goals() -> None:
    module = critic()
    state, goal = torch.randn(3, 7, 1, CELLS), torch.randn(3, CELLS)
    spread = goal[:, None, None].expand(3, 7, 1, CELLS)
    torch.testing.assert_close(distance(module, state, spread), distance(module, state, spread.clone()))
    none = torch.zeros(3, 7, 1, dtype=torch.bool)
    assert (module(state, spread, none, torch.zeros(3, 7, 1, 0, 0)) == 0).all()
    some = none.clone()
    some[0] = True
    mixed = module(state, spread, some, torch.zeros(3, 7, 1, 0, 0))
    assert (mixed[0] > 0).all() and (mixed[1:] == 0).all()


def test_records_of_other_episodes_of_the_window_are_not_pushed_apart() -> None:
    module, batch = critic(), walk(4)
    reaches = batch.reaches.clone()
    following = batch.next_index.clone()
    for cut in range(TIME):
        following[:, cut], reaches[:, cut] = cut, False
    alone = CriticBatch(
        batch.states, batch.target_states, batch.choices, batch.energies, following, reaches, batch.ended, batch.tokens
    )
    _, info = module.loss(alone, module)
    assert info["value"] < 1e-4 and info["excess"] == 0


def test_known_distances_are_learned() -> None:
    """Views in a row, a step apart: `fit` brings the distances to within a quarter of a step on average."""
    module, states = critic(), torch.eye(CELLS)
    begin, end = (part.flatten() for part in torch.meshgrid(torch.arange(CELLS), torch.arange(CELLS), indexing="ij"))
    optimiser = torch.optim.AdamW(module.parameters(), lr=3e-3, weight_decay=0)
    steps, tokens = (end - begin).abs().float(), torch.zeros(CELLS**2, 0, 0)
    for _ in range(200):
        loss, _ = module.fit(states[begin], states[end], steps, tokens)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert (distance(module, states[begin], states[end]) - steps).abs().mean() < 0.25
