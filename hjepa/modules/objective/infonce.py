"""A contrastive objective."""

from typing import ClassVar, Literal

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor

from hjepa.config import ModuleConfig
from hjepa.interfaces import Loss, Objective
from hjepa.losses import infonce, prediction_error, std_hinge
from hjepa.types import LevelSpec


class InfoNCEObjective(Objective):
    """Predictions must be nearer to their own targets than to others' (van den Oord et al. 2018).

    Contrast keeps both branches informative; a squared error beside it fixes the scale that cosines leave
    open.
    """

    class Config(ModuleConfig):
        slot: ClassVar[str] = "objective"
        kind: Literal["infonce"] = "infonce"
        prediction: float = Field(1.0, ge=0)
        """Weight of the squared error."""
        weight: float = Field(0.1, ge=0)
        """Weight of the contrast."""
        temperature: float = Field(0.1, gt=0)
        """Divides the cosines."""
        negatives: int = Field(512, gt=0)
        """Rows that each prediction is contrasted with."""

    target_network = False

    def __init__(self, config: Config, spec: LevelSpec) -> None:
        super().__init__()
        self.prediction, self.weight = config.prediction, config.weight
        self.temperature, self.negatives = config.temperature, config.negatives

    def forward(
        self,
        states: Float[Tensor, "B T D"],
        predictions: Float[Tensor, "R D"],
        targets: Float[Tensor, "R D"],
        mask: Bool[Tensor, " R"],
    ) -> Loss:
        predictable, _ = prediction_error(predictions, targets, mask)
        contrast, info = infonce(predictions, targets, mask, self.temperature, self.negatives)
        with torch.no_grad():
            source, _ = std_hinge(states)
            target, _ = std_hinge(targets, mask)
        return self.prediction * predictable + self.weight * contrast, info | {
            "informative_source": source,
            "informative_target": target,
            "predictable": predictable.detach(),
        }
