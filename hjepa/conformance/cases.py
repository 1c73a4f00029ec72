"""Small specs to build modules for, and random inputs that fit them."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from hjepa.build import at_level, build_module, build_part, is_part
from hjepa.config import ModuleConfig
from hjepa.config.registry import config_class, kinds
from hjepa.data.spans import spans
from hjepa.interfaces import Actor, Module, Perception, Planner, Policy, Predictor, World, WorldModel
from hjepa.types import AgentSpec, EnvSpec, LevelSpec, Observation, Spans, TensorStruct

Expected = TypeVar("Expected")

WHOLE_AGENT = ("configurator", "perception", "intrinsic_cost", "drive", "memory", "actor")
"""Slots that are built from an AgentSpec; the others are built for a level."""

PREFERRED = {
    "memory": "key_value",
    "world_model": "jepa",
    "critic": "td",
    "intrinsic_cost": "drives",
    "planner": "exhaustive",
    "policy": "amortised",
}
"""Kinds that stand in for the other slots where a module needs company."""

ROWS, TIME, TASK_TOKENS, LATENT_DIM = 5, 13, 2, 3


@dataclass(frozen=True)
class Sample(TensorStruct):
    """Random inputs of every kind, B rows of T records; `states` and so on are those of the bench's level."""

    observation: Observation
    previous_action: Int[Tensor, "B T"]
    is_first: Bool[Tensor, "B T"]
    terminated: Bool[Tensor, "B T"]
    truncated: Bool[Tensor, "B T"]
    reward: Float[Tensor, "B T"]
    energies: Float[Tensor, "B T U"]
    tokens: Float[Tensor, "B T K C"]
    states: Float[Tensor, "B T D"]
    lower_states: Float[Tensor, "B T Dl"]
    actions: Float[Tensor, "B T M"]
    lower_actions: Float[Tensor, "B T Ml"]
    segment_states: Float[Tensor, "B stride_1 Dl"]
    segment_actions: Float[Tensor, "B stride Ml"]
    latent: Float[Tensor, "B T Z"]
    goal: Float[Tensor, "B D"]
    subgoal: Float[Tensor, "B G"]
    has_goal: Bool[Tensor, " B"]
    code: Int[Tensor, "B T"]


@dataclass(frozen=True)
class Case:
    """One spec to build for: an agent with all its levels, and the level of interest."""

    agent: AgentSpec
    level: LevelSpec

    def __str__(self) -> str:
        level = self.level
        count = len(self.agent.levels)
        return f"level {level.index} of {count}, dim {level.dim}, token_dim {level.token_dim}"


@dataclass(frozen=True)
class Bench:
    """A module built for a case, and how to build another one."""

    slot: str
    cls: type[Module]
    config: ModuleConfig
    case: Case
    module: Module
    build: Callable[[], Module]

    @property
    def level(self) -> LevelSpec:
        """Spec of the level the inputs are drawn for."""
        return self.case.level

    @property
    def agent(self) -> AgentSpec:
        """Spec of the whole agent."""
        return self.case.agent

    def sample(self, seed: int = 0, rows: int = ROWS) -> Sample:
        """Inputs that depend on the seed alone; leaves torch's generator as it was."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1000 + seed)
            return draw(self.case, rows)


# ------------------------------------------------------------------- specs
def cases(slot: str, config: ModuleConfig) -> list[Case]:
    """Flat and two-level specs, of two widths, with and without task tokens."""
    # A planner sees the problem only, and a configurator says itself how wide its tokens are.
    widths = {"planner": (0,), "configurator": (getattr(config, "token_dim", 0),)}.get(slot, (0, 8))
    found = []
    for token_dim in widths:
        for levels in (1,) if slot == "planner" else (1, 2):
            agent = agent_spec(token_dim, levels)
            index = 0 if slot in WHOLE_AGENT else levels - 1
            found.append(Case(agent, agent.levels[index]))
    return found


def agent_spec(token_dim: int, count: int) -> AgentSpec:
    """An agent of one or two levels."""
    env = EnvSpec("conformance", 7, (7, 7), 100)
    lowest = LevelSpec(0, 16, 6, 16, 7, 1, 1, 3, 7, 7, 16, 3, token_dim, 0.95)
    if count == 1:
        levels = (lowest,)
    else:
        upper = LevelSpec(1, 24, 4, 16, 6, 3, 3, 2, 7, 5, 24, 3, token_dim, 0.95)
        levels = (replace(lowest, upper_dim=24), upper)
    return AgentSpec(env, levels, ("task", "novelty", "guardrail"), (False, False, True), token_dim, 0.95)


# ------------------------------------------------------------------- building
def build(slot: str, cls: type[Module], config: ModuleConfig, case: Case) -> Module:
    """Build a module for a case, with its sub-slots. ValueError where it does not take the spec."""
    if slot == "actor":
        return build_actor(cls, config, company(case.agent)[1])
    if slot == "world_model":
        config = at_level(config, case.level)
    spec = case.agent if slot in WHOLE_AGENT else case.level
    parts = {name: build_part(value, spec) for name, value in config if is_part(value)}
    module = cls(config, spec, **parts)
    if isinstance(module, Predictor):
        # A predictor may take the width of z from its first call.
        sample = draw(case, 1)
        module(sample.states, sample.actions, sample.latent, sample.tokens)
    return module


def build_actor(cls: type[Module], config: ModuleConfig, spec: AgentSpec) -> Module:
    """An actor with a planner and a policy for every level, as `hjepa.build` does."""
    policy = getattr(config, "policy", None) or default("policy")
    planners = [expect(build_module(default("planner"), level), Planner) for level in spec.levels]
    policies = [expect(build_module(policy, level), Policy) for level in spec.levels]
    return expect(cls(config, spec, planners=planners, policies=policies), Actor)  # type: ignore[call-arg]


def company(spec: AgentSpec) -> tuple[World, AgentSpec]:
    """World models, critics and cost of the package, and the spec with their numbers of choices."""
    models = [build_module(at_level(default("world_model"), level), level) for level in spec.levels]
    models = [expect(model, WorldModel) for model in models]
    pairs = zip(spec.levels, models, strict=True)
    levels = tuple(replace(level, num_actions=model.action_encoder.num_actions) for level, model in pairs)
    critics = [build_module(default("critic"), level) for level in levels]
    spec = replace(spec, levels=levels)
    return World(models, critics, build_module(default("intrinsic_cost"), spec)), spec  # type: ignore[arg-type]


def default(slot: str) -> ModuleConfig:
    """Config of the implementation that stands in for a slot."""
    kind = PREFERRED[slot] if PREFERRED[slot] in kinds(slot) else kinds(slot)[0]
    return config_class(slot, kind).model_validate({})


def expect(module: object, base: type[Expected]) -> Expected:
    """The same, known to be of a class."""
    assert isinstance(module, base)
    return module


def step_through(module: Perception, sample: "Sample", carry: Tensor, records: range) -> tuple[Tensor, Tensor, Tensor]:
    """States of some records, one `forward` at a time, the carry reset where episodes begin; the carries brought to
    these records, [rows, time, ...]; and the last one."""
    states, carries = [], []
    fresh = module.initial(len(carry), carry.device)
    for t in records:
        mask = sample.is_first[:, t].view(-1, *([1] * (carry.dim() - 1)))
        carries.append(carry.clone())
        carry = torch.where(mask, fresh, carry)
        state, carry = module(sample.observation[:, t], sample.previous_action[:, t], carry, sample.tokens[:, t])
        states.append(state)
    return torch.stack(states, 1), torch.stack(carries, 1), carry


# ------------------------------------------------------------------- inputs
def draw(case: Case, rows: int) -> Sample:
    """Draw inputs from torch's generator; episodes begin and end inside the windows."""
    level = case.level
    tokens = (TASK_TOKENS, level.token_dim) if level.token_dim else (0, 0)
    is_first, terminated, truncated = boundaries(rows)
    previous = torch.randint(level.num_env_actions, (rows, TIME)).masked_fill(is_first, -1)
    return Sample(
        Observation(draw_image(rows, case.agent.env.view), torch.randint(1, 30, (rows, TIME, 6))),
        previous,
        is_first,
        terminated,
        truncated,
        torch.randn(rows, TIME),
        torch.randn(rows, TIME, level.num_drives),
        torch.randn(rows, TIME, *tokens),
        torch.randn(rows, TIME, level.dim),
        torch.randn(rows, TIME, level.lower_dim),
        torch.randn(rows, TIME, level.action_dim),
        draw_actions(level, rows, TIME),
        torch.randn(rows, level.stride + 1, level.lower_dim),
        draw_actions(level, rows, level.stride),
        torch.randn(rows, TIME, LATENT_DIM),
        torch.randn(rows, level.dim),
        torch.randn(rows, level.upper_dim),
        torch.arange(rows) % 2 == 0,
        torch.randint(1 << 60, (rows, TIME)),
    )


def draw_image(rows: int, view: tuple[int, int]) -> Tensor:
    """Views of plausible MiniGrid cells: objects 0 to 10, colours 0 to 5, states 0 to 2."""
    channels = [torch.randint(high, (rows, TIME, *view)) for high in (11, 6, 3)]
    return torch.stack(channels, -1).to(torch.uint8)


def draw_actions(level: LevelSpec, rows: int, time: int) -> Tensor:
    """Embeddings of actions of the level below; at level 0, one-hot environment actions."""
    if level.index > 0:
        return torch.randn(rows, time, level.lower_action_dim)
    return torch.eye(level.num_env_actions)[torch.randint(level.num_env_actions, (rows, time))]


def boundaries(rows: int) -> tuple[Tensor, Tensor, Tensor]:
    """Where episodes begin, terminate and time out: record 4 ends one in row 0, and so on round the rows."""
    is_first = torch.zeros(rows, TIME, dtype=torch.bool)
    terminated, truncated = is_first.clone(), is_first.clone()
    for row in range(rows):
        end = 4 + row % 5
        (truncated if row % 2 else terminated)[row, end] = True
        is_first[row, end + 1] = True
    return is_first, terminated, truncated


def level_spans(sample: Sample, level: LevelSpec) -> Spans:
    """The steps of a level in a sample's windows."""
    ends = (sample.is_first, sample.terminated, sample.truncated, sample.energies)
    return spans(*ends, level.span, level.discount)
