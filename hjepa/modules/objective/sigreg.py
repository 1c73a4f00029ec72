"""LeJEPA: online targets, and SIGReg as the only anti-collapse term."""

from typing import ClassVar, Literal

from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor

from hjepa.config import ModuleConfig
from hjepa.interfaces import Loss, Objective
from hjepa.losses import prediction_error, sigreg
from hjepa.types import LevelSpec


class SIGRegObjective(Objective):
    """Squared error and SIGReg (arXiv 2511.08544), which pulls the states toward N(0, I); no stop-gradient.

    Its statistics are taken over the batch, at every time of the window: all but the last are sources, all
    but the first are targets.
    """

    class Config(ModuleConfig):
        slot: ClassVar[str] = "objective"
        kind: Literal["sigreg"] = "sigreg"
        weight: float = Field(0.09, ge=0)
        """Weight of SIGReg."""
        directions: int = Field(1024, gt=0)
        """Random projections; the cost is linear in them."""
        within: float = Field(0.0, ge=0)
        """Weight of SIGReg over the time of each window too: blind to what is constant in an episode."""

    target_network = False

    def __init__(self, config: Config, spec: LevelSpec) -> None:
        super().__init__()
        self.weight, self.directions, self.within = config.weight, config.directions, config.within

    def forward(
        self,
        states: Float[Tensor, "B T D"],
        predictions: Float[Tensor, "R D"],
        targets: Float[Tensor, "R D"],
        mask: Bool[Tensor, " R"],
    ) -> Loss:
        predictable, _ = prediction_error(predictions, targets, mask)
        source, _ = sigreg(states[:, :-1].transpose(0, 1), self.directions)
        target, _ = sigreg(states[:, 1:].transpose(0, 1), self.directions)
        loss = predictable + self.weight * (source + target) / 2
        if self.within > 0:
            inner, _ = sigreg(states, self.directions)
            loss = loss + self.within * self.weight * inner
        return loss, {
            "informative_source": source.detach(),
            "informative_target": target.detach(),
            "predictable": predictable.detach(),
        }
