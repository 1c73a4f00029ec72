"""Checkpoints: round trips, damage, dying at any moment, optimizers."""

import json
import os
import random
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from hjepa.config import ConfigError
from hjepa.data.checkpoint import (
    checkpoints,
    kept_meta,
    load,
    load_latest,
    optimizer_tensors,
    restore_optimizer,
    save,
)
from hjepa.data.files import checksum, json_bytes
from hjepa.train.seeding import derive, seed_everything_at


def example(step: int) -> dict[str, dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(step)
    return {
        "agent": {
            "weight": torch.randn(3, 5, generator=generator),
            "half": torch.randn(4, generator=generator).bfloat16(),
            "scalar": torch.tensor(step),
            "none": torch.zeros(2, 0),
        },
        "collector": {
            "flags": torch.tensor([True, False]),
            "image": torch.arange(9, dtype=torch.uint8).view(3, 3).T,
        },
    }


def put(folder: Path, *steps: int, keep: int = 9) -> Path:
    path = folder
    for step in steps:
        path = save(folder, step, example(step), {"step": step, "note": "ä"}, keep)
    return path


def assert_is(step: int, tensors: dict[str, dict[str, torch.Tensor]], meta: dict) -> None:
    assert meta == {"step": step, "note": "ä"}
    expected = example(step)
    assert tensors.keys() == expected.keys()
    for name, group in expected.items():
        assert tensors[name].keys() == group.keys()
        for key, tensor in group.items():
            assert torch.equal(tensors[name][key], tensor) and tensors[name][key].dtype == tensor.dtype


# ---------------------------------------------------------------------------------------- round trips
def test_round_trip(tmp_path: Path):
    path = put(tmp_path / "run" / "checkpoints", 1234)
    assert path.name == "step_00001234"
    assert_is(1234, *load(path))
    tensors, meta, skipped = load_latest(path.parent)
    assert_is(1234, tensors, meta)
    assert skipped == []


def test_tied_and_sliced_tensors_are_saved_by_value(tmp_path: Path):
    base = torch.arange(12.0).view(3, 4)
    parameter = nn.Parameter(base)
    path = save(tmp_path, 0, {"agent": {"a": parameter, "b": parameter, "c": base[:, 1]}}, {}, 1)
    tensors, _ = load(path)
    assert torch.equal(tensors["agent"]["b"], base) and torch.equal(tensors["agent"]["c"], base[:, 1])


def test_old_ones_are_pruned_and_meta_of_the_kept_is_told(tmp_path: Path):
    put(tmp_path, 1, 2, 3, 4, 5, keep=2)
    assert [path.name for path in checkpoints(tmp_path)] == ["step_00000004", "step_00000005"]
    assert [meta["step"] for meta in kept_meta(tmp_path)] == [4, 5]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step_00000004", "step_00000005"]


def test_order_is_by_step_not_by_name(tmp_path: Path):
    put(tmp_path, 99_999_999, 100_000_000)
    assert load_latest(tmp_path)[1]["step"] == 100_000_000


def test_saving_a_step_again_replaces_it(tmp_path: Path):
    put(tmp_path, 7)
    save(tmp_path, 7, example(8), {"step": 8, "note": "ä"}, 1)
    assert_is(8, *load_latest(tmp_path)[:2])
    assert len(checkpoints(tmp_path)) == 1


def test_a_given_up_future_is_deleted(tmp_path: Path):
    put(tmp_path, 1, 2, 9)
    next(tmp_path.glob("step_00000009/agent*")).write_bytes(b"")
    assert load_latest(tmp_path)[1]["step"] == 2
    put(tmp_path, 3, keep=2)
    assert [path.name for path in checkpoints(tmp_path)] == ["step_00000002", "step_00000003"]


def test_leftovers_are_removed_at_the_next_save(tmp_path: Path):
    put(tmp_path, 1)
    leftover = tmp_path / ".tmp-step_00000002"
    leftover.mkdir()
    (leftover / "agent.safetensors").write_bytes(b"half")
    assert load_latest(tmp_path)[1]["step"] == 1
    put(tmp_path, 3)
    assert not leftover.exists()


@pytest.mark.parametrize("name", ["../agent", "a/b", ".hidden", "", "a" * 200])
def test_names_that_are_not_plain_are_refused_before_writing(tmp_path: Path, name: str):
    with pytest.raises(ConfigError, match="plain file name"):
        save(tmp_path / "new", 0, {name: {}}, {}, 1)
    assert not (tmp_path / "new").exists()


def test_meta_that_is_no_json_is_refused_before_writing(tmp_path: Path):
    with pytest.raises(TypeError, match="JSON"):
        save(tmp_path / "new", 0, {}, {"a": object()}, 1)
    with pytest.raises(ValueError, match="keep"):
        save(tmp_path / "new", 0, {}, {}, 0)
    assert not (tmp_path / "new").exists()


# ---------------------------------------------------------------------------------------- damage
def damaged_line(folder: Path, file: str) -> None:
    """The newest is rejected by a line that names the file, and the one before is used."""
    tensors, meta, skipped = load_latest(folder)
    assert_is(1, tensors, meta)
    assert len(skipped) == 1 and file in skipped[0] and "\n" not in skipped[0]


@pytest.mark.parametrize("kind", ["truncate", "flip"])
def test_every_truncation_and_bit_flip_is_noticed(tmp_path: Path, kind: str):
    newest = put(tmp_path, 1, 2)
    files = sorted(newest.iterdir())
    assert len(files) == 4
    chance = random.Random(0)
    for case in range(200):
        file = files[case % len(files)]
        good = file.read_bytes()
        if kind == "truncate":
            file.write_bytes(good[: chance.randrange(len(good))])
        else:
            bad = bytearray(good)
            bad[chance.randrange(len(bad))] ^= 1 << chance.randrange(8)
            file.write_bytes(bad)
        damaged_line(tmp_path, file.name)
        file.write_bytes(good)
    assert_is(2, *load_latest(tmp_path)[:2])


def test_missing_and_extra_files_are_noticed(tmp_path: Path):
    newest = put(tmp_path, 1, 2)
    for file in sorted(newest.iterdir()):
        good = file.read_bytes()
        file.unlink()
        damaged_line(tmp_path, file.name)
        file.write_bytes(good)
    for name in ("extra.safetensors", "payload.pkl", ".hidden"):
        (newest / name).write_bytes(b"x")
        damaged_line(tmp_path, name)
        (newest / name).unlink()
    (newest / "folder").mkdir()
    damaged_line(tmp_path, "folder")


def test_without_a_good_checkpoint_the_reasons_are_told(tmp_path: Path):
    with pytest.raises(ConfigError, match="there is none"):
        load_latest(tmp_path / "nowhere")
    path = put(tmp_path, 1)
    (path / "state.json").unlink()
    with pytest.raises(ConfigError, match=r"no checkpoint that can be loaded .*state\.json"):
        load_latest(tmp_path)


def forge(path: Path, contents: object) -> None:
    (path / "manifest.json").write_bytes(json_bytes({"contents": contents, "sha256": checksum(json_bytes(contents))}))


@pytest.mark.parametrize(
    "name",
    [
        "../secret.safetensors",
        "/etc/passwd",
        "a\\b.safetensors",
        "..",
        "x.pkl",
        "manifest.json",
        "a\n.safetensors",
    ],
)
def test_forged_manifests_cannot_reach_other_files(tmp_path: Path, name: str):
    path = put(tmp_path, 1)
    (tmp_path / "secret.safetensors").write_bytes((path / "agent.safetensors").read_bytes())
    contents = json.loads((path / "manifest.json").read_bytes())["contents"]
    contents["files"][name] = contents["files"]["agent.safetensors"]
    forge(path, contents)
    with pytest.raises(ConfigError, match=r"plain file name|unknown kind"):
        load(path)


@pytest.mark.parametrize("contents", [[], {}, {"files": {}}, {"step": -1, "files": {}, "format": 1}, "x", None, 3])
def test_forged_manifests_of_another_shape_are_refused(tmp_path: Path, contents: object):
    path = put(tmp_path, 1)
    forge(path, contents)
    with pytest.raises(ConfigError, match=r"manifest\.json"):
        load(path)
    (path / "manifest.json").write_bytes(json_bytes(contents))
    with pytest.raises(ConfigError, match=r"manifest\.json"):
        load(path)


def test_absurd_headers_and_sizes_are_refused(tmp_path: Path):
    path = put(tmp_path, 1)
    bomb = (2**40).to_bytes(8, "little") + b"{}"
    (path / "agent.safetensors").write_bytes(bomb)
    contents = json.loads((path / "manifest.json").read_bytes())["contents"]
    contents["files"]["agent.safetensors"] = checksum(bomb)
    forge(path, contents)
    with pytest.raises(ConfigError, match=r"agent\.safetensors: header larger"):
        load(path)
    with (path / "manifest.json").open("wb") as file:
        file.truncate(2**30)
    with pytest.raises(ConfigError, match="larger than"):
        load(path)
    (path / "manifest.json").write_bytes(b"[" * 100_000)
    with pytest.raises(ConfigError, match="not JSON"):
        load(path)


# ---------------------------------------------------------------------------------------- dying while saving
KILLER = """
import os, random, signal, sys, time, torch
from pathlib import Path
from hjepa.data.checkpoint import load_latest, save

torch.set_num_threads(1)  # A forked process has none of its parent's threads, and would wait for them.
folder, chance, durable, inside = Path(sys.argv[1]), random.Random(0), 0, 0

def save_for_ever(step, pipe):
    while True:
        step += 1
        weights = torch.full((1_000_000,), float(step))
        save(folder, step, {"agent": {"w": weights}, "b": {"w": weights[:9]}}, {"step": step}, 2)
        os.write(pipe, b".")

for kill in range(16):
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        signal.alarm(60)
        save_for_ever(durable, write)
    os.close(write)
    said = len(os.read(read, 1))
    time.sleep(chance.uniform(0, 0.08))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    while more := os.read(read, 4096):
        said += len(more)
    os.close(read)
    inside += any(path.name.startswith(".tmp-") for path in folder.iterdir())
    tensors, meta, skipped = load_latest(folder)
    step = meta["step"]
    assert skipped == [] and step in (durable + said, durable + said + 1), (skipped, step, durable, said)
    assert bool((tensors["agent"]["w"] == step).all()) and bool((tensors["b"]["w"] == step).all())
    durable = step
print(inside)
"""


def test_killed_at_any_moment_the_last_checkpoint_is_whole(tmp_path: Path):
    # Forked from a process of its own, so that torch is imported once for all the kills.
    done = subprocess.run(
        [sys.executable, "-c", KILLER, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 2, "too few kills fell inside a save: the test says nothing"


def test_a_disk_that_refuses_leaves_the_last_one(tmp_path: Path):
    put(tmp_path, 1)
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, old[1]))
    try:
        with pytest.raises(OSError, match="too large"):
            save(tmp_path, 2, {"agent": {"w": torch.zeros(100_000)}}, {}, 1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
    assert [path.name for path in tmp_path.iterdir()] == ["step_00000001"]
    assert_is(1, *load_latest(tmp_path)[:2])


def test_a_folder_that_is_not_writable_is_an_error(tmp_path: Path):
    if os.geteuid() == 0:
        pytest.skip("root may write anywhere")
    put(tmp_path, 1)
    tmp_path.chmod(0o500)
    with pytest.raises(OSError, match="ermission"):
        put(tmp_path, 2)
    tmp_path.chmod(0o700)


# ---------------------------------------------------------------------------------------- optimizers
def network(seed: int) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2), nn.Linear(2, 2))


def step(model: nn.Sequential, optimizer: torch.optim.Optimizer, number: int) -> None:
    seed_everything_at(0, "update", number)
    optimizer.zero_grad()
    # The last layer has no gradient, hence no state: that must survive too.
    model[:3](torch.randn(16, 4)).square().mean().backward()
    optimizer.step()
    optimizer.param_groups[0]["lr"] *= 0.99


def adamw(model: nn.Sequential, fused: bool, learning_rate: float = 1e-2) -> torch.optim.AdamW:
    groups = [{"params": model[0].parameters(), "weight_decay": 0.1}, {"params": model[1:].parameters()}]
    return torch.optim.AdamW(groups, lr=learning_rate, fused=fused)


@pytest.mark.parametrize("fused", [False, True])
def test_restored_optimizer_steps_bit_for_bit_alike(tmp_path: Path, fused: bool):
    model = network(0)
    optimizer = adamw(model, fused)
    for number in range(7):
        step(model, optimizer, number)
    path = save(tmp_path, 7, {"model": model.state_dict(), "optimizer": optimizer_tensors(optimizer)}, {}, 1)
    again = network(1)
    other = adamw(again, fused, learning_rate=0.5)
    tensors, _ = load(path)
    again.load_state_dict(tensors["model"])
    restore_optimizer(other, tensors["optimizer"])
    assert other.state_dict()["param_groups"] == optimizer.state_dict()["param_groups"]
    for number in range(7, 20):
        step(model, optimizer, number)
        step(again, other, number)
    for left, right in zip(model.parameters(), again.parameters(), strict=True):
        assert torch.equal(left, right)


def test_optimizers_of_other_parameters_are_refused():
    model = network(0)
    optimizer = adamw(model, fused=False)
    step(model, optimizer, 0)
    saved = optimizer_tensors(optimizer)
    small = torch.optim.AdamW(nn.Linear(3, 3).parameters())
    with pytest.raises(ConfigError, match=r"state\.0\.exp_avg is \[8, 4\], not \[3, 3\]"):
        restore_optimizer(small, saved)
    with pytest.raises(ConfigError, match=r"no place for state\.9"):
        restore_optimizer(small, {"state.9.step": torch.tensor(1.0)})
    with pytest.raises(ConfigError, match="not a name of its state"):
        restore_optimizer(small, {"rubbish": torch.tensor(1.0)})


def test_seeding_is_a_function_of_names():
    seed_everything_at(3, "update", 5)
    first = torch.rand(4)
    seed_everything_at(3, "update", 6)
    second = torch.rand(4)
    seed_everything_at(3, "update", 5)
    assert torch.equal(first, torch.rand(4)) and not torch.equal(first, second)
    assert derive(3, "update", 5) != derive(3, "update", 6)
