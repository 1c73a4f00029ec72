"""Two critics in one: energy-to-go where there is no goal, and how far a state is from a goal where there is one."""

from dataclasses import replace
from typing import Annotated, ClassVar, Literal

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor

from hjepa.config import ModuleConfig, Slot, choose
from hjepa.interfaces import Critic, Loss
from hjepa.types import CriticBatch, LevelSpec


class ValueAndWayCritic(Critic):
    """Energy-to-go (`value`) where there is no goal, the way to it (`way`) where there is one.

    Each is learned by a critic of its own. An agent that learns by reward plans by the former; with `satisfaction:
    critic` the latter tells the level below how much nearer to a subgoal a state is, walls and detours counted, where
    the states' distance tells it as the crow flies. The way's loss shapes no encoder.
    """

    class Config(ModuleConfig):
        """Settings of both critics."""

        slot: ClassVar[str] = "critic"
        kind: Literal["value_and_way"] = "value_and_way"
        value: Annotated[ModuleConfig, Slot("critic")] = choose("critic", "td")
        """Energy-to-go."""
        way: Annotated[ModuleConfig, Slot("critic")] = choose("critic", "quasimetric")
        """Way to a goal; a critic that takes goals."""
        weight: float = Field(1.0, ge=0)
        """Weight of the way's loss. It has parameters of its own alone: only what gradients are clipped by depends on
        it."""

    def __init__(self, config: Config, spec: LevelSpec, value: Critic, way: Critic) -> None:
        super().__init__()
        self.value, self.way, self.weight = value, way, config.weight

    def forward(
        self,
        state: Float[Tensor, "*B D"],
        goal: Float[Tensor, "*B D"],
        has_goal: Bool[Tensor, "*B"],
        tokens: Float[Tensor, "*B K C"],
    ) -> Float[Tensor, "*B"]:
        """Energy-to-go where there is no goal, and the way to it (in steps of the level) where there is one."""
        value = self.value(state, goal, torch.zeros_like(has_goal), tokens)
        return torch.where(has_goal, self.way(state, goal, has_goal, tokens), value)

    def choices(self, state: Float[Tensor, "*B D"], tokens: Float[Tensor, "*B K C"]) -> Float[Tensor, "*B A"] | None:
        return self.value.choices(state, tokens)

    def advantages(self, batch: CriticBatch, target: Critic) -> Float[Tensor, "B T"]:
        assert isinstance(target, ValueAndWayCritic)
        return self.value.advantages(batch, target.value)

    def loss(self, batch: CriticBatch, target: Critic) -> Loss:
        assert isinstance(target, ValueAndWayCritic)
        loss, info = self.value.loss(batch, target.value)
        way, terms = self.way.loss(replace(batch, states=batch.states.detach()), target.way)
        return loss + self.weight * way, info | {f"way_{name}": value for name, value in terms.items()}

    def imagined_loss(
        self, predicted: Float[Tensor, "R D"], actual: Float[Tensor, "R D"], tokens: Float[Tensor, "R K C"]
    ) -> Loss:
        loss, info = self.value.imagined_loss(predicted, actual, tokens)
        way, terms = self.way.imagined_loss(predicted.detach(), actual, tokens)
        return loss + self.weight * way, info | {f"way_{name}": value for name, value in terms.items()}
