"""What perception and the configurator promise."""

import torch
from torch import Tensor

from hjepa.conformance.cases import ROWS, TIME, Bench, expect, step_through
from hjepa.conformance.core import promised_by, require, require_close, require_shape
from hjepa.interfaces import Configurator, Perception
from hjepa.types import Task


# ------------------------------------------------------------------- perception
@promised_by("perception")
def shapes(bench: Bench) -> None:
    """A state of the width of level 0, and a carry, uint8 or float32, that keeps its shape."""
    module, sample = expect(bench.module, Perception), bench.sample()
    carry = module.initial(ROWS, torch.device("cpu"))
    require(carry.dtype in (torch.uint8, torch.float32), f"the carry is {carry.dtype}: uint8 or float32")
    require(len(carry) == ROWS, f"initial({ROWS}) has {len(carry)} rows")
    state, after = module(sample.observation[:, 0], sample.previous_action[:, 0], carry, sample.tokens[:, 0])
    require_shape("state", state, ROWS, bench.agent.levels[0].dim)
    require_shape("carry", after, *carry.shape)
    require(after.dtype == carry.dtype, f"the carry turns from {carry.dtype} into {after.dtype}")


@promised_by("perception")
def observing_equals_stepping(bench: Bench) -> None:
    """`observe` gives what `forward` gives record by record, across the ends of episodes."""
    module, sample = expect(bench.module, Perception).eval(), bench.sample()
    carry = module.initial(ROWS, torch.device("cpu"))
    stepped, carries, _ = step_through(module, sample, carry, range(TIME))
    states = module.observe(sample.observation, sample.previous_action, sample.is_first, carries, sample.tokens)
    require_shape("states", states, ROWS, TIME, bench.agent.levels[0].dim)
    require_close("states of observe and of forward", states, stepped)


@promised_by("perception")
def resumes_mid_episode(bench: Bench) -> None:
    """Saved and loaded in the middle of an episode, with its carry, it goes on as it would have."""
    module, sample = expect(bench.module, Perception).eval(), bench.sample()
    carry = module.initial(ROWS, torch.device("cpu"))
    *_, middle = step_through(module, sample, carry, range(3))
    kept = middle.detach().clone()
    unbroken, *_ = step_through(module, sample, middle, range(3, TIME))
    fresh = expect(bench.build(), Perception).eval()
    fresh.load_state_dict(module.state_dict())
    resumed, *_ = step_through(fresh, sample, kept, range(3, TIME))
    require_close("states after resuming", resumed, unbroken)


@promised_by("perception")
def episodes_are_forgotten(bench: Bench) -> None:
    """After the first record of an episode nothing of the last one is left."""
    module, sample, other = expect(bench.module, Perception).eval(), bench.sample(0), bench.sample(1)
    carries = [
        step_through(module, one, module.initial(ROWS, torch.device("cpu")), range(4))[-1] for one in (sample, other)
    ]
    start = torch.ones_like(sample.is_first[:, :1])
    arguments = (sample.observation[:, 5:6], torch.full_like(sample.previous_action[:, :1], -1), start)
    left, right = (module.observe(*arguments, carry[:, None], sample.tokens[:, 5:6]) for carry in carries)
    require_close("first states of an episode after two different ones", left, right)


@promised_by("perception")
def gradient_reaches_parameters(bench: Bench) -> None:
    """The loss of a state trains perception."""
    module, sample = expect(bench.module, Perception), bench.sample()
    carry = module.initial(ROWS, torch.device("cpu"))
    with torch.no_grad():
        _, carries, _ = step_through(module, sample, carry, range(TIME))
    states = module.observe(sample.observation, sample.previous_action, sample.is_first, carries, sample.tokens)
    require(states.requires_grad, "states carry no gradient")
    (states * torch.randn_like(states)).sum().backward()
    gradients = [parameter.grad for parameter in module.parameters() if parameter.grad is not None]
    require(any(bool(gradient.abs().sum() > 0) for gradient in gradients), "no parameter gets a gradient")
    require(all(bool(gradient.isfinite().all()) for gradient in gradients), "a gradient is not finite")


@promised_by("perception")
def state_follows_the_view(bench: Bench) -> None:
    """Different views give different states."""
    module, sample, other = expect(bench.module, Perception).eval(), bench.sample(0), bench.sample(1)
    carry = module.initial(ROWS, torch.device("cpu"))
    first = torch.full((ROWS,), -1)
    left, right = (module(one.observation[:, 0], first, carry, sample.tokens[:, 0])[0] for one in (sample, other))
    require((left - right).abs().max() > 1e-4, "the state is the same for every view")


# ------------------------------------------------------------------- configurator
def configure(bench: Bench, mission: Tensor) -> Task:
    """The task of a mission."""
    top = torch.zeros(len(mission), bench.agent.levels[-1].dim)
    return expect(bench.module, Configurator)(mission, top)


@promised_by("configurator")
def task_shapes(bench: Bench) -> None:
    """Tokens as wide as the config says, a weight for every drive and critic, a goal of the top level."""
    task, spec = configure(bench, bench.sample().observation.mission[:, 0]), bench.agent
    require(task.tokens.dim() == 3, f"tokens have shape {list(task.tokens.shape)}, expected [B, K, C]")
    require(
        task.tokens.shape[2] == spec.token_dim,
        f"tokens are {task.tokens.shape[2]} wide, config says {spec.token_dim}",
    )
    require_shape("intrinsic_weights", task.intrinsic_weights, ROWS, len(spec.drives))
    require_shape("critic_weights", task.critic_weights, ROWS, len(spec.levels))
    require_shape("goal", task.goal, ROWS, spec.levels[-1].dim)
    require_shape("has_goal", task.has_goal, ROWS)
    require(task.has_goal.dtype == torch.bool, f"has_goal is {task.has_goal.dtype}, not bool")


@promised_by("configurator")
def guardrails_hold(bench: Bench) -> None:
    """Whatever its parameters become, no weight is negative and no guardrail is switched off."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        for _ in range(8):
            for parameter in bench.module.parameters():
                parameter.copy_(10 * torch.randn_like(parameter))
            weights = configure(bench, bench.sample().observation.mission[:, 0]).intrinsic_weights
            require((weights >= 0).all(), "an intrinsic weight is negative")
            rails = weights[:, torch.tensor(bench.agent.guardrails)]
            require((rails > 1e-3).all(), "a guardrail is switched off")


@promised_by("configurator")
def padding_says_nothing(bench: Bench) -> None:
    """Padding a mission with zeros does not change the task."""
    bench.module.eval()
    mission = bench.sample().observation.mission[:, 0]
    padded = torch.nn.functional.pad(mission, (0, 3))
    left, right = configure(bench, mission), configure(bench, padded)
    require_close("tokens of a padded mission", right.tokens, left.tokens)
    require_close("weights of a padded mission", right.intrinsic_weights, left.intrinsic_weights)
