"""What drives, the intrinsic cost and the critic promise."""

import copy
from dataclasses import replace

import torch

from hjepa.conformance.cases import ROWS, TIME, Bench, Sample, expect, level_spans
from hjepa.conformance.core import promised_by, require, require_close, require_shape
from hjepa.conformance.modelling import leaf, require_gradient, require_loss, require_trained
from hjepa.conformance.probes import remembered, signals, spread_goal
from hjepa.data.spans import actions_taken
from hjepa.interfaces import Critic, Drive, IntrinsicCost
from hjepa.types import CriticBatch


# ------------------------------------------------------------------- intrinsic cost
@promised_by("drive", "intrinsic_cost")
def has_no_parameters(bench: Bench) -> None:
    """The intrinsic cost never learns (L22 section 3.2)."""
    names = [name for name, _ in bench.module.named_parameters()]
    require(not names, f"it has trainable parameters: {', '.join(names[:3])}")
    trained = [name for name, buffer in bench.module.named_buffers() if buffer.requires_grad]
    require(not trained, f"a buffer requires a gradient: {', '.join(trained[:3])}")


@promised_by("drive", "intrinsic_cost")
def judging_changes_nothing(bench: Bench) -> None:
    """Neither the cost nor the memory it looks at is changed by judging a step."""
    sample = bench.sample()
    before = {name: value.clone() for name, value in bench.module.state_dict().items()}
    memory, contents = remembered(bench.agent, sample)
    copied = contents.map(torch.clone)
    module = bench.module.train()
    assert isinstance(module, Drive | IntrinsicCost)
    module.perceived(signals(sample), memory, contents)
    for name, value in bench.module.state_dict().items():
        require(torch.equal(value, before[name]), f"{name} changes when a step is judged")
    require(torch.equal(contents.keys, copied.keys), "it writes to the memory")
    require(torch.equal(contents.visits, copied.visits), "it writes to the memory's counts")


@promised_by("drive")
def one_energy_a_row(bench: Bench) -> None:
    """A perceived step has one energy a row; predicted ones any batch shape."""
    module, sample = expect(bench.module, Drive), bench.sample()
    memory, contents = remembered(bench.agent, sample)
    require_shape("perceived energy", module.perceived(signals(sample), memory, contents), ROWS)
    require_shape("predicted energy", module.predicted(sample.reward), ROWS, TIME)
    one = module.predicted(sample.reward[:, 0])
    require_close("a prediction alone and in its batch", one, module.predicted(sample.reward)[:, 0])
    require(isinstance(module.guardrail, bool), "guardrail is not True or False")


@promised_by("drive")
def first_records_are_judged(bench: Bench) -> None:
    """At the first record of an episode, with an empty memory, the energy is finite too."""
    module, sample = expect(bench.module, Drive), bench.sample()
    memory, _ = remembered(bench.agent, sample)
    contents = memory.initial(ROWS, torch.device("cpu"))
    first = torch.ones(ROWS, dtype=torch.bool)
    seen = replace(signals(sample), previous_action=torch.full((ROWS,), -1), is_first=first, has_goal=~first)
    require(module.perceived(seen, memory, contents).isfinite().all(), "the energy is not finite")


@promised_by("intrinsic_cost")
def an_energy_for_every_drive(bench: Bench) -> None:
    """[B, U] energies of perceived steps, [*B, U] of predicted ones, U names that differ."""
    module, sample = expect(bench.module, IntrinsicCost), bench.sample()
    memory, contents = remembered(bench.agent, sample)
    count = len(module.names)
    require(len(set(module.names)) == count > 0, f"names are not distinct: {module.names}")
    require_shape("perceived energies", module.perceived(signals(sample), memory, contents), ROWS, count)
    readouts = torch.randn(ROWS, 2, 3, count)
    require_shape("predicted energies", module.predicted(readouts), ROWS, 2, 3, count)


@promised_by("intrinsic_cost")
def clamps_weights(bench: Bench) -> None:
    """Clamping raises weights only, leaves none negative, and does nothing the second time."""
    module = expect(bench.module, IntrinsicCost)
    weights = torch.linspace(-2, 2, 5)[:, None].expand(5, len(module.names))
    clamped = module.clamp(weights)
    require_shape("clamped weights", clamped, *weights.shape)
    require((clamped >= weights).all(), "a weight was lowered")
    require((clamped >= 0).all(), "a weight stays negative")
    require_close("clamping once and twice", module.clamp(clamped), clamped)
    require_close("a weight above its floor", module.clamp(weights + 100), weights + 100)


# ------------------------------------------------------------------- critic
def critic_batch(bench: Bench, sample: Sample) -> CriticBatch:
    """What a critic learns from, with a leaf for the states."""
    steps = level_spans(sample, bench.level)
    taken = actions_taken(sample.previous_action, sample.is_first)
    return CriticBatch(
        leaf(sample.states),
        sample.states + 0.1,
        torch.where(taken < 0, -1, taken % bench.level.num_actions),
        steps.energies[..., 0],
        steps.end,
        steps.reaches,
        steps.ended,
        sample.tokens,
    )


@promised_by("critic")
def an_energy_for_every_state(bench: Bench) -> None:
    """One finite number a state, in any batch shape."""
    module, sample = expect(bench.module, Critic).eval(), bench.sample()
    goal, has_goal = spread_goal(sample)
    whole = module(sample.states, goal, has_goal, sample.tokens)
    require_shape("energy", whole, ROWS, TIME)
    one = module(sample.states[:, 0], goal[:, 0], has_goal[:, 0], sample.tokens[:, 0])
    require_close("a state alone and in its window", one, whole[:, 0])


@promised_by("critic")
def an_absent_goal_is_not_looked_at(bench: Bench) -> None:
    """Where `has_goal` is false, what stands in `goal` changes nothing."""
    module, sample = expect(bench.module, Critic).eval(), bench.sample()
    goal, has_goal = spread_goal(sample)
    nothing = torch.zeros_like(has_goal)
    left, right = (module(sample.states, one, nothing, sample.tokens) for one in (goal, goal + 3))
    require_close("energies with different absent goals", left, right)


@promised_by("critic")
def loss_trains_the_critic(bench: Bench) -> None:
    """Its loss moves its parameters and the states, but not the target critic."""
    module, batch = expect(bench.module, Critic), critic_batch(bench, bench.sample())
    target = copy.deepcopy(module)
    require_loss(module.loss(batch, target)).backward()
    require_trained(module)
    require_gradient("states", batch.states)
    moved = any(parameter.grad is not None and parameter.grad.any() for parameter in target.parameters())
    require(not moved, "its loss moves the target critic")


@promised_by("critic")
def advantages_of_every_record(bench: Bench) -> None:
    """One finite number a record, without gradient; nothing is better than expected where nothing happened."""
    module, batch = expect(bench.module, Critic), critic_batch(bench, bench.sample())
    target = copy.deepcopy(module)
    require_shape("advantages", module.advantages(batch, target), ROWS, TIME)
    require(not module.advantages(batch, target).requires_grad, "advantages have a gradient")
    nothing = torch.zeros_like(batch.reaches)
    idle = module.advantages(replace(batch, reaches=nothing, ended=nothing), target)
    require_close("advantages where no step reaches anything, and 0", idle, torch.zeros_like(idle))


@promised_by("critic")
def loss_without_a_target_is_finite(bench: Bench) -> None:
    """A batch in which no step reaches anything still has a finite loss."""
    module, sample = expect(bench.module, Critic), bench.sample()
    batch = critic_batch(bench, sample)
    nothing = torch.zeros_like(batch.reaches)
    parts = (batch.states, batch.target_states, batch.choices, batch.energies, batch.next_index)
    require_loss(module.loss(CriticBatch(*parts, nothing, nothing, batch.tokens), copy.deepcopy(module)))


@promised_by("critic")
def imagination_follows_perception(bench: Bench) -> None:
    """The loss on predicted states moves these, and never the actual ones."""
    module, sample = expect(bench.module, Critic), bench.sample()
    predicted, actual = leaf(sample.states[:, 0]), leaf(sample.states[:, 1])
    require_loss(module.imagined_loss(predicted, actual, sample.tokens[:, 0])).backward()
    require_gradient("predicted states", predicted)
    require(actual.grad is None or not actual.grad.any(), "it moves the actual states")
