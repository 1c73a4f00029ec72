"""YAML 1.2 in and out, with bounds on what a file may ask for."""

import io
import math
import re
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from hjepa.config.core import ConfigError
from hjepa.config.tree import Json

MAX_CHARACTERS = 64 * 1024
"""A resolved config has some five thousand."""
MAX_ALIASES = 16
"""A config has no use for aliases; sixteen cannot multiply into much."""
MAX_NODES = 20_000
MAX_DEPTH = 50
MAX_INTEGER = 2**53
"""Integers beyond are not exact in JSON readers, and no setting needs them."""
OPENERS = re.compile(rf"(?:[\[{{]\s*){{{MAX_DEPTH}}}")
"""The parser needs seconds to find out by itself."""
ALIAS = re.compile(r"(?:^|[\s\[{,:-])\*[^\s,\]}]", re.MULTILINE)


def parse(text: str, where: str) -> Json:
    """Parse YAML into JSON's types. ConfigError, beginning with `where`, for anything else."""
    if len(text) > MAX_CHARACTERS:
        raise ConfigError(f"{where}: more than {MAX_CHARACTERS} characters")
    if len(ALIAS.findall(text)) > MAX_ALIASES:
        raise ConfigError(f"{where}: more than {MAX_ALIASES} aliases")
    if OPENERS.search(text):
        raise ConfigError(f"{where}: nested too deeply")
    try:
        value = YAML(typ="safe", pure=True).load(text)
    except YAMLError as error:
        raise ConfigError(f"{where}: {_first_problem(error)}") from error
    except RecursionError as error:
        raise ConfigError(f"{where}: nested too deeply") from error
    except Exception as error:  # scalars such as impossible dates raise whatever Python does
        raise ConfigError(f"{where}: not YAML ({' '.join(str(error).split())[:200]})") from error
    return _Plain(where).convert(value, (), 0)


class _Plain:
    """Converts what the parser gives into JSON's types, and counts nodes."""

    def __init__(self, where: str) -> None:
        self.where, self.nodes = where, 0

    def convert(self, value: Any, path: tuple[str | int, ...], depth: int) -> Json:
        self.nodes += 1
        if self.nodes > MAX_NODES or depth > MAX_DEPTH:
            raise ConfigError(f"{self.where}: too many values, or nested too deeply")
        if isinstance(value, dict):
            return {
                self._key(key, path): self.convert(item, (*path, str(key)), depth + 1) for key, item in value.items()
            }
        if isinstance(value, list):
            return [self.convert(item, (*path, index), depth + 1) for index, item in enumerate(value)]
        problem = _scalar_problem(value)
        if problem:
            raise ConfigError(f"{show_path(path) or self.where}: {problem} (got {show(value)})")
        return value

    def _key(self, key: Any, path: tuple[str | int, ...]) -> str:
        if not isinstance(key, str) or not key.isprintable():
            raise ConfigError(f"{show_path(path) or self.where}: a name must be text (got {show(key)})")
        return key


def _scalar_problem(value: Any) -> str | None:
    """What is wrong with a scalar, or None."""
    if isinstance(value, str):
        return None if value.isprintable() else "must be one line of printable text"
    if isinstance(value, int) and abs(value) > MAX_INTEGER:
        return "must be between -2^53 and 2^53"
    if isinstance(value, float) and not math.isfinite(value):
        return "must be finite"
    if value is None or isinstance(value, bool | int | float):
        return None
    return "must be text, a number, true, false or null"


def _first_problem(error: YAMLError) -> str:
    """A parser's message in one line, with where it was."""
    problem = getattr(error, "problem", None) or str(error).partition("\n")[0]
    mark = getattr(error, "problem_mark", None)
    where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark is not None else ""
    return f"{where}{' '.join(problem.split())}"[:300]


def show(value: object) -> str:
    """A value for an error message: one line, not too long."""
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def show_path(path: tuple[str | int, ...]) -> str:
    """A dotted path in one line."""
    return ".".join(str(part) if str(part).isprintable() else repr(part) for part in path)


def write(value: Json) -> str:
    """YAML text that `parse` reads back to the same value; keys keep their order."""
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    yaml.width = 4096
    stream = io.StringIO()
    yaml.dump(value, stream)
    return stream.getvalue()
