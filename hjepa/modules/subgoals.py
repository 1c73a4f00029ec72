"""Subgoals of the hierarchical actor: when a new one is due, and for how long it holds."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from hjepa.interfaces import Request
from hjepa.types import REPLAN_REASONS, Subgoal

REASON = {name: number for number, name in enumerate(REPLAN_REASONS)}


def absent(like: Float[Tensor, "B G"]) -> Subgoal:
    """No subgoal, for rows of `like`."""
    rows = torch.zeros(len(like), dtype=torch.int64, device=like.device)
    return Subgoal(torch.zeros_like(like), rows, rows.bool())


def held(latent: Float[Tensor, "B G"]) -> Subgoal:
    """A subgoal in every row."""
    rows = torch.ones(len(latent), dtype=torch.int64, device=latent.device)
    return Subgoal(latent, rows, rows.bool())


def given(old: Subgoal, injected: Tensor | None, reason: Int[Tensor, " B"]) -> tuple[Subgoal, Int[Tensor, " B"]]:
    """The subgoal of the highest level that acts: no level sets it one, but it may be injected. Only another one than
    before is a reason to plan anew."""
    if injected is None:
        return absent(old.latent), reason
    other = ~old.active | (injected != old.latent).any(-1)
    return held(injected), torch.where(other, REASON["injected"], reason)


def due(
    subgoal: Subgoal,
    above: Int[Tensor, " B"],
    request: Request,
    surprised: Bool[Tensor, " B"],
    reached: Bool[Tensor, " B"],
    injected: bool,
) -> Int[Tensor, " B"]:
    """Why each row needs a new subgoal; later lines take precedence. `above` is why the level above has a new one."""
    reason = torch.zeros_like(above)
    for name, rows in (
        ("above", above > 0),
        ("surprise", surprised),
        ("deadline", subgoal.remaining <= 0),
        ("reached", reached),
        ("first", request.is_first | ~subgoal.active),
        ("injected", torch.full_like(request.is_first, injected)),
    ):
        reason = torch.where(rows, REASON[name], reason)
    return reason


def committed(old: Subgoal, latent: Float[Tensor, "B G"], rows: Bool[Tensor, " B"], deadline: int) -> Subgoal:
    """`latent` in `rows` for `deadline` environment steps, the old one elsewhere."""
    return Subgoal(
        torch.where(rows[:, None], latent, old.latent),
        torch.where(rows, deadline, old.remaining),
        old.active | rows,
    )
