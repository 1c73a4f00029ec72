"""Base of every config model. This package never imports torch, so that a mistake is reported in a fraction of a second."""

from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict


class ConfigModel(BaseModel):
    """Closed, frozen, strict; docstrings under the fields are their help."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


class ModuleConfig(ConfigModel):
    """Config of one implementation of a slot, nested in its class as `Config`.

    In the tree the implementation lies at `hjepa/modules/<slot>/<kind>.py`, and `kind` is the file's name. The file's
    top part must work without torch: the loader reads only its imports of typing, pydantic and `hjepa.config`, and the
    nested `Config` classes.
    """

    slot: ClassVar[str]
    """The folder of `hjepa/modules` this belongs to."""
    kind: str
    """Which implementation."""


def slot(name: str, kind: str, **fields: Any) -> Any:
    """A config field that holds any implementation of slot `name`; by default `kind` with `fields` over its defaults.

    Replaced by the real thing in `config/registry.py`; see there.
    """
    raise NotImplementedError
