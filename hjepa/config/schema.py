"""What a run is made of. Every default, its range and its meaning stand here, and nowhere else."""

from itertools import accumulate
from operator import mul
from typing import Annotated, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from hjepa.config.core import ConfigModel, ModuleConfig
from hjepa.config.settings import EnvConfig, EvalConfig, FolderConfig, LogConfig, TrainConfig
from hjepa.config.slots import Slot, choose

MAX_SPAN = 100_000


class LevelConfig(ConfigModel):
    """One level of the hierarchy; level 0 is the lowest and acts in the environment."""

    dim: int = Field(default=128, gt=0, le=65536)
    """Width of the level's state."""
    action_dim: int = Field(default=16, gt=0, le=4096)
    """Width of the embedding of the level's choices."""
    stride: int = Field(default=1, gt=0, le=MAX_SPAN)
    """Steps of the level below in one step of this one; 1 at level 0."""
    horizon: int = Field(default=3, gt=0, le=1000)
    """Steps of this level that its planner looks ahead."""
    planner: Annotated[ModuleConfig, Slot("planner")] = choose("planner", "exhaustive")
    """Searches the level's choices in mode 2."""
    world_model: Annotated[ModuleConfig, Slot("world_model")] | None = None
    """The level's own world model; null: as at the top of the config."""
    critic: Annotated[ModuleConfig, Slot("critic")] | None = None
    """The level's own critic; null: as at the top of the config."""


class RunConfig(ConfigModel):
    """A run: environment, the agent's seven slots and levels, and how it is trained, evaluated and logged."""

    run: FolderConfig = FolderConfig()
    """Where the run is kept."""
    env: EnvConfig = EnvConfig()
    """The environment."""
    discount: float = Field(default=0.99, gt=0, lt=1)
    """Discount of future energies per environment step."""
    configurator: Annotated[ModuleConfig, Slot("configurator")] = choose("configurator", "fixed")
    """Slot 1: sets the other modules for the task."""
    perception: Annotated[ModuleConfig, Slot("perception")] = choose("perception", "pose_map")
    """Slot 2: estimates the level-0 state from observations."""
    world_model: Annotated[ModuleConfig, Slot("world_model")] = choose("world_model", "jepa")
    """Slot 3: predicts a level's states and energies; one for each level, by default all of this kind."""
    intrinsic_cost: Annotated[ModuleConfig, Slot("intrinsic_cost")] = choose("intrinsic_cost", "drives")
    """Slot 4: the drives, which never learn."""
    critic: Annotated[ModuleConfig, Slot("critic")] = choose("critic", "td")
    """Slot 5: the energy to come; one for each level, by default all of this kind."""
    memory: Annotated[ModuleConfig, Slot("memory")] = choose("memory", "window")
    """Slot 6: short-term memory of the episode."""
    actor: Annotated[ModuleConfig, Slot("actor")] = choose("actor", "hierarchical")
    """Slot 7: plans top-down, or reacts; holds each level's planner and policy."""
    levels: tuple[LevelConfig, ...] = Field(default_factory=lambda: two_levels(), min_length=1, max_length=8)
    """The hierarchy, lowest level first."""
    train: TrainConfig = TrainConfig()
    """Collecting and learning."""
    eval: EvalConfig = EvalConfig()
    """Held-out episodes."""
    log: LogConfig = LogConfig()
    """What TensorBoard gets, and how often."""

    @model_validator(mode="after")
    def _levels_fit(self) -> Self:
        """Level 0 acts at every environment step; a training window holds a step of the top level."""
        if self.levels[0].stride != 1:
            raise _at("levels.0.stride", "must be 1: level 0 acts at every environment step", self.levels[0].stride)
        span = list(accumulate((level.stride for level in self.levels), mul))[-1]
        if self.train.window <= span:
            why = f"must be more than {span}, the environment steps in one step of the top level"
            raise _at("train.window", why, self.train.window)
        return self

    @model_validator(mode="after")
    def _store_holds_windows(self) -> Self:
        """The prefill holds a window of every environment, and the store holds the prefill."""
        needed = self.env.num_envs * self.train.window
        if self.train.prefill < needed:
            why = f"must be at least {needed}, a window of every environment"
            raise _at("train.prefill", why, self.train.prefill)
        if self.train.capacity < self.train.prefill:
            why = f"must be at least train.prefill ({self.train.prefill})"
            raise _at("train.capacity", why, self.train.capacity)
        return self


def two_levels() -> tuple[LevelConfig, ...]:
    """The hierarchy where a config describes none."""
    return LevelConfig(), LevelConfig(stride=8, horizon=2)


def _at(path: str, message: str, value: float) -> PydanticCustomError:
    """A mistake between fields, told at the field to change."""
    return PydanticCustomError("at_path", "{message}", {"path": path, "message": message, "value": value})


LEVEL_SLOTS = ("world_model", "critic")
"""Slots that a level may fill for itself, and that are those of the top of the config where it does not."""
