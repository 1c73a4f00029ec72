"""A planning problem around a table of states and choices, small enough to know every plan."""

import itertools
import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from hjepa.interfaces import Node, PlanningProblem

STATES, CHOICES, HORIZON, SAMPLES, DISCOUNT = 5, 4, 3, 2, 0.9


class TableProblem(PlanningProblem):
    """States are one-hot rows; choice a in state s costs `costs[b, s, a]` and leads to `following[s, a]`.

    With `easy`, a choice costs the same in every state, so that no search has an excuse to miss the optimum.
    `allowed` [A] shuts choices out of the support everywhere.
    """

    def __init__(self, seed: int, rows: int, easy: bool = False, allowed: Tensor | None = None) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.following = torch.eye(STATES)[torch.randint(STATES, (STATES, CHOICES))]
            self.costs = torch.rand(rows, STATES, CHOICES)
            self.terminal = torch.rand(rows, STATES)
        if easy:
            self.costs = self.costs[:, :1].expand(-1, STATES, -1).contiguous()
            self.terminal = torch.zeros(rows, STATES)
        self.prior = torch.zeros(CHOICES)
        if allowed is not None:
            self.prior = self.prior.masked_fill(~allowed, -math.inf)
        self.batch, self.num_actions, self.horizon = rows, CHOICES, HORIZON
        self.device = torch.device("cpu")

    def root(self) -> Node:
        state = torch.eye(STATES)[torch.arange(self.batch) % STATES]
        state = state[:, None, None].expand(-1, 1, SAMPLES, -1)
        zero = state.new_zeros(state.shape[:-1])
        return Node(state, zero, zero)

    def support(self, node: Node) -> Float[Tensor, "B N A"]:
        return self.prior.log_softmax(-1).expand(*node.energy.shape[:2], -1)

    def step(self, node: Node, weights: Float[Tensor, "B N A"]) -> Node:
        costs = torch.einsum("bnsk,bka,bna->bns", node.state, self.costs, weights)
        state = torch.einsum("bnsk,kam,bna->bnsm", node.state, self.following, weights)
        energy = node.energy + node.log_discount.exp() * costs
        return Node(state, energy, node.log_discount + math.log(DISCOUNT))

    def score(self, node: Node) -> Float[Tensor, "B N"]:
        terminal = torch.einsum("bnsk,bk->bns", node.state, self.terminal)
        return (node.energy + node.log_discount.exp() * terminal).mean(-1)

    def replay(self, actions: Int[Tensor, "B N H"]) -> tuple[Float[Tensor, "B N"], Float[Tensor, "B N H K"]]:
        """Energies of whole plans, and the states along them."""
        root, states = self.root(), []
        node = root.map(lambda tensor: tensor.expand(-1, actions.shape[1], *tensor.shape[2:]))
        for step in range(actions.shape[2]):
            node = self.step(node, torch.eye(CHOICES)[actions[:, :, step]])
            states.append(node.state.mean(2))
        return self.score(node), torch.stack(states, 2)

    def every_plan(self) -> Int[Tensor, "B N H"]:
        """All sequences of choices in support."""
        inside = [choice for choice in range(CHOICES) if not torch.isneginf(self.prior[choice])]
        plans = torch.tensor(list(itertools.product(inside, repeat=HORIZON)))
        return plans.expand(self.batch, -1, -1)
