"""The parts of a world model and of an actor, as abstract base classes: each is a slot of its own inside its module.

Shapes: see the legend in `types.py`. Every energy is a cost, lower is better.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from hjepa.config import ModuleConfig
from hjepa.types import Info, Plan, TensorStruct

Loss = tuple[Tensor, Info]


class Module(nn.Module, ABC):
    """An implementation of a slot."""

    Config: ClassVar[type[ModuleConfig]]


# ------------------------------------------------------------------------- of a world model
class Encoder(Module):
    """Lifts the state of the level below to this level: s_l = Enc_l(s_{l-1}) (L22 eq. 14)."""

    @abstractmethod
    def forward(
        self, lower_state: Float[Tensor, "*B Dl"], tokens: Float[Tensor, "*B K C"]
    ) -> Float[Tensor, "*B D"]: ...


class ActionEncoder(Module):
    """The choices a level's planner has, and how the one that was made is read off a segment of the level below."""

    num_actions: int

    @abstractmethod
    def table(self) -> Float[Tensor, "A M"]:
        """Embedding of every choice: environment actions at level 0, macro-action codes or a bank above."""

    @abstractmethod
    def infer(
        self, lower_states: Float[Tensor, "*B stride_1 Dl"], lower_actions: Float[Tensor, "*B stride Ml"]
    ) -> tuple[Float[Tensor, "*B M"], Float[Tensor, "*B A"]]:
        """The action embedding behind a segment (with gradient), and its (one-hot or soft) weights over the choices."""

    @abstractmethod
    def loss(self, weights: Float[Tensor, "R A"], state: Float[Tensor, "R D"]) -> Loss:
        """Auxiliary loss of inferred weights and the states they start from: code usage, prior over codes."""

    @abstractmethod
    def support(self, state: Float[Tensor, "*B D"]) -> Float[Tensor, "*B A"]:
        """Log-probability of each choice under the data, given the state: what in-support search is bounded by."""


class Predictor(Module):
    """Pred_l(s, a, z): the next state of the level (L22 section 4)."""

    @abstractmethod
    def forward(
        self,
        state: Float[Tensor, "*B D"],
        action: Float[Tensor, "*B M"],
        latent: Float[Tensor, "*B Z"],
        tokens: Float[Tensor, "*B K C"],
    ) -> Float[Tensor, "*B D"]: ...


class Latent(Module):
    """The latent variable z of a JEPA, and its information penalty R(z) (L22 section 4.4-4.5)."""

    dim: int
    """Z; 0 for `none`."""

    @abstractmethod
    def infer(
        self, state: Float[Tensor, "*B D"], action: Float[Tensor, "*B M"], target: Float[Tensor, "*B D"]
    ) -> tuple[Float[Tensor, "*B Z"], Float[Tensor, "*B"]]:
        """Amortised inference: z (with gradient) and its information penalty R(z) in nats."""

    @abstractmethod
    def sample(self, state: Float[Tensor, "*B D"], samples: int) -> Float[Tensor, "*B S Z"]:
        """Draw z from its prior, for planning under uncertainty."""

    @abstractmethod
    def candidates(self, state: Float[Tensor, "*B D"]) -> Float[Tensor, "*B S Z"]:
        """A set of z over which F = min_z E is taken (every code when discrete, the mode and draws when not)."""


class Objective(Module):
    """What makes a JEPA's representation informative and predictable: prediction error and anti-collapse terms."""

    target_network: ClassVar[bool]
    """Whether predictions are compared with the moving-average network's states (else with the online ones)."""

    @abstractmethod
    def forward(
        self,
        states: Float[Tensor, "B T D"],
        predictions: Float[Tensor, "R D"],
        targets: Float[Tensor, "R D"],
        mask: Bool[Tensor, " R"],
    ) -> Loss:
        """`states`: all online states of the batch; row i of `predictions` is compared with row i of `targets` where
        `mask`."""


# ------------------------------------------------------------------------- of an actor
@dataclass(frozen=True)
class Node(TensorStruct):
    """Partial plans during a search; N of them a row, S samples of z each."""

    state: Float[Tensor, "B N S D"]
    energy: Float[Tensor, "B N S"]
    """Energy so far, discounted."""
    log_discount: Float[Tensor, "B N S"]
    """Log of discount times probability that the episode goes on."""
    estimates: Float[Tensor, "B N S"] | None = None
    """Sum over the steps taken of what the critic said there of the whole plan's energy; None without such a critic."""
    depth: int = 0
    """Steps taken."""
    nearest: Float[Tensor, "B N S"] | None = None
    """Lowest energy that the subgoal had at any step taken, where it may be met at any; None where the end counts."""


class PlanningProblem(ABC):
    """What a planner sees of cost, world model and subgoal. Built by the agent (or by a test around a table)."""

    batch: int
    num_actions: int
    horizon: int
    device: torch.device

    @abstractmethod
    def root(self) -> Node:
        """N = 1."""

    @abstractmethod
    def support(self, node: Node) -> Float[Tensor, "B N A"]:
        """Log prior of each choice; -inf where it is out of the data's support and must not be chosen."""

    @abstractmethod
    def step(self, node: Node, weights: Float[Tensor, "B N A"]) -> Node:
        """Take one choice (one-hot weights) or a mixture of choices (relaxed); differentiable."""

    @abstractmethod
    def score(self, node: Node) -> Float[Tensor, "B N"]:
        """Total energy of a plan that ends here: energy so far, critic and subgoal at the end, risk over samples of
        z."""


class Planner(Module):
    """Finds a low-energy plan of `problem.horizon` choices (L22 section 3.1.2 step 5). One a level."""

    @abstractmethod
    def plan(self, problem: PlanningProblem, warm_start: Float[Tensor, "B H A"] | None) -> Plan:
        """`warm_start`: log-probabilities to begin from (the policy unrolled through the world model), or None."""


class Policy(Module):
    """The amortised actor of one level: mode 1, and warm start of mode 2 (L22 section 3.1.1 and 3.1.3)."""

    @abstractmethod
    def forward(
        self,
        state: Float[Tensor, "*B D"],
        subgoal: Float[Tensor, "*B G"],
        has_subgoal: Bool[Tensor, "*B"],
        tokens: Float[Tensor, "*B K C"],
    ) -> tuple[Float[Tensor, "*B A"], Float[Tensor, "*B D"]]:
        """Logits over the level's choices, and the state to reach next (a level above 0 hands it down as the
        subgoal)."""

    @abstractmethod
    def loss(
        self,
        state: Float[Tensor, "B D"],
        subgoal: Float[Tensor, "B G"],
        has_subgoal: Bool[Tensor, " B"],
        tokens: Float[Tensor, "B K C"],
        plan: Plan,
    ) -> Loss:
        """Distillation: divergence between the mode-2 plan and the policy."""
