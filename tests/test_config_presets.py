"""The shipped presets, their schema and the reference page."""

import json
from pathlib import Path

import gymnasium
import minigrid  # noqa: F401  (registers the environments)
import pytest
from pydantic import BaseModel

from hjepa.config import RunConfig, dump, load
from hjepa.config.json_schema import schema_text
from hjepa.config.reference import SECTIONS, reference
from hjepa.config.yaml import parse

ROOT = Path(__file__).parent.parent
PRESETS = sorted((ROOT / "configs").glob("*.yaml"))
SLOTS = ("configurator", "perception", "world_model", "intrinsic_cost", "critic", "memory", "actor")


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_a_preset_is_valid_and_says_all_that_matters(path: Path) -> None:
    config = load(path)
    assert config.run.dir == f"runs/{path.stem}"
    assert config.env.id in gymnasium.registry
    raw = parse(dump(config), "dump")
    assert isinstance(raw, dict)
    assert all(raw[slot]["kind"] for slot in SLOTS)  # type: ignore[index,call-overload]
    assert all({"stride", "horizon", "planner"} <= set(level) for level in raw["levels"])  # type: ignore[arg-type,union-attr]
    assert path.read_text().startswith("# yaml-language-server: $schema=schema.json\n")


def test_the_presets_are_there() -> None:
    expected = (
        "base debug doorkey_5x5 doorkey_8x8 doorkey_16x16 multiroom_n4_s5 multiroom_n6 keycorridor_s3r3 "
        "fourrooms lavacrossing_s9n2 memory_s13 obstructedmaze_1dlh babyai_gotolocal"
    )
    assert set(expected.split()) <= {path.stem for path in PRESETS}


def test_the_schema_is_current() -> None:
    assert (ROOT / "configs" / "schema.json").read_text() == schema_text(), "run `hjepa schema > configs/schema.json`"


def test_the_schema_refers_to_nothing_that_is_missing() -> None:
    schema = json.loads(schema_text())

    def references(node: object) -> list[str]:
        if isinstance(node, list):
            return [found for item in node for found in references(item)]
        if not isinstance(node, dict):
            return []
        own = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
        return own + [found for item in node.values() for found in references(item)]

    found = set(references(schema))
    assert "#/$defs/slot.perception" in found
    assert found <= {f"#/$defs/{name}" for name in schema["$defs"]}


def test_the_reference_is_current() -> None:
    assert (ROOT / "docs" / "config.md").read_text() == reference(), (
        "run `python -m hjepa.config.reference > docs/config.md`"
    )


@pytest.mark.parametrize("model", [RunConfig, *(model for _, model in SECTIONS)], ids=lambda model: model.__name__)
def test_every_setting_has_its_help(model: type[BaseModel]) -> None:
    assert not [name for name, field in model.model_fields.items() if not field.description]
