"""Predict the moving-average network's states, with variance and covariance terms on the online states."""

from typing import ClassVar, Literal

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor

from hjepa.config import ModuleConfig
from hjepa.interfaces import Loss, Objective
from hjepa.losses import centre_windows, prediction_error, std_hinge, variance_covariance
from hjepa.types import LevelSpec


class EMAObjective(Objective):
    """Squared error to stop-gradient targets (BYOL, V-JEPA) and VICReg's terms on the online states alone."""

    class Config(ModuleConfig):
        slot: ClassVar[str] = "objective"
        kind: Literal["ema"] = "ema"
        variance: float = Field(0.5, ge=0)
        """Weight of the std hinge."""
        covariance: float = Field(0.02, ge=0)
        """Weight of the covariance term."""
        within: float = Field(0.0, ge=0)
        """Weight of both terms on window-centred states too: blind to what is constant in an episode."""
        tail: float = Field(0.0, ge=0)
        """Weight of the mean error of the worst hundredth of the predictions: what happens seldom, such as passing
        where there mostly is a wall, hardly shows in the mean of all."""
        floor: float = Field(1.0, gt=0)
        """Standard deviation below which the hinge acts."""

    target_network = True

    def __init__(self, config: Config, spec: LevelSpec) -> None:
        super().__init__()
        self.variance, self.covariance = config.variance, config.covariance
        self.within, self.tail, self.floor = config.within, config.tail, config.floor

    def forward(
        self,
        states: Float[Tensor, "B T D"],
        predictions: Float[Tensor, "R D"],
        targets: Float[Tensor, "R D"],
        mask: Bool[Tensor, " R"],
    ) -> Loss:
        targets = targets.detach()
        predictable, _ = prediction_error(predictions, targets, mask)
        source, info = variance_covariance(states, None, self.variance, self.covariance, self.floor)
        loss = predictable + source
        if self.tail > 0:
            worst = worst_errors(predictions, targets, mask).mean()
            loss = loss + self.tail * worst
            info["worst"] = worst.detach()
        if self.within > 0:
            centred = centre_windows(states)
            inner, _ = variance_covariance(centred, None, self.variance, self.covariance, self.floor)
            loss = loss + self.within * inner
            info["informative_within"] = inner.detach()
        with torch.no_grad():
            target, _ = std_hinge(targets, mask, self.floor)
        return loss, info | {
            "informative_source": source.detach(),
            "informative_target": self.variance * target,
            "predictable": predictable.detach(),
        }


def worst_errors(
    predictions: Float[Tensor, "R D"], targets: Float[Tensor, "R D"], mask: Bool[Tensor, " R"]
) -> Float[Tensor, " worst"]:
    """Squared errors, mean over dimensions, of the worst hundredth of the rows (at least one); 0 outside the mask."""
    error = torch.where(mask, (predictions - targets).square().mean(-1), 0.0)
    return error.topk(max(1, len(error) // 100)).values
