"""Subgoals followed by what has led to such states before: what is walked, what is learned from it, what is done."""

import pytest
import torch
from test_actor import situation
from tiny_agent import SHAPING, batch_of, play, tiny_agent, tiny_config, tiny_run, updates

from hjepa.train.learning import agent_loss, choices_taken, encode, level_batch, one_hot_actions, walked_to
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
    walked = walked_to(run.agent, windows, level, choices)
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


def test_a_follower_learns_which_choice_leads_where_and_the_plan_goes_there() -> None:
    agent = tiny_agent(2, HINDSIGHT, "actor.subgoal_weight=50.0").train()
    states, subgoals, task = situation(agent, 60)
    choice = torch.arange(60) % 3
    goal = torch.nn.functional.one_hot(choice, agent.spec.levels[0].upper_dim).float()
    walked = (Walked(choice, goal, torch.ones(60, dtype=torch.bool)),)
    optimiser = torch.optim.Adam(agent.actor.parameters(), 1e-2)
    for _ in range(40):
        optimiser.zero_grad()
        loss, info = agent.actor.loss(agent.world, states, task, walked)
        loss.backward()
        optimiser.step()
    assert info["follower_accuracy_0"] == 1.0
    agent.actor.energy_unit.fill_(1.0)
    toward = type(subgoals[0])(goal, subgoals[0].remaining, subgoals[0].active)
    assert torch.equal(agent.actor.search(agent.world, 0, states[0], toward, task).actions[:, 0], choice)
    # Without a subgoal, or without weight, nothing is followed.
    idle = type(toward)(goal, toward.remaining, torch.zeros_like(toward.active))
    free = agent.actor.search(agent.world, 0, states[0], idle, task)
    agent.actor.subgoal_weight = 0.0
    assert torch.equal(agent.actor.search(agent.world, 0, states[0], toward, task).energy, free.energy)
    assert not torch.equal(free.actions[:, 0], choice)


def test_rows_that_reached_nothing_teach_nothing() -> None:
    agent = tiny_agent(2, HINDSIGHT).train()
    states, _, _ = situation(agent, 8)
    walked = Walked(torch.zeros(8, dtype=torch.int64), torch.randn(8, 12), torch.arange(8) < 4)
    other = Walked(walked.choice, torch.where(walked.reached[:, None], walked.goal, 7.0), walked.reached)
    follower = agent.actor.followers[0]
    assert torch.equal(follower.loss(states[0], walked)[0], follower.loss(states[0], other)[0])
    assert follower.loss(states[0], Walked(walked.choice, walked.goal, torch.zeros(8, dtype=torch.bool)))[0] == 0


@pytest.mark.parametrize("levels", [1, 2, 3])
def test_every_level_but_the_highest_learns_to_follow_and_shapes_nothing_else(levels: int, tmp_path) -> None:
    config = tiny_config(levels, HINDSIGHT)
    run = tiny_run(config, tmp_path)
    agent = run.agent
    assert len(agent.actor.followers) == levels - 1
    updates(agent, [batch_of(run, config)])
    agent.zero_grad()
    _, info = agent_loss(agent, batch_of(run, config, 1), SHAPING)
    assert [name for name in info if name.startswith("actor/follower_accuracy")] == [
        f"actor/follower_accuracy_{level}" for level in range(levels - 1)
    ]
    states = tuple(torch.randn(6, level.dim, requires_grad=True) for level in agent.spec.levels)
    task = agent.configure(torch.ones(6, 1, dtype=torch.int64))
    ones = torch.ones(6, dtype=torch.bool)
    walked = tuple(Walked(ones.long(), torch.randn(6, level.upper_dim), ones) for level in agent.spec.levels[:-1])
    agent.zero_grad()
    agent.actor.loss(agent.world, states, task, walked)[0].backward()
    assert all(state.grad is None for state in states)
    for follower in agent.actor.followers:
        assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in follower.parameters())
    touched = {name.split(".")[0] for name, parameter in agent.named_parameters() if parameter.grad is not None}
    assert touched == {"actor"}


@pytest.mark.parametrize("mode", [1, 2])
def test_an_agent_that_follows_in_hindsight_plays(mode: int) -> None:
    for _, decision, _ in play(tiny_agent(3, HINDSIGHT), 3, mode):
        assert all(level.subgoal.active.all() for level in decision.levels[:-1])


def test_the_highest_level_measures_an_injected_goal_by_distance() -> None:
    agent = tiny_agent(2, HINDSIGHT)
    states, subgoals, task = situation(agent)
    energy = agent.actor.search(agent.world, 1, states[1], subgoals[1], task).energy
    idle = type(subgoals[1])(subgoals[1].latent, subgoals[1].remaining, torch.zeros_like(subgoals[1].active))
    assert (energy - agent.actor.search(agent.world, 1, states[1], idle, task).energy).abs().min() > 1e-3
