"""Configs from YAML files and dotted overrides, and back."""

import difflib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from copy import deepcopy
from pathlib import Path

from pydantic import ValidationError

from hjepa.config import registry
from hjepa.config.core import ConfigError, ConfigModel
from hjepa.config.errors import explain
from hjepa.config.schema import LEVEL_SLOTS, RunConfig
from hjepa.config.tree import Json, Mapping, merge, model_at, name_kinds
from hjepa.config.yaml import parse, show, write

_TRUSTED = ContextVar("trusted", default=False)

MAX_HOPS = 2
"""A file may extend a file that extends a file."""


def load(path: Path | str, overrides: Sequence[str] = ()) -> RunConfig:
    """The config of a YAML file with `key=value` overrides. ConfigError for every mistake in either."""
    path = Path(path)
    root = _read(path, MAX_HOPS)
    for key, value in sorted(map(_parse_override, overrides), key=_outer_first):
        assign(root, key, value)
        name_kinds(root)
    folder = root.setdefault("run", {})
    if isinstance(folder, dict):
        folder.setdefault("dir", f"runs/{path.stem}")
    return validate(root)


@contextmanager
def trusting_plugins(trusted: bool) -> Iterator[None]:
    """Within, run folders that name plug-ins may be loaded: the user has said so on the command line."""
    token = _TRUSTED.set(trusted)
    try:
        yield
    finally:
        _TRUSTED.reset(token)


def load_run(run_dir: Path | str, trust_plugins: bool = False) -> RunConfig:
    """The config a run folder was made with. ConfigError also where it names a plug-in and is not trusted.

    A run folder is data and may come from anyone; a plug-in is code.
    """
    path = Path(run_dir) / "config.yaml"
    root = read_mapping(path)
    plugins = [kind for kind in _kinds(root) if registry.is_plugin(kind)]
    if plugins and not (trust_plugins or _TRUSTED.get()):
        raise ConfigError(
            f"{path}: names a plug-in, which is code (got {show(plugins[0])}); run it with --trust-plugins"
        )
    return validate(root)


def dump(config: ConfigModel) -> str:
    """The whole config as YAML, every default written out; `load_run` reads it back to an equal config."""
    return write(config.model_dump(mode="json"))


def validate(root: Mapping) -> RunConfig:
    """Validate a raw config. ConfigError with one line a mistake."""
    name_kinds(root)
    try:
        return RunConfig.model_validate_json(json.dumps(root))
    except ValidationError as error:
        raise explain(error, root) from error


def assign(root: Mapping, key: str, value: Json) -> None:
    """Set the value at a dotted path, in place; what is not written down yet is begun from its default."""
    parts = key.split(".")
    node: Json = root
    for depth, part in enumerate(parts):
        done = ".".join(parts[: depth + 1])
        last = depth == len(parts) - 1
        if isinstance(node, list):
            index = _index(node, part, done)
            node[index] = merge(node[index], value) if last else node[index]
            node = node[index]
        elif isinstance(node, dict):
            if node.get(part) is None and not (last and not isinstance(value, dict)):
                node[part] = _begin(root, tuple(parts[:depth]), part)
            if last:
                _set(node, part, value)
            else:
                node = node[part]
        else:
            raise ConfigError(f"{key}: {'.'.join(parts[:depth])} has no settings (got {show(node)})")


def _set(node: Mapping, name: str, value: Json) -> None:
    """Set one name; a new kind replaces the mapping."""
    if name == "kind" and value != node.get("kind"):
        node.clear()
    node[name] = merge(node.get(name), value)


def _begin(root: Mapping, path: tuple[str, ...], name: str) -> Json:
    """What a dotted path goes into where nothing is written yet: a copy of the top's slot, or the default."""
    if path and path[0] == "levels" and len(path) == 2 and name in LEVEL_SLOTS:
        return deepcopy(root[name])
    model = model_at(root, tuple(int(part) if part.isdecimal() else part for part in path))
    if model is None or name not in model.model_fields:
        return {}
    default = model().model_dump(mode="json")[name]
    return {} if default is None else default


def _index(items: list[Json], part: str, key: str) -> int:
    if not (part.isascii() and part.isdecimal()) or len(part) > 6 or int(part) >= len(items):
        there_are = f"0 to {len(items) - 1}" if items else "none"
        raise ConfigError(f"{key}: no such place in the list (got {show(part)}); there are {there_are}")
    return int(part)


def _parse_override(text: str) -> tuple[str, Json]:
    """`key=value`, the value being YAML; a plug-in's path is relative to the working directory."""
    key, equals, value = text.partition("=")
    if not equals or not key or not key.isprintable():
        raise ConfigError(f"{show(text)}: an override is key=value, as in train.seed=1")
    parsed = parse(value, key)
    if key.rpartition(".")[2] == "kind":
        return key, _locate_kind(parsed, Path.cwd())
    return key, _locate(parsed, Path.cwd())


def _outer_first(override: tuple[str, Json]) -> tuple[int, bool]:
    """Outer settings before inner ones, and a kind before its fields: a new kind drops those set before."""
    key, _ = override
    return key.count("."), not key.endswith(".kind")


def _read(path: Path, hops: int) -> Mapping:
    """A file over the files it extends."""
    own = read_mapping(path)
    extends = own.pop("extends", [])
    if not isinstance(extends, list) or not all(isinstance(item, str) for item in extends):
        raise ConfigError(f"{path}: extends: must be a list of files (got {show(extends)})")
    if extends and hops == 0:
        raise ConfigError(f"{path}: extends: more than {MAX_HOPS} files deep (got {show(extends)})")
    root: Json = {}
    for item in extends:
        root = merge(root, _read(path.parent / str(item), hops - 1))
    root = merge(root, _locate(own, path.parent))
    assert isinstance(root, dict)
    name_kinds(root)
    return root


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text") from error
    except (FileNotFoundError, NotADirectoryError) as error:
        near = difflib.get_close_matches(path.name, [file.name for file in path.parent.glob("*.yaml")], n=1)
        hint = f"; did you mean {path.parent / near[0]}?" if near else ""
        raise ConfigError(f"{path}: no such file{hint}") from error
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: cannot be read ({error})") from error


def read_mapping(path: Path) -> Mapping:
    """The mapping in a YAML file. ConfigError where there is none."""
    value = parse(_text(path), str(path))
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ConfigError(f"{path}: must hold names and values (got {show(value)})")
    return value


def _locate(value: Json, folder: Path) -> Json:
    """Make the paths of plug-ins absolute, so that they do not depend on where the config is read next."""
    if isinstance(value, list):
        return [_locate(item, folder) for item in value]
    if isinstance(value, dict):
        return {
            key: _locate_kind(item, folder) if key == "kind" else _locate(item, folder) for key, item in value.items()
        }
    return value


def _locate_kind(kind: Json, folder: Path) -> Json:
    if not isinstance(kind, str) or not registry.is_plugin(kind):
        return kind
    file, _, name = kind.rpartition(":")
    return f"{(folder / file).resolve()}:{name}"


def _kinds(value: Json) -> list[str]:
    """Every `kind` in a raw config, wherever it is."""
    if isinstance(value, list):
        return [kind for item in value for kind in _kinds(item)]
    if not isinstance(value, dict):
        return []
    own = value.get("kind")
    inner = [kind for item in value.values() for kind in _kinds(item)]
    return [own, *inner] if isinstance(own, str) else inner
