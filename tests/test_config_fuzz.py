"""Valid configs with one mistake, and arbitrary bytes: never a traceback, and the right path is named."""

import json
import os
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hjepa.config import ConfigError, dump, load
from hjepa.config.load import validate
from hjepa.config.registry import kinds
from hjepa.config.yaml import parse, write

FUZZ = settings(
    max_examples=int(os.environ.get("HJEPA_FUZZ_EXAMPLES", "30")),
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def slot(name: str) -> st.SearchStrategy[dict[str, Any]]:
    return st.sampled_from(kinds(name)).map(lambda kind: {"kind": kind})


LEVEL = st.fixed_dictionaries(
    {"dim": st.integers(1, 512), "horizon": st.integers(1, 5), "planner": slot("planner")},
    optional={"world_model": st.none() | slot("world_model"), "critic": slot("critic")},
)
CONFIG = st.fixed_dictionaries(
    {
        "levels": st.tuples(LEVEL, st.lists(LEVEL.map(lambda level: level | {"stride": 2}), max_size=2)).map(
            lambda pair: [pair[0], *pair[1]]
        ),
        "perception": slot("perception"),
        "memory": slot("memory"),
        "configurator": slot("configurator"),
        "discount": st.floats(0.5, 0.999),
        "intrinsic_cost": st.lists(slot("drive"), min_size=1, max_size=3).map(
            lambda drives: {"kind": "drives", "drives": drives}
        ),
        "train": st.fixed_dictionaries(
            {"seed": st.integers(0, 2**31 - 1), "learning_rate": st.floats(1e-12, 1.0, exclude_min=True)}
        ),
    }
)


def paths(value: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """Paths of all mappings, lists and scalars below a value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [found for key, item in items for found in [(*path, key), *paths(item, (*path, key))]]


def at(root: Any, path: tuple[str | int, ...]) -> Any:
    for part in path:
        root = root[part]
    return root


@FUZZ
@given(raw=CONFIG)
def test_a_config_comes_back_from_yaml_as_it_was(raw: dict[str, Any]) -> None:
    config = validate(deepcopy(raw))
    again = validate(parse(dump(config), "dump"))  # type: ignore[arg-type]
    assert again == config
    assert dump(again) == dump(config)


@FUZZ
@given(raw=CONFIG, data=st.data())
def test_one_mistake_in_a_valid_config_is_told_at_its_path(raw: dict[str, Any], data: st.DataObject) -> None:
    full = json.loads(validate(raw).model_dump_json())
    path = data.draw(st.sampled_from(paths(full)))
    value = at(full, path)
    if isinstance(value, dict):
        path = (*path, "unheard_of")
        value["unheard_of"] = "text"
    else:
        at(full, path[:-1])[path[-1]] = {"wrong": ["wrong"]}
    with pytest.raises(ConfigError) as caught:
        validate(full)
    dotted = ".".join(map(str, path))
    assert any(line.startswith(dotted) for line in str(caught.value).splitlines()), (
        dotted,
        str(caught.value),
    )


@FUZZ
@given(raw=CONFIG, data=st.data())
def test_a_misspelt_setting_is_told_with_the_right_one(raw: dict[str, Any], data: st.DataObject) -> None:
    full = json.loads(validate(raw).model_dump_json())
    inner = [path for path in paths(full) if isinstance(path[-1], str) and len(path[-1]) > 4]
    path = data.draw(st.sampled_from([path for path in inner if "weights" not in path[-1]]))
    holder = at(full, path[:-1])
    misspelt = str(path[-1])[:-2] + str(path[-1])[-1]
    if misspelt in holder:
        return
    holder[misspelt] = holder.pop(path[-1])
    with pytest.raises(ConfigError, match=f"did you mean .*{path[-1]}"):
        validate(full)


@FUZZ
@given(content=st.binary(max_size=200) | st.text(alphabet="ab:{}[]&*!,-#'\"| \n\t0.~<", max_size=60).map(str.encode))
def test_bytes_are_a_config_or_a_mistake(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bytes.yaml"
    path.write_bytes(content)
    try:
        load(path)
    except ConfigError as error:
        assert 0 < len(str(error).splitlines()) <= 20


@FUZZ
@given(override=st.text(max_size=30) | st.from_regex(r"(levels|train|perception)(\.[a-z0-9]{1,8}){0,3}=.{0,8}"))
def test_overrides_are_settings_or_mistakes(tmp_path: Path, override: str) -> None:
    path = tmp_path / "empty.yaml"
    path.write_text("")
    try:
        load(path, [override])
    except ConfigError as error:
        assert 0 < len(str(error).splitlines()) <= 20


@FUZZ
@given(
    value=st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-(2**53), 2**53)
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(st.characters(exclude_categories=["C", "Z"]), max_size=20),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.text(st.characters(exclude_categories=["C", "Z"]), max_size=8), inner, max_size=3)
        ),
        max_leaves=8,
    )
)
def test_yaml_is_written_as_it_is_read(value: Any) -> None:
    assert parse(write(value), "written") == value
