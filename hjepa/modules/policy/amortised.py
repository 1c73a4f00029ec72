"""The amortised actor: a network that imitates the plans of mode 2."""

from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor, nn

from hjepa.config import ModuleConfig
from hjepa.interfaces import Loss, Policy
from hjepa.nets import MLP, FiLM
from hjepa.types import Info, LevelSpec, Plan


class AmortisedPolicy(Policy):
    """An MLP on state and subgoal, modulated by the task, distilled from plans (L22 section 3.1.3, Fig. 5).

    The target is softmin(E_a / (temperature * scale)) over the lowest energies E_a of plans that begin with
    each choice. `scale` is a running mean over rows of their median excess over the best, so the target
    copies the best choice where the plan told choices apart, is smooth at ties, and does not depend on the
    unit of energy nor on a few catastrophic choices.
    """

    class Config(ModuleConfig):
        """Settings of the amortised policy."""

        slot: ClassVar[str] = "policy"
        kind: Literal["amortised"] = "amortised"
        width: int = Field(256, gt=0)
        """Width of the hidden layers."""
        layers: int = Field(2, ge=1, le=8)
        """Hidden layers."""
        temperature: float = Field(0.1, gt=0)
        """Excess energy that makes a choice e times less likely, in units of the typical (median) excess."""
        subgoal_weight: float = Field(1.0, ge=0)
        """Weight of imitating the first state of the plan (levels above 0)."""
        rate: float = Field(0.02, gt=0, le=1)
        """Rate of the running scale."""
        normalise: bool = True
        """Layer-normalise the next state, to match states that are layer-normed."""

    scale: Tensor

    def __init__(self, config: Config, spec: LevelSpec) -> None:
        super().__init__()
        self.trunk = MLP(spec.dim + spec.upper_dim + 1, config.width, config.width, config.layers)
        self.film = FiLM(spec.token_dim, config.width)
        self.choice = nn.Linear(config.width, spec.num_actions)
        self.displacement = nn.Linear(config.width, spec.dim)
        self.proposes, self.normalise = spec.index > 0, config.normalise
        self.temperature, self.rate = config.temperature, config.rate
        self.subgoal_weight = config.subgoal_weight
        self.register_buffer("scale", torch.zeros(()))
        with torch.no_grad():
            # Nearly uniform at first, and nearly standing still.
            self.choice.weight.mul_(0.1)
            self.displacement.weight.mul_(0.1)

    def forward(
        self,
        state: Float[Tensor, "*B D"],
        subgoal: Float[Tensor, "*B G"],
        has_subgoal: Bool[Tensor, "*B"],
        tokens: Float[Tensor, "*B K C"],
    ) -> tuple[Float[Tensor, "*B A"], Float[Tensor, "*B D"]]:
        """Logits, and the next state; a subgoal is only looked at where there is one."""
        has = has_subgoal[..., None]
        inputs = torch.cat([state, torch.where(has, subgoal, 0.0), has.to(state.dtype)], -1)
        hidden = F.silu(self.film(self.trunk(inputs), tokens))
        proposal = state + self.displacement(hidden)
        if self.normalise:
            proposal = F.layer_norm(proposal, proposal.shape[-1:])
        return self.choice(hidden), proposal

    def loss(
        self,
        state: Float[Tensor, "B D"],
        subgoal: Float[Tensor, "B G"],
        has_subgoal: Bool[Tensor, " B"],
        tokens: Float[Tensor, "B K C"],
        plan: Plan,
    ) -> Loss:
        """Divergence from the plan's softmin; above level 0, also the squared error of the next state."""
        logits, proposal = self(state, subgoal, has_subgoal, tokens)
        log_policy, target = logits.log_softmax(-1), self._target(plan.first_energies.detach())
        divergence = (torch.xlogy(target, target) - target * log_policy).sum(-1).mean()
        agreement = (logits.argmax(-1) == plan.actions[:, 0]).float().mean()
        entropy = -(log_policy.exp() * log_policy).sum(-1).mean()
        info: Info = {"divergence": divergence, "agreement": agreement, "entropy": entropy}
        loss = divergence
        if self.proposes:
            info["subgoal_error"] = F.mse_loss(proposal, plan.states[:, 0].detach())
            loss = loss + self.subgoal_weight * info["subgoal_error"]
        return loss, {name: value.detach() for name, value in info.items()}

    @torch.no_grad()
    def _target(self, first_energies: Float[Tensor, "B A"]) -> Float[Tensor, "B A"]:
        """What to imitate; choices that were not tried (+inf) get nothing."""
        excess = first_energies - first_energies.amin(-1, keepdim=True)
        if self.training:
            self._track(excess)
        return torch.softmax(-excess / (self.temperature * self.scale).clamp_min(1e-12), -1)

    def _track(self, excess: Float[Tensor, "B A"]) -> None:
        """Update the running scale by the rows whose choices differ at all."""
        typical = excess.masked_fill(excess.isinf(), float("nan")).nanmedian(-1).values
        tells = typical > 0
        mean = torch.where(tells, typical, 0.0).sum() / tells.sum().clamp_min(1)
        moved = torch.where(self.scale > 0, self.scale.lerp(mean, self.rate), mean)
        self.scale.copy_(torch.where(tells.any(), moved, self.scale))
