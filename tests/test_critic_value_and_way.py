"""The critic of values and ways: which of the two speaks, what each learns, and that a search goes by the way."""

from dataclasses import replace

import torch
from test_critic_goal import CELLS, TIME, walks
from tiny_agent import WIDTHS, batch_of, tiny_config, tiny_run, updates

from hjepa.modules.critic.quasimetric import QuasimetricCritic, episodes
from hjepa.modules.critic.td import TemporalDifferenceCritic
from hjepa.modules.critic.value_and_way import ValueAndWayCritic
from hjepa.types import LevelSpec, Subgoal

SPEC = LevelSpec(1, CELLS, 4, CELLS, 4, 4, 4, 2, 2, 2, CELLS, 1, 0, 0.95)
UPPER = "{kind: value_and_way, value: {kind: td, width: 16}, way: {kind: quasimetric, width: 16, longest: 2}}"


def critic(**way) -> ValueAndWayCritic:
    torch.manual_seed(0)
    value = TemporalDifferenceCritic(TemporalDifferenceCritic.Config(width=32), SPEC)
    quasimetric = QuasimetricCritic(QuasimetricCritic.Config(**({"width": 64} | way)), SPEC)
    return ValueAndWayCritic(ValueAndWayCritic.Config(), SPEC, value, quasimetric)


def spans_of_four(drift: float = 1.0):
    """Windows in which a step of the level is four records long, or as many as the window has left."""
    batch, time = walks(drift=drift), torch.arange(TIME)
    following = (time + 4).clamp_max(TIME - 1).expand_as(batch.next_index)
    return replace(batch, next_index=following, reaches=(time + 4 < TIME).expand_as(batch.reaches))


def test_the_way_is_told_where_there_is_a_goal_and_the_value_where_there_is_none() -> None:
    module = critic()
    module.value.loss(walks(), module.value)
    state, goal = torch.randn(2, 6, CELLS)
    has_goal, tokens = torch.arange(6) < 3, torch.zeros(6, 0, 0)
    told = module(state, goal, has_goal, tokens)
    assert torch.equal(told[:3], module.way(state, goal, ~torch.zeros(6, dtype=torch.bool), tokens)[:3])
    assert torch.equal(told[3:], module.value(state, goal, has_goal, tokens)[3:]) and (told[:3] > 0).all()


def test_both_learn_and_the_way_shapes_no_state() -> None:
    module, other, batch = critic(), critic(), spans_of_four()
    states = batch.states.clone().requires_grad_()
    batch = replace(batch, states=states)
    loss, info = module.loss(batch, module)
    loss.backward()
    (alone,) = torch.autograd.grad(other.value.loss(batch, other.value)[0], states)
    torch.testing.assert_close(states.grad, alone)
    assert all(parameter.grad is not None for parameter in module.parameters() if parameter.requires_grad)
    assert {"error", "way_step", "way_excess"} <= set(info)


def test_parts_of_a_step_are_parts_of_a_way() -> None:
    """Who walks right without a rest is a quarter of a step of the level away from the next cell."""
    module = critic(tightness=2.0, longest=2)
    optimiser = torch.optim.AdamW(module.way.parameters(), lr=3e-3, weight_decay=0)
    for _ in range(250):
        loss, _ = module.loss(spans_of_four(), module)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    cells = torch.eye(CELLS)
    some, tokens = torch.ones(CELLS - 4, dtype=torch.bool), torch.zeros(CELLS - 4, 0, 0)
    one, four = (module(cells[:-4], cells[ahead : CELLS - 4 + ahead], some, tokens).mean() for ahead in (1, 4))
    assert 0.15 < one < 0.35 and 0.8 < four < 1.2


def test_episodes_of_a_window_are_told_apart_at_every_level() -> None:
    batch = spans_of_four()
    following = batch.next_index[:1].clone()
    following[0, :3] = 2
    assert episodes(replace(batch, next_index=following))[0].tolist() == [0, 0, 0] + [1] * (TIME - 3)


def test_an_agent_learns_with_it_and_measures_its_subgoals_by_it(tmp_path) -> None:
    config = tiny_config(2, f"levels.1.critic={UPPER}", "actor.satisfaction=critic")
    run = tiny_run(config, tmp_path)
    infos = updates(run.agent, [batch_of(run, config, number) for number in range(2)])
    assert all(torch.isfinite(info["critic_1/way_step"]) for info in infos)
    agent, rows = run.agent.eval(), 3
    task = agent.configure(torch.zeros(rows, 1, dtype=torch.int64))
    states = agent.lift(torch.randn(rows, WIDTHS[0]), task.tokens)
    ones = torch.ones(rows, dtype=torch.int64)
    aim = Subgoal(torch.randn(rows, WIDTHS[1]), ones, ones.bool())
    told = agent.actor.search(agent.world, 0, states[0], aim, task).energy
    agent.critics[1].way.body[-1].weight.data.mul_(2.0)
    assert not torch.allclose(agent.actor.search(agent.world, 0, states[0], aim, task).energy, told)
