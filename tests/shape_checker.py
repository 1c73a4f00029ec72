"""The type checker that `conftest` has jaxtyping put on every function."""

from collections.abc import Callable
from typing import Any

from beartype import beartype
from beartype.roar import BeartypeDecorHintPep673Exception


def checked(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` with its arguments checked, unless it returns `Self` (a validator in a nested Config)."""
    try:
        return beartype(function)
    except BeartypeDecorHintPep673Exception:
        return function
