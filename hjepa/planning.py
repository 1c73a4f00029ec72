"""The planning problem of one level: world model, cost and subgoal, as a planner sees them."""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from hjepa.interfaces import Critic, IntrinsicCost, Node, PlanningProblem, WorldModel
from hjepa.types import Task

Risk = Literal["mean", "mean_std", "worst"]


@dataclass(frozen=True)
class SubgoalTerm:
    """How near a plan's end comes to the subgoal, as an energy.

    `lifted`: the end state is encoded into the level above and compared there (L22 section 4.7; H-JEPA's cost).
    `own`: the subgoal is read out in the level's own space and compared there (the ablation).
    `critic`: after lifting, too, but by what the critic of the level above makes of the way, walls and detours counted.
    """

    target: Float[Tensor, "B G"]
    weight: Float[Tensor, " B"]
    """Energy of being one typical displacement away; 0 where there is no subgoal."""
    scale: Float[Tensor, ""]
    """Typical displacement over one step of the level above."""
    upper: WorldModel | None
    """The level above, to lift with; None: compare in the level's own space."""
    tokens: Float[Tensor, "B K C"]
    critic: Critic | None = None
    """Measures where they are compared; None: Euclidean distance."""
    haste: float = 0.0
    """If positive, the subgoal may be met at any step, and this share of the weight is what each step more costs."""

    def energy(self, state: Float[Tensor, "B N S D"]) -> Float[Tensor, "B N S"]:
        """Weighted distance of predicted states to the subgoal."""
        if self.upper is not None:
            state = self.upper.encoder(state, spread(self.tokens, state))
        target = self.target[:, None, None]
        if self.critic is None:
            distance = torch.linalg.vector_norm(state - target, dim=-1) / self.scale
        else:
            active = (self.weight > 0)[:, None, None].expand(state.shape[:-1])
            distance = self.critic(state, target.expand_as(state), active, spread(self.tokens, state))
        return self.weight[:, None, None] * distance


@dataclass(frozen=True)
class RiskMeasure:
    """How energies over samples of z become one (L22 section 4.8; R39)."""

    kind: Risk
    weight: float
    """lambda of mean + lambda * std."""

    def __call__(self, energy: Float[Tensor, "B N S"]) -> Float[Tensor, "B N"]:
        if energy.shape[-1] == 1:
            return energy[..., 0]
        if self.kind == "worst":
            return energy.amax(-1)
        mean = energy.mean(-1)
        return mean + self.weight * energy.std(-1) if self.kind == "mean_std" else mean


def spread(tokens: Float[Tensor, "B K C"], like: Float[Tensor, "B *N D"]) -> Float[Tensor, "B *N K C"]:
    """Repeat the task tokens over the candidate dimensions of `like`, without copying."""
    extra = like.dim() - 2
    shape = (tokens.shape[0], *([1] * extra), *tokens.shape[1:])
    return tokens.view(shape).expand(*like.shape[:-1], *tokens.shape[1:])


class LatentProblem(PlanningProblem):
    """Sum over t of gamma^t IC(s_t), plus gamma^T TC(s_T), plus the subgoal's distance at the end (docs: ambiguity 1).

    A critic that tells choices apart also values the plan at every depth before the end, TC(s_t, a_t) in place of what
    follows; the plan's energy is then the mean over depths, which errs less than the deepest estimate alone (model-
    based
    value expansion, Feinberg et al. 2018, averaged as in STEVE, Buckman et al. 2018, with equal weights). Guardrails
    and drives are evaluated on every predicted step through the world model's energy readout.
    """

    def __init__(
        self,
        world_model: WorldModel,
        critic: Critic,
        intrinsic_cost: IntrinsicCost,
        state: Float[Tensor, "B D"],
        task: Task,
        level: int,
        horizon: int,
        subgoal_term: SubgoalTerm | None,
        samples: int,
        risk: RiskMeasure,
        support_threshold: float,
        goal: Float[Tensor, "B D"],
        has_goal: Tensor,
        first_step: Float[Tensor, "B A"] | None = None,
    ) -> None:
        """`first_step` is an energy added to each choice of the plan's first step, for what no state can tell; no
        `subgoal_term`: plans are not measured by where they end."""
        self.batch, self.horizon, self.device = state.shape[0], horizon, state.device
        self.num_actions = world_model.action_encoder.num_actions
        self._world_model, self._critic, self._intrinsic_cost = world_model, critic, intrinsic_cost
        self._state, self._task, self._level = state, task, level
        self._term, self._risk, self._threshold = subgoal_term, risk, support_threshold
        self._first_step = first_step
        self._samples = samples if world_model.latent.dim > 0 else 1
        self._table = world_model.action_encoder.table()
        self._log_discount = world_model.spec.span * torch.log(
            torch.tensor(world_model.spec.discount, device=state.device)
        )
        self._goal, self._has_goal = goal, has_goal
        self._by_choice = critic.choices(state[:1], task.tokens[:1]) is not None

    def root(self) -> Node:
        state = self._state[:, None, None].expand(-1, 1, self._samples, -1)
        zero = state.new_zeros(state.shape[:-1])
        return Node(state, zero, zero, zero if self._by_choice else None)

    def support(self, node: Node) -> Float[Tensor, "B N A"]:
        """Log prior under the data; choices below the threshold (relative to the likeliest) are shut out (F1)."""
        prior = self._world_model.action_encoder.support(node.state.mean(2))
        limit = prior.amax(-1, keepdim=True) + torch.log(
            torch.tensor(self._threshold, device=prior.device).clamp_min(1e-30)
        )
        return prior.masked_fill(prior < limit, float("-inf"))

    def step(self, node: Node, weights: Float[Tensor, "B N A"]) -> Node:
        samples = node.state.shape[2]
        action = (weights @ self._table)[:, :, None].expand(-1, -1, samples, -1)
        latent = self._draw(node.state)
        prediction = self._world_model.predict(node.state, action, latent, spread(self._task.tokens, node.state))
        drives = self._intrinsic_cost.predicted(prediction.energies)
        intrinsic = (drives * self._task.intrinsic_weights[:, None, None]).sum(-1)
        return Node(
            prediction.state,
            self._begun(node, weights) + node.log_discount.exp() * intrinsic,
            node.log_discount + self._log_discount + prediction.log_continue,
            self._estimate(node, weights),
            node.depth + 1,
            self._approach(node, prediction.state),
        )

    def _approach(self, node: Node, state: Float[Tensor, "B N S D"]) -> Float[Tensor, "B N S"] | None:
        """The subgoal's energy at the nearest approach so far; later ones cost more, or arriving would be put off."""
        if self._term is None or self._term.haste == 0:
            return None
        delay = self._term.haste * node.depth * self._term.weight[:, None, None]
        now = self._term.energy(state) + delay
        return now if node.nearest is None else torch.minimum(node.nearest, now)

    def score(self, node: Node) -> Float[Tensor, "B N"]:
        discount = node.log_discount.exp()
        energy = node.energy + discount * self._weigh(self._value(node.state))
        if node.estimates is not None:
            energy = (node.estimates + energy) / (node.depth + 1)
        if node.nearest is not None:
            return self._risk(energy + node.nearest)
        return self._risk(energy if self._term is None else energy + discount * self._term.energy(node.state))

    def ending(self, state: Float[Tensor, "B N D"]) -> Float[Tensor, "B N"]:
        """What the critic and the subgoal say of a state, as energies of a plan that ends there after one step."""
        state = state[:, :, None]
        energy = self._weigh(self._value(state))
        if self._term is not None:
            energy = energy + self._term.energy(state)
        return self._risk(self._log_discount.exp() * energy)

    def _estimate(self, node: Node, weights: Float[Tensor, "B N A"]) -> Float[Tensor, "B N S"] | None:
        """Add what the critic says of the plan before this step is predicted: the estimate of `depth` steps'
        expansion."""
        if node.estimates is None:
            return None
        choices = self._critic.choices(node.state, spread(self._task.tokens, node.state))
        assert choices is not None
        value = self._weigh((choices * weights[:, :, None]).sum(-1))
        return node.estimates + self._begun(node, weights) + node.log_discount.exp() * value

    def _begun(self, node: Node, weights: Float[Tensor, "B N A"]) -> Float[Tensor, "B N S"]:
        """The plan's energy so far, with that of its first choice where this is the first."""
        if self._first_step is None or node.depth > 0:
            return node.energy
        return node.energy + (weights * self._first_step[:, None]).sum(-1, keepdim=True)

    def _value(self, state: Float[Tensor, "B N S D"]) -> Float[Tensor, "B N S"]:
        lead = state.shape[:-1]
        goal = self._goal[:, None, None].expand(*lead, -1)
        has_goal = self._has_goal[:, None, None].expand(lead)
        return self._critic(state, goal, has_goal, spread(self._task.tokens, state))

    def _weigh(self, value: Float[Tensor, "B N S"]) -> Float[Tensor, "B N S"]:
        return value * self._task.critic_weights[:, self._level, None, None]

    def _draw(self, state: Float[Tensor, "B N S D"]) -> Float[Tensor, "B N S Z"]:
        """One draw of z for each sample; the mode alone where there is one sample."""
        latent = self._world_model.latent
        if latent.dim == 0:
            return state.new_zeros(*state.shape[:-1], 0)
        return latent.sample(state, 1).squeeze(-2)
