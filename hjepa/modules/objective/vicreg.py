"""VICReg on both branches of the JEPA, through an expander."""

from typing import ClassVar, Literal

from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor

from hjepa.config import ModuleConfig
from hjepa.interfaces import Loss, Objective
from hjepa.losses import centre_windows, off_diagonal_covariance, prediction_error, std_hinge
from hjepa.nets import MLP
from hjepa.types import Info, LevelSpec


class VICRegObjective(Objective):
    """Online targets, gradient on both branches (L22 section 4.5.1, Fig. 13; Bardes et al. 2022).

    Std hinge on s and on its expansion v, covariance of v, for s_x and for s_y; the prediction error is the
    invariance term.
    """

    class Config(ModuleConfig):
        slot: ClassVar[str] = "objective"
        kind: Literal["vicreg"] = "vicreg"
        prediction: float = Field(1.0, ge=0)
        """Weight of the prediction error."""
        variance: float = Field(1.0, ge=0)
        """Weight of the std hinges."""
        covariance: float = Field(0.1, ge=0)
        """Weight of the covariance term."""
        within: float = Field(0.0, ge=0)
        """Weight of the terms on window-centred states too: blind to what is constant in an episode."""
        floor: float = Field(1.0, gt=0)
        """Standard deviation below which the hinges act."""
        expander: int = Field(256, gt=0)
        """Width of the expander's hidden and output layers."""

    target_network = False

    def __init__(self, config: Config, spec: LevelSpec) -> None:
        super().__init__()
        self.prediction, self.variance, self.covariance = (
            config.prediction,
            config.variance,
            config.covariance,
        )
        self.within, self.floor = config.within, config.floor
        self.expander = MLP(spec.dim, config.expander, config.expander, 1)

    def forward(
        self,
        states: Float[Tensor, "B T D"],
        predictions: Float[Tensor, "R D"],
        targets: Float[Tensor, "R D"],
        mask: Bool[Tensor, " R"],
    ) -> Loss:
        predictable, _ = prediction_error(predictions, targets, mask)
        source, info = self._informative(states, None)
        target, _ = self._informative(targets, mask)
        loss = self.prediction * predictable + source + target
        if self.within > 0:
            inner, _ = self._informative(centre_windows(states), None)
            loss = loss + self.within * inner
            info["informative_within"] = inner.detach()
        return loss, info | {
            "informative_source": source.detach(),
            "informative_target": target.detach(),
            "predictable": predictable.detach(),
        }

    def _informative(
        self, states: Float[Tensor, "*R D"], mask: Bool[Tensor, "*R"] | None
    ) -> tuple[Float[Tensor, ""], Info]:
        """Variance and covariance terms of one branch."""
        expanded = self.expander(states)
        narrow, info = std_hinge(states, mask, self.floor)
        wide, _ = std_hinge(expanded, mask, self.floor)
        redundancy = off_diagonal_covariance(expanded, mask)
        info |= {"std_hinge": narrow.detach(), "covariance": redundancy.detach()}
        return self.variance * (narrow + wide) + self.covariance * redundancy, info
