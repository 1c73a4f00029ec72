"""Which choice leads to a subgoal, learned in hindsight from what was walked."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from hjepa.interfaces import Loss
from hjepa.losses import masked_mean
from hjepa.nets import MLP
from hjepa.types import LevelSpec, Walked


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

    def loss(self, state: Float[Tensor, "R D"], walked: Walked) -> Loss:
        """Cross-entropy of the choices made, over the rows that reached their goal."""
        logits = self(state, walked.goal)
        loss = masked_mean(F.nll_loss(logits, walked.choice, reduction="none"), walked.reached)
        hit = masked_mean((logits.argmax(-1) == walked.choice).float(), walked.reached)
        return loss, {"follower": loss.detach(), "follower_accuracy": hit.detach()}
