"""Small blocks shared by every module: MLP, FiLM, residual block, moving average, tensor functions."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn


class MLP(nn.Sequential):
    """`layers` hidden layers of Linear, LayerNorm, SiLU, then a Linear to `outputs`; none: one Linear."""

    def __init__(self, inputs: int, hidden: int, outputs: int, layers: int = 2) -> None:
        blocks: list[nn.Module] = []
        for index in range(layers):
            blocks += [nn.Linear(inputs if index == 0 else hidden, hidden), nn.LayerNorm(hidden), nn.SiLU()]
        super().__init__(*blocks, nn.Linear(hidden if layers else inputs, outputs))


class FiLM(nn.Module):
    """Feature-wise modulation by task tokens (Perez et al. 2018): x * (1 + scale) + shift, at first x.

    With `token_dim` 0 it is the identity and owns no parameters.
    """

    def __init__(self, token_dim: int, width: int) -> None:
        super().__init__()
        self.project = nn.Linear(token_dim, 2 * width) if token_dim else None
        if self.project is not None:
            nn.init.zeros_(self.project.weight)
            nn.init.zeros_(self.project.bias)

    def forward(self, x: Float[Tensor, "*B W"], tokens: Float[Tensor, "*B K C"]) -> Float[Tensor, "*B W"]:
        """Tokens are pooled by their mean over K."""
        if self.project is None:
            return x
        scale, shift = self.project(tokens.mean(-2)).chunk(2, -1)
        return x * (1 + scale) + shift


class ResidualBlock(nn.Module):
    """x + MLP(LayerNorm(x)), the last layer initialised small so that the block starts near the identity."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.expand = nn.Linear(width, hidden)
        self.contract = nn.Linear(hidden, width)
        with torch.no_grad():
            self.contract.weight.mul_(0.1)
            self.contract.bias.zero_()

    def forward(self, x: Float[Tensor, "*B W"]) -> Float[Tensor, "*B W"]:
        return x + self.contract(F.silu(self.expand(self.norm(x))))


@torch.no_grad()
def update_average(average: nn.Module, online: nn.Module, rate: float) -> None:
    """Move `average` toward `online` in place: average += rate * (online - average). Buffers are copied."""
    targets: list[Tensor] = list(average.parameters())
    sources: list[Tensor] = list(online.parameters())
    if targets:
        torch._foreach_lerp_(targets, sources, rate)  # pyright: ignore[reportPrivateImportUsage]
    for target, source in zip(average.buffers(), online.buffers(), strict=True):
        target.copy_(source)


@torch.no_grad()
def effective_rank(x: Float[Tensor, "R D"]) -> Float[Tensor, ""]:
    """Exponential of the entropy of the normalised singular values of `x` (Roy and Vetterli 2007)."""
    singular = torch.linalg.svdvals(x.float())
    share = singular / singular.sum().clamp_min(torch.finfo(singular.dtype).tiny)
    return torch.special.entr(share).sum().exp()


def at_records(states: Float[Tensor, "B T D"], index: Int[Tensor, "B T"]) -> Float[Tensor, "B T D"]:
    """The states of each window at the records `index`."""
    return states.gather(1, index[..., None].expand(-1, -1, states.shape[-1]))


def symlog(x: Tensor) -> Tensor:
    """sign(x) log(1 + |x|): compresses large magnitudes (Hafner et al. 2023)."""
    return torch.sign(x) * torch.log1p(x.abs())


def symexp(x: Tensor) -> Tensor:
    """Inverse of `symlog`."""
    return torch.sign(x) * torch.expm1(x.abs())


def one_hot(index: Int[Tensor, "*B"], n: int) -> Float[Tensor, "*B n"]:
    """Float one-hot rows; all zeros where `index` is -1 (no action)."""
    return (index.unsqueeze(-1) == torch.arange(n, device=index.device)).float()


def straight_through(weights: Float[Tensor, "*B A"]) -> Float[Tensor, "*B A"]:
    """One-hot of the largest weight, with the gradient of the weights themselves (Bengio et al. 2013)."""
    hard = torch.zeros_like(weights).scatter_(-1, weights.argmax(-1, keepdim=True), 1.0)
    return hard + weights - weights.detach()
