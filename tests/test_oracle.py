"""Shortest paths are executed for real; the oracle's subgoals are what the agent then perceives."""

import ast
import copy
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from hjepa.build import build_agent
from hjepa.config import load as load_config
from hjepa.envs.make import env_spec, make_env
from hjepa.envs.vector import VectorEnv
from hjepa.eval.oracle import OracleSubgoals
from hjepa.eval.rollout import run_episodes
from hjepa.eval.shortest_path import NOWHERE, Episode, ShortestPaths, UnsupportedError
from hjepa.types import Observation

ROOT = Path(__file__).parent.parent
SEEDS = range(2**30, 2**30 + 4)
SECRET = {"hjepa.eval.oracle", "hjepa.eval.shortest_path"}
MAY_KNOW = {"oracle.py", "shortest_path.py", "ladder.py"}
LEFT, TOGGLE = 0, 5


def solve(env):
    episode = Episode(env)
    paths = ShortestPaths(episode.maze)
    return episode, paths, paths.actions(episode.state(env), 10_000)


@pytest.mark.parametrize(
    ("name", "seeds"),
    [
        ("MiniGrid-DoorKey-5x5-v0", SEEDS),
        ("MiniGrid-DoorKey-8x8-v0", SEEDS),
        ("MiniGrid-MultiRoom-N4-S5-v0", SEEDS),
        ("MiniGrid-FourRooms-v0", SEEDS),
        ("MiniGrid-KeyCorridorS3R3-v0", SEEDS[:2]),
        ("MiniGrid-LavaCrossingS9N2-v0", SEEDS),
        ("MiniGrid-ObstructedMaze-1Dlh-v0", SEEDS[:2]),
        ("MiniGrid-MemoryS13-v0", SEEDS),
        ("MiniGrid-Unlock-v0", SEEDS),
    ],
)
def test_the_shortest_path_succeeds_at_its_last_action_and_not_before(name, seeds):
    env = make_env(name)
    for seed in seeds:
        env.reset(seed=seed)
        episode, paths, path = solve(env)
        for left in range(len(path), 0, -1):
            assert paths.steps(episode.state(env)) == left
            _, reward, terminated, _, _ = env.step(path[-left])
            assert (float(reward) > 0) == terminated == (left == 1)


def true_state(env):
    world = env.unwrapped
    carried = None if world.carrying is None else world.carrying.type
    return tuple(map(int, world.agent_pos)), world.agent_dir, world.grid.encode().tobytes(), carried


def test_no_sequence_of_the_real_environment_is_shorter():
    env = make_env("MiniGrid-DoorKey-5x5-v0")
    env.reset(seed=SEEDS[1])
    path = solve(env)[2]
    frontier, seen, depth = [env], set(), 0
    while frontier:
        depth, parents, frontier = depth + 1, frontier, []
        for parent in parents:
            for action in range(6):
                child = copy.deepcopy(parent)
                _, reward, over, _, _ = child.step(action)
                if reward > 0:
                    assert depth == len(path)
                    return
                if not over and true_state(child) not in seen:
                    seen.add(true_state(child))
                    frontier.append(child)
    raise AssertionError("the real environment has no solution")


def test_the_search_goes_on_where_the_agent_left_the_known_states():
    env = make_env("MiniGrid-MultiRoom-N4-S5-v0")
    env.reset(seed=SEEDS[0])
    episode, paths, path = solve(env)
    opens = path.index(TOGGLE)
    for action in path[: opens + 1]:
        env.step(action)
    before = len(path) - opens - 1
    env.step(TOGGLE)
    assert paths.steps(episode.state(env)) == before + 1
    env.step(TOGGLE)
    assert paths.steps(episode.state(env)) == before


def test_a_way_that_is_blocked_for_good_is_told():
    env = make_env("MiniGrid-DoorKey-5x5-v0")
    env.reset(seed=SEEDS[0])
    world = env.unwrapped
    for cell, item in enumerate(world.grid.grid):
        if item is not None and item.type == "key":
            world.grid.grid[cell] = None
    episode, paths, path = solve(env)
    assert path is None
    assert paths.steps(episode.state(env)) == NOWHERE


def test_what_the_search_cannot_do_is_refused():
    dummy = make_env("hjepa/Dummy-v0")
    dummy.reset(seed=1)
    with pytest.raises(UnsupportedError, match="succeeds"):
        Episode(dummy)
    babyai = make_env("BabyAI-GoToLocal-v0")
    babyai.reset(seed=1)
    with pytest.raises(UnsupportedError, match="succeeds"):
        Episode(babyai)
    env = make_env("MiniGrid-FourRooms-v0")
    env.reset(seed=1)
    episode = Episode(env)
    paths = ShortestPaths(episode.maze, limit=100)
    for _ in range(2):
        with pytest.raises(UnsupportedError, match="100 states"):
            paths.steps(episode.state(env))


def debug_agent(*overrides):
    config = load_config(ROOT / "configs" / "debug.yaml", overrides)
    torch.manual_seed(0)
    return build_agent(config, env_spec(config.env.id)).eval()


class Obedient:
    """Follows the shortest path and writes down the states that the agent perceives on it."""

    def __init__(self, agent, oracle, env):
        self.agent, self.oracle, self.env = agent, oracle, env
        self.set, self.met = [], []

    @torch.no_grad()
    def walk(self, steps):
        agent = self.agent
        state, action = agent.initial(1, torch.device("cpu")), torch.zeros(1, dtype=torch.int64)
        for _ in range(steps):
            record = self.env.step(action)
            if not self.met:
                episode, _, path = solve(self.env.envs[0])
            task = agent.configure(record.mission)
            self.set.append(self.oracle(record, state, self.env.envs)[self.oracle.level].clone())
            lowest, carry = agent.perceive(Observation(record.image, record.mission), record, state.carry, task)
            self.met.append(agent.lift(lowest, task.tokens)[self.oracle.level + 1])
            _, state = agent.act(record, state)
            assert torch.equal(state.carry, carry)
            action = torch.tensor([path[len(self.met) - 1]]) if len(self.met) <= len(path) else action
        return episode, path


@pytest.mark.parametrize("level", [0, 1])
def test_r44_the_subgoal_is_what_the_agent_will_perceive_on_the_shortest_path(level):
    agent = debug_agent("levels=[{dim: 16}, {dim: 12, stride: 4}, {dim: 8, stride: 2}]") if level else debug_agent()
    env = VectorEnv("MiniGrid-DoorKey-8x8-v0", 1, lambda row, episode: SEEDS[1])
    walker = Obedient(agent, OracleSubgoals(agent, level), env)
    span = agent.spec.levels[level + 1].span
    assert span == (8 if level else 4)
    steps = 2 * span + 1
    walker.walk(steps)
    for begin in (0, span):
        for step in range(begin, begin + span):
            assert torch.equal(walker.set[step], walker.set[begin])
        assert torch.allclose(walker.set[begin], walker.met[begin + span], atol=1e-6)
        assert not torch.allclose(walker.set[begin], walker.met[begin], atol=1e-3)


def test_a_path_that_ends_before_the_span_gives_the_success_itself():
    agent = debug_agent()
    env = VectorEnv("MiniGrid-DoorKey-5x5-v0", 1, lambda row, episode: SEEDS[0])
    oracle = OracleSubgoals(agent)
    walker = Obedient(agent, oracle, env)
    env_length = len(solve_from(SEEDS[0]))
    walker.walk(env_length + 1)
    assert bool(env.last.terminated[0])
    assert torch.allclose(walker.set[-2], walker.met[-1], atol=1e-6)
    assert oracle.without_way == 0


def solve_from(seed):
    env = make_env("MiniGrid-DoorKey-5x5-v0")
    env.reset(seed=seed)
    return solve(env)[2]


def test_a_subgoal_is_kept_until_it_is_reached_or_the_span_is_over():
    agent = debug_agent()
    env = VectorEnv("MiniGrid-DoorKey-8x8-v0", 2, lambda row, episode: SEEDS[row])
    oracle, state = OracleSubgoals(agent), agent.initial(2, torch.device("cpu"))
    counts = []
    for _ in range(9):
        # Only turns: the span is always over before the place is reached.
        oracle(env.step(torch.tensor([LEFT, LEFT])), state, env.envs)
        counts.append(oracle.subgoals)
    assert counts == [2, 2, 2, 2, 4, 4, 4, 4, 6]


def test_without_a_way_the_present_state_is_the_subgoal():
    agent = debug_agent()
    env = VectorEnv("MiniGrid-DoorKey-5x5-v0", 1, lambda row, episode: SEEDS[0])
    oracle, state = OracleSubgoals(agent, limit=3), agent.initial(1, torch.device("cpu"))
    record = env.step(torch.zeros(1, dtype=torch.int64))
    subgoal = oracle(record, state, env.envs)[0]
    task = agent.configure(record.mission)
    with torch.no_grad():
        lowest, _ = agent.perceive(record.observation, record, state.carry, task)
        assert torch.equal(subgoal, agent.lift(lowest, task.tokens)[1])
    assert (oracle.subgoals, oracle.without_way) == (1, 1)


def test_the_oracle_leaves_the_environments_alone():
    agent = debug_agent()
    env = VectorEnv("MiniGrid-LavaCrossingS9N2-v0", 2, lambda row, episode: SEEDS[row])
    oracle, state = OracleSubgoals(agent), agent.initial(2, torch.device("cpu"))
    for action in (0, 1, LEFT, 1, 1, LEFT):
        record = env.step(torch.tensor([action, action]))
        before = [(true_state(one), one.unwrapped.step_count) for one in env.envs]
        oracle(record, state, env.envs)
        assert [(true_state(one), one.unwrapped.step_count) for one in env.envs] == before
    assert oracle.subgoals == 4


def test_a_run_of_episodes_passes_the_oracle_what_it_needs():
    agent, given = debug_agent("env.id=hjepa/Dummy-v0"), []

    def oracle(record, state, envs):
        given.append((len(record.reward), state.carry.shape[0], len(envs)))
        return {0: torch.zeros(len(envs), agent.spec.levels[0].upper_dim)}

    run_episodes(agent, "hjepa/Dummy-v0", [1, 2], 1, oracle=oracle)
    assert set(given) == {(2, 2, 2)}


def test_the_top_level_has_no_oracle():
    with pytest.raises(ValueError, match="no level above"):
        OracleSubgoals(debug_agent(), level=1)


def test_only_the_ladder_imports_the_oracle():
    astray = []
    for path in (ROOT / "hjepa").rglob("*.py"):
        names = set()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        if names & SECRET and not (path.parent.name == "eval" and path.name in MAY_KNOW):
            astray.append(str(path.relative_to(ROOT)))
    assert astray == []


def test_training_never_loads_the_oracle():
    code = (
        "import sys, pkgutil, importlib, hjepa.train\n"
        "for one in pkgutil.iter_modules(hjepa.train.__path__):\n"
        "    importlib.import_module('hjepa.train.' + one.name)\n"
        f"assert 'hjepa.train.run' in sys.modules; print(sorted({SECRET!r} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
