"""Validation errors as lines that say what to type instead."""

import difflib
import json
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from hjepa.config.core import ConfigError, ConfigModel
from hjepa.config.schema import RunConfig
from hjepa.config.tree import Mapping, model_at
from hjepa.config.yaml import show_path

MAX_LINES = 20


def explain(error: ValidationError, root: Mapping, model: type[ConfigModel] = RunConfig) -> ConfigError:
    """One line a mistake, at most 20: `path: what is wrong (got …); did you mean …`."""
    details = error.errors(include_url=False)
    lines = [_line(detail, root, model) for detail in details[:MAX_LINES]]
    if len(details) > MAX_LINES:
        lines[-1] = f"and {len(details) - MAX_LINES + 1} more mistakes"
    return ConfigError("\n".join(lines))


def _line(detail: ErrorDetails, root: Mapping, model: type[ConfigModel]) -> str:
    context = detail.get("ctx", {})
    if detail["type"] == "at_path":
        return f"{context['path']}: {context['message']} (got {_show(context['value'])})"
    path = show_path(detail["loc"]) or "config"
    if detail["type"] == "extra_forbidden":
        return f"{path}: no such setting (got {_show(detail['input'])}){suggest(detail['loc'], root, model)}"
    if detail["type"] == "missing":
        return f"{path}: is required"
    hint = context.get("hint")
    return f"{path}: {_message(detail)} (got {_show(detail['input'])})" + (f"; {hint}" if hint else "")


def _message(detail: ErrorDetails) -> str:
    text = " ".join(detail["msg"].split())
    for long, short in (("Input should be", "must be"), ("Value error, ", ""), ("Assertion failed, ", "")):
        text = text.replace(long, short)
    return text[:300]


def suggest(path: tuple[str | int, ...], root: Mapping, root_model: type[ConfigModel]) -> str:
    """The nearest settings to one that does not exist, or all there are."""
    model = model_at(root, path[:-1], root_model)
    if model is None:
        return ""
    known = list(model.model_fields)
    near = difflib.get_close_matches(str(path[-1]), known, n=1)
    if near:
        return f"; did you mean {show_path((*path[:-1], near[0]))}?"
    return f"; there are {', '.join(known)}"


def _show(value: Any) -> str:
    text = json.dumps(value, default=repr, ensure_ascii=False)
    return text if len(text) <= 80 else text[:77] + "..."
