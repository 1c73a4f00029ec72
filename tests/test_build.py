"""Initial weights belong to a module's place: to add a level or to swap a module leaves all others as they were."""

import torch
from tiny_agent import DEBUG

from hjepa.agent import Agent
from hjepa.config import load
from hjepa.train.run import seeded_agent

ONE = "levels=[{dim: 24, action_dim: 8, stride: 1, horizon: 1, planner: {kind: exhaustive}}]"
TWO = ONE.removesuffix("]") + ", {dim: 16, action_dim: 8, stride: 4, horizon: 2, planner: {kind: beam}}]"


def built(*overrides: str) -> Agent:
    return seeded_agent(load(DEBUG, list(overrides)))


def changed(one: Agent, other: Agent) -> set[str]:
    """Parameters of `one` that `other` has not, or has otherwise."""
    theirs = dict(other.named_parameters())
    return {name for name, own in one.named_parameters() if name not in theirs or not torch.equal(own, theirs[name])}


def test_a_level_more_leaves_perception_and_level_0_as_they_were() -> None:
    # Level 0's policy alone is told of subgoals, and is as wide as these.
    assert all(name.startswith("actor.policies.0") for name in changed(built(ONE), built(TWO)))


def test_a_swapped_module_leaves_all_others_as_they_were() -> None:
    swapped = changed(built(ONE), built(ONE, "world_model.predictor.kind=gru"))
    assert swapped and all(name.startswith("world_models.0.predictor") for name in swapped)
    swapped = changed(built(TWO), built(TWO, "critic.width=24"))
    assert swapped and all(name.startswith(("critics.", "target_critics.")) for name in swapped)


def test_levels_and_seeds_differ() -> None:
    agent = built(TWO, "levels.1.dim=24")
    assert not torch.equal(agent.critics[0].body[0].weight, agent.critics[1].body[0].weight)  # type: ignore[union-attr,index]
    other = changed(agent, built(TWO, "levels.1.dim=24", "train.seed=1"))
    assert {name.split(".")[0] for name in other} >= {"perception", "world_models", "critics", "actor"}


def test_building_depends_on_nothing_drawn_before_but_the_seed() -> None:
    first = built(ONE)
    torch.randn(5)
    assert not changed(first, built(ONE))
