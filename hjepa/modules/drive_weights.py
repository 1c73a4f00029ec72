"""Weights of drives by name: from a config's mapping to a tensor in the order of the agent's drives."""

from collections.abc import Mapping
from difflib import get_close_matches

import torch
from jaxtyping import Float
from torch import Tensor

from hjepa.config.registry import kinds
from hjepa.types import AgentSpec

GUARDRAIL_FLOOR = 1.0
"""Lowest weight of a guardrail where the config names none."""


def drive_weights(
    given: Mapping[str, float], spec: AgentSpec, default: Float[Tensor, " U"] | None = None
) -> Float[Tensor, " U"]:
    """The weight of each drive; where none is given, the default's, or 1. ValueError, naming the drives, for an unknown
    name."""
    _check_names(given, spec.drives)
    otherwise = [1.0] * len(spec.drives) if default is None else default.tolist()
    return torch.tensor([given.get(name, other) for name, other in zip(spec.drives, otherwise, strict=True)])


def drive_floors(given: Mapping[str, float], spec: AgentSpec) -> Float[Tensor, " U"]:
    """The lowest weight of each drive: by default 1 for a guardrail, else 0. ValueError as above."""
    _check_names(given, spec.drives)
    pairs = zip(spec.drives, spec.guardrails, strict=True)
    return torch.tensor([given.get(name, GUARDRAIL_FLOOR if guardrail else 0.0) for name, guardrail in pairs])


def _check_names(given: Mapping[str, float], drives: tuple[str, ...]) -> None:
    """A kind of drive that is not in use may have a weight, so that a drive is swapped by one line; a name that is no
    kind is a slip."""
    known = {*drives, *kinds("drive")}
    for name in given:
        if name not in known:
            near = get_close_matches(name, drives, 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"no drive is called {name!r}; the drives are {', '.join(drives)}{hint}")
