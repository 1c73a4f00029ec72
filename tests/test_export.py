"""What `hjepa export` writes plays like the run it came from and overwrites nothing; what a run says it was made of."""

import json
import subprocess
from pathlib import Path

import hjepa
from hjepa.cli import main
from hjepa.train.run import commit, git

DEBUG = Path(__file__).parent.parent / "configs" / "debug.yaml"
QUIET = [f"log.{name}_every=0" for name in ("strips", "prediction", "critic", "probes", "projector")]


def returns(run: Path) -> list[float]:
    assert main(["eval", str(run), "--episodes", "3", "--mode", "2"]) == 0
    (path,) = (run / "eval").glob("*.json")
    return json.loads(path.read_text())["lengths"]


def test_an_exported_run_plays_alike_and_cannot_be_resumed(tmp_path, capsys):
    run, target = tmp_path / "run", tmp_path / "small"
    assert main(["train", str(DEBUG), f"run.dir={run}", "train.frames=200", *QUIET]) == 0
    assert main(["export", str(run), str(target)]) == 0
    assert returns(target) == returns(run)
    files = {path.name for path in target.rglob("*") if path.is_file() and path.parent.name != "eval"}
    assert files == {"config.yaml", "provenance.json", "agent.safetensors", "state.json", "manifest.json"}
    assert not any(str(tmp_path) in path.read_text() for path in target.rglob("*.[yj]*") if path.is_file())
    capsys.readouterr()
    assert main(["train", "--resume", str(target)]) == 2
    assert "no run to go on with" in capsys.readouterr().err
    before = (target / "config.yaml").read_bytes()
    assert main(["export", str(run), str(target)]) == 2
    assert "exists; name another folder" in capsys.readouterr().err
    assert (target / "config.yaml").read_bytes() == before


def test_the_commit_is_of_the_packages_own_checkout_or_unknown(tmp_path, monkeypatch):
    package = tmp_path / "site" / "hjepa"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    monkeypatch.setattr(hjepa, "__file__", str(package / "__init__.py"))
    assert commit() == "unknown"
    around = ["git", "-C", str(tmp_path), "-c", "user.name=n", "-c", "user.email=e"]
    for command in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "around"]):
        subprocess.run([*around, *command], check=True)
    assert commit() == "unknown" and git("status", "--porcelain") == ""
    for command in (["add", "site"], ["commit", "-q", "-m", "its own"]):
        subprocess.run([*around, *command], check=True)
    assert len(commit()) == 40
    monkeypatch.setenv("PATH", "")
    assert commit() == "unknown"
