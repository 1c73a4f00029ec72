"""Gradient descent on relaxed plans, through cost and world model."""

from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from hjepa.config import ModuleConfig
from hjepa.interfaces import Planner, PlanningProblem
from hjepa.nets import straight_through
from hjepa.search import Rollout, best, better, gumbel, initial_logits, masked, roll_out, seeds
from hjepa.types import LevelSpec, Plan


class GradientPlanner(Planner):
    """Descends the energy in the logits of the choices (L22 section 3.1.2, there for continuous actions).

    Choices are straight-through Gumbel-softmax samples (Jang et al. 2017), so that every energy is that of a
    real plan; the best plan met is returned. Adam (Kingma and Ba 2015) makes the steps independent of the
    energy's scale. Gradients reach the logits only. It does not work under `torch.inference_mode`.
    """

    class Config(ModuleConfig):
        """Settings of gradient planning."""

        slot: ClassVar[str] = "planner"
        kind: Literal["gradient"] = "gradient"
        restarts: int = Field(16, ge=1)
        """Plans a row that are descended side by side (at least one a choice, and one for a warm start)."""
        iterations: int = Field(10, ge=1)
        """Descent steps."""
        learning_rate: float = Field(0.3, gt=0)
        """Step size of Adam, in logits."""
        noise: float = Field(0.5, ge=0)
        """Scale of the Gumbel noise in the logits; without it, restarts only differ where they are seeded."""
        smoothing: float = Field(0.1, gt=0, le=1)
        """Uniform share in the distribution that a warm start begins from."""

    def __init__(self, config: Config, spec: LevelSpec) -> None:
        super().__init__()
        self.restarts, self.iterations = config.restarts, config.iterations
        self.learning_rate, self.noise, self.smoothing = config.learning_rate, config.noise, config.smoothing

    @torch.no_grad()
    def plan(self, problem: PlanningProblem, warm_start: Float[Tensor, "B H A"] | None) -> Plan:
        """The plan of lowest energy; see `Planner.plan`."""
        forced = seeds(problem, warm_start, self.restarts)
        logits = initial_logits(problem, warm_start, self.smoothing)[:, None].repeat(1, forced.shape[1], 1, 1)
        rollout, gradient = self.descent(problem, logits, forced)
        plan = best(rollout, problem.num_actions)
        optimiser = torch.optim.Adam([logits], lr=self.learning_rate)
        for _ in range(self.iterations):
            logits.grad = gradient
            optimiser.step()
            rollout, gradient = self.descent(problem, logits, torch.zeros_like(forced))
            plan = better(plan, best(rollout, problem.num_actions))
        return plan

    def descent(
        self, problem: PlanningProblem, logits: Float[Tensor, "B N H A"], forced: Float[Tensor, "B N H A"]
    ) -> tuple[Rollout, Float[Tensor, "B N H A"]]:
        """Plans drawn from `logits + forced`, and the gradient of their energies in the logits."""
        noisy = logits + forced + self.noise * gumbel(logits)
        with torch.enable_grad():
            leaf = noisy.detach().requires_grad_()

            def choose(step: int, log_prior: Float[Tensor, "B N A"]) -> Float[Tensor, "B N A"]:
                return straight_through(masked(leaf[:, :, step], log_prior).softmax(-1))

            rollout = roll_out(problem, logits.shape[1], choose)
            (gradient,) = torch.autograd.grad(rollout.energy.sum(), leaf)
        return rollout.map(torch.detach), gradient
