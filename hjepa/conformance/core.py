"""Promises: one function a check, registered for the slots that make it."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from hjepa.conformance.cases import Bench


class BrokenPromiseError(AssertionError):
    """A module does not do what its slot's interface says; the message is the reason, in one line."""


class UntestableError(Exception):
    """This machine lacks what a check needs; the message says what."""


Promise = Callable[[Bench], None]
"""Puts a freshly built module to the test; raises BrokenPromiseError."""

PROMISES: dict[str, list[Promise]] = {}
"""The promises of each slot, in the order in which they are checked."""


@dataclass(frozen=True)
class CheckResult:
    """Outcome of one check over all the specs that a module was built for."""

    name: str
    passed: bool
    reason: str
    """Empty where it passed; what this machine lacks where it could not be checked, which counts as passed."""

    @property
    def skipped(self) -> bool:
        """Whether it could not be checked on this machine."""
        return self.passed and bool(self.reason)

    def __str__(self) -> str:
        if self.skipped:
            return f"skipped {self.name}: {self.reason}"
        return f"ok      {self.name}" if self.passed else f"FAILED  {self.name}: {self.reason}"


def promised_by(*slots: str) -> Callable[[Promise], Promise]:
    """Register a check for some slots, under its function's name."""

    def register(function: Promise) -> Promise:
        for slot in slots:
            PROMISES.setdefault(slot, []).append(function)
        return function

    return register


def require(condition: object, reason: str) -> None:
    """Raise BrokenPromiseError with `reason` unless `condition` holds (a bool, or a tensor of one)."""
    if not bool(condition):
        raise BrokenPromiseError(reason)


def require_shape(name: str, value: object, *shape: int) -> None:
    """Raise BrokenPromiseError unless `value` is a tensor of this shape."""
    require(isinstance(value, Tensor), f"{name} is a {type(value).__name__}, not a tensor")
    assert isinstance(value, Tensor)
    require(tuple(value.shape) == shape, f"{name} has shape {list(value.shape)}, expected {list(shape)}")


def require_close(name: str, left: Tensor, right: Tensor, tolerance: float = 1e-4) -> None:
    """Raise BrokenPromiseError where tensors differ by more than `tolerance` of their largest magnitude."""
    require(left.shape == right.shape, f"{name}: shapes {list(left.shape)} and {list(right.shape)} differ")
    left, right = left.detach().double().cpu(), right.detach().double().cpu()
    same_inf = (left == right) | (left.isnan() & right.isnan())
    difference = (left - right).abs().masked_fill(same_inf, 0.0)
    scale = max(1.0, float(right[right.isfinite()].abs().max())) if bool(right.isfinite().any()) else 1.0
    worst = float(difference.max()) if difference.numel() else 0.0
    require(worst <= tolerance * scale, f"{name} differ by {worst:.3g}")
