"""Environments: ids, what the agent is told, batches, seeds, exact resuming, the dummy."""

from collections.abc import Callable
from functools import partial

import gymnasium
import numpy as np
import pytest
import torch
from torch import Tensor

from hjepa.config import ConfigError
from hjepa.envs import (
    Record,
    VectorEnv,
    check_env_id,
    env_ids,
    env_spec,
    held_out_seed,
    make_env,
    training_seed,
)
from hjepa.envs.dummy import BACK, DUMMY_ID, FORWARD, OPTIMAL_RETURN, OPTIMAL_STEPS, WAIT
from hjepa.envs.seeds import SPLIT, derive
from hjepa.envs.text import MISSION_WORDS, encode_mission

DOORKEY = "MiniGrid-DoorKey-5x5-v0"
RESUMED = [
    DOORKEY,
    "MiniGrid-MultiRoom-N2-S4-v0",
    "MiniGrid-KeyCorridorS3R1-v0",
    "MiniGrid-Dynamic-Obstacles-5x5-v0",
    "BabyAI-GoToLocal-v0",
    DUMMY_ID,
]


def random_actions(env: VectorEnv, steps: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, env.spec.num_actions, (steps, env.num_envs))


def assert_same(left: Record, right: Record) -> None:
    for name in ("image", "mission", "reward", "terminated", "truncated", "is_first", "previous_action"):
        assert torch.equal(getattr(left, name), getattr(right, name)), name


def chain(num_envs: int) -> VectorEnv:
    return VectorEnv(DUMMY_ID, num_envs, partial(training_seed, 0))


# ---------------------------------------------------------------------------------------- ids and specs
@pytest.mark.parametrize(
    ("name", "actions", "view", "max_steps"),
    [
        (DOORKEY, 7, (7, 7), 250),
        ("MiniGrid-MultiRoom-N6-v0", 7, (7, 7), 120),
        ("MiniGrid-Dynamic-Obstacles-5x5-v0", 3, (7, 7), 100),
        (DUMMY_ID, 3, (7, 7), 16),
    ],
)
def test_spec_is_what_the_environment_says(name: str, actions: int, view: tuple[int, int], max_steps: int):
    spec = env_spec(name)
    assert (spec.id, spec.num_actions, spec.view, spec.max_steps) == (name, actions, view, max_steps)


def test_babyai_time_limit_is_read_after_resets():
    assert env_spec("BabyAI-GoToLocal-v0").max_steps == 64


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [
        ("MiniGrid-DoorKey-8x8", "MiniGrid-DoorKey-8x8-v0"),
        ("minigrid-doorkey-8x8-v0", "MiniGrid-DoorKey-8x8-v0"),
        ("BabyAI-GoToLocl-v0", "BabyAI-GoToLocal-v0"),
        ("hjepa/Dumy-v0", DUMMY_ID),
    ],
)
def test_unknown_id_names_the_nearest(wrong: str, meant: str):
    with pytest.raises(ConfigError, match="did you mean") as error:
        check_env_id(wrong)
    assert meant in str(error.value) and "\n" not in str(error.value)


def test_id_that_would_import_a_module_is_refused():
    with pytest.raises(ConfigError, match="no environment of this name"):
        make_env("os:MiniGrid-DoorKey-5x5-v0")


def test_other_environments_are_refused_with_what_is_missing():
    with pytest.raises(ConfigError, match=r"CartPole-v1 is not a MiniGrid environment.*uint8 image"):
        env_spec("CartPole-v1")


def test_missing_dependency_is_named():
    pytest.importorskip("minigrid")
    try:
        import imageio  # noqa: F401  # pyright: ignore[reportMissingImports]
    except ImportError:
        with pytest.raises(ConfigError, match=r"minigrid\[wfc\]"):
            env_spec("MiniGrid-WFC-MazeSimple-v0")


def test_every_listed_id_passes_the_check():
    names = env_ids()
    assert len(names) > 150 and DUMMY_ID in names
    for name in names:
        check_env_id(name)


def test_checkers_that_cost_time_are_stripped():
    env = make_env(DOORKEY)
    assert env is env.unwrapped


# ---------------------------------------------------------------------------------------- batches
def test_records_equal_those_of_single_environments():
    env = VectorEnv(DOORKEY, 3, partial(training_seed, 5))
    singles = [gymnasium.make(DOORKEY) for _ in range(3)]
    episodes = [0, 0, 0]
    ended = [True, True, True]
    for actions in random_actions(env, 400, 1):
        record = env.step(actions)
        for row, single in enumerate(singles):
            reward, terminated, truncated = 0.0, False, False
            if ended[row]:
                observation, _ = single.reset(seed=training_seed(5, row, episodes[row]))
                episodes[row] += 1
            else:
                observation, reward, terminated, truncated, _ = single.step(int(actions[row]))
            assert bool(record.is_first[row]) == ended[row]
            assert int(record.previous_action[row]) == (-1 if ended[row] else actions[row])
            assert np.array_equal(record.image[row].numpy(), observation["image"])
            assert np.array_equal(record.mission[row].numpy(), encode_mission(observation["mission"]))
            assert float(record.reward[row]) == np.float32(reward)
            assert bool(record.terminated[row]) == terminated and bool(record.truncated[row]) == truncated
            ended[row] = terminated or truncated
    assert min(episodes) > 1


def test_types_shapes_and_frames():
    env = VectorEnv(DOORKEY, 4, partial(training_seed, 0))
    first = env.step(torch.zeros(4, dtype=torch.int64))
    assert first.frames == 0 and bool(first.is_first.all()) and not bool(first.reward.any())
    second = env.step(np.full(4, 2))
    assert second.frames == 4 and not bool(second.is_first.any())
    assert second.image.shape == (4, 7, 7, 3) and second.image.dtype == torch.uint8
    assert second.mission.shape == (4, MISSION_WORDS) and second.mission.dtype == torch.int64
    assert second.observation.image is second.image
    assert second.previous_action.dtype == torch.int64 and second.reward.dtype == torch.float32
    assert {second.terminated.dtype, second.truncated.dtype, second.is_first.dtype} == {torch.bool}


def test_a_record_is_not_changed_by_later_steps():
    env = VectorEnv("BabyAI-GoToLocal-v0", 2, partial(training_seed, 0))
    record = env.step(np.zeros(2, int))
    kept = record.map(Tensor.clone)
    for actions in random_actions(env, 150, 0):
        env.step(actions)
    assert_same(record, kept)


def test_rows_that_ended_are_reset_at_the_next_step_and_others_go_on():
    env = chain(2)
    env.step(np.array([0, 0]))
    env.step(np.array([FORWARD, WAIT]))
    ended = env.step(np.array([FORWARD, WAIT]))
    assert ended.terminated.tolist() == [True, False]
    after = env.step(np.array([99, FORWARD]))
    assert after.is_first.tolist() == [True, False]
    assert after.previous_action.tolist() == [-1, FORWARD] and after.frames == 1


@pytest.mark.parametrize("bad", [-1, 3])
def test_actions_that_do_not_exist_are_refused(bad: int):
    env = chain(2)
    env.step(np.zeros(2, int))
    with pytest.raises(ValueError, match=rf"row 1: action {bad}"):
        env.step(np.array([0, bad]))
    with pytest.raises(ValueError, match="expected 2 actions"):
        env.step(np.zeros(3, int))


def test_a_failing_environment_is_named_with_its_seed(monkeypatch: pytest.MonkeyPatch):
    env = chain(2)
    env.step(np.zeros(2, int))

    def fail(action: int) -> None:
        raise IndexError("outside")

    monkeypatch.setattr(env.envs[1], "step", fail)
    with pytest.raises(
        RuntimeError, match=rf"{DUMMY_ID} failed .row 1, episode 0, seed {training_seed(0, 1, 0)}, step 0"
    ):
        env.step(np.zeros(2, int))


@pytest.mark.parametrize(
    ("image", "reward", "told"),
    [
        (np.zeros((7, 7, 3), np.uint8), float("nan"), "step 0, action 0"),
        (np.zeros((7, 7, 3), np.float32), 0.0, "image is float32"),
        (np.zeros((7, 7, 1), np.uint8), 0.0, r"image is uint8 \[7, 7, 1\]"),
    ],
)
def test_bad_rewards_and_views_are_stopped(
    monkeypatch: pytest.MonkeyPatch, image: np.ndarray, reward: float, told: str
):
    env = chain(1)
    env.step(np.zeros(1, int))
    observation = {"image": image, "mission": "go"}
    monkeypatch.setattr(env.envs[0], "step", lambda action: (observation, reward, False, False, {}))
    with pytest.raises(RuntimeError, match=f"row 0, episode 0, seed .*{told}"):
        env.step(np.zeros(1, int))


# ---------------------------------------------------------------------------------------- resuming
@pytest.mark.parametrize("name", RESUMED)
def test_restored_batch_goes_on_as_if_never_stopped(name: str):
    make: Callable[[], VectorEnv] = lambda: VectorEnv(name, 3, partial(training_seed, 11))  # noqa: E731
    env = make()
    actions = random_actions(env, 160, 2)
    cuts = sorted(np.random.default_rng(3).choice(np.arange(1, 130), 4, replace=False).tolist())
    saved = {}
    records = []
    for number, chosen in enumerate(actions):
        if number in cuts:
            saved[number] = env.state()
        records.append(env.step(chosen))
    for cut in cuts:
        again = make()
        again.restore(saved[cut])
        assert again.last is not None
        assert_same(again.last, records[cut - 1])
        for number in range(cut, min(cut + 30, len(actions))):
            assert_same(again.step(actions[number]), records[number])


def test_restore_into_a_used_batch_and_before_the_first_step():
    fresh = chain(2).state()
    env = chain(2)
    for actions in random_actions(env, 20, 0):
        env.step(actions)
    env.restore(fresh)
    assert env.last is None
    assert bool(env.step(np.zeros(2, int)).is_first.all())


def test_restore_notices_another_environment():
    env = VectorEnv(DOORKEY, 2, partial(training_seed, 0))
    for actions in random_actions(env, 5, 0):
        env.step(actions)
    other = VectorEnv(DOORKEY, 2, partial(training_seed, 1))
    with pytest.raises(ConfigError, match=r"no longer shows .*row 0, episode 0"):
        other.restore(env.state())
    with pytest.raises(ConfigError, match="of 2 environments"):
        VectorEnv(DOORKEY, 3, partial(training_seed, 0)).restore(env.state())


def test_state_is_small():
    env = VectorEnv(DOORKEY, 4, partial(training_seed, 0))
    for actions in random_actions(env, 300, 0):
        env.step(actions)
    size = sum(tensor.numel() * tensor.element_size() for tensor in env.state().values())
    assert size < 4 * (250 * 2 + 3 * 8) + 1


# ---------------------------------------------------------------------------------------- seeds
def test_training_and_held_out_seeds_never_meet():
    training = {training_seed(run, env, episode) for run in range(5) for env in range(8) for episode in range(100)}
    held_out = [held_out_seed(suite, index) for suite in range(5) for index in range(1000)]
    assert max(training) < SPLIT <= min(held_out) and max(held_out) < 2 * SPLIT
    assert min(training) >= 0 and len(training) > 3990


def test_held_out_seeds_of_a_suite_are_distinct_and_spread():
    seeds = [held_out_seed(3, index) for index in range(20_000)]
    assert len(set(seeds)) == len(seeds)
    assert len(set(seeds) & {held_out_seed(4, index) for index in range(20_000)}) < 10


def test_seeds_are_the_same_for_ever():
    assert training_seed(0, 1, 2) == 416949229
    assert held_out_seed(0, 0) == 1919965376
    assert derive(0, "update", 12) == 5547422549067963767


def test_derived_seeds_tell_names_apart():
    names = [("a", 1, 2), ("a", 12), ("a", "12"), ("a", "1", 2), ("a1", 2), ("a", 2, 1), ()]
    assert len({derive(0, *name) for name in names}) == len(names)
    assert all(0 <= derive(seed) < 2**63 for seed in range(200))


# ---------------------------------------------------------------------------------------- the dummy
def test_dummy_optimum():
    env = chain(1)
    env.step(np.zeros(1, int))
    for _ in range(OPTIMAL_STEPS - 1):
        assert not bool(env.step(np.array([FORWARD])).terminated)
    record = env.step(np.array([FORWARD]))
    assert bool(record.terminated) and float(record.reward) == pytest.approx(OPTIMAL_RETURN)


def test_dummy_has_three_states_and_times_out():
    env = chain(1)
    start = env.step(np.zeros(1, int)).image
    assert torch.equal(env.step(np.array([BACK])).image, start)
    ahead = env.step(np.array([FORWARD])).image
    assert not torch.equal(ahead, start)
    assert torch.equal(env.step(np.array([WAIT])).image, ahead)
    assert torch.equal(env.step(np.array([BACK])).image, start)
    records = [env.step(np.array([WAIT])) for _ in range(12)]
    assert [bool(record.truncated) for record in records] == [False] * 11 + [True]
    assert not bool(records[-1].terminated)
