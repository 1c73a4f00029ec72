"""Logging changes nothing in a run, says what it cannot show, and writes no tag that is not documented."""

from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator
from tiny_agent import DEBUG, tiny_config

from hjepa.config import RunConfig, load
from hjepa.log import tags
from hjepa.log.metrics import read_metrics
from hjepa.train.progress import Progress
from hjepa.train.run import fit, seeded_agent

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:.*:UserWarning")
"""Lightning's own warnings."""

RATES = ("strips_every", "prediction_every", "critic_every", "probes_every", "projector_every")
OFF = ["log.every=0", *(f"log.{rate}=0" for rate in RATES)]
OFTEN = ["log.every=1", *(f"log.{rate}=40" for rate in RATES), "log.sample_rows=4", "log.sample_steps=12"]
SHORT = ["train.frames=180", "train.checkpoint_every=100000", "train.accelerator=cpu", "train.threads=1"]


def trained(config: RunConfig, folder: Path) -> dict[str, torch.Tensor]:
    """Everything that the agent is after a whole run in this process."""
    agent = seeded_agent(config)
    folder.mkdir()
    threads = torch.get_num_threads()
    try:
        assert fit(config, folder, agent, resume=False) == 0
    finally:
        torch.use_deterministic_algorithms(False)
        torch.set_num_threads(threads)
    return agent.state_dict()


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Weights and folders of the debug run with everything logged often, and with nothing logged."""
    folder = tmp_path_factory.mktemp("runs")
    often = trained(load(DEBUG, [*SHORT, *OFTEN]), folder / "often")
    off = trained(load(DEBUG, [*SHORT, *OFF]), folder / "off")
    return folder, often, off


def test_the_weights_are_equal_to_the_bit_with_and_without_logging(runs):
    _, often, off = runs
    assert often.keys() == off.keys()
    assert [name for name in often if not torch.equal(often[name], off[name])] == []


def test_what_is_off_is_not_written(runs):
    folder, _, _ = runs
    assert read_metrics(folder / "off" / "metrics.csv") == {}
    assert not (folder / "off" / "probe.safetensors").exists()


def test_every_tag_of_a_run_is_documented(runs):
    folder, _, _ = runs
    curves = read_metrics(folder / "often" / "metrics.csv")
    board = EventAccumulator(str(folder / "often"), size_guidance={"tensors": 0}).Reload()
    written = set(curves) | {tag.removesuffix("/text_summary") for tag in board.Tags()["tensors"]}
    known_others = {"custom_scalars__config__"}
    assert [tag for tag in sorted(written - known_others) if tags.find(tag) is None] == []
    pictures = {"episode/held_out", "probe/matrix", "critic/calibration", "critic/map"}
    assert pictures <= written
    families = {"prediction_1/open_loop/depth_1", "gap_0/energy", "probe_1/direction", "memory/read_match"}
    assert families <= set(curves)
    assert (folder / "often" / "projector_config.pbtxt").read_text().count("tensor_name") >= 2


def test_a_run_of_one_level_without_a_door_says_so_and_logs_the_rest(tmp_path, capfd):
    trained(tiny_config(1, *SHORT[:2], *OFTEN), tmp_path / "run")
    lines = [line for line in capfd.readouterr().err.splitlines() if line.startswith("log: ")]
    assert len(lines) == len(set(lines))
    assert any("one level" in line for line in lines)
    assert any("no door" in line for line in lines)
    curves = read_metrics(tmp_path / "run" / "metrics.csv")
    assert "prediction_0/open_loop/depth_1" in curves
    assert "probe_0/position" in curves
    assert not any(tag.startswith(("subgoal_", "macro_", "probe_0/door")) for tag in curves)


def test_the_line_of_a_run_counts_the_last_episodes_alike(capsys, monkeypatch):
    monkeypatch.setattr("hjepa.log.progress.PLAIN_SECONDS", 0.0)
    progress = Progress(1000, 0)
    # Those that succeed end first, in ones and twos; those that fail end together.
    for episodes, success in ((40.0, 0.0), (1.0, 1.0), (1.0, 1.0), (38.0, 0.0), (10.0, 1.0)):
        progress.show({"train/episodes": episodes, "train/success": success})
        progress.update(100)
    progress.stop()
    lines = capsys.readouterr().err.splitlines()
    assert "success   0% of 40" in lines[0]
    assert "success   5% of 42" in lines[2]
    assert "success  24% of 50" in lines[4]
