"""The step of a level that begins at each record of a window: where it ends, and what energy it meets.

A level's step spans `span` environment steps (the product of the strides up to it). Records are what is cut
up here, so that a step never crosses an episode: see `Spans` for the meaning of each field.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from hjepa.types import Spans


def spans(
    is_first: Bool[Tensor, "B T"],
    terminated: Bool[Tensor, "B T"],
    truncated: Bool[Tensor, "B T"],
    energies: Float[Tensor, "B T U"],
    span: int,
    discount: float,
) -> Spans:
    """For every record t, the step of `span` environment steps that begins there.

    * A record that ends its episode begins no step: not valid, `end` = t.
    * Terminated at t + k, 1 <= k <= span: `ended`, `end` = t + k; it `reaches` only if k = span.
    * Cut off by the time limit, or by the window, before t + span: neither `reaches` nor `ended`. A time
      limit exactly at t + span leaves a valid end state, so it `reaches`.

    `energies` are summed up to `end`, the first one (of record t + 1) undiscounted; `end` is always inside
    the window. Where not `valid` they are a part of the step's only.
    """
    batch, time, drives = energies.shape
    last = terminated | truncated
    alive = ~last
    ended = torch.zeros_like(last)
    reaches = torch.zeros_like(last)
    end = torch.arange(time, device=last.device).expand(batch, time).clone()
    total = energies.new_zeros(batch, time, drives)
    for step in range(1, min(span, time - 1) + 1):
        # Whether the step that begins at t arrives at record t + step.
        arrives = alive[:, : time - step] & ~is_first[:, step:]
        total[:, : time - step] += discount ** (step - 1) * energies[:, step:] * arrives.unsqueeze(-1)
        end[:, : time - step] += arrives
        ended[:, : time - step] |= arrives & terminated[:, step:]
        if step == span:
            reaches[:, : time - step] = arrives
        alive = arrives & ~last[:, step:]
    return Spans(end=end, reaches=reaches, ended=ended, valid=reaches | ended, energies=total)


def actions_taken(previous_action: Int[Tensor, "B T"], is_first: Bool[Tensor, "B T"]) -> Int[Tensor, "B T"]:
    """The environment action taken at each record; -1 at the end of an episode and of the window."""
    taken = torch.full_like(previous_action, -1)
    taken[:, :-1] = torch.where(is_first[:, 1:], -1, previous_action[:, 1:])
    return taken
