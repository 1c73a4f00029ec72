"""Planning problems with a known answer for the planners' tests: a table, and a small network."""

import itertools
import statistics

import torch

from hjepa.interfaces import Node, PlanningProblem
from hjepa.nets import MLP
from hjepa.types import LevelSpec


def level_spec(num_actions=7, horizon=3, index=0, dim=16, upper_dim=16, token_dim=0):
    return LevelSpec(
        index=index,
        dim=dim,
        action_dim=num_actions,
        lower_dim=dim,
        lower_action_dim=num_actions,
        stride=1,
        span=1,
        horizon=horizon,
        num_env_actions=7,
        num_actions=num_actions,
        upper_dim=upper_dim,
        num_drives=1,
        token_dim=token_dim,
        discount=0.99,
    )


class TabularProblem(PlanningProblem):
    """Random deterministic tables, one for each row and scenario; states are one-hot (or mixtures of them).

    Scores are the mean over scenarios plus `risk` times their standard deviation.
    """

    def __init__(self, batch=8, num_actions=7, horizon=3, states=9, samples=1, risk=0.0, forbidden=0.0, scale=1.0):
        self.batch, self.num_actions, self.horizon = batch, num_actions, horizon
        self.device, self.samples, self.risk = torch.device("cpu"), samples, risk
        self.next = torch.randint(states, (batch, samples, states, num_actions))
        self.moves = torch.nn.functional.one_hot(self.next, states).float()
        self.cost = scale * torch.rand(batch, samples, states, num_actions)
        self.final = scale * torch.rand(batch, samples, states)
        self.log_prior = torch.randn(batch, states, num_actions)
        self.log_prior[torch.rand(batch, states, num_actions) < forbidden] = float("-inf")
        self.tables = [table.tolist() for table in (self.log_prior.isfinite(), self.cost, self.next, self.final)]
        self.calls, self.evaluations = 0, 0

    def root(self):
        state = torch.zeros(self.batch, 1, self.samples, self.final.shape[-1])
        state[..., 0] = 1
        zero = torch.zeros(state.shape[:-1])
        return Node(state, zero, zero)

    def support(self, node):
        return self.log_prior[torch.arange(self.batch)[:, None], node.state[:, :, 0].argmax(-1)]

    def step(self, node, weights):
        self.calls += 1
        self.evaluations += node.energy.numel()
        cost = torch.einsum("bnsx,bna,bsxa->bns", node.state, weights, self.cost)
        state = torch.einsum("bnsx,bna,bsxay->bnsy", node.state, weights, self.moves)
        return Node(state, node.energy + cost, node.log_discount)

    def score(self, node):
        total = node.energy + torch.einsum("bnsx,bsx->bns", node.state, self.final)
        spread = total.std(-1) if self.samples > 1 else 0.0
        return total.mean(-1) + self.risk * spread

    def energy_of(self, row, actions):
        """Energy of a plan read off the tables, or None where it leaves the support."""
        allowed, cost, following, final = (table[row] for table in self.tables)
        totals = []
        for sample in range(self.samples):
            state, total = 0, 0.0
            for action in actions:
                if sample == 0 and any(allowed[state]) and not allowed[state][action]:
                    return None
                total += cost[sample][state][action]
                state = following[sample][state][action]
            totals.append(total + final[sample][state])
        spread = statistics.stdev(totals) if self.samples > 1 else 0.0
        return statistics.fmean(totals) + self.risk * spread

    def brute_force(self):
        """Lowest energy by first choice [B, A], by enumeration."""
        lowest = torch.full((self.batch, self.num_actions), float("inf"))
        plans = list(itertools.product(range(self.num_actions), repeat=self.horizon))
        for row in range(self.batch):
            for actions in plans:
                energy = self.energy_of(row, actions)
                if energy is not None:
                    lowest[row, actions[0]] = min(lowest[row, actions[0]].item(), energy)
        return lowest


class NetworkProblem(PlanningProblem):
    """A random MLP as world model and another as critic; everything in support."""

    def __init__(self, batch=16, num_actions=7, horizon=3, width=128, device="cpu"):
        self.batch, self.num_actions, self.horizon = batch, num_actions, horizon
        self.device = torch.device(device)
        self.model = MLP(width + num_actions, width, width).to(self.device)
        self.critic = MLP(width, width, 1).to(self.device)
        self.state = torch.randn(batch, 1, 1, width, device=self.device)

    def root(self):
        zero = self.state[..., 0] * 0
        return Node(self.state, zero, zero)

    def support(self, node):
        return torch.zeros(*node.energy.shape[:2], self.num_actions, device=self.device)

    def step(self, node, weights):
        weights = weights[:, :, None].expand(*node.energy.shape, -1)
        state = node.state + self.model(torch.cat([node.state, weights], -1))
        return Node(state, node.energy + state[..., 0], node.log_discount - 0.01)

    def score(self, node):
        return (node.energy + self.critic(node.state).squeeze(-1)).mean(-1)
