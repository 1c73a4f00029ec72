"""A level's world model of small parts, and batches for it."""

import torch
from torch import Tensor
from torch.nn.functional import layer_norm, one_hot

from hjepa.data.spans import spans
from hjepa.interfaces import Objective
from hjepa.modules.action_encoder.codes import MacroCodes
from hjepa.modules.action_encoder.discrete import DiscreteActions
from hjepa.modules.encoder.identity import IdentityEncoder
from hjepa.modules.encoder.mlp import MLPEncoder
from hjepa.modules.latent.none import NoLatent
from hjepa.modules.objective.ema import EMAObjective
from hjepa.modules.predictor.residual import ResidualPredictor
from hjepa.modules.world_model.jepa import JEPA
from hjepa.types import LevelBatch, LevelSpec


class Spy(Objective):
    """Keeps what it is given."""

    target_network = True

    def forward(self, states, predictions, targets, mask):
        self.predictions, self.targets, self.mask = predictions, targets, mask
        return (predictions - targets).square().mean(), {}


def level_spec(index: int = 0, stride: int = 1, span: int = 1, dim: int = 8, tokens: int = 0) -> LevelSpec:
    return LevelSpec(
        index=index, dim=dim, action_dim=5, lower_dim=dim, lower_action_dim=4 if index == 0 else 5,
        stride=stride, span=span, horizon=2, num_env_actions=4, num_actions=0,
        upper_dim=dim, num_drives=2, token_dim=tokens,
        discount=0.9,
    )  # fmt: skip


def build(spec: LevelSpec, predictor=None, objective=None, latent=None, actions=None, **settings) -> JEPA:
    """A world model of small parts; parts are built from their default configs unless given."""
    lowest = spec.index == 0
    kinds = {
        "encoder": IdentityEncoder if lowest else MLPEncoder,
        "action_encoder": actions or (DiscreteActions if lowest else MacroCodes),
        "predictor": predictor or ResidualPredictor,
        "objective": objective or EMAObjective,
        "latent": latent or NoLatent,
    }
    parts = {
        name: part if isinstance(part, torch.nn.Module) else part(part.Config(), spec) for name, part in kinds.items()
    }
    return JEPA(JEPA.Config(**settings), spec, **parts)


def level_batch(spec: LevelSpec, rows: int = 6, time: int = 20, ends: float = 0.06) -> LevelBatch:
    """Random windows that cross episodes, some terminated and some cut off by the time limit."""
    over = torch.rand(rows, time) < ends
    terminated = over & (torch.rand(rows, time) < 0.7)
    is_first = torch.zeros_like(over)
    is_first[:, 1:] = over[:, :-1]
    energies = torch.randn(rows, time, 2)
    steps = spans(is_first, terminated, over & ~terminated, energies, spec.span, spec.discount)
    lower = layer_norm(torch.randn(rows, time, spec.lower_dim), (spec.lower_dim,))
    actions = torch.randn(rows, time, spec.lower_action_dim)
    if spec.index == 0:
        actions = one_hot(torch.randint(4, (rows, time)), 4).float()
    tokens = torch.randn(rows, time, 3, spec.token_dim) if spec.token_dim else torch.zeros(rows, time, 0, 0)
    return LevelBatch(lower, lower.clone(), actions, steps, tokens)


def random_states(spec: LevelSpec, rows: int = 6, time: int = 20) -> Tensor:
    return layer_norm(torch.randn(rows, time, spec.dim), (spec.dim,))


SPECS = [level_spec(), level_spec(1, 3, 3), level_spec(2, 2, 6)]
"""A spec for each of three levels."""
