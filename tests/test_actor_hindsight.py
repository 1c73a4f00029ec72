"""Subgoals followed by what has led to such states before: what is walked, what is learned from it, what is done."""

import math
from dataclasses import replace

import pytest
import torch
from test_actor import quiet, situation
from tiny_agent import SHAPING, batch_of, play, tiny_agent, tiny_config, tiny_run, updates

from hjepa.modules.hindsight import advantage_weights
from hjepa.train.learning import (
    agent_loss,
    choices_taken,
    critic_batch,
    encode,
    level_batch,
    one_hot_actions,
    walked_to,
)
from hjepa.types import Walked

HINDSIGHT = "actor.satisfaction=hindsight"


def taken_of(agent, windows, level: int):
    """Choices of `level` at every record."""
    lower = one_hot_actions(windows.actions, agent.spec.env.num_actions)
    for below in range(level):
        lower = choices_taken(agent, windows, level_batch(windows, below, lower), below).embeddings
    return choices_taken(agent, windows, level_batch(windows, level, lower), level).indices


@pytest.mark.parametrize("level", [0, 1])
def test_what_was_walked_is_at_most_a_step_of_the_level_above_and_in_the_same_episode(level: int, tmp_path) -> None:
    config = tiny_config(3, HINDSIGHT)
    run = tiny_run(config, tmp_path)
    trajectory = batch_of(run, config)
    windows = encode(run.agent, trajectory, SHAPING)
    choices = taken_of(run.agent, windows, level)
    walked = walked_to(run.agent, windows, level, critic_batch(windows, level, choices, SHAPING))
    batch, time = choices.shape
    goals, above = walked.goal.view(batch, time, -1), windows.states[level + 1]
    span, longest = run.agent.spec.levels[level].span, run.agent.spec.levels[level + 1].stride
    episode = trajectory.is_first.cumsum(1)
    seen = set()
    for row, t in walked.reached.view(batch, time).nonzero().tolist():
        steps = [
            n for n in range(1, longest + 1) if t + n * span < time and episode[row, t + n * span] == episode[row, t]
        ]
        at = [n for n in steps if torch.equal(goals[row, t], above[row, t + n * span])]
        assert at, (row, t)
        seen.update(at)
        assert choices[row, t] >= 0 and walked.choice.view(batch, time)[row, t] == choices[row, t]
    assert seen == set(range(1, longest + 1))


def walked_by(agent, choice, goal, advantage=None, reached=None) -> tuple[Walked, ...]:
    """The same at every level: `choice` led toward `goal`, and to it as the level's next state."""
    rows = len(choice)
    ones = torch.ones(rows, dtype=torch.bool)
    reached = ones if reached is None else reached
    advantage = torch.zeros(rows) if advantage is None else advantage
    return tuple(
        Walked(choice, goal[:, : level.upper_dim], reached, goal[:, : level.dim], ones, advantage)
        for level in agent.spec.levels
    )


def learn(agent, states, task, walked, steps: int):
    """Steps of the actor alone, on the same rows."""
    optimiser = torch.optim.Adam(agent.actor.parameters(), 1e-2)
    for _ in range(steps):
        optimiser.zero_grad()
        loss, info = agent.actor.loss(agent.world, states, task, walked)
        loss.backward()
        optimiser.step()
    return info


def test_a_follower_learns_which_choice_leads_where_and_the_plan_goes_there() -> None:
    agent = tiny_agent(2, HINDSIGHT, "actor.subgoal_weight=50.0").train()
    states, subgoals, task = situation(agent, 60)
    choice = torch.arange(60) % 3
    goal = torch.nn.functional.one_hot(choice, 64).float()
    info = learn(agent, states, task, walked_by(agent, choice, goal), 40)
    assert info["follower_accuracy_0"] == 1.0
    agent.actor.energy_unit.fill_(1.0)
    goal = goal[:, : agent.spec.levels[0].upper_dim]
    toward = type(subgoals[0])(goal, subgoals[0].remaining, subgoals[0].active)
    assert torch.equal(agent.actor.search(agent.world, 0, states[0], toward, task).actions[:, 0], choice)
    # Without a subgoal, or without weight, nothing is followed.
    idle = type(toward)(goal, toward.remaining, torch.zeros_like(toward.active))
    free = agent.actor.search(agent.world, 0, states[0], idle, task)
    agent.actor.subgoal_weight = 0.0
    assert torch.equal(agent.actor.search(agent.world, 0, states[0], toward, task).energy, free.energy)
    assert not torch.equal(free.actions[:, 0], choice)


def test_a_level_alone_does_what_went_better_than_expected() -> None:
    agent = tiny_agent(1, HINDSIGHT, "actor.subgoal_weight=50.0", "actor.advantage_weight=2.0").train()
    states, subgoals, task = situation(agent, 60)
    states = (states[0][:1].expand(60, -1),)
    better = torch.arange(60) % 3 == 1
    walked = walked_by(agent, torch.arange(60) % 3, torch.zeros(60, 64), torch.where(better, 1.0, -0.5))
    learn(agent, states, task, walked, 30)
    agent.actor.energy_unit.fill_(1.0)
    assert (agent.actor.search(agent.world, 0, states[0], subgoals[0], task).actions[:, 0] == 1).all()


def test_advantages_are_weighed_in_units_of_their_own_spread() -> None:
    rows, advantage = torch.tensor([True, True, True, False]), torch.tensor([1.0, -1.0, 0.0, 100.0])
    unit = (2 / 3) ** 0.5
    weight = advantage_weights(advantage, rows, 2.0)
    assert weight.tolist() == pytest.approx([math.exp(2 / unit), math.exp(-2 / unit), 1.0, 20.0], rel=1e-5)
    assert torch.allclose(advantage_weights(1e-3 * advantage, rows, 2.0), weight)
    assert (advantage_weights(advantage, rows, 0.0) == 1).all()
    assert (advantage_weights(torch.zeros(4), rows, 2.0) == 1).all()


def test_a_setter_hands_down_where_the_better_walks_led() -> None:
    agent = tiny_agent(2, HINDSIGHT, "actor.proposal=hindsight", "actor.advantage_weight=3.0").train()
    states, subgoals, task = situation(agent, 40)
    states = tuple(state[:1].expand(40, -1) for state in states)
    level, better = agent.spec.levels[1], torch.arange(40) % 4 == 0
    ends = torch.nn.functional.layer_norm(torch.randn(2, level.dim), (level.dim,))
    ones = torch.ones(40, dtype=torch.bool)
    advantage = torch.where(better, 1.0, -1 / 3)
    walked = tuple(
        Walked(ones.long(), torch.zeros(40, one.upper_dim), ones, torch.zeros(40, one.dim), ones, advantage)
        for one in agent.spec.levels
    )
    walked = (walked[0], replace(walked[1], next=ends[better.long()]))
    learn(agent, states, task, walked, 60)
    for mode in (1, 2):
        now = quiet(40, 2, mode=torch.full((40,), mode), is_first=ones)
        choice = agent.actor.decide(agent.world, states, tuple(subgoals), task, now)
        told = choice.subgoals[0].latent[0]
        assert (told - ends[1]).norm() < 0.3 * (told - ends[0]).norm()
        assert choice.plans[1] is None
        aimed = replace(now, injected=(None, ends[:1].expand(40, -1)))
        again = agent.actor.decide(agent.world, states, tuple(subgoals), task, aimed)
        assert torch.equal(again.subgoals[0].latent, choice.subgoals[0].latent)


def test_rows_that_reached_nothing_teach_nothing() -> None:
    agent = tiny_agent(2, HINDSIGHT, "actor.proposal=hindsight").train()
    states, _, _ = situation(agent, 8)
    reached, none = torch.arange(8) < 4, torch.zeros(8, dtype=torch.bool)
    walked = walked_by(agent, torch.zeros(8, dtype=torch.int64), torch.randn(8, 64), reached=reached)
    other = tuple(
        replace(way, goal=torch.where(reached[:, None], way.goal, 7.0), next=torch.where(reached[:, None], way.next, 7))
        for way in walked
    )
    hindsight = agent.actor.hindsight
    assert torch.equal(hindsight.loss(states, walked)[0], hindsight.loss(states, other)[0])
    assert hindsight.loss(states, tuple(replace(way, reached=none) for way in walked))[0] == 0


@pytest.mark.parametrize("levels", [1, 2, 3])
def test_followers_and_setters_learn_and_shape_nothing_else(levels: int, tmp_path) -> None:
    config = tiny_config(levels, HINDSIGHT, "actor.proposal=hindsight")
    run = tiny_run(config, tmp_path)
    agent = run.agent
    followers, setters = agent.actor.hindsight.followers, agent.actor.hindsight.setters
    assert len(followers) == max(levels - 1, 1) and len(setters) == levels - 1
    updates(agent, [batch_of(run, config)])
    agent.zero_grad()
    _, info = agent_loss(agent, batch_of(run, config, 1), SHAPING)
    learned = {name for name in info if name.startswith(("actor/follower_accuracy", "actor/setter"))}
    assert learned == {f"actor/follower_accuracy_{level}" for level in range(max(levels - 1, 1))} | {
        f"actor/setter_{level}" for level in range(1, levels)
    }
    states = tuple(torch.randn(6, level.dim, requires_grad=True) for level in agent.spec.levels)
    task = agent.configure(torch.ones(6, 1, dtype=torch.int64))
    agent.zero_grad()
    walked = walked_by(agent, torch.ones(6, dtype=torch.int64), torch.randn(6, 64))
    agent.actor.loss(agent.world, states, task, walked)[0].backward()
    assert all(state.grad is None for state in states)
    for learner in (*followers, *setters):
        assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in learner.parameters())
    touched = {name.split(".")[0] for name, parameter in agent.named_parameters() if parameter.grad is not None}
    assert touched == {"actor"}


def test_whoever_does_not_look_back_is_not_told() -> None:
    agent = tiny_agent(2)
    assert not agent.actor.learns_in_hindsight and not agent.actor.hindsight.learns
    states, _, task = situation(agent, 8)
    agent.actor.loss(agent.world, states, task, ())


@pytest.mark.parametrize("mode", [1, 2])
def test_an_agent_that_follows_in_hindsight_plays(mode: int) -> None:
    for _, decision, _ in play(tiny_agent(3, HINDSIGHT, "actor.proposal=hindsight"), 3, mode):
        assert all(level.subgoal.active.all() for level in decision.levels[:-1])


def test_the_highest_level_measures_an_injected_goal_by_distance() -> None:
    agent = tiny_agent(2, HINDSIGHT)
    states, subgoals, task = situation(agent)
    energy = agent.actor.search(agent.world, 1, states[1], subgoals[1], task).energy
    idle = type(subgoals[1])(subgoals[1].latent, subgoals[1].remaining, torch.zeros_like(subgoals[1].active))
    assert (energy - agent.actor.search(agent.world, 1, states[1], idle, task).energy).abs().min() > 1e-3
