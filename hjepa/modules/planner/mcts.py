"""Monte Carlo tree search, batched over rows."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor

from hjepa.config import ModuleConfig
from hjepa.interfaces import Planner, PlanningProblem
from hjepa.nets import one_hot
from hjepa.search import FORCED, Rollout, best, better, sample, smoothed
from hjepa.types import LevelSpec, Plan, TensorStruct


@dataclass(frozen=True)
class _Tree(TensorStruct):
    """X nodes a row, numbered in the order of their expansion (0 is the root), updated in place."""

    child: Int[Tensor, "B X A"]
    """Node that a choice leads to, -1 where it is not in the tree."""
    log_prior: Float[Tensor, "B X A"]
    visits: Float[Tensor, "B X A"]
    total: Float[Tensor, "B X A"]
    """Sum of the energies of the plans that took the choice."""
    lowest: Float[Tensor, "B X A"]
    closed: Bool[Tensor, "B X A"]
    """All plans through the choice have been tried."""
    lower: Float[Tensor, " B"]
    """Lowest energy of all plans tried."""
    upper: Float[Tensor, " B"]


@dataclass(frozen=True)
class _Path:
    """The way from the root to the node that is being expanded, at most H - 1 choices long."""

    nodes: list[Tensor]
    """Node [B] before each step and, last, the one reached; it stays the same once the path has ended."""
    actions: list[Tensor]
    """Choice [B] at each step, -1 after the end."""
    length: Int[Tensor, " B"]


class TreeSearchPlanner(Planner):
    """PUCT (Silver et al. 2018) over choice sequences, energies scaled to [0, 1] by those met (MuZero, 2020).

    Each simulation expands one node a row by all of its choices at once: one complete plan through each,
    drawn from prior and warm start beyond the tree. Plans start from the root every time (open loop), so that
    samples of z are drawn anew. Sequences that were tried to the end are closed: with enough simulations the
    search is exhaustive.
    """

    class Config(ModuleConfig):
        """Settings of Monte Carlo tree search."""

        slot: ClassVar[str] = "planner"
        kind: Literal["mcts"] = "mcts"
        simulations: int = Field(32, ge=1)
        """Nodes a row that are expanded."""
        exploration: float = Field(1.25, ge=0)
        """c of PUCT: weight of the prior and of rarely tried choices."""
        backup: Literal["min", "mean"] = "min"
        """A choice is worth the lowest energy of the plans that took it, or (noisy energies) their mean."""
        smoothing: float = Field(0.1, gt=0, le=1)
        """Uniform share in a warm start."""

    def __init__(self, config: Config, spec: LevelSpec) -> None:
        super().__init__()
        self.simulations, self.exploration = config.simulations, config.exploration
        self.backup, self.smoothing = config.backup, config.smoothing

    @torch.no_grad()
    def plan(self, problem: PlanningProblem, warm_start: Float[Tensor, "B H A"] | None) -> Plan:
        """The plan of lowest energy; see `Planner.plan`."""
        default = torch.zeros(problem.batch, problem.horizon, problem.num_actions, device=problem.device)
        if warm_start is not None:
            default = smoothed(warm_start.softmax(-1), self.smoothing).log()
        inner = sum(problem.num_actions**step for step in range(problem.horizon))
        tree = _empty(problem, min(self.simulations, inner))
        plan = None
        for fresh in range(tree.child.shape[1]):
            path = self._select(tree, fresh, problem.horizon)
            rollout = sample(problem, default[:, None] + _forced(path, problem), prior_weight=1.0)
            found = best(rollout, problem.num_actions)
            plan = found if plan is None else better(plan, found)
            _expand(tree, path, rollout, default)
            _back_up(tree, path, rollout.energy)
        assert plan is not None  # there is at least one simulation
        return plan

    def _select(self, tree: _Tree, fresh: int, horizon: int) -> _Path:
        """Descend by PUCT until a choice leaves the tree, and hang node `fresh` there (first: the root)."""
        rows = torch.arange(len(tree.child), device=tree.child.device)
        node = torch.zeros_like(rows)
        nodes, actions, length = [node], [], torch.zeros_like(rows)
        going = torch.full_like(rows, fresh > 0, dtype=torch.bool)
        for _ in range(horizon - 1):
            action = self._upper_bounds(tree, node).argmax(-1)
            child = tree.child[rows, node, action]
            leaves = going & (child < 0)
            child = torch.where(leaves, fresh, child)
            tree.child[rows, node, action] = child
            actions.append(torch.where(going, action, -1))
            length = length + going
            node = torch.where(going, child, node)
            nodes.append(node)
            going = going & ~leaves
        return _Path(nodes, actions, length)

    def _upper_bounds(self, tree: _Tree, node: Int[Tensor, " B"]) -> Float[Tensor, "B A"]:
        """PUCT score of each choice, -inf where it is out of support or closed."""
        rows = torch.arange(len(node), device=node.device)
        visits, log_prior = tree.visits[rows, node], tree.log_prior[rows, node]
        mean = tree.total[rows, node] / visits.clamp_min(1)
        energy = tree.lowest[rows, node] if self.backup == "min" else mean
        span = (tree.upper - tree.lower).clamp_min(torch.finfo(energy.dtype).tiny)
        quality = ((tree.upper[:, None] - energy) / span[:, None]).clamp(0, 1)
        bonus = log_prior.exp() * visits.sum(-1, keepdim=True).sqrt() / (1 + visits)
        score = quality + self.exploration * bonus
        return score.masked_fill(log_prior.isneginf() | tree.closed[rows, node], float("-inf"))


def _empty(problem: PlanningProblem, nodes: int) -> _Tree:
    shape, device = (problem.batch, nodes, problem.num_actions), problem.device
    infinity = torch.full(shape, float("inf"), device=device)
    return _Tree(
        child=torch.full(shape, -1, dtype=torch.int64, device=device),
        log_prior=-infinity,
        visits=torch.zeros(shape, device=device),
        total=torch.zeros(shape, device=device),
        lowest=infinity,
        closed=torch.zeros(shape, dtype=torch.bool, device=device),
        lower=torch.full(shape[:1], float("inf"), device=device),
        upper=torch.full(shape[:1], float("-inf"), device=device),
    )


def _forced(path: _Path, problem: PlanningProblem) -> Float[Tensor, "B A H A"]:
    """Logits that lead candidate a along the path, and then to choice a."""
    choices, horizon = problem.num_actions, problem.horizon
    beyond = torch.full_like(path.length, -1)
    actions = torch.stack([*path.actions, beyond], 1)
    along = one_hot(actions, choices)[:, None]
    at_end = path.length[:, None] == torch.arange(horizon, device=problem.device)
    end = torch.eye(choices, device=problem.device)[None, :, None] * at_end[:, None, :, None]
    return FORCED * (along + end)


def _expand(tree: _Tree, path: _Path, rollout: Rollout, default: Float[Tensor, "B H A"]) -> None:
    """Write the choices of the path's last node: their prior, and what the plans through them came to."""
    node, length = path.nodes[-1], path.length
    rows = torch.arange(len(node), device=node.device)
    choices = tree.child.shape[2]
    taken = one_hot(rollout.actions[rows, :, length], choices).bool()
    energy = rollout.energy[..., None]
    tree.log_prior[rows, node] = (rollout.log_prior[rows, 0, length] + default[rows, length]).log_softmax(-1)
    tree.visits[rows, node] += taken.sum(1)
    tree.total[rows, node] += torch.where(taken, energy, 0.0).sum(1)
    lowest = torch.where(taken, energy, float("inf")).amin(1)
    tree.lowest[rows, node] = torch.minimum(tree.lowest[rows, node], lowest)
    tree.closed[rows, node] |= (length == len(path.actions))[:, None]
    torch.minimum(tree.lower, rollout.energy.amin(1), out=tree.lower)
    torch.maximum(tree.upper, rollout.energy.amax(1), out=tree.upper)


def _back_up(tree: _Tree, path: _Path, energy: Float[Tensor, "B A"]) -> None:
    """Add the energies of the new plans to every choice on the path, and close choices that are done with."""
    rows = torch.arange(len(energy), device=energy.device)
    for step in reversed(range(len(path.actions))):
        node, action, child = path.nodes[step], path.actions[step].clamp_min(0), path.nodes[step + 1]
        on_path = step < path.length
        tree.visits[rows, node, action] += on_path * energy.shape[1]
        tree.total[rows, node, action] += on_path * energy.sum(1)
        lowest = torch.where(on_path, energy.amin(1), float("inf"))
        tree.lowest[rows, node, action] = torch.minimum(tree.lowest[rows, node, action], lowest)
        done = (tree.closed[rows, child] | tree.log_prior[rows, child].isneginf()).all(-1)
        tree.closed[rows, node, action] |= on_path & done
