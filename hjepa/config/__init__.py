"""Run and module configs; never imports torch."""

from hjepa.config.core import ConfigError, ConfigModel, ModuleConfig, UserError
from hjepa.config.load import dump, load, load_run, trusting_plugins
from hjepa.config.schema import LevelConfig, RunConfig
from hjepa.config.settings import EnvConfig, EvalConfig, FolderConfig, LogConfig, TrainConfig
from hjepa.config.slots import Slot, choose, number_repeats

__all__ = [
    "ConfigError",
    "ConfigModel",
    "EnvConfig",
    "EvalConfig",
    "FolderConfig",
    "LevelConfig",
    "LogConfig",
    "ModuleConfig",
    "RunConfig",
    "Slot",
    "TrainConfig",
    "UserError",
    "choose",
    "dump",
    "load",
    "load_run",
    "number_repeats",
    "trusting_plugins",
]
