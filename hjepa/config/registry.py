"""Which implementations of a slot there are, and where: the tree's files, the user's, installed packages."""

import difflib
import inspect
import sys
from functools import cache
from hashlib import sha256
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from pydantic import create_model

from hjepa.config import reader
from hjepa.config.core import ConfigError, ModuleConfig

MODULES = Path(__file__).parent.parent / "modules"
"""Folder of the implementations that come with the package."""

SLOTS = {
    "configurator": "Configurator",
    "perception": "Perception",
    "world_model": "WorldModel",
    "encoder": "Encoder",
    "action_encoder": "ActionEncoder",
    "predictor": "Predictor",
    "objective": "Objective",
    "latent": "Latent",
    "intrinsic_cost": "IntrinsicCost",
    "drive": "Drive",
    "critic": "Critic",
    "memory": "ShortTermMemory",
    "actor": "Actor",
    "planner": "Planner",
    "policy": "Policy",
}
"""Every slot, and the abstract base class of its implementations in `hjepa.interfaces`."""


class UnknownKindError(ConfigError):
    """No implementation of a slot has this name; `hint` says which there are."""

    def __init__(self, slot: str, kind: str) -> None:
        known = kinds(slot)
        near = difflib.get_close_matches(kind, known, n=1)
        choices = f"there are {', '.join(known) or 'none'}, or file.py:Class"
        self.message = f"no {slot} of this name"
        self.hint = f"did you mean {near[0]}?" if near else choices
        super().__init__(f"{slot}.kind: {self.message} (got {kind!r}); {self.hint}")


def kinds(slot: str) -> list[str]:
    """Kinds of a slot: the tree's by file name, then those of installed packages."""
    files = sorted(path.stem for path in (MODULES / slot).glob("*.py") if not path.stem.startswith("_"))
    return files + sorted(name for name in _entry_points(slot) if name not in files)


def is_plugin(kind: str) -> bool:
    """Whether a kind names a class in a file: `my_encoder.py:TinyEncoder`."""
    return ":" in kind


def config_class(slot: str, kind: str) -> type[ModuleConfig]:
    """The config of an implementation, without importing torch where its file allows that; or ConfigError."""
    return _config_class(slot, kind, MODULES)


@cache
def _config_class(slot: str, kind: str, modules: Path) -> type[ModuleConfig]:
    if is_plugin(kind):
        path, name = plugin(kind)
        return _named(_read(path, slot, name), kind)
    path = modules / slot / f"{kind}.py"
    if kind.isidentifier() and path.is_file():
        return _read(path, slot, None)
    if kind in _entry_points(slot):
        return _named(_config_of(load_class(slot, kind), slot), kind)
    raise UnknownKindError(slot, kind)


def load_class(slot: str, kind: str) -> type:
    """Import an implementation's class. ConfigError where there is none, or it is not one of the slot's."""
    if is_plugin(kind):
        path, name = plugin(kind)
        found = getattr(_import_file(path), name, None)
        if not isinstance(found, type):
            raise ConfigError(f"{path} has no class {name}")
    elif kind.isidentifier() and (MODULES / slot / f"{kind}.py").is_file():
        found = _only_class(_import_kind(slot, kind))
    elif kind in _entry_points(slot):
        found = _entry_points(slot)[kind].load()
    else:
        raise UnknownKindError(slot, kind)
    base = getattr(import_module("hjepa.interfaces"), SLOTS[slot])
    if not (isinstance(found, type) and issubclass(found, base)):
        raise ConfigError(f"{kind}: {getattr(found, '__name__', found)} is not a {base.__name__} of hjepa.interfaces")
    return found


def plugin(kind: str) -> tuple[Path, str]:
    """File and class of a plug-in's kind. ConfigError where it is not `file.py:Class`, or no file."""
    file, _, name = kind.rpartition(":")
    path = Path(file)
    if path.suffix != ".py" or not name.isidentifier():
        raise ConfigError("a plug-in is named file.py:Class")
    if not path.is_file():
        raise ConfigError(f"there is no file {file}")
    return path.resolve(), name


def describe(slot: str, kind: str) -> str:
    """First line of an implementation's docstring."""
    outer = config_class(slot, kind).__qualname__.split(".")[0]
    module = sys.modules[config_class(slot, kind).__module__]
    return (inspect.getdoc(getattr(module, outer, None)) or "").partition("\n")[0]


def _read(path: Path, slot: str, name: str | None) -> type[ModuleConfig]:
    """The nested config of a file's class (of its only class, where it is not named)."""
    digest = sha256(str(path).encode()).hexdigest()[:12]
    try:
        module = reader.read(path, f"hjepa.config.read.{slot}_{path.stem}_{digest}")
    except (reader.NeedsImportError, NameError):
        module = _import_file(path) if MODULES not in path.parents else _import_kind(slot, path.stem)
    except (SyntaxError, ImportError, ValueError, TypeError, OSError, AttributeError) as error:
        raise ConfigError(f"{path}: {' '.join(str(error).split())}") from error
    outer = getattr(module, name, None) if name else _only_class(module)
    return _config_of(outer, slot)


def _config_of(outer: object, slot: str) -> type[ModuleConfig]:
    config = getattr(outer, "Config", None)
    if not (isinstance(config, type) and issubclass(config, ModuleConfig)):
        raise ConfigError(f"{getattr(outer, '__name__', 'the file')} has no nested Config(ModuleConfig)")
    if getattr(config, "slot", None) != slot:
        raise ConfigError(f"{config.__qualname__} belongs to slot {getattr(config, 'slot', None)}, not {slot}")
    return config


def _only_class(module: ModuleType) -> type | None:
    """The class of a module that has a nested config."""
    own = [item for item in vars(module).values() if isinstance(item, type) and "Config" in vars(item)]
    return next((item for item in own if item.__module__ == module.__name__), None)


def _named(config: type[ModuleConfig], kind: str) -> type[ModuleConfig]:
    """The same config under the kind by which the user named it."""
    fields: dict[str, Any] = {"kind": (Literal[kind], kind)}
    return create_model(
        config.__qualname__,
        __base__=config,
        __module__=config.__module__,
        __doc__=config.__doc__,
        **fields,
    )


def _import_kind(slot: str, kind: str) -> ModuleType:
    """Import a module of the tree."""
    return import_module(f"hjepa.modules.{slot}.{kind}")


@cache
def _import_file(path: Path) -> ModuleType:
    """Import a user's file under a name of its own. ConfigError where it does not run."""
    name = f"hjepa_plugin_{path.stem}_{sha256(str(path).encode()).hexdigest()[:12]}"
    spec = spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ConfigError(f"cannot import {path}")
    module = module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # whatever the user's file raises is the user's to mend
        del sys.modules[name]
        raise ConfigError(f"{path}: {type(error).__name__}: {' '.join(str(error).split())}") from error
    return module


@cache
def _entry_points(slot: str) -> dict[str, EntryPoint]:
    """Implementations in installed packages, group `hjepa.<slot>`."""
    return {point.name: point for point in entry_points(group=f"hjepa.{slot}")}
