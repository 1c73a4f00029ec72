"""Writes docs/config.md: every setting with its type, default, range and meaning.

python -m hjepa.config.reference > docs/config.md
"""

import json
from typing import Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo

from hjepa.config import registry
from hjepa.config.core import ConfigModel
from hjepa.config.schema import LevelConfig, RunConfig
from hjepa.config.settings import EnvConfig, EvalConfig, FolderConfig, LogConfig, TrainConfig
from hjepa.config.slots import default_kind
from hjepa.config.sweep import SweepConfig
from hjepa.config.tree import content

INTRODUCTION = """\
# Configuration

Written by `python -m hjepa.config.reference` from the models that check a config; do not edit.

A config is YAML 1.2. What it leaves out has the default given here.

* `extends: [base.yaml]` begins from other files, relative to this one, at most two deep. Mappings are merged,
  lists and scalars are replaced.
* A slot is a mapping with the `kind` of its implementation and that implementation's settings. A new `kind`
  drops the settings of the old one.
* `hjepa train CONFIG levels.1.stride=16` overrides one setting; values are YAML, places in lists are numbers
  from 0. A setting inside a level's empty `world_model` or `critic` first copies the one at the top.
* `kind: my_encoder.py:TinyEncoder` is a class in your own file, relative to the config (on the command line,
  to the working directory). Installed packages add kinds by the entry point group `hjepa.<slot>`. A run
  folder that names a file is used only with `--trust-plugins`.
* `configs/schema.json` gives completion in editors; `hjepa schema` prints it, `hjepa list` prints every kind.

A mistake is one line on standard error, `path: what is wrong (got …); did you mean …`, and exit status 2.
"""

SECTIONS: tuple[tuple[str, type[ConfigModel]], ...] = (
    ("run", FolderConfig),
    ("env", EnvConfig),
    ("levels.N", LevelConfig),
    ("train", TrainConfig),
    ("eval", EvalConfig),
    ("log", LogConfig),
)


def reference() -> str:
    """The page."""
    parts = [INTRODUCTION, "## The run\n", table(RunConfig)]
    for name, model in SECTIONS:
        parts += [f"## `{name}`\n", f"{model.__doc__}\n", table(model)]
    parts.append("# Slots\n")
    for slot in registry.SLOTS:
        parts.append(f"## {slot}\n")
        for kind in registry.kinds(slot):
            parts += [f"### {slot}: `{kind}`\n", f"{registry.describe(slot, kind)}\n"]
            parts.append(table(registry.config_class(slot, kind)))
    parts += ["# Sweep files\n", f"{SweepConfig.__doc__} `hjepa sweep` trains what is not done yet.\n"]
    parts.append(table(SweepConfig))
    return "\n".join(part for part in parts if part)


def table(model: type[ConfigModel]) -> str:
    """A model's settings; empty where it has none but its kind."""
    fields = {name: field for name, field in model.model_fields.items() if name != "kind"}
    if not fields:
        return ""
    rows = [
        f"| `{name}` | {type_text(field)} | {default_text(field)} | {one_line(field.description)} |"
        for name, field in fields.items()
    ]
    return "\n".join(["| setting | type | default | meaning |", "|---|---|---|---|", *rows, ""])


def one_line(text: str | None) -> str:
    """Text that fits a table's cell."""
    return " ".join((text or "").split()).replace("|", "\\|")


def type_text(field: FieldInfo) -> str:
    """A field's type with its range."""
    held = content(field)
    if held.slot is not None:
        return f"{'list of ' if held.many else ''}{held.slot}"
    if held.model is not None:
        return "list of levels" if held.many else "section"
    bounds = [f"{sign} {getattr(item, name)}" for item in field.metadata for name, sign in SIGNS if hasattr(item, name)]
    return ", ".join([annotation_text(field.annotation), *bounds])


SIGNS = (("gt", ">"), ("ge", "≥"), ("lt", "<"), ("le", "≤"))


def annotation_text(annotation: Any) -> str:
    """A plain type in words."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return " or ".join(f"`{value}`" for value in arguments)
    if origin in (list, tuple):
        return f"list of {annotation_text(arguments[0])}"
    if origin is dict:
        return "mapping"
    if hasattr(annotation, "__metadata__"):
        return annotation_text(annotation.__origin__)
    words = {int: "integer", float: "number", str: "text", bool: "`true` or `false`"}
    return words.get(annotation, "value")


def default_text(field: FieldInfo) -> str:
    """A field's default, as YAML would write it; for a slot, its kind."""
    kind = default_kind(field.default_factory)
    if kind is not None:
        return f"`{kind}`"
    if field.is_required():
        return "required"
    held = content(field)
    default = field.get_default(call_default_factory=True, validated_data={})
    if held.model is not None:
        return "below"
    if held.many:
        return ", ".join(f"`{default_kind(item.default_factory)}`" for item in default) or "`[]`"
    return f"`{json.dumps(default)}`"


if __name__ == "__main__":
    print(reference(), end="")
