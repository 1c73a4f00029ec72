"""Base of every config model. Nothing here imports torch: a mistake is told in a fraction of a second."""

from typing import ClassVar

from pydantic import BaseModel, ConfigDict


class UserError(Exception):
    """A mistake of the user, told in one line on standard error; the command line exits with status 2."""


class ConfigError(UserError):
    """A mistake in a config or an argument, a line each: `path: what is wrong (got …); did you mean …`."""


class ConfigModel(BaseModel):
    """Closed, frozen, strict; docstrings under the fields are their help."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
        validate_default=True,
    )


class ModuleConfig(ConfigModel):
    """Config of one implementation of a slot, nested in its class as `Config`.

    In the tree the implementation lies at `hjepa/modules/<slot>/<kind>.py`, and `kind` is the file's name.
    The nested `Config` must work without torch: the registry reads only a file's imports of typing,
    collections.abc, enum, math, pydantic and `hjepa.config`, and the `Config` classes themselves.
    """

    slot: ClassVar[str]
    """The folder of `hjepa/modules` this belongs to."""
    kind: str
    """Which implementation."""
