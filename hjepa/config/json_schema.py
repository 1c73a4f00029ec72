"""The JSON schema of a config file, for editors."""

import json
from typing import Any, ClassVar

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaWarningKind

from hjepa.config import registry
from hjepa.config.core import ConfigModel
from hjepa.config.schema import RunConfig

Schema = dict[str, Any]


def schema_text() -> str:
    """The schema as text, as it is kept in configs/schema.json."""
    return json.dumps(schema(), indent=1) + "\n"


def schema() -> Schema:
    """Everything that may be in a config file: a run's config, and the files it extends.

    A slot takes the settings of any implementation of the tree, by `kind`, or a plug-in's.
    """
    definitions: Schema = {}
    root = _model(RunConfig, definitions)
    for slot in registry.SLOTS:
        branches = [_kind(slot, kind, definitions) for kind in registry.kinds(slot)]
        definitions[f"slot.{slot}"] = {"anyOf": [*branches, PLUGIN]}
    root["properties"]["extends"] = {
        "type": "array",
        "items": {"type": "string"},
        "description": "Files whose settings this one goes over, relative to it.",
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **root,
        "$defs": dict(sorted(definitions.items())),
    }


class Generator(GenerateJsonSchema):
    """Leaves the default of a list of slots out without a warning; JSON has no way to say it."""

    ignored_warning_kinds: ClassVar[set[JsonSchemaWarningKind]] = {"non-serializable-default"}


PLUGIN: Schema = {
    "type": "object",
    "properties": {"kind": {"type": "string", "pattern": r"\.py:\w+$"}},
    "required": ["kind"],
    "description": "A class in a file: file.py:Class.",
}


def _kind(slot: str, kind: str, definitions: Schema) -> Schema:
    name = f"{slot}.{kind}"
    definitions[name] = _model(registry.config_class(slot, kind), definitions)
    definitions[name]["description"] = registry.describe(slot, kind)
    return {"$ref": f"#/$defs/{name}"}


def _model(model: type[ConfigModel], definitions: Schema) -> Schema:
    """A model's schema; the sections it refers to go to `definitions`."""
    found = _link(model.model_json_schema(schema_generator=Generator))
    definitions.update(found.pop("$defs", {}))
    found.pop("title", None)
    return found


def _link(node: Any) -> Any:
    """Turn every mark that a `Slot` left into a reference to its implementations."""
    if isinstance(node, list):
        return [_link(item) for item in node]
    if not isinstance(node, dict):
        return node
    linked = {key: _link(item) for key, item in node.items()}
    if isinstance(linked.get("slot"), str):
        linked["$ref"] = f"#/$defs/slot.{linked.pop('slot')}"
    return linked
