"""Tags, metrics.csv and TensorBoard events, read back by TensorBoard's own reader."""

import io
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from hjepa.log import tags
from hjepa.log.gif import encode_gif
from hjepa.log.layout import layout
from hjepa.log.metrics import MetricsFile, read_metrics
from hjepa.log.page import render_markdown
from hjepa.log.tags import Tag
from hjepa.log.writer import BoardWriter


@pytest.fixture
def events():
    """Reads a run's events the way TensorBoard does."""
    from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator

    def read(folder: Path) -> EventAccumulator:
        accumulator = EventAccumulator(str(folder), size_guidance={"tensors": 0})
        accumulator.Reload()
        return accumulator

    return read


def test_tags_fill_and_are_found_again():
    assert tags.CRITERION(0, "variance") == "level_0/criterion/variance"
    assert tags.find("level_0/criterion/variance") is tags.CRITERION
    assert tags.find("level_12/rollout_error/depth_8") is tags.ROLLOUT_ERROR
    assert tags.find("energy/total") is tags.ENERGY_TOTAL
    assert tags.find("energy/novelty") is tags.ENERGY
    assert tags.find("subgoal_0/distance/step_3") is tags.SUBGOAL_DISTANCE_AT
    assert tags.find("level_0/stdx") is None
    with pytest.raises(ValueError, match="takes 2 parts, got 1"):
        tags.CRITERION(0)


def test_every_tag_is_documented_and_unique():
    patterns = [tag.pattern for tag in tags.ALL]
    assert len(set(patterns)) == len(patterns) > 30
    for tag in tags.ALL:
        assert all((tag.meaning, tag.unit, tag.healthy, tag.sick)), tag.pattern
        assert "|" not in f"{tag.meaning}{tag.unit}{tag.healthy}{tag.sick}", tag.pattern


def test_documentation_is_current():
    page = Path(__file__).parent.parent / "docs" / "tensorboard.md"
    assert page.read_text() == render_markdown(), "run: python -m hjepa.log.page > docs/tensorboard.md"


def test_tags_print_without_importing_torch_or_tensorboard():
    code = "import sys, hjepa.log.page; sys.exit('torch' in sys.modules or 'tensorboard' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("num_levels", [1, 2, 3])
def test_layout_names_only_known_tags(num_levels):
    charts = [chart for category in layout(num_levels, ("task", "novelty")).values() for chart in category.values()]
    for kind, names in charts:
        assert kind == "Multiline"
        for name in names:
            assert tags.find(name.replace("[^/]+", "x")) is not None, name


def test_metrics_file_round_trip_and_purge(tmp_path):
    path = tmp_path / "metrics.csv"
    file = MetricsFile(path)
    for frames in (100, 200, 300):
        file.append({"train/success": frames / 1000, "energy/total": float("nan")}, frames)
    file.close()
    with path.open("a") as torn:
        torn.write("400,train/suc")
    resumed = MetricsFile(path, purge_step=200)
    resumed.append({"train/success": 0.9}, 250)
    resumed.close()
    curves = read_metrics(path)
    assert curves["train/success"].frames.tolist() == [100, 200, 250]
    assert curves["train/success"].values.tolist() == [0.1, 0.2, 0.9]
    assert np.isnan(curves["energy/total"].values).all()
    assert path.read_text().startswith("frames,tag,value\n")
    assert [entry.name for entry in tmp_path.iterdir()] == ["metrics.csv"]


def test_metrics_of_a_killed_run_read_up_to_the_torn_row(tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_text("frames,tag,value\n10,a,1.5\n20,a,2")
    assert read_metrics(path)["a"].frames.tolist() == [10]
    MetricsFile(path).close()
    assert path.read_text() == "frames,tag,value\n10,a,1.5\n"


def test_scalars_carry_their_description(tmp_path, events):
    writer = BoardWriter(tmp_path)
    writer.scalars({"train/success": 0.25, "own/tag": 1.0}, 10)
    writer.close()
    board = events(tmp_path)
    assert set(board.Tags()["tensors"]) == {"train/success", "own/tag"}
    metadata = board.SummaryMetadata("train/success")
    assert metadata.plugin_data.plugin_name == "scalars"
    assert "positive return" in metadata.summary_description
    assert board.Tensors("train/success")[0].step == 10
    assert read_metrics(tmp_path / "metrics.csv")["train/success"].values.tolist() == [0.25]


def test_resume_leaves_each_frame_once(tmp_path, events):
    first = BoardWriter(tmp_path)
    for frames in range(0, 50, 10):
        first.scalars({"train/success": 0.0}, frames)
    first.close()
    # Event files of one second and process are told apart by a counter, and read as text has it: 10 before 9.
    time.sleep(1.1)
    second = BoardWriter(tmp_path, purge_step=20)
    for frames in range(30, 60, 10):
        second.scalars({"train/success": 1.0}, frames)
    second.close()
    assert [event.step for event in events(tmp_path).Tensors("train/success")] == [0, 10, 20, 30, 40, 50]
    curve = read_metrics(tmp_path / "metrics.csv")["train/success"]
    assert curve.frames.tolist() == [0, 10, 20, 30, 40, 50]
    assert curve.values.tolist() == [0, 0, 0, 1, 1, 1]


def test_gif_reaches_the_images_tab_with_all_its_frames(tmp_path, events):
    frames = np.zeros((5, 12, 16, 3), dtype=np.uint8)
    for step in range(5):
        frames[step, :, 3 * step : 3 * step + 3] = (255, 40 * step, 0)
    writer = BoardWriter(tmp_path)
    writer.gif("episode/strip", frames, 10)
    writer.histogram("level_0/state", torch.tensor([1.0, float("nan"), 2.0]), 10)
    writer.histogram("level_0/empty", torch.tensor([float("nan")]), 10)
    writer.text("run/note", "**hello**", 10)
    writer.image("subgoal", frames[0], 10)
    writer.custom_scalars(2, ("task",))
    writer.close()
    board = events(tmp_path)
    width, height, encoded = board.Tensors("episode/strip")[0].tensor_proto.string_val
    assert (int(width), int(height)) == (16, 12)
    picture = Image.open(io.BytesIO(encoded))
    assert picture.format == "GIF"
    assert picture.n_frames == 5
    found = set(board.Tags()["tensors"])
    assert {"level_0/state", "run/note/text_summary", "subgoal", "custom_scalars__config__"} <= found
    assert "level_0/empty" not in found


def test_pictures_carry_their_description(tmp_path, events):
    writer = BoardWriter(tmp_path)
    picture = np.full((6, 9, 3), 90, dtype=np.uint8)
    writer.image("critic/map", picture, 10)
    writer.close()
    board = events(tmp_path)
    metadata = board.SummaryMetadata("critic/map")
    assert metadata.plugin_data.plugin_name == "images"
    assert "held-out layout" in metadata.summary_description
    width, height, encoded = board.Tensors("critic/map")[0].tensor_proto.string_val
    assert (int(width), int(height)) == (9, 6)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(encoded))), picture)


def test_gif_keeps_colours_and_rejects_other_shapes():
    frames = np.zeros((3, 8, 8, 3), dtype=np.uint8)
    frames[1] = (200, 30, 60)
    picture = Image.open(io.BytesIO(encode_gif(frames, fps=10)))
    picture.seek(1)
    shown = np.asarray(picture.convert("RGB")).astype(int)
    assert np.abs(shown - frames[1]).max() <= 8
    assert picture.info["duration"] == 100
    with pytest.raises(ValueError, match="uint8"):
        encode_gif(frames.astype(float))
    with pytest.raises(ValueError, match="T > 0"):
        encode_gif(frames[:0])


def test_a_hole_takes_no_slash():
    family = Tag("a_{x}/b", "m", "u", "h", "s")
    assert family.matches("a_1/b")
    assert not family.matches("a_1/2/b")
