"""Run and module configs; never imports torch."""

from hjepa.config.core import ConfigError, ConfigModel, ModuleConfig, UserError
from hjepa.config.slots import Slot, choose

__all__ = ["ConfigError", "ConfigModel", "ModuleConfig", "Slot", "UserError", "choose"]
