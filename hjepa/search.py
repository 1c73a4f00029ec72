"""What the planners share: priors, expansion, rollouts of candidates, and the plans they come to.

A choice with prior -inf is out of the data's support and is never taken, at any depth.
Where the prior shuts out every choice of a state it says nothing, and all choices count as equally likely.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from hjepa.interfaces import Node, PlanningProblem
from hjepa.nets import one_hot
from hjepa.types import Plan, TensorStruct

FORCED = 1e9
"""Added to a logit to make its choice certain, unless it is out of support (-inf)."""

Choose = Callable[[int, Tensor], Tensor]
"""(step, log prior [B, N, A]) -> weights [B, N, A] of the choice each candidate takes at that step."""


@dataclass(frozen=True)
class Rollout(TensorStruct):
    """N candidate plans a row, followed to the horizon."""

    actions: Int[Tensor, "B N H"]
    states: Float[Tensor, "B N H D"]
    """Mean over samples of z."""
    log_prior: Float[Tensor, "B N H A"]
    """Log prior of the choices there were at each step, before it was taken."""
    energy: Float[Tensor, "B N"]
    evaluations: Int[Tensor, ""]


# ----------------------------------------------------------------------------------------- single steps
@torch.no_grad()
def normalised_prior(problem: PlanningProblem, node: Node) -> Float[Tensor, "B N A"]:
    """Log prior of each choice, summing to one over those in support; uniform where the support is empty.

    It bounds a search and is nothing to be descended on: no gradient.
    """
    prior = problem.support(node)
    empty = prior.isneginf().all(-1, keepdim=True)
    return prior.masked_fill(empty, 0.0).log_softmax(-1)


def masked(logits: Float[Tensor, "*B A"], log_prior: Float[Tensor, "*B A"]) -> Float[Tensor, "*B A"]:
    """`logits`, with -inf at the choices out of support."""
    return logits.masked_fill(log_prior.isneginf(), float("-inf"))


def expand(problem: PlanningProblem, node: Node) -> Node:
    """Every choice from every node, [B, N * A]: child n * A + a is choice a from node n. One batched step."""
    choices = problem.num_actions
    count = node.energy.shape[1]
    weights = torch.eye(choices, device=problem.device, dtype=node.energy.dtype).repeat(count, 1)
    parents = node.map(lambda tensor: tensor.repeat_interleave(choices, 1))
    return problem.step(parents, weights.expand(problem.batch, -1, -1))


def take(tensor: Tensor, index: Int[Tensor, "B M"]) -> Tensor:
    """Entries [B, M, ...] of `tensor` [B, N, ...] along its second dimension."""
    return tensor[torch.arange(index.shape[0], device=index.device)[:, None], index]


def first_choices(
    problem: PlanningProblem, plan: Plan, count: int
) -> tuple[Float[Tensor, "B N"], Float[Tensor, "B N D"], Int[Tensor, ""]]:
    """Energy of the best plans that begin with each of the `count` best first choices, where these lead, and what
    finding that cost."""
    energies, choices = plan.first_energies.topk(min(count, problem.num_actions), dim=1, largest=False)
    root = problem.root().map(lambda tensor: tensor.expand(-1, choices.shape[1], *tensor.shape[2:]))
    node = problem.step(root, one_hot(choices, problem.num_actions).to(energies.dtype))
    return energies, node.state.mean(2), evaluated(problem, node.energy[0].numel())


def familiarity(
    state: Float[Tensor, "B N D"],
    visited: Float[Tensor, "B R D"],
    remembered: Bool[Tensor, "B R"],
    width: Float[Tensor, ""],
) -> Float[Tensor, "B N"]:
    """How often each state was met: remembered ones count by a Gaussian of their distance, `width` wide."""
    distance = torch.cdist(state, visited) / width
    return (torch.exp(-0.5 * distance.square()) * remembered[:, None]).sum(-1)


def gather(node: Node, index: Int[Tensor, "B M"]) -> Node:
    """The nodes at `index`, in its order."""
    return node.map(lambda tensor: take(tensor, index))


# ----------------------------------------------------------------------------------------- rollouts
def roll_out(problem: PlanningProblem, candidates: int, choose: Choose) -> Rollout:
    """Follow `candidates` plans a row to the horizon, all of them in one batched step at a time (R11)."""
    node, actions, states, priors = problem.root(), [], [], []
    samples = node.energy.shape[2]
    for step in range(problem.horizon):
        log_prior = normalised_prior(problem, node).expand(-1, candidates, -1)
        weights = choose(step, log_prior)
        parents = node.map(lambda tensor: tensor.expand(-1, candidates, *tensor.shape[2:]))
        node = problem.step(parents, weights)
        actions.append(weights.argmax(-1))
        states.append(node.state.mean(2))
        priors.append(log_prior)
    return Rollout(
        torch.stack(actions, 2),
        torch.stack(states, 2),
        torch.stack(priors, 2),
        problem.score(node),
        evaluated(problem, candidates * samples * problem.horizon),
    )


def sample(problem: PlanningProblem, logits: Float[Tensor, "B N H A"], prior_weight: float = 0.0) -> Rollout:
    """Draw N plans, choice by choice from softmax(logits[step] + prior_weight * log prior) in the support."""

    def choose(step: int, log_prior: Float[Tensor, "B N A"]) -> Float[Tensor, "B N A"]:
        weighted = logits[:, :, step] + prior_weight * log_prior.masked_fill(log_prior.isneginf(), 0.0)
        return one_hot((masked(weighted, log_prior) + gumbel(weighted)).argmax(-1), problem.num_actions)

    return roll_out(problem, logits.shape[1], choose)


def gumbel(like: Tensor) -> Tensor:
    """Standard Gumbel noise from torch's global generator."""
    return -torch.empty_like(like).exponential_().log()


def initial_logits(
    problem: PlanningProblem, warm_start: Float[Tensor, "B H A"] | None, floor: float
) -> Float[Tensor, "B H A"]:
    """Logits of the first search distribution: uniform, or the warm start with a uniform share of `floor`."""
    if warm_start is None:
        return torch.zeros(problem.batch, problem.horizon, problem.num_actions, device=problem.device)
    return smoothed(warm_start.softmax(-1), floor).log()


def smoothed(weights: Float[Tensor, "*B A"], floor: float) -> Float[Tensor, "*B A"]:
    """Mix a distribution with a uniform share of `floor`."""
    return (1 - floor) * weights + floor / weights.shape[-1]


def seeds(
    problem: PlanningProblem, warm_start: Float[Tensor, "B H A"] | None, candidates: int
) -> Float[Tensor, "B N H A"]:
    """Logits to add to those of the first population, so that no first choice stays untried.

    Candidate a < A begins with choice a, and candidate A takes the warm start's likeliest choices; the rest
    is free. N is `candidates`, or more where these would not fit.
    """
    choices, horizon = problem.num_actions, problem.horizon
    count = max(candidates, choices + (warm_start is not None))
    forced = torch.zeros(problem.batch, count, horizon, choices, device=problem.device)
    forced[:, :choices, 0] = FORCED * torch.eye(choices, device=problem.device)
    if warm_start is not None:
        forced[:, choices] = FORCED * one_hot(warm_start.argmax(-1), choices)
    return forced


# ----------------------------------------------------------------------------------------- plans
def evaluated(problem: PlanningProblem, count: int) -> Int[Tensor, ""]:
    """`count` predictor evaluations in each row, summed over the rows."""
    return torch.full((), problem.batch * count, dtype=torch.int64, device=problem.device)


def lowest_by_first(energy: Float[Tensor, "B N"], first: Int[Tensor, "B N"], num_actions: int) -> Float[Tensor, "B A"]:
    """Lowest energy among the plans that begin with each choice; +inf where there is none."""
    untried = energy.new_full((len(energy), num_actions), float("inf"))
    return untried.scatter_reduce(1, first, energy, "amin")


def best(rollout: Rollout, num_actions: int) -> Plan:
    """The candidate of lowest energy in each row."""
    index = rollout.energy.argmin(1, keepdim=True)
    return Plan(
        take(rollout.actions, index)[:, 0],
        take(rollout.states, index)[:, 0],
        take(rollout.energy, index)[:, 0],
        lowest_by_first(rollout.energy, rollout.actions[:, :, 0], num_actions),
        rollout.evaluations,
    )


def better(old: Plan, new: Plan) -> Plan:
    """The better of two plans in each row (the old one when equal), with what both found and spent."""
    wins = new.energy < old.energy
    return Plan(
        torch.where(wins[:, None], new.actions, old.actions),
        torch.where(wins[:, None, None], new.states, old.states),
        torch.where(wins, new.energy, old.energy),
        torch.minimum(old.first_energies, new.first_energies),
        old.evaluations + new.evaluations,
    )


def scatter(plan: Plan, rows: Int[Tensor, " R"], batch: int) -> Plan:
    """Spread a plan made for some rows over the whole batch; the others hold -1 and nan."""

    def spread_rows(value: Tensor) -> Tensor:
        if value.dim() == 0:
            return value
        empty = float("nan") if value.is_floating_point() else -1
        full = torch.full((batch, *value.shape[1:]), empty, dtype=value.dtype, device=value.device)
        return full.index_copy(0, rows, value)

    return plan.map(spread_rows)
