"""What each slot gives for a sample, as named tensors with one row each, for the general checks."""

from collections.abc import Callable

import torch
from torch import Tensor

from hjepa.build import build_module
from hjepa.conformance.cases import Bench, Sample, company, default, expect, step_through
from hjepa.conformance.table import TableProblem
from hjepa.interfaces import (
    ActionEncoder,
    Actor,
    Choice,
    Configurator,
    Critic,
    Drive,
    Encoder,
    IntrinsicCost,
    Latent,
    MemoryEntry,
    MemoryState,
    Module,
    Objective,
    Perception,
    Planner,
    Policy,
    Predictor,
    Request,
    ShortTermMemory,
    World,
    WorldModel,
)
from hjepa.types import AgentSpec, Signals, Subgoal, Task

Outputs = dict[str, Tensor]
Probe = Callable[[Bench, Module, Sample], Outputs]


def configurator(bench: Bench, module: Module, sample: Sample) -> Outputs:
    """Every tensor of the task."""
    expect(module, Configurator)
    top = sample.states.new_zeros(len(sample.reward), bench.agent.levels[-1].dim)
    task = module(sample.observation.mission[:, 0], top)
    values = {name: getattr(task, name) for name in Task.__dataclass_fields__}
    return {name: value for name, value in values.items() if isinstance(value, torch.Tensor)}


def perception(bench: Bench, module: Module, sample: Sample) -> Outputs:
    """States of a window that is observed from the start of an episode, and the carry after one step of it."""
    module = expect(module, Perception)
    carry = module.initial(len(sample.reward), sample.reward.device)
    arguments = (sample.observation, sample.previous_action, sample.is_first)
    _, carries, _ = step_through(module, sample, carry, range(sample.is_first.shape[1]))
    _, after = module(sample.observation[:, 0], sample.previous_action[:, 0], carry, sample.tokens[:, 0])
    return {"states": module.observe(*arguments, carries, sample.tokens), "carry": after}


def encoder(bench: Bench, module: Module, sample: Sample) -> Outputs:
    """The lifted states."""
    return {"state": expect(module, Encoder)(sample.lower_states, sample.tokens)}


def action_encoder(bench: Bench, module: Module, sample: Sample) -> Outputs:
    """Inferred actions and the support."""
    module = expect(module, ActionEncoder)
    action, weights = module.infer(sample.segment_states, sample.segment_actions)
    return {"action": action, "weights": weights, "support": module.support(sample.states)}


def predictor(bench: Bench, module: Module, sample: Sample) -> Outputs:
    """The next states."""
    arguments = (sample.states, sample.actions, sample.latent, sample.tokens)
    return {"state": expect(module, Predictor)(*arguments)}


def latent(bench: Bench, module: Module, sample: Sample) -> Outputs:
    """Inferred, sampled and candidate latent variables."""
    module = expect(module, Latent)
    inferred, information = module.infer(sample.states[:, :-1], sample.actions[:, :-1], sample.states[:, 1:])
    return {
        "latent": inferred,
        "information": information,
        "samples": module.sample(sample.states, 4),
        "candidates": module.candidates(sample.states),
    }


def objective(bench: Bench, module: Module, sample: Sample) -> Outputs:
    """The loss, repeated for each row: it is a statistic of the batch."""
    predictions = sample.states[:, :-1].flatten(0, 1) * 0.9
    targets = sample.states[:, 1:].flatten(0, 1)
    mask = ~sample.is_first[:, 1:].flatten()
    loss, _ = expect(module, Objective)(sample.states, predictions, targets, mask)
    return {"loss": loss.expand(len(sample.states))}


def world_model(bench: Bench, module: Module, sample: Sample) -> Outputs:
    """One predicted step and the readout of the level below."""
    module = expect(module, WorldModel)
    latents = sample.states.new_ones(*sample.states.shape[:-1], module.latent.dim)
    prediction = module.predict(sample.states, sample.actions, latents, sample.tokens)
    return {
        "state": prediction.state,
        "energies": prediction.energies,
        "log_continue": prediction.log_continue,
        "lower": module.lower(sample.states),
    }


def drive(bench: Bench, module: Module, sample: Sample) -> Outputs:
    """Energies of a perceived and of predicted steps."""
    module = expect(module, Drive)
    memory, contents = remembered(bench.agent, sample)
    perceived = module.perceived(signals(sample), memory, contents)
    return {"perceived": perceived, "predicted": module.predicted(sample.reward)}


def intrinsic_cost(bench: Bench, module: Module, sample: Sample) -> Outputs:
    """Energies of a perceived and of predicted steps, and clamped weights."""
    module = expect(module, IntrinsicCost)
    memory, contents = remembered(bench.agent, sample)
    count = len(module.names)
    readouts = sample.reward[..., None].expand(*sample.reward.shape, count)
    return {
        "perceived": module.perceived(signals(sample), memory, contents),
        "predicted": module.predicted(readouts),
        "clamped": module.clamp(readouts),
    }


def critic(bench: Bench, module: Module, sample: Sample) -> Outputs:
    """Energy-to-go."""
    goal, has_goal = spread_goal(sample)
    return {"energy": expect(module, Critic)(sample.states, goal, has_goal, sample.tokens)}


def memory(bench: Bench, module: Module, sample: Sample) -> Outputs:
    """What is read after a few entries."""
    module = expect(module, ShortTermMemory)
    contents = module.initial(len(sample.reward), sample.reward.device)
    for time in range(4):
        contents = module.write(contents, entry(sample, time))
    found, known = module.at(contents, torch.full_like(sample.code[:, 0], 2))
    near, _ = module.nearest(contents, sample.states[:, 1])
    return {
        "read": module.read(contents, sample.states[:, 1]),
        "at": found.state,
        "found": known,
        "nearest": near.time,
        "count": module.count(contents, sample.code[:, 3]),
        "lifetime": module.lifetime(contents, sample.code[:, 3]),
    }


def planner(bench: Bench, module: Module, sample: Sample) -> Outputs:
    """The plan for a table of costs, which are the sample's rewards."""
    problem = TableProblem(0, len(sample.reward))
    problem.costs = problem.costs + sample.reward[:, :1, None]
    with torch.no_grad():
        plan = expect(module, Planner).plan(problem, None)
    named = ("actions", "states", "energy", "first_energies")
    return {name: getattr(plan, name) for name in named}


def policy(bench: Bench, module: Module, sample: Sample) -> Outputs:
    """Logits and the next state."""
    arguments = (sample.states[:, 0], sample.subgoal, sample.has_goal, sample.tokens[:, 0])
    logits, state = expect(module, Policy)(*arguments)
    return {"logits": logits, "state": state}


def actor(bench: Bench, module: Module, sample: Sample) -> Outputs:
    """The decision of mode 1, from the first step of an episode."""
    choice = decide(bench, expect(module, Actor), sample, 1, None)
    outputs = {"action": choice.action, "mode": choice.mode}
    for level, subgoal in enumerate(choice.subgoals[:-1]):
        outputs[f"subgoal_{level}"] = subgoal.latent
    return outputs


PROBES: dict[str, Probe] = {
    "configurator": configurator,
    "perception": perception,
    "encoder": encoder,
    "action_encoder": action_encoder,
    "predictor": predictor,
    "latent": latent,
    "objective": objective,
    "world_model": world_model,
    "drive": drive,
    "intrinsic_cost": intrinsic_cost,
    "critic": critic,
    "memory": memory,
    "planner": planner,
    "policy": policy,
    "actor": actor,
}


# ------------------------------------------------------------------- pieces of a scene
def signals(sample: Sample) -> Signals:
    """What the intrinsic cost sees of record 5."""
    return Signals(
        sample.reward[:, 5],
        sample.observation[:, 5],
        sample.previous_action[:, 5],
        sample.is_first[:, 5],
        torch.zeros_like(sample.reward[:, 5]),
        sample.states[:, 5],
        sample.goal,
        sample.has_goal,
    )


def entry(sample: Sample, time: int) -> MemoryEntry:
    """The memory entry of a record."""
    return MemoryEntry(
        torch.full_like(sample.code[:, 0], time),
        sample.states[:, time],
        sample.reward[:, time],
        sample.energies[:, time, 0],
        sample.previous_action[:, time].clamp_min(0),
        torch.zeros_like(sample.has_goal),
        sample.code[:, time],
        sample.code[:, time],
    )


def remembered(spec: AgentSpec, sample: Sample) -> tuple[ShortTermMemory, MemoryState]:
    """The package's memory, with the records before number 5 in it."""
    module = expect(build_module(default("memory"), spec), ShortTermMemory)
    contents = module.initial(len(sample.reward), torch.device("cpu"))
    for time in range(5):
        contents = module.write(contents, entry(sample, time))
    return module, contents


def spread_goal(sample: Sample) -> tuple[Tensor, Tensor]:
    """The goal at every record of the window."""
    goal = sample.goal[:, None].expand_as(sample.states)
    return goal, sample.has_goal[:, None].expand(sample.states.shape[:2])


def a_task(spec: AgentSpec, sample: Sample) -> Task:
    """A task without a goal, weighing everything 1."""
    rows, top = len(sample.reward), spec.levels[-1].dim
    return Task(
        sample.tokens[:, 0],
        torch.ones(rows, len(spec.drives)),
        torch.ones(rows, len(spec.levels)),
        torch.zeros(rows, top),
        torch.zeros(rows, dtype=torch.bool),
    )


def level_states(spec: AgentSpec, sample: Sample) -> tuple[Tensor, ...]:
    """A state for every level, without meaning."""
    lowest = sample.states[:, 0]
    return tuple(torch.nn.functional.pad(lowest, (0, level.dim - lowest.shape[1]), value=0.5) for level in spec.levels)


def no_subgoals(spec: AgentSpec, rows: int) -> tuple[Subgoal, ...]:
    """No level has a subgoal."""
    zeros = torch.zeros(rows, dtype=torch.int64)
    return tuple(Subgoal(torch.zeros(rows, level.upper_dim), zeros, zeros.bool()) for level in spec.levels)


def a_request(spec: AgentSpec, rows: int, mode: int, first: bool = True) -> Request:
    """The same mode for every row; at the first step of an episode by default."""
    return Request(
        torch.full((rows,), mode),
        torch.full((rows,), first),
        torch.ones(rows),
        torch.zeros(rows, spec.env.num_actions, dtype=torch.int64),
        torch.zeros(rows, spec.env.num_actions, dtype=torch.int64),
        torch.zeros(rows, 1, spec.levels[0].dim),
        torch.zeros(rows, 1, dtype=torch.bool),
        (None,) * len(spec.levels),
    )


def decide(bench: Bench, module: Actor, sample: Sample, mode: int, world: World | None) -> Choice:
    """One decision at the first step of an episode; by default in the company of the package's modules."""
    rows, spec = len(sample.reward), bench.agent
    world = company(spec)[0] if world is None else world
    states, subgoals = level_states(spec, sample), no_subgoals(spec, rows)
    with torch.no_grad():
        return module.decide(world, states, subgoals, a_task(spec, sample), a_request(spec, rows, mode))
