"""What is measured on sample episodes: against values worked out by hand, and against what the agent itself says."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_agent import DUMMY, tiny_agent

from hjepa.envs.make import make_env, quiet_reset
from hjepa.envs.vector import VectorEnv
from hjepa.eval.rollout import undisturbed
from hjepa.log.calibration import calibration_scalars, realised
from hjepa.log.charts import draw_calibration, draw_matrix, draw_value_map
from hjepa.log.decisions import DecisionTracker
from hjepa.log.embedding import HEADER, LIMIT, embeddings
from hjepa.log.facts import FactReader, carried_name, door_name, rooms
from hjepa.log.matrix import places, probe_matrix
from hjepa.log.prediction import gap_scalars, level_steps, prediction_scalars, reality_gap
from hjepa.log.sample import concatenate, play
from hjepa.log.trace import Recorder
from hjepa.log.value_map import free_cells, value_map

DOORKEY = "MiniGrid-DoorKey-5x5-v0"


def seed_of(row, episode):
    return 100 * row + episode + 1


@pytest.fixture(scope="module")
def agent():
    return tiny_agent(2, f"env.id={DOORKEY}")


@pytest.fixture(scope="module")
def sample(agent):
    with undisturbed(agent, 0):
        return play(agent, DOORKEY, seed_of, 4, 24, 2)


def test_a_sample_is_a_function_of_weights_and_layouts(agent, sample):
    with undisturbed(agent, 0):
        again = play(agent, DOORKEY, seed_of, 4, 24, 2)
    assert sample.energies.shape[:2] == (4, 24)
    assert sample.levels[1].state.shape == (4, 24, 12)
    assert torch.equal(again.levels[1].state, sample.levels[1].state)
    assert torch.equal(again.facts.column, sample.facts.column)
    both = concatenate([sample, again])
    assert torch.equal(both.levels[0].value[4:], sample.levels[0].value)


def test_facts_are_those_of_the_environment():
    env = VectorEnv(DOORKEY, 2, seed_of)
    reader, generator = FactReader(env.envs), torch.Generator().manual_seed(3)
    action, seen = torch.zeros(2, dtype=torch.int64), set()
    weights = torch.tensor([1.0, 1.0, 2.0, 2.0, 0.2, 2.0, 0.0])
    for _ in range(400):
        facts = reader.read(env.step(action))
        for row, one in enumerate(env.envs):
            world = one.unwrapped
            assert (int(facts.column[row]), int(facts.row[row])) == tuple(map(int, world.agent_pos))
            assert int(facts.direction[row]) == world.agent_dir
            held = "nothing" if world.carrying is None else f"{world.carrying.color} {world.carrying.type}"
            assert carried_name(int(facts.carried[row])) == held
            door = next(item for item in world.grid.grid if item is not None and item.type == "door")
            state = "locked" if door.is_locked else "open" if door.is_open else "closed"
            assert door_name(int(facts.door[row])) == state
            seen |= {held, state, int(facts.room[row])}
        action = torch.multinomial(weights.expand(2, -1), 1, generator=generator)[:, 0]
    assert {"nothing", "yellow key", "open", "locked", 1} <= seen


def test_rooms_are_divided_by_walls_and_doors():
    env = make_env("MiniGrid-DoorKey-8x8-v0")
    quiet_reset(env, 5)
    grid = env.unwrapped.grid
    found = rooms(grid)
    (door,) = [
        (i, j) for i in range(8) for j in range(8) if grid.get(i, j) is not None and grid.get(i, j).type == "door"
    ]
    assert found[door] == 0
    inner = found[1:-1, 1:-1]
    assert set(np.unique(inner[: door[0] - 1])) == {1}
    assert set(np.unique(inner[door[0] :])) == {2}


def test_the_first_open_loop_step_is_teacher_forced_and_is_what_was_planned(agent, sample):
    scalars = prediction_scalars(agent, sample)
    first = scalars["prediction_0/open_loop/depth_1"]
    assert first == pytest.approx(scalars["prediction_0/teacher_forced/depth_1"], rel=1e-5)
    # Level 0 takes the first choice of its plan at every step.
    assert first == pytest.approx(scalars["prediction_0/planned/depth_1"], rel=1e-5)
    assert first > 0
    assert scalars["prediction_0/open_loop/depth_3"] != pytest.approx(scalars["prediction_0/teacher_forced/depth_3"])


@torch.no_grad()
def test_open_loop_is_the_world_model_fed_with_its_own_states(agent, sample):
    steps, model = level_steps(agent, sample)[1], agent.world_models[1]
    span, state = agent.spec.levels[1].span, sample.levels[1].state
    errors = []
    for row in range(4):
        for t in range(24 - 2 * span):
            if bool(steps.spans.reaches[row, t] & steps.spans.reaches[row, t + span]):
                now = state[row, t][None]
                for begin in (t, t + span):
                    nothing = now.new_zeros(1, 0)
                    tokens = sample.task.tokens[row, t][None]
                    now = model.predict(now, steps.actions[row, begin][None], nothing, tokens).state
                errors.append((now[0] - state[row, t + 2 * span]).square().mean())
    expected = torch.stack(errors).mean() / state.flatten(0, 1).var(0).mean()
    assert prediction_scalars(agent, sample)["prediction_1/open_loop/depth_2"] == pytest.approx(
        float(expected), rel=1e-4
    )


def test_the_energy_met_is_that_of_the_records_ahead(agent, sample):
    known, promised, met = reality_gap(agent, sample, 0)
    assert bool(known.any())
    assert bool(promised[known].isfinite().all())
    discount, horizon = agent.spec.discount, agent.spec.levels[0].horizon
    come = (sample.energies * sample.task.intrinsic_weights).sum(-1)
    row, t = (int(place) for place in known.nonzero()[0])
    weight = float(sample.task.critic_weights[row, t, 0])
    expected = sum(discount**step * float(come[row, t + 1 + step]) for step in range(horizon))
    expected += discount**horizon * weight * float(sample.levels[0].value[row, t + horizon])
    assert float(met[row, t]) == pytest.approx(expected, rel=1e-4)
    assert set(gap_scalars(agent, sample)) >= {"gap_0/energy", "gap_0/size", "gap_0/promised", "gap_0/met"}


def with_course(sample, energies, values, terminated, truncated):
    """The sample cut to one row and one drive, with a course made by hand."""
    time = len(energies)
    part = sample[:1, :time]
    weights = torch.ones(1, time, 1)
    levels = tuple(replace(level, value=torch.tensor([values])) for level in part.levels)
    return replace(
        part,
        energies=torch.tensor(energies)[None, :, None],
        task=replace(part.task, intrinsic_weights=weights),
        levels=levels,
        terminated=torch.tensor([terminated]),
        truncated=torch.tensor([truncated]),
        to_come=torch.zeros(1, time, len(part.levels)),
    )


def test_realised_energy_is_discounted_and_stops_at_the_end(sample):
    over, no = [False, False, True, False], [False] * 4
    course = with_course(sample, [0.0, 1.0, -4.0, 9.0], [5.0, 5.0, 5.0, 5.0], over, no)
    came = realised(course, 0, 0.5)
    assert came.energy[0, :2].tolist() == [1.0 + 0.5 * -4.0, -4.0]
    # The end itself and the cut are not judged.
    assert came.known[0].tolist() == [True, True, False, False]


def test_what_a_critic_grants_after_an_end_counts_as_met(sample):
    over, no = [False, False, True, False], [False] * 4
    course = with_course(sample, [0.0, 1.0, -4.0, 9.0], [5.0] * 4, over, no)
    course.to_come[0, 2, 0] = -8.0
    assert realised(course, 0, 0.5).energy[0, :2].tolist() == [1.0 + 0.5 * (-4.0 + 0.5 * -8.0), -4.0 + 0.5 * -8.0]


def test_a_time_limit_is_no_end(sample):
    no = [False] * 4
    course = with_course(sample, [0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 8.0, 0.0], no, [False, False, True, False])
    came = realised(course, 0, 0.5)
    assert came.energy[0, 0] == 1.0 + 0.5 * (0.0 + 0.5 * 8.0)
    assert came.known[0, :2].tolist() == [True, True]
    assert realised(course, 0, 0.95).known.any() == torch.tensor(False)


def test_a_critic_that_is_right_is_calibrated(sample):
    over = [False] * 11 + [True]
    course = with_course(sample, [0.0] * 11 + [-1.0], [0.0] * 12, over, [False] * 12)
    right = realised(course, 0, 0.9).energy
    levels = tuple(replace(level, value=right + 0.25) for level in course.levels)
    scalars = calibration_scalars(replace(course, levels=levels), 0.9)
    assert scalars["critic_0/calibration"] == pytest.approx(0.25)
    assert scalars["critic_1/realised_correlation"] == pytest.approx(1.0)


def test_probes_find_what_states_hold_and_only_that(sample):
    wide = concatenate([sample] * 4)
    facts = wide.facts
    parts = [facts.column, facts.row, facts.direction == 0, facts.direction == 1, facts.direction == 2, facts.room]
    told = torch.stack([part.float() for part in parts], -1)
    noise = torch.randn(*told.shape[:2], 6, generator=torch.Generator().manual_seed(0))
    levels = tuple(replace(level, state=state) for level, state in zip(wide.levels, (told, noise), strict=True))
    matrix = probe_matrix(replace(wide, levels=levels))
    scalars = matrix.scalars()
    assert scalars["probe_0/direction"] == 1.0
    assert scalars["probe_0/position"] > 0.95
    assert scalars["probe_1/direction"] < 0.6
    assert set(matrix.facts) | set(matrix.constant) == {
        "position",
        "direction",
        "carried",
        "door",
        "goal_in_view",
        "room",
    }
    assert draw_matrix(matrix).shape[2] == 3
    read = places(replace(wide, levels=levels))
    assert read.errors[0] < 0.1 < read.errors[1]
    there = read.at(0, told[1])
    assert torch.allclose(there, torch.stack([facts.column[1], facts.row[1]], -1).float(), atol=0.3)


def test_the_map_is_what_the_agent_says_on_arriving(agent):
    with undisturbed(agent, 0):
        mapped = value_map(agent, DOORKEY, 7)
        env = make_env(DOORKEY)
        quiet_reset(env, 7)
        world, values = env.unwrapped, []
        cells = free_cells(world)
        column, row = (int(place) for place in world.agent_pos)
        for direction in range(4):
            vector = VectorEnv(DOORKEY, 1, lambda row, episode: 7)
            record = vector.step(torch.zeros(1, dtype=torch.int64))
            inner = vector.envs[0].unwrapped
            inner.agent_dir = direction
            record.image[0] = torch.from_numpy(inner.gen_obs()["image"])
            decision, _ = agent.act(record, agent.initial(1, torch.device("cpu")), 1)
            values.append(float(decision.levels[1].value))
    finite = {(int(c), int(r)) for r, c in np.argwhere(np.isfinite(mapped.energies[1]))}
    assert finite == set(cells)
    assert mapped.energies[1, row, column] == pytest.approx(np.mean(values), rel=1e-4)
    assert draw_value_map(mapped).dtype == np.uint8


def test_embeddings_carry_a_label_for_every_state(sample):
    wide = concatenate([sample] * 20)
    for level, embedding in enumerate(embeddings(wide)):
        assert len(embedding.states) == len(embedding.labels) <= LIMIT
        assert embedding.states.shape[1] == wide.levels[level].state.shape[-1]
        assert {len(row) for row in embedding.labels} == {len(HEADER)}
    assert draw_calibration(sample, 0.99).shape[2] == 3


def test_decisions_are_averaged_since_the_last_reading():
    agent = tiny_agent(1)
    tracker, other = DecisionTracker(agent.spec), DecisionTracker(agent.spec)
    assert tracker.summary() == {}
    state, vector = agent.initial(3, torch.device("cpu")), VectorEnv(DUMMY, 3, seed_of)
    record, total = vector.step(torch.zeros(3, dtype=torch.int64)), []
    for step in range(6):
        decision, state = agent.act(record, state, 2)
        tracker.update(decision)
        total.append(float((decision.energies * decision.intrinsic_weights).sum(-1).mean()))
        if step == 2:
            other.restore(tracker.tensors())
        elif step > 2:
            other.update(decision)
        record = vector.step(decision.action)
    scalars = tracker.summary()
    assert scalars["energy/total"] == pytest.approx(sum(total) / 6, rel=1e-5)
    assert scalars["mode/share_2"] == 1.0
    assert scalars == other.summary()
    assert tracker.tensors() == {}


def test_an_episode_that_goes_on_is_cut_for_the_strip(agent):
    recorder = Recorder(DOORKEY, limit=1)
    with undisturbed(agent, 0):
        play(agent, DOORKEY, seed_of, 2, 9, 1, recorder=recorder)
    (trace,) = recorder.traces
    assert trace.seed == seed_of(0, 0)
    assert trace.length == 8
