"""What leads where, and what was worth going to, learned in hindsight from what was walked."""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from hjepa.interfaces import Loss
from hjepa.losses import masked_mean, weighted_mean
from hjepa.nets import MLP
from hjepa.types import Info, LevelSpec, Walked

HEAVIEST = 20.0
"""Most that a record counts, where those that went as expected count 1."""


class HindsightFollower(nn.Module):
    """p(choice | state, a state of the level above that was come to soon after): wherever the agent went may have been
    its subgoal (goal-conditioned supervised learning, Ghosh et al. 2021, arXiv 1912.06088, section 4).

    The distance of two states says little of the way between them where most of a state is what happens to be in view:
    it hardly grows beyond two or three steps.
    """

    def __init__(self, spec: LevelSpec, width: int) -> None:
        super().__init__()
        self.network = MLP(spec.dim + spec.upper_dim, width, spec.num_actions)

    def forward(self, state: Float[Tensor, "*B D"], subgoal: Float[Tensor, "*B G"]) -> Float[Tensor, "*B A"]:
        """Log-probability of each choice, in nats."""
        return self.network(torch.cat((state, subgoal), -1)).log_softmax(-1)

    def loss(self, state: Float[Tensor, "R D"], walked: Walked, weight: Float[Tensor, " R"]) -> Loss:
        """Cross-entropy of the choices made, over the rows that reached their goal, each counted by `weight`."""
        logits = self(state, walked.goal)
        off = F.nll_loss(logits, walked.choice, reduction="none")
        loss = weighted_mean(off, weight * walked.reached)
        hit = masked_mean((logits.argmax(-1) == walked.choice).float(), walked.reached)
        return loss, {"follower": loss.detach(), "follower_accuracy": hit.detach()}


class HindsightSetter(nn.Module):
    """The state to hand down: where the better walks led within a step, from states like this on the way to a goal like
    the level's own (the high-level policy of HIQL, Park et al. 2023, arXiv 2307.11949, section 5)."""

    def __init__(self, spec: LevelSpec, width: int) -> None:
        super().__init__()
        self.network = MLP(spec.dim + spec.upper_dim, width, spec.dim)

    def forward(self, state: Float[Tensor, "*B D"], subgoal: Float[Tensor, "*B G"]) -> Float[Tensor, "*B D"]:
        """Layer-normed, as states are."""
        return F.layer_norm(state + self.network(torch.cat((state, subgoal), -1)), state.shape[-1:])

    def loss(self, state: Float[Tensor, "R D"], walked: Walked, weight: Float[Tensor, " R"]) -> Loss:
        """Squared error of the state a step later, over the rows that have one, each counted by `weight`."""
        off = (self(state, walked.goal) - walked.next).square().mean(-1)
        loss = weighted_mean(off, weight * (walked.reached & walked.arrived))
        return loss, {"setter": loss.detach()}


def advantage_weights(advantage: Float[Tensor, " R"], rows: Bool[Tensor, " R"], strength: float) -> Float[Tensor, " R"]:
    """exp(strength * advantage), the advantage in units of its root mean square over `rows` (advantage-weighted
    regression, Peng et al. 2019, arXiv 1910.00177, eq. 6), at most `HEAVIEST`."""
    unit = masked_mean(advantage.square(), rows).sqrt().clamp_min(torch.finfo(advantage.dtype).tiny)
    return (strength * advantage / unit).exp().clamp_max(HEAVIEST)


class Hindsight(nn.Module):
    """Followers of the levels below the highest, setters of those above the lowest; a level alone has a follower that
    is given no subgoal, and learns what the better walks did."""

    def __init__(self, levels: tuple[LevelSpec, ...], width: int, strength: float, follows: bool, sets: bool) -> None:
        super().__init__()
        followed = (levels[:-1] or levels) if follows else ()
        self.followers = nn.ModuleList([HindsightFollower(level, width) for level in followed])
        self.setters = nn.ModuleList([HindsightSetter(level, width) for level in levels[1:]] if sets else [])
        self.strength = strength

    @property
    def learns(self) -> bool:
        """Whether there is anything to learn."""
        return len(self.followers) + len(self.setters) > 0

    def follows(self, level: int) -> bool:
        """Whether choices of `level` are weighed by what led to such subgoals before."""
        return level < len(self.followers)

    def sets(self, level: int) -> bool:
        """Whether `level` hands down where the better walks led."""
        return 0 < level <= len(self.setters)

    def unlikelihood(
        self, level: int, state: Float[Tensor, "B D"], subgoal: Float[Tensor, "B G"]
    ) -> Float[Tensor, "B A"]:
        """How unlikely each choice is to lead to the subgoal, in nats."""
        return -self.followers[level](state, subgoal)

    def proposal(self, level: int, state: Float[Tensor, "B D"], subgoal: Float[Tensor, "B G"]) -> Float[Tensor, "B D"]:
        """What `level` hands down on its way to its own subgoal; the highest has learned without any."""
        if level == len(self.setters):
            subgoal = torch.zeros_like(subgoal)
        return self.setters[level - 1](state, subgoal)

    def loss(self, states: tuple[Tensor, ...], walked: tuple[Walked, ...]) -> Loss:
        """Losses of all followers and setters; `states` are detached."""
        total, info = states[0].new_zeros(()), Info()
        for level, (state, way) in enumerate(zip(states, walked, strict=self.learns)):
            weight = advantage_weights(way.advantage, way.reached, self.strength)
            learners = [self.followers[level]] if self.follows(level) else []
            for learner in learners + ([self.setters[level - 1]] if self.sets(level) else []):
                loss, terms = learner.loss(state.detach(), way, weight)  # type: ignore[operator]
                total = total + loss
                info |= {f"{name}_{level}": value for name, value in terms.items()}
        return total, info
