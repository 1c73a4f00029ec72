"""The episode store, the windows drawn from it, its shards on disk, and the Minari bridge."""

from dataclasses import fields
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor

from hjepa.config import ConfigError
from hjepa.data import EpisodeStore, actions_taken, draw
from hjepa.data import minari as minari_bridge
from hjepa.data.store import shard_end
from hjepa.envs import Record, VectorEnv, training_seed
from hjepa.envs.dummy import DUMMY_ID
from hjepa.envs.text import MISSION_WORDS, encode_mission
from hjepa.types import EnvSpec, Trajectory

ENVS, DRIVES = 3, 2
SPEC = EnvSpec("test", 7, (7, 7), 100)


def make_store(folder: Path, capacity: int = 60, envs: int = ENVS, carry: Tensor | None = None) -> EpisodeStore:
    example = torch.zeros(1, 4, dtype=torch.float32) if carry is None else carry
    return EpisodeStore(capacity, envs, SPEC, DRIVES, example, folder)


def numbered(time: int, envs: int = ENVS) -> tuple[Record, Tensor, Tensor]:
    """A record whose every value tells its stream and time."""
    code = torch.arange(envs) * 1000 + time
    record = Record(
        image=(code % 251).to(torch.uint8).view(-1, 1, 1, 1).expand(-1, 7, 7, 3),
        mission=code.view(-1, 1).expand(-1, MISSION_WORDS),
        reward=code.float(),
        terminated=code % 5 == 4,
        truncated=code % 11 == 10,
        is_first=code % 5 == 0,
        previous_action=code % 7,
        frames=envs,
    )
    return record, code.float().view(-1, 1).expand(-1, DRIVES), code.float().view(-1, 1).expand(-1, 4)


def fill(store: EpisodeStore, start: int, stop: int) -> None:
    for time in range(start, stop):
        store.append(*numbered(time, store.num_envs))


def tensors(struct: object) -> list[Tensor]:
    result = []
    for field in fields(struct):  # type: ignore[arg-type]
        value = getattr(struct, field.name)
        result += [value] if isinstance(value, Tensor) else tensors(value)
    return result


def assert_equal(left: Trajectory, right: Trajectory) -> None:
    assert all(torch.equal(a, b) and a.dtype == b.dtype for a, b in zip(tensors(left), tensors(right), strict=True))


# ---------------------------------------------------------------------------------------- ring and windows
@pytest.mark.parametrize("written", [7, 20, 21, 55])
def test_windows_are_consecutive_records_of_one_stream(tmp_path: Path, written: int):
    store = make_store(tmp_path)
    fill(store, 0, written)
    batch = draw(store, 0, 0, 200, 5)
    code = batch.energies[..., 0].long()
    assert bool((code.diff(dim=1) == 1).all())
    time, row = code % 1000, code // 1000
    assert int(time.min()) >= store.oldest == max(0, written - 20) and int(time.max()) < written
    assert bool((row == row[:, :1]).all())
    assert torch.equal(batch.observation.image[..., 3, 2, 1].long(), code % 251)
    assert torch.equal(batch.observation.mission[..., -1], code)
    assert torch.equal(batch.previous_action, code % 7)
    assert torch.equal(batch.is_first, code % 5 == 0)
    assert torch.equal(batch.terminated, code % 5 == 4)
    assert torch.equal(batch.truncated, code % 11 == 10)
    assert torch.equal(batch.carries[..., 2].long(), code)


def test_every_window_is_drawn_equally_often(tmp_path: Path):
    store = make_store(tmp_path)
    fill(store, 0, 33)
    code = draw(store, 1, 2, 48_000, 5).energies[:, 0, 0].long()
    place = (code // 1000) * 16 + code % 1000 - 13
    count = torch.bincount(place, minlength=48).float()
    assert count.shape == (48,)
    # Chi-square with 47 degrees of freedom: 100 is beyond one in a hundred thousand.
    assert float(((count - 1000) ** 2 / 1000).sum()) < 100


def test_batch_is_a_function_of_seed_and_number(tmp_path: Path):
    store = make_store(tmp_path)
    fill(store, 0, 30)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    batch = draw(store, 3, 7, 16, 4)
    assert torch.equal(torch.get_rng_state(), before)
    assert_equal(batch, draw(store, 3, 7, 16, 4))
    for other in (draw(store, 3, 8, 16, 4), draw(store, 4, 7, 16, 4)):
        assert not torch.equal(batch.energies, other.energies)


def test_types_and_shapes_of_a_batch(tmp_path: Path):
    store = make_store(tmp_path, carry=torch.zeros(1, 13, 13, 3, dtype=torch.uint8))
    record, energies, _ = numbered(0)
    for _ in range(4):
        store.append(record, energies, torch.zeros(ENVS, 13, 13, 3, dtype=torch.uint8))
    batch = draw(store, 0, 0, 6, 4)
    assert batch.observation.image.shape == (6, 4, 7, 7, 3) and batch.observation.image.dtype == torch.uint8
    assert batch.observation.mission.dtype == torch.int64 and batch.previous_action.dtype == torch.int64
    assert batch.energies.shape == (6, 4, DRIVES)
    assert batch.carries.shape == (6, 4, 13, 13, 3) and batch.carries.dtype == torch.uint8


def test_too_few_records_and_wrong_shapes_are_refused(tmp_path: Path):
    store = make_store(tmp_path)
    fill(store, 0, 3)
    with pytest.raises(ValueError, match=r"a window of 4 .* holds 3"):
        draw(store, 0, 0, 1, 4)
    record, energies, carry = numbered(3)
    with pytest.raises(ValueError, match="energies: expected"):
        store.append(record, energies[:, :1], carry)
    assert store.written == 3
    with pytest.raises(ValueError, match="at least 3"):
        make_store(tmp_path, capacity=2)


def test_actions_taken_are_the_next_records_previous_actions():
    previous = torch.tensor([[-1, 2, 3, -1, 5, 6]])
    first = torch.tensor([[True, False, False, True, False, False]])
    assert actions_taken(previous, first).tolist() == [[2, 3, -1, 5, 6, -1]]


# ---------------------------------------------------------------------------------------- on disk
@pytest.mark.parametrize("flushes", [[9], [5, 9], [5, 18, 33], [4, 8, 12, 50], [45]])
def test_restored_store_gives_the_same_batches_and_goes_on(tmp_path: Path, flushes: list[int]):
    store, written = make_store(tmp_path), 0
    manifest = store.flush()
    for stop in flushes:
        fill(store, written, stop)
        manifest, written = store.flush(), stop
    again = make_store(tmp_path)
    again.restore(manifest)
    for number in range(3):
        assert_equal(draw(store, 0, number, 32, 4), draw(again, 0, number, 32, 4))
    for part in (store, again):
        fill(part, written, written + 7)
    assert_equal(draw(store, 0, 9, 32, 4), draw(again, 0, 9, 32, 4))
    assert again.flush() == store.flush()


def test_flush_without_news_writes_nothing(tmp_path: Path):
    store = make_store(tmp_path)
    fill(store, 0, 5)
    first = store.flush()
    names = sorted(tmp_path.iterdir())
    assert store.flush() == first and sorted(tmp_path.iterdir()) == names


def test_shards_of_the_last_checkpoint_survive_until_the_next_is_durable(tmp_path: Path):
    store = make_store(tmp_path)
    fill(store, 0, 15)
    old = store.flush()
    fill(store, 15, 60)
    new = store.flush()
    # A process that died here, before saving a checkpoint with `new`, resumes from `old`.
    again = make_store(tmp_path)
    again.restore(old)
    assert again.written == 15 and [shard_end(path) for path in tmp_path.iterdir()] == [15]
    fill(again, 15, 60)
    assert again.flush() == new
    again.prune([old, new])
    assert len(list(tmp_path.iterdir())) == 2
    again.prune([new])
    assert [shard_end(path) for path in tmp_path.iterdir()] == [60]


def test_disk_use_is_bounded_by_the_ring(tmp_path: Path):
    store = make_store(tmp_path)
    for stop in range(5, 300, 5):
        fill(store, stop - 5, stop)
        store.prune([store.flush()])
        assert len(list(tmp_path.iterdir())) <= 4


def test_unfinished_files_are_removed_on_restore(tmp_path: Path):
    store = make_store(tmp_path)
    fill(store, 0, 5)
    manifest = store.flush()
    (tmp_path / ".tmp-records_000000000005_000000000009.safetensors").write_bytes(b"half")
    make_store(tmp_path).restore(manifest)
    assert [shard_end(path) for path in tmp_path.iterdir()] == [5]


@pytest.mark.parametrize("damage", ["flip", "truncate", "delete"])
def test_damaged_shard_is_named(tmp_path: Path, damage: str):
    store = make_store(tmp_path)
    fill(store, 0, 5)
    store.flush()
    fill(store, 5, 9)
    manifest = store.flush()
    path = tmp_path / "records_000000000005_000000000009.safetensors"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    if damage == "delete":
        path.unlink()
    else:
        path.write_bytes(content if damage == "flip" else content[:-1])
    with pytest.raises(ConfigError, match=path.name) as error:
        make_store(tmp_path).restore(manifest)
    assert "\n" not in str(error.value)


def test_manifests_of_other_stores_are_refused(tmp_path: Path):
    store = make_store(tmp_path)
    fill(store, 0, 5)
    manifest = store.flush()
    with pytest.raises(ConfigError, match=r"store.length: saved 20 .got 10"):
        make_store(tmp_path, capacity=30).restore(manifest)
    with pytest.raises(ConfigError, match="carry is not"):
        make_store(tmp_path, carry=torch.zeros(1, 5)).restore(manifest)
    with pytest.raises(ConfigError, match="records 0 to 5 are in none"):
        make_store(tmp_path).restore(manifest | {"shards": []})
    with pytest.raises(ConfigError, match="written"):
        make_store(tmp_path).restore(manifest | {"written": -1})
    with pytest.raises(ConfigError, match="shards"):
        make_store(tmp_path).restore(manifest | {"shards": [{"first": 0, "count": 5, "sha256": "../../x"}]})


def test_zero_width_carry_is_stored(tmp_path: Path):
    store = make_store(tmp_path, carry=torch.zeros(1, 0))
    record, energies, _ = numbered(0)
    for _ in range(3):
        store.append(record, energies, torch.zeros(ENVS, 0))
    again = make_store(tmp_path, carry=torch.zeros(1, 0))
    again.restore(store.flush())
    assert draw(again, 0, 0, 2, 3).carries.shape == (2, 3, 0)


# ---------------------------------------------------------------------------------------- Minari
def dummy_store(folder: Path) -> EpisodeStore:
    env = VectorEnv(DUMMY_ID, 2, partial(training_seed, 0))
    store = EpisodeStore(200, 2, env.spec, 1, torch.zeros(1, 0), folder)
    for actions in np.random.default_rng(0).integers(0, 3, (90, 2)):
        store.append(env.step(actions), torch.zeros(2, 1), torch.zeros(2, 0))
    return store


def test_exported_episodes_are_whole(tmp_path: Path):
    found = minari_bridge.episodes(dummy_store(tmp_path))
    assert len(found) > 10
    for episode in found:
        steps = len(episode.actions)
        assert len(episode.image) == len(episode.mission) == steps + 1
        assert len(episode.rewards) == len(episode.terminations) == len(episode.truncations) == steps
        ends = episode.terminations | episode.truncations
        assert ends[-1] and not ends[:-1].any() and episode.actions.min() >= 0
        assert (episode.rewards[-1] > 0) == episode.terminations[-1]


def test_episodes_survive_minaris_fields(tmp_path: Path):
    for episode in minari_bridge.episodes(dummy_store(tmp_path)):
        again = minari_bridge.episode_of(SimpleNamespace(**minari_bridge.minari_fields(episode)))
        for field in fields(episode):
            old, new = getattr(episode, field.name), getattr(again, field.name)
            assert np.array_equal(old, new) and old.dtype == new.dtype


def test_text_missions_are_encoded():
    text = "get to the green goal square"
    for missions in ([text, text], [text.encode()] * 2, np.array([text, text], dtype=object)):
        numbers = minari_bridge.mission_numbers(missions)
        assert numbers.dtype == np.int64 and np.array_equal(numbers[1], encode_mission(text))


def test_missing_minari_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(__import__("sys").modules, "minari", None)
    for call in (
        partial(minari_bridge.load, "x-v0"),
        partial(minari_bridge.export, dummy_store(tmp_path), "x-v0", "y"),
    ):
        with pytest.raises(ConfigError, match=r"pip install hjepa\[minari\]"):
            call()


def test_a_share_of_windows_is_drawn_around_terminations(tmp_path):
    from hjepa.envs.dummy import DUMMY_ID

    env = VectorEnv(DUMMY_ID, 2, lambda row, episode: row)
    store = EpisodeStore(120, 2, env.spec, 1, torch.zeros(1, 0), tmp_path)
    record = env.step(torch.zeros(2, dtype=torch.int64))
    torch.manual_seed(0)
    for _ in range(150):
        store.append(record, torch.zeros(2, 1), torch.zeros(2, 0))
        record = env.step(torch.randint(env.spec.num_actions, (2,)))
    terminals = store.terminals()
    held = store.windows(torch.arange(2), torch.full((2,), store.oldest), store.filled)
    assert len(terminals) == int(held.terminated.sum()) > 0
    assert all(held.terminated[row, number - store.oldest] for row, number in terminals.tolist())
    batch = draw(store, 0, 0, 40, 4, 0.25)
    assert batch.terminated[:10].any(1).all()
    assert_equal(batch, draw(store, 0, 0, 40, 4, 0.25))
    plain, most = draw(store, 0, 0, 40, 4), len(terminals)
    assert 10 < most < 36
    assert_equal(draw(store, 0, 0, 40, 4, 0.9)[most:], plain[most:])
