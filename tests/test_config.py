"""Loading a config: defaults, layers, overrides, kinds, and what is said of mistakes."""

import json
from pathlib import Path

import pytest

from hjepa.config import ConfigError, RunConfig, dump, load, load_run


def written(folder: Path, text: str, name: str = "run.yaml") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def mistakes(folder: Path, text: str, *overrides: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(written(folder, text), overrides)
    return str(caught.value).splitlines()


def test_an_empty_file_is_the_default_config_named_after_it(tmp_path: Path) -> None:
    config = load(written(tmp_path, "", "fancy.yaml"))
    assert config.run.dir == "runs/fancy"
    assert config.model_copy(update={"run": RunConfig().run}) == RunConfig()


def test_yaml_is_read_as_version_1_2(tmp_path: Path) -> None:
    text = "train: {learning_rate: 1e-4, seed: 012}\nrun: {dir: no}\n"
    config = load(written(tmp_path, text))
    assert config.train.learning_rate == 1e-4
    assert (config.train.seed, config.run.dir) == (12, "no")


def test_a_file_goes_over_those_it_extends(tmp_path: Path) -> None:
    written(tmp_path, "train: {seed: 1, frames: 5000}\nperception: {crop: 9}\n", "below.yaml")
    written(tmp_path, "extends: [../below.yaml]\ntrain: {seed: 2}\n", "folder/middle.yaml")
    config = load(written(tmp_path, "extends: [folder/middle.yaml]\nperception: {hidden: 17}\n"))
    assert (config.train.seed, config.train.frames) == (2, 5000)
    assert json.loads(config.perception.model_dump_json()).items() >= {"crop": 9, "hidden": 17}.items()


def test_a_third_hop_is_refused(tmp_path: Path) -> None:
    for name, target in (("c", "d"), ("b", "c"), ("a", "b")):
        written(tmp_path, f"extends: [{target}.yaml]", f"{name}.yaml")
    written(tmp_path, "", "d.yaml")
    load(tmp_path / "b.yaml")
    with pytest.raises(ConfigError, match="more than 2 files deep"):
        load(tmp_path / "a.yaml")


def test_r01_a_new_kind_drops_the_settings_of_the_old_one(tmp_path: Path) -> None:
    path = written(tmp_path, "perception: {kind: pose_map, crop: 9}\n")
    for overrides in (["perception.kind=recurrent"], ["perception={kind: recurrent}"]):
        assert load(path, overrides).perception.kind == "recurrent"
    assert getattr(load(path, ["perception.kind=pose_map"]).perception, "crop") == 9  # noqa: B009


def test_an_override_s_order_on_the_command_line_does_not_matter(tmp_path: Path) -> None:
    path = written(tmp_path, "")
    overrides = ["levels.1.planner.population=77", "levels.1.planner.kind=cem"]
    assert load(path, overrides) == load(path, overrides[::-1])


def test_overrides_reach_into_lists_and_defaults(tmp_path: Path) -> None:
    path = written(tmp_path, "levels: [{}, {stride: 3}]\n")
    config = load(path, ["levels.1.stride=4", "intrinsic_cost.drives.1.kind=effort", "eval.modes=[1]"])
    assert config.levels[1].stride == 4
    assert [drive.kind for drive in config.intrinsic_cost.drives][:2] == ["task", "effort"]  # type: ignore[attr-defined]
    assert config.eval.modes == (1,)


def test_an_override_inside_a_level_s_empty_slot_copies_the_top_one(tmp_path: Path) -> None:
    path = written(tmp_path, "world_model: {rollout: 7, predictor: {kind: gru}}\n")
    own = load(path, ["levels.1.world_model.hidden=33"]).levels[1].world_model
    assert own is not None
    found = json.loads(own.model_dump_json())
    assert (found["rollout"], found["predictor"]["kind"], found["hidden"]) == (7, "gru", 33)
    assert load(path, ["levels.1.world_model.hidden=33"]).levels[0].world_model is None


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("levels.1.strid=3", "levels.1.strid: no such setting (got 3); did you mean levels.1.stride?"),
        ("levels.1.planner={kind: cem, population: 0}", "levels.1.planner.population: must be greater than"),
        (
            "perception.kind=recurent",
            'perception.kind: no perception of this name (got "recurent"); did you mean',
        ),
        ("train.seed=true", "train.seed: must be a valid integer (got true)"),
        ("train.seed=1.5", "train.seed: must be a valid integer"),
        ("train.learning_rate=.inf", "train.learning_rate: must be finite"),
        ("train.frames=100000000000000000000", "train.frames: must be between"),
        ("levels.7.stride=2", "levels.7: no such place in the list (got '7'); there are 0 to 1"),
        ("levels.0.stride=2", "levels.0.stride: must be 1"),
        ("levels.1.stride=20", "train.window: must be more than 20"),
        ("train.prefill=10", "train.prefill: must be at least 320"),
        ("train.capacity=999", "train.capacity: must be at least train.prefill (1000)"),
        ("train.seed.x=1", "train.seed.x: "),
        ("levels=[]", "levels: "),
        ("perception=3", "perception: must be a mapping"),
        ("perception.crop=8", "perception.crop: must be an odd multiple of 3"),
        ("run.dir=[1]", "run.dir: must be a valid string"),
        ("seed", "'seed': an override is key=value"),
        ("train.seed=[", "train.seed: "),
        ("train.seed=2020-01-01", "train.seed: must be text, a number, true, false or null"),
        ('run.dir="a\\0b"', "run.dir: must be one line of printable text"),
    ],
)
def test_a_mistake_is_one_line_that_begins_with_its_path(tmp_path: Path, override: str, line: str) -> None:
    lines = mistakes(tmp_path, "train: {seed: 3}\nlevels: [{}, {stride: 8}]\n", override)
    assert len(lines) == 1
    assert lines[0].startswith(line), lines[0]


def test_every_mistake_is_told_but_no_more_than_twenty(tmp_path: Path) -> None:
    assert len(mistakes(tmp_path, "train: {seed: x, frames: -1}\nenv: {num_envs: 0}\n")) == 3
    many = "train:\n" + "".join(f"  wrong_{number}: 1\n" for number in range(30))
    lines = mistakes(tmp_path, many)
    assert (len(lines), lines[-1]) == (20, "and 11 more mistakes")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("train: {seed: 1}\ntrain: {seed: 2}\n", "duplicate key"),
        ("train: {seed: 1, seed: 2}\n", "duplicate key"),
        ("[1, 2]", "must hold names and values"),
        ("train: [", "line 1"),
        ("1: 2", "a name must be text"),
        ("train: !!python/object:os.system {}", "constructor"),
        ("extends: base.yaml", "extends: must be a list"),
        ("[" * 5000, "nested too deeply"),
        ("x: " + "1" * 300_000, "more than"),
        ("a: &a [1]\nb: [" + ", ".join(["*a"] * 40) + "]\n", "aliases"),
        ("a: &a [*a]", "too deeply"),
    ],
)
def test_bad_files_are_told_in_one_line(tmp_path: Path, text: str, told: str) -> None:
    lines = mistakes(tmp_path, text)
    assert len(lines) == 1
    assert told in lines[0], lines[0]


def test_an_alias_bomb_is_refused_at_once(tmp_path: Path) -> None:
    rows = ["a0: &a0 [x, x, x]"] + [f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}, *a{n - 1}]" for n in range(1, 40)]
    assert "aliases" in mistakes(tmp_path, "\n".join(rows))[0]


def test_a_missing_file_is_told_with_the_nearest_name(tmp_path: Path) -> None:
    written(tmp_path, "", "doorkey.yaml")
    with pytest.raises(ConfigError, match=r"dorkey.yaml: no such file; did you mean .*doorkey.yaml\?"):
        load(tmp_path / "dorkey.yaml")


def test_text_that_is_not_utf_8_is_told(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="not UTF-8"):
        load(path)


def test_a_run_folder_gives_back_the_config_it_was_made_with(tmp_path: Path) -> None:
    config = load(written(tmp_path, "train: {learning_rate: 3e-5}\n"), ["levels.1.critic.width=9"])
    written(tmp_path, dump(config), "made/config.yaml")
    assert load_run(tmp_path / "made") == config
    assert dump(load_run(tmp_path / "made")) == dump(config)


def test_a_config_cannot_be_changed(tmp_path: Path) -> None:
    config = load(written(tmp_path, ""))
    with pytest.raises(ValueError, match="frozen"):
        config.train.seed = 3  # type: ignore[misc]
