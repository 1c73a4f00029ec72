"""Level-by-level tree search: exact where nothing is cut, a beam search where the width is bounded."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from hjepa.interfaces import Node, PlanningProblem
from hjepa.nets import one_hot
from hjepa.search import evaluated, expand, lowest_by_first, masked, normalised_prior, take
from hjepa.types import Plan, TensorStruct

INFINITY = float("inf")
Trail = list[tuple[Tensor | None, Tensor]]
"""For each step: indices [B, K] of the plans kept (None: all), and the children's states [B, N, S, D]."""


@dataclass(frozen=True)
class Frontier(TensorStruct):
    """Partial plans of equal length, N a row."""

    node: Node
    penalty: Float[Tensor, "B N"]
    """0, or +inf where the partial plan left the support."""
    first: Int[Tensor, "B N"]
    """Its first choice."""
    on_warm_start: Bool[Tensor, "B N"]
    """Whether it took the warm start's likeliest in-support choice at every step."""


def tree_search(problem: PlanningProblem, width: int, warm_start: Float[Tensor, "B H A"] | None) -> Plan:
    """Expand every choice of every partial plan, keeping the `width` of lowest energy before each expansion.

    The best partial plan of each first choice is kept in any case, so that `first_energies` has a complete
    plan for every choice in support; so is the warm start's own plan, and the result is never worse than it.
    """
    width = max(width, problem.num_actions + (warm_start is not None))
    frontier, trail, nodes = _root(problem, warm_start is not None), Trail(), 0
    for step in range(problem.horizon):
        kept = _survivors(problem, frontier, width) if frontier.penalty.shape[1] > width else None
        if kept is not None:
            frontier = _keep(frontier, kept)
        frontier = _grow(problem, frontier, None if warm_start is None else warm_start[:, step], step)
        nodes += frontier.penalty.shape[1]
        trail.append((kept, frontier.node.state))
    energy = problem.score(frontier.node) + frontier.penalty
    lowest, index = energy.min(1)
    actions, states = _follow_back(trail, index, problem.num_actions)
    first_energies = lowest_by_first(energy, frontier.first, problem.num_actions)
    spent = evaluated(problem, nodes * frontier.node.energy.shape[2])
    return Plan(actions, states, lowest, first_energies, spent)


def _root(problem: PlanningProblem, warm: bool) -> Frontier:
    node = problem.root()
    shape = (problem.batch, 1)
    first = torch.zeros(shape, dtype=torch.int64, device=problem.device)
    return Frontier(node, node.energy.new_zeros(shape), first, torch.full_like(first, warm, dtype=torch.bool))


def _keep(frontier: Frontier, index: Int[Tensor, "B K"]) -> Frontier:
    return frontier.map(lambda tensor: take(tensor, index))


def _grow(problem: PlanningProblem, frontier: Frontier, warm_start: Float[Tensor, "B A"] | None, step: int) -> Frontier:
    """All children [B, N * A] of the frontier."""
    log_prior = normalised_prior(problem, frontier.node)
    count, choices = log_prior.shape[1:]
    left = torch.zeros_like(log_prior).masked_fill(log_prior.isneginf(), INFINITY)
    choice = torch.arange(choices, device=problem.device).expand(problem.batch, count, -1)
    first = choice if step == 0 else frontier.first[..., None].expand_as(choice)
    stays = frontier.on_warm_start[..., None].expand_as(choice)
    if warm_start is not None:
        preferred = masked(warm_start[:, None].expand_as(log_prior), log_prior).argmax(-1)
        stays = stays & one_hot(preferred, choices).bool()
    penalty = frontier.penalty[..., None] + left
    node = expand(problem, frontier.node)
    return Frontier(node, penalty.flatten(1), first.flatten(1), stays.flatten(1))


def _survivors(problem: PlanningProblem, frontier: Frontier, width: int) -> Int[Tensor, "B K"]:
    """Indices of the `width` partial plans of lowest energy, those that must stay among them."""
    energy = problem.score(frontier.node) + frontier.penalty
    choices = torch.arange(problem.num_actions, device=problem.device)
    other = frontier.first[:, None] != choices[None, :, None]
    best_of_first = energy[:, None].expand(other.shape).masked_fill(other, INFINITY).argmin(-1)
    rank = energy.scatter(1, best_of_first, -INFINITY).masked_fill(frontier.on_warm_start, -INFINITY)
    return rank.topk(width, largest=False).indices


def _follow_back(
    trail: Trail, index: Int[Tensor, " B"], num_actions: int
) -> tuple[Int[Tensor, "B H"], Float[Tensor, "B H D"]]:
    """The choices and mean states that led to the leaves at `index`."""
    rows = torch.arange(len(index), device=index.device)
    actions, states = [], []
    for kept, children in reversed(trail):
        actions.append(index % num_actions)
        states.append(children[rows, index].mean(1))
        parent = index // num_actions
        index = parent if kept is None else kept[rows, parent]
    return torch.stack(actions[::-1], 1), torch.stack(states[::-1], 1)
