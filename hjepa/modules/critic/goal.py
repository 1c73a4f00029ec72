"""Goal critic: how far a state is from a goal in time, learned in hindsight."""

from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor

from hjepa.config import ModuleConfig
from hjepa.interfaces import Critic, Loss
from hjepa.losses import masked_mean
from hjepa.nets import MLP, FiLM
from hjepa.types import CriticBatch, Info, LevelSpec


class GoalCritic(Critic):
    """d(s, g) = E[1 - gamma^k], k the steps of the level from s until g is reached; 1 where it never is.

    That is the discounted sum of an energy of 1 - gamma in every step on the way: 0 at the goal, at most 1.
    Goals that the same window reached k steps later teach 1 - gamma^k (hindsight, Andrychowicz et al. 2017);
    goals from anywhere in the batch teach the bootstrapped 1 - gamma + gamma d(s', g), which joins windows
    and goes to 1 where nothing leads. The loss is the cross-entropy with these targets, least at their mean.
    """

    class Config(ModuleConfig):
        """Settings of the goal critic."""

        slot: ClassVar[str] = "critic"
        kind: Literal["goal"] = "goal"
        width: int = Field(256, gt=0)
        """Width of the hidden layers."""
        layers: int = Field(2, ge=1, le=8)
        """Hidden layers."""
        longest: int = Field(16, ge=1)
        """Most steps of the level between a state and a goal of its own window."""
        elsewhere: float = Field(1.0, ge=0)
        """Weight of goals from anywhere in the batch."""

    def __init__(self, config: Config, spec: LevelSpec) -> None:
        super().__init__()
        self.gamma = spec.discount**spec.span
        self.longest, self.elsewhere = config.longest, config.elsewhere
        self.film = FiLM(spec.token_dim, 3 * spec.dim)
        self.body = MLP(3 * spec.dim, config.width, 1, config.layers)

    def forward(
        self,
        state: Float[Tensor, "*B D"],
        goal: Float[Tensor, "*B D"],
        has_goal: Bool[Tensor, "*B"],
        tokens: Float[Tensor, "*B K C"],
    ) -> Float[Tensor, "*B"]:
        """In [0, 1]; 0 where there is no goal."""
        return torch.where(has_goal, self._logit(state, goal, tokens).sigmoid(), 0.0)

    def _logit(
        self, state: Float[Tensor, "*B D"], goal: Float[Tensor, "*B D"], tokens: Float[Tensor, "*B K C"]
    ) -> Float[Tensor, "*B"]:
        pair = torch.cat((state, goal, (state - goal).abs()), -1)
        return self.body(self.film(pair, tokens)).squeeze(-1)

    # -------------------------------------------------------------------------------------------- learning
    def loss(self, batch: CriticBatch, target: Critic) -> Loss:
        later, steps = self._later(batch)
        own_goal = torch.take_along_dim(batch.target_states, later[..., None], 1)
        own_target = 1 - self.gamma ** steps.to(batch.states.dtype)
        own_target = own_target * (batch.target_states != own_goal).any(-1)
        own_logit = self._logit(batch.states, own_goal, batch.tokens)
        own = F.binary_cross_entropy_with_logits(own_logit, own_target)
        goal = self._anywhere(batch.target_states)
        goal_target, valid = self._bootstrapped(batch, goal, target), batch.reaches | batch.ended
        logit = self._logit(batch.states, goal, batch.tokens)
        error = F.binary_cross_entropy_with_logits(logit, goal_target, reduction="none")
        info = self._info(own_logit.detach().sigmoid(), own_target, logit.detach().sigmoid(), valid)
        return own + self.elsewhere * masked_mean(error, valid), info

    def _later(self, batch: CriticBatch) -> tuple[Int[Tensor, "B T"], Int[Tensor, "B T"]]:
        """For each record, one up to `longest` steps later in the same episode, and how many steps later."""
        at = torch.arange(batch.next_index.shape[1], device=batch.next_index.device).expand_as(batch.next_index)
        steps, drawn = torch.zeros_like(at), torch.randint_like(at, self.longest + 1)
        alive = torch.ones_like(batch.reaches)
        for step in range(min(self.longest, at.shape[1] - 1)):
            alive = alive & (step < drawn) & (batch.reaches | batch.ended).gather(1, at)
            at = torch.where(alive, batch.next_index.gather(1, at), at)
            steps = steps + alive
        return at, steps

    def _anywhere(self, states: Float[Tensor, "B T D"]) -> Float[Tensor, "B T D"]:
        """The batch's records in random order."""
        flat = states.flatten(0, 1)
        return flat[torch.randperm(len(flat), device=flat.device)].view_as(states)

    @torch.no_grad()
    def _bootstrapped(self, batch: CriticBatch, goal: Float[Tensor, "B T D"], target: Critic) -> Float[Tensor, "B T"]:
        """1 - gamma + gamma d(s', g), with the average critic's d; 0 where s is the goal."""
        following = torch.take_along_dim(batch.target_states, batch.next_index[..., None], 1)
        distance = target(following, goal, torch.ones_like(batch.ended), batch.tokens)
        distance = distance * (following != goal).any(-1)
        return (1 - self.gamma + self.gamma * distance) * (batch.target_states != goal).any(-1)

    def imagined_loss(
        self, predicted: Float[Tensor, "R D"], actual: Float[Tensor, "R D"], tokens: Float[Tensor, "R K C"]
    ) -> Loss:
        """Squared difference of the distances from both to other rows' actual states."""
        goal = actual.detach()[torch.randperm(len(actual), device=actual.device)]
        with torch.no_grad():
            goals = self._logit(actual, goal, tokens).sigmoid()
        loss = F.mse_loss(self._logit(predicted, goal, tokens).sigmoid(), goals)
        return loss, {"imagined": loss.detach()}

    def _info(
        self,
        own: Float[Tensor, "B T"],
        own_target: Float[Tensor, "B T"],
        other: Float[Tensor, "B T"],
        valid: Bool[Tensor, "B T"],
    ) -> Info:
        """Means of the distances to goals of the own window and to any, and the error of the former."""
        return {
            "value": own.mean(),
            "target": own_target.mean(),
            "error": (own - own_target).abs().mean(),
            "value_elsewhere": masked_mean(other, valid),
        }
