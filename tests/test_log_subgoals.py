"""Subgoal bookkeeping against hand-made lives of subgoals."""

import pytest
import torch

from hjepa.log.subgoals import SubgoalTracker
from hjepa.types import AgentSpec, Decision, EnvSpec, LevelDecision, LevelSpec, Subgoal

KEPT, FIRST, DEADLINE, REACHED, SURPRISE = range(5)


def agent_spec(span: int = 4) -> AgentSpec:
    levels = tuple(
        LevelSpec(index, 2, 3, 2, 3, max(span * index, 1), max(span * index, 1), 1, 3, 3, 2, 1, 0, 0.99)
        for index in range(2)
    )
    return AgentSpec(EnvSpec("x", 3, (7, 7), 9), levels, ("task",), (False,), 0, 0.99)


class FakeRecord:
    def __init__(self, is_first, over):
        self.is_first = torch.tensor(is_first)
        self.terminated = torch.tensor(over)
        self.truncated = torch.zeros(len(over), dtype=torch.bool)


def step(tracker, reason, distance, latent, is_first=None, over=None, active=None):
    rows = len(reason)
    subgoal = Subgoal(
        torch.tensor(latent),
        torch.zeros(rows, dtype=torch.int64),
        torch.tensor(active if active is not None else [True] * rows),
    )
    nothing = torch.full((rows,), float("nan"))
    level = LevelDecision(
        torch.zeros(rows, 2),
        subgoal,
        torch.tensor(distance),
        torch.tensor(reason),
        torch.zeros(rows, 1, dtype=torch.int64),
        torch.zeros(rows, 1, 2),
        nothing,
        nothing,
    )
    zeros = torch.zeros(rows, dtype=torch.int64)
    decision = Decision(
        zeros, zeros, (level, level), torch.zeros(rows, 1), torch.ones(rows, 1), torch.ones(rows), zeros.sum()
    )
    tracker.update(decision, FakeRecord(is_first or [False] * rows, over or [False] * rows))


def test_one_life_is_counted_by_hand():
    tracker = SubgoalTracker(agent_spec())
    east, north = [[1.0, 0.0]], [[0.0, 1.0]]
    step(tracker, [FIRST], [1.0], east, is_first=[True])
    step(tracker, [KEPT], [0.6], east)
    step(tracker, [KEPT], [0.4], east)
    step(tracker, [REACHED], [1.2], north)
    step(tracker, [DEADLINE], [0.8], north)
    step(tracker, [KEPT], [float("nan")], north)
    summary = tracker.summary()
    assert summary["subgoal_0/distance"] == pytest.approx((1.0 + 0.6 + 0.4 + 1.2 + 0.8) / 5)
    assert summary["subgoal_0/distance/step_0"] == pytest.approx((1.0 + 1.2 + 0.8) / 3)
    assert summary["subgoal_0/distance/step_1"] == pytest.approx(0.6)
    assert summary["subgoal_0/distance/step_2"] == pytest.approx(0.4)
    assert summary["subgoal_0/reach_rate"] == 0.5
    assert summary["subgoal_0/time_to_reach"] == 3.0
    assert summary["subgoal_0/commitment"] == 2.0
    assert summary["subgoal_0/churn"] == pytest.approx((2**0.5 + 0.0) / 2)
    assert summary["subgoal_0/reason_reached"] == 0.5
    assert summary["subgoal_0/reason_deadline"] == 0.5
    assert summary["subgoal_0/reason_surprise"] == 0.0
    assert not any(name.startswith("subgoal_1") for name in summary)


def test_the_end_of_an_episode_counts_as_nothing():
    tracker = SubgoalTracker(agent_spec())
    goal = [[1.0, 0.0], [1.0, 0.0]]
    step(tracker, [FIRST, FIRST], [1.0, 1.0], goal, is_first=[True, True])
    step(tracker, [KEPT, REACHED], [0.5, 9.0], goal, over=[True, True])
    step(tracker, [FIRST, FIRST], [1.0, 1.0], goal, is_first=[True, True])
    summary = tracker.summary()
    # Row 1 reached its subgoal on the last step; what was set there (distance 9) was never acted on.
    assert summary["subgoal_0/reach_rate"] == 1.0
    assert summary["subgoal_0/time_to_reach"] == 1.0
    assert summary["subgoal_0/distance/step_0"] == 1.0
    assert summary["subgoal_0/distance/step_1"] == 0.5
    assert tracker.summary() == {}


def test_lives_go_on_over_a_summary():
    tracker = SubgoalTracker(agent_spec())
    goal = [[1.0, 0.0]]
    step(tracker, [FIRST], [1.0], goal, is_first=[True])
    step(tracker, [KEPT], [1.0], goal)
    tracker.summary()
    step(tracker, [REACHED], [1.0], goal)
    assert tracker.summary()["subgoal_0/time_to_reach"] == 2.0


def test_without_subgoals_nothing_is_said():
    tracker = SubgoalTracker(agent_spec())
    assert tracker.summary() == {}
    step(tracker, [KEPT], [float("nan")], [[0.0, 0.0]], is_first=[True], active=[False])
    assert tracker.summary() == {}


def test_ages_beyond_the_deadline_share_the_last_place():
    tracker = SubgoalTracker(agent_spec(span=2))
    step(tracker, [FIRST], [1.0], [[1.0, 0.0]], is_first=[True])
    for distance in (0.9, 0.8, 0.6):
        step(tracker, [KEPT], [distance], [[1.0, 0.0]])
    summary = tracker.summary()
    assert summary["subgoal_0/distance/step_2"] == pytest.approx(0.7)
    assert "subgoal_0/distance/step_3" not in summary


def test_saved_and_restored_it_counts_the_same():
    tracker, other = SubgoalTracker(agent_spec()), SubgoalTracker(agent_spec())
    step(tracker, [FIRST], [1.0], [[1.0, 0.0]], is_first=[True])
    other.restore({name: tensor.clone() for name, tensor in tracker.tensors().items()})
    for one in (tracker, other):
        step(one, [SURPRISE], [0.5], [[0.0, 2.0]])
    assert tracker.summary() == other.summary() != {}
    assert SubgoalTracker(agent_spec()).tensors() == {}
