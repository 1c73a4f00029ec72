"""Run and module configs; never imports torch."""

from hjepa.config.core import ConfigModel, ModuleConfig

__all__ = ["ConfigModel", "ModuleConfig"]
