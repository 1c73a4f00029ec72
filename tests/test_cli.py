"""The command line: exit statuses, one line a mistake, nothing slow before a mistake is told."""

import json
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from hjepa import cli
from hjepa.config import ConfigError, dump, load
from hjepa.config.sweep import combinations, is_done, read_sweep

CONFIGS = Path(__file__).parent.parent / "configs"
DEBUG = str(CONFIGS / "debug.yaml")


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line that a mistake prints."""
    assert cli.main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert len(captured.err.splitlines()) == 1
    return captured.err.rstrip("\n")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ([], "the following arguments are required: COMMAND"),
        (["tran"], "argument COMMAND: invalid choice"),
        (["train"], "train: name a config"),
        (["train", "nothing.yaml"], "nothing.yaml: no such file"),
        (
            ["train", DEBUG, "levels.1.strid=3"],
            "levels.1.strid: no such setting (got 3); did you mean levels.1.stride?",
        ),
        (["train", DEBUG, "env.id=MiniGrid-DoorKey-8x9-v0"], "env.id: no environment of this name"),
        (["train", DEBUG, "env.id=CartPole-v1"], "env.id: not a MiniGrid environment"),
        (["train", DEBUG, "env.id=os:Evil-v0"], "env.id: no environment of this name"),
        (["train", DEBUG, f"run.dir={'long' * 80}"], "run.dir: File name too long"),
        (["eval", "long" * 80], "longlong"),
        (["train", "--resume", "nowhere"], "nowhere: no such run folder"),
        (["train", DEBUG, "--resume", "nowhere"], "--resume: takes no config"),
        (["eval", "nowhere"], "nowhere: no such run folder"),
        (["eval", "nowhere", "--mode", "3"], "argument --mode: invalid choice"),
        (["eval", "nowhere", "--episodes", "many"], "argument --episodes: invalid int value"),
        (["eval", str(CONFIGS), "--env", "MiniGrid-DorKey-8x8-v0"], "env.id: no environment of this name"),
        (["watch", "nowhere"], "nowhere: no such run folder"),
        (["compare", "nowhere"], "nowhere: no such run folder"),
        (["diagnose", "nowhere"], "nowhere: no such run folder"),
        (["list", "encoders"], "list: no slot of this name (got 'encoders'); there are"),
        (["check", "nothing.py:Thing"], "there is no file nothing.py"),
        (["sweep", "nothing.yaml"], "nothing.yaml: no such file"),
    ],
)
def test_a_mistake_is_one_line_and_status_2(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    arguments: list[str],
    line: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert told(capsys, *arguments).startswith(line)
    assert not list(tmp_path.iterdir())


def test_an_unknown_environment_is_told_with_near_ones(capsys: pytest.CaptureFixture[str]) -> None:
    assert "MiniGrid-DoorKey-8x8-v0" in told(capsys, "train", DEBUG, "env.id=MiniGrid-DorKey-8x8-v0")


def test_a_run_folder_that_exists_is_left_alone(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "precious.txt").write_text("keep")
    assert told(capsys, "train", DEBUG, f"run.dir={tmp_path}").startswith("run.dir: exists")
    assert [path.name for path in tmp_path.iterdir()] == ["precious.txt"]


def test_a_misspelt_setting_is_told_in_under_a_second_without_torch() -> None:
    code = (
        "import sys; from hjepa.cli import main\n"
        f"status = main(['train', {DEBUG!r}, 'levels.1.strid=3'])\n"
        "assert not {'torch', 'lightning', 'gymnasium'} & set(sys.modules)\n"
        "sys.exit(status)"
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert (process.returncode, process.stdout) == (2, "")
    assert process.stderr == "levels.1.strid: no such setting (got 3); did you mean levels.1.stride?\n"
    # Processor time, so that a busy machine does not fail the test.
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1.0


def test_everything_is_checked_before_torch_is_imported(tmp_path: Path) -> None:
    code = (
        "import sys; from hjepa.config import load; from hjepa.preflight import check\n"
        f"check(load({DEBUG!r}, ['run.dir={tmp_path}/new']))\n"
        "from hjepa.cli import main; main(['list']); main(['schema'])\n"
        "assert 'minigrid' in sys.modules and 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_an_unexpected_error_is_status_1_with_its_traceback(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> str:
        raise RuntimeError("a bug")

    monkeypatch.setattr("hjepa.config.json_schema.schema_text", fail)
    assert cli.main(["schema"]) == 1
    assert "RuntimeError: a bug" in capsys.readouterr().err


def test_an_interrupt_is_status_130(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt() -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr("hjepa.config.json_schema.schema_text", interrupt)
    assert cli.main(["schema"]) == 130


def test_help_is_status_0(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(verb in text for verb in ("train", "eval", "watch", "compare", "sweep"))


def test_list_names_every_kind_of_a_slot(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["list", "perception"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "perception"
    assert [line.split()[0] for line in lines[1:]] == ["feedforward", "full_view", "pose_map", "recurrent"]


def test_schema_prints_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["schema"]) == 0
    assert "levels" in json.loads(capsys.readouterr().out)["properties"]


def sweep_file(folder: Path, text: str) -> Path:
    path = folder / "sweep.yaml"
    path.write_text(f"config: {DEBUG}\ndir: {folder}/runs\n{text}")
    return path


def test_a_sweep_is_every_combination_of_grid_and_list(tmp_path: Path) -> None:
    text = "grid: {train.seed: [0, 1], levels.1.stride: [2, 4]}\nlist: [{}, {perception.kind: recurrent}]\n"
    runs = combinations(read_sweep(sweep_file(tmp_path, text)))
    assert len({run.dir for run in runs}) == len(runs) == 8
    config = load(DEBUG, runs[-1].overrides)
    assert (config.train.seed, config.levels[1].stride, config.perception.kind) == (1, 4, "recurrent")
    assert config.run.dir == str(runs[-1].dir)
    assert runs[-1].dir.name == "perception.kind=recurrent,train.seed=1,levels.1.stride=4"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("gird: {}", "gird: no such setting (got {}); did you mean grid?"),
        ("grid: {train.seed: []}", "grid.train.seed: needs at least one value"),
        ("grid: {train.seed: [0, 0]}", "list: two runs would have the same folder"),
        ("grid: {train.sed: [0]}", "train.sed: no such setting (got 0); did you mean train.seed?"),
        ("grid: 3", "grid: must be"),
        ("list: [{}]\narms: {a: {}}", "list: a sweep has a list, or arms"),
    ],
)
def test_a_sweep_s_mistakes_are_told_before_its_first_run(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, text: str, line: str
) -> None:
    assert told(capsys, "sweep", str(sweep_file(tmp_path, text))).startswith(line)
    assert not (tmp_path / "runs").exists()


def test_a_sweep_trains_what_is_missing_resumes_what_is_half_done_and_skips_what_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = sweep_file(tmp_path, "grid: {train.seed: [0, 1, 2]}\n")
    runs = combinations(read_sweep(path))
    configs = [load(DEBUG, run.overrides) for run in runs]
    for run, config, step in ((runs[0], configs[0], 37), (runs[1], configs[1], 25)):
        (run.dir / "checkpoints" / f"step_{step:08d}").mkdir(parents=True)
        (run.dir / "config.yaml").write_text(dump(config))
    assert [is_done(run.dir, config) for run, config in zip(runs, configs, strict=True)] == [
        True,
        False,
        False,
    ]
    commands: list[list[str]] = []

    def pretend(command: list[str], check: bool) -> subprocess.CompletedProcess[str]:
        commands.append(command[3:])
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr("hjepa.config.jobs.subprocess.run", pretend)
    assert cli.main(["sweep", str(path)]) == 0
    assert [command[:2] for command in commands] == [["train", "--resume"], ["train", DEBUG]]
    assert "3 of 3 runs done" in capsys.readouterr().out


def test_a_sweep_does_not_touch_a_folder_made_otherwise(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = sweep_file(tmp_path, "grid: {train.seed: [0]}\n")
    folder = combinations(read_sweep(path))[0].dir
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text("train: {seed: 7}\n")
    assert "was not made with this sweep's config" in told(capsys, "sweep", str(path))


def test_a_sweep_runs_side_by_side_with_settings_of_its_own_and_tells_what_failed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = "grid: {train.seed: [0]}\narms: {good: {}, bad: {world_model.action_encoder.kind: discrete}}\n"
    path = sweep_file(tmp_path, text)
    arguments = ["train.frames=112", "env.id=hjepa/Dummy-v0", "log.strips_every=0"]
    assert told(capsys, "sweep", str(path), "run.dir=x").startswith("run.dir: every run of a sweep")
    assert told(capsys, "sweep", "--jobs", "0", str(path), *arguments).startswith("--jobs: must be at least 1")
    assert cli.main(["sweep", "--jobs", "2", str(path), *arguments]) == 1
    output = capsys.readouterr()
    assert "1 of 2 runs done" in output.out and "good,train.seed=0 trained: done" in output.out
    assert "bad,train.seed=0 trained: failed" in output.err
    assert "use codes or bank" in (tmp_path / "runs" / "bad,train.seed=0.log").read_text()
    assert cli.main(["sweep", str(path), *arguments]) == 1
    assert "good,train.seed=0: done before" in capsys.readouterr().out


def test_a_user_error_is_a_config_error_s_base() -> None:
    assert issubclass(ConfigError, cli.UserError)
