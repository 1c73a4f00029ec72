"""Goal reaching: ways are as short as the walk allows and no shorter, and a near goal is its own subgoal."""

import json
import shutil
from pathlib import Path
from unittest.mock import MagicMock

import pytest
import torch

from experiments.goal_reaching import run
from experiments.goal_reaching.learn import Say, imagined
from experiments.goal_reaching.results import against, outcome, publish, rate, table
from experiments.goal_reaching.run import chosen, options
from experiments.goal_reaching.tasks import BINS, Games, OracleWay, make_tasks, put, way_to
from experiments.goal_reaching.views import look, wander
from experiments.goal_reaching.ways import FARTHEST, WALKS, Ways, fewest_steps, walk
from hjepa.build import build_agent
from hjepa.config import ConfigError, load
from hjepa.envs.full_view import MULTI_ROOM_ID
from hjepa.envs.make import env_spec
from hjepa.envs.seeds import held_out_seed
from hjepa.envs.vector import VectorEnv
from hjepa.eval.shortest_path import CLOSED, OPEN, TOGGLE
from hjepa.types import Observation


def test_fewest_steps_go_along_edges_and_only_forth() -> None:
    """A ring of five views that is walked one way, and a sixth that nothing leads out of."""
    edges = torch.tensor([[0, 1, 2, 3, 4, 2], [1, 2, 3, 4, 0, 5]])
    steps = fewest_steps(edges, 6)
    ring = [[(end - begin) % 5 for end in range(5)] for begin in range(5)]
    assert steps[:5, :5].tolist() == ring
    assert steps[:, 5].tolist() == [3, 2, 1, 5, 4, 0]
    assert steps[5, :5].tolist() == [FARTHEST + 1] * 5


def test_pieces_of_a_walk_are_put_together_within_an_episode_alone() -> None:
    """0 1 2 3 1 4: from 0 to 4 it took five steps, and two will do. The next episode comes to the same places anew;
    the third is cut short by the end of the data."""
    place = torch.tensor([[10, 11, 12, 13, 11, 14, 10, 14, 10, 11]])
    first, cut = torch.zeros_like(place, dtype=torch.bool), torch.zeros_like(place, dtype=torch.bool)
    first[0, [0, 6, 8]] = True
    cut[0, [5, 7]] = True
    ways = Ways(place, torch.zeros_like(place), first, cut, 1)
    assert [len(walk.count) for walk in ways.walks] == [5, 2]
    row, begin, end, steps = ways.pairs(4096, torch.Generator().manual_seed(0))
    found = {
        (int(place[r, b]), int(place[r, e]), bool(b >= 6)): int(s)
        for r, b, e, s in zip(row, begin, end, steps, strict=True)
    }
    assert found[10, 14, False] == 2
    assert found[10, 14, True] == 1
    assert found[12, 11, False] == 2
    assert (14, 10, False) not in found
    assert (14, 10, True) not in found
    assert bool(((begin >= 6) == (end >= 6)).all())
    # Of a place that was come to twice either record may stand for it, and both do.
    assert set(end[(begin == 2) & (steps == 2)].tolist()) == {1, 4}


def test_every_record_of_a_place_is_drawn_for_it_and_for_no_other() -> None:
    place = torch.tensor([5, 3, 5, 7, 3, 5])
    own = walk(0, 100, place, torch.zeros_like(place), 1)
    assert own.steps.shape == (3, 3) and own.count.tolist() == [2, 3, 1]
    drawn = own.draw(torch.arange(3).repeat_interleave(50), torch.Generator().manual_seed(0)).view(3, 50)
    assert [set(each.tolist()) for each in drawn] == [{101, 104}, {100, 102, 105}, {103}]


def test_what_actions_come_to_is_looked_up_where_each_was_tried() -> None:
    """On a line of three places: 0 stays, 1 goes ahead if a door in the middle is open, which it is not at first."""
    place = torch.tensor([7, 7, 8, 8, 9, 8, 7])
    action = torch.tensor([0, 1, 1, 1, 2, 2, -1])
    own = walk(3, 50, place, action, 3)
    nowhere = [-1, -1, -1]
    assert own.after.tolist() == [[0, 1, -1], [-1, -1, 0], [-1, -1, 1], nowhere]
    ways = Ways(place[None], action[None], torch.arange(7)[None] == 0, torch.arange(7)[None] == 6, 3)
    tries = ways.tries(3200, 2, torch.Generator().manual_seed(0))
    steps = {}
    for row in range(len(tries.row)):
        begin, goal = int(tries.begin[row]), int(place[tries.goal[row]])
        for done in (1, 2):
            if tries.known[row, done - 1]:
                key = (int(place[begin]), *tries.action[row, :done].tolist(), goal)
                steps.setdefault(key, set()).add(int(tries.steps[row, done - 1]))
    # Never done in this order, and known all the same; what was walked is known though the door was shut and then open.
    assert steps[7, 0, 0, 9] == {2} and steps[7, 1, 2, 9] == {2} and steps[9, 2, 2, 7] == {0}
    assert steps[8, 1, 1, 9] == {0} and steps[8, 1, 8] == {0, 1}
    assert (8, 0, 8) not in steps and (7, 2, 7) not in steps and (7, 1, 0, 8) not in steps


def test_the_critic_has_a_say_by_pairs_that_show_one_grid_where_they_begin_and_one_where_they_end() -> None:
    config = load("experiments/goal_reaching_doors/config.yaml")
    views = look(config, 2 * 4001, 1, 2)
    ways = Ways(views.place, views.action, views.is_first, views.truncated, 4)
    row, begin, end, steps = ways.shown(views.grid, 1024, torch.Generator().manual_seed(0))
    assert len(row) > 500 and bool((begin != end).any())
    for own in range(2):
        walk = ways.walks[own]
        at, to = begin[row == own], end[row == own]
        # Sixteen times or so a walk is drawn, each time with 32 pairs.
        assert len(views.grid[own, at].unique()) <= WALKS < len(at)
        assert torch.equal(walk.steps[walk.place[at], walk.place[to]].float(), steps[row == own])
    agent = build_agent(config, env_spec(config.env.id))
    loss, info = Say(views, ways, 1.0).loss(agent, torch.Generator().manual_seed(0))
    loss.backward()
    assert info["error"] > 0 and agent.perception.context is not None
    # All that perception makes of a view is told, and so is what compares it.
    for part in (agent.perception, agent.critics[0]):
        silent = {name for name, each in part.named_parameters() if each.grad is None or not bool(each.grad.any())}
        # What is added to both embeddings alike makes no difference.
        assert silent <= {"body.6.bias"}


def test_views_that_are_kept_small_are_what_was_seen() -> None:
    config = load("experiments/goal_reaching_doors/config.yaml")
    views, seen = look(config, 400, 1, 2), [record.image for record in wander(config, 400, 1, 2)]
    row, at = torch.arange(2).repeat_interleave(200), torch.arange(200).repeat(2)
    assert torch.equal(views.images(row, at), torch.stack(seen, 1).flatten(0, 1))
    assert len(views.grids) < 100


def test_a_run_of_two_levels_can_be_given_a_third(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It goes on after its last stage: what is learned of two levels comes first, and then the third alone."""
    learned: list[str] = []
    for name in ("look", "perceive", "Ways", "learn_lowest", "learn_stubbornness", "learn_upper", "learn_critic"):
        monkeypatch.setattr(run, name, lambda *given, name=name: learned.append(name) or MagicMock())
    of_two = ["learn_lowest", "learn_stubbornness", "learn_upper", "learn_critic", "learn_critic"]
    for levels, expected in (("2", of_two), ("3", ["learn_upper", "learn_critic"]), ("3", [])):
        given = options(Path("study")).parse_args(["--levels", levels])
        run.trained(Path("experiments/goal_reaching/config.yaml"), tmp_path, given)
        assert [name for name in learned if name.startswith("learn")] == expected
        learned.clear()


@pytest.mark.parametrize("level", [0, 1, 2])
def test_predictions_are_of_the_states_that_actions_come_to(level: int) -> None:
    """As many as the level below rolls out in a step of the level, and the level's own; each as if it were alone."""
    config = load("experiments/goal_reaching/config.yaml")
    torch.manual_seed(0)
    agent = build_agent(config, env_spec(config.env.id)).eval()
    length = (5, 5, 15)[level]
    generator = torch.Generator().manual_seed(0)
    state = torch.randn(3, agent.spec.levels[0].dim, generator=generator)
    action = torch.randint(3, (3, length), generator=generator)
    predicted, ends = imagined(agent, state, action, level)
    assert ends == ([1, 2, 3, 4, 5], [1, 2, 3, 4, 5, 5], [5, 10, 15, 15])[level]
    assert [len(each) for each in predicted] == [3] * len(ends)
    # What is done later does not change what comes of what was done before.
    other = action.clone()
    other[:, -1] = (action[:, -1] + 1) % 3
    again, _ = imagined(agent, state, other, level)
    same = [torch.allclose(one, two, atol=1e-5) for one, two in zip(predicted, again, strict=True)]
    assert same == [end < length for end in ends]


@pytest.mark.parametrize(("reach", "handed_down"), [(1.0, True), (0.0, False)])
def test_a_goal_within_reach_is_handed_down_itself(reach: float, handed_down: bool) -> None:
    config = load("experiments/goal_reaching/config.yaml", [f"actor.goal_reach={reach}", "levels.0.planner.width=2"])
    torch.manual_seed(0)
    env = VectorEnv(config.env.id, 2, lambda row, episode: held_out_seed(row, episode))
    record = env.step(torch.zeros(2, dtype=torch.int64))
    agent = build_agent(config, env.spec).eval()
    env.close()
    own = agent.goal_state(Observation(record.image, record.mission))
    # The first is already where it shall be; the second shall be where the first is, in another layout.
    goal = own[[0, 0]]
    decision, _ = agent.act(record, agent.initial(2, own.device), 2, 0.0, 2, None, goal)
    same = (decision.levels[0].subgoal.latent - goal).abs().amax(1) < 1e-6
    assert same.tolist() == [handed_down, False]


def test_a_task_behind_doors_is_put_together_from_states_that_are_really_come_to() -> None:
    """The goal's view shows the doors as a shortest way leaves them, and looking at it changes nothing."""
    tasks = make_tasks(MULTI_ROOM_ID, 2)
    for (low, high), own in zip(BINS, tasks, strict=True):
        for task in own:
            games, action = Games(MULTI_ROOM_ID, [task]), torch.full((1,), -1)
            before, goal = games.record(action).image, games.goals().image[0]
            assert torch.equal(games.record(action).image, before)
            assert low <= task.optimal < high and games.state(0) == task.start
            assert set(task.start[3]) == {CLOSED}
            way = way_to(games.episodes[0].maze, task.goal[0])
            for step in way.actions(task.start, task.optimal) or []:
                assert not games.success[0]
                games.act(action.fill_(3 if step == TOGGLE else step))
            assert games.success[0] and games.taken[0] == task.optimal
            cell, _, things, doors = games.state(0)
            assert (cell, things, doors) == (task.goal[0], *task.goal[2:])
            assert torch.equal(torch.from_numpy(games.view(0, task.goal)), goal)
    assert any(OPEN in task.goal[3] for task in tasks[-1])


def test_the_oracle_goes_a_step_of_the_level_at_a_time_and_ends_at_the_goal() -> None:
    (task,) = make_tasks(MULTI_ROOM_ID, 1)[0]
    games = Games(MULTI_ROOM_ID, [task])
    oracle = OracleWay(games, 5)
    for steps in (*range(task.optimal, 0, -5), 0):
        target = oracle.ahead(0, games.state(0))
        assert oracle.ways[0].steps(target) == max(steps - 5, 0) or target == task.goal
        put(games.envs[0], games.episodes[0].maze, target)
    assert target == task.goal


def played(far: list[bool], levels: int = 1) -> dict[str, object]:
    """A row of results.json, all alike but for its far bin."""
    return {
        "success": [[True] * len(far)] * 2 + [far],
        "cost": "critic",
        "levels": levels,
        "oracle": False,
        "evaluations": 8.0,
        "commit": "c0ffee",
    }


def test_rows_of_several_seeds_are_pooled_and_compared_where_both_were_played() -> None:
    flat, two = "flat, CEM, critic", "2 levels, critic"
    kept = {
        0: {flat: played([False, False, True, True]), two: played([True, True, True, False], 2)},
        1: {flat: played([True] * 4), two: played([True] * 4, 2)},
        2: {two: played([True] * 4, 2)},
    }
    outcomes = [outcome(flat, kept), outcome(two, kept)]
    assert rate([success[-1] for success in outcomes[1].success.values()]) == "92% (65% to 99%): 75, 100, 100"
    assert against(outcomes[1], outcomes).startswith("+2 -1, p = ")
    assert against(outcomes[0], outcomes) == ""
    assert table(outcomes).count("\n") == 4


def test_a_seed_that_is_still_learning_is_left_out(tmp_path: Path) -> None:
    row = played([True, False])
    for seed in (0, 1):
        (tmp_path / f"seed_{seed}").mkdir()
    (tmp_path / "seed_0" / "results.json").write_text(json.dumps({"2 levels, critic": row}))
    publish(tmp_path, None, ["flat, CEM, critic", "2 levels, critic"], "command")
    assert (tmp_path / "table.md").read_text() == table([outcome("2 levels, critic", {0: {"2 levels, critic": row}})])


def test_seeds_published_before_stay_and_a_seed_played_anew_takes_its_place(tmp_path: Path) -> None:
    name = "2 levels, critic"
    study, runs = tmp_path / "study", tmp_path / "runs"
    study.mkdir()
    (study / "README.md").write_text("<!-- results -->\n<!-- end of results -->\n")

    def publish_seed(seed: int, far: list[bool]) -> list[tuple[int, list[bool]]]:
        folder = runs / f"seed_{seed}"
        folder.mkdir(parents=True)
        (folder / "results.json").write_text(json.dumps({name: played(far) | {"name": name}}))
        publish(runs, study, [name], "command")
        shutil.rmtree(runs)
        rows = json.loads((study / "results.json").read_text())["rows"]
        return [(row["seed"], row["success"][-1]) for row in rows]

    publish_seed(1, [True, False])
    assert publish_seed(0, [True, True]) == [(0, [True, True]), (1, [True, False])]
    assert publish_seed(1, [False, False]) == [(0, [True, True]), (1, [False, False])]
    assert "50% (15% to 85%): 100, 0" in (study / "README.md").read_text()


@pytest.mark.parametrize("say", ["-0.1", "nan", "inf"])
def test_a_weight_that_is_none_is_refused_before_anything_is_written(say: str, tmp_path: Path) -> None:
    given = options(Path("study")).parse_args([f"--say={say}"])
    with pytest.raises(ConfigError, match="--say: must be 0 or more"):
        run.trained(Path("experiments/goal_reaching/config.yaml"), tmp_path / "run", given)
    assert not (tmp_path / "run").exists()


def test_a_row_of_levels_that_are_not_learned_is_refused() -> None:
    given = options(Path("experiments/goal_reaching")).parse_args(["--levels", "2", "--rows", "3 levels, critic"])
    with pytest.raises(ConfigError, match="there is no '3 levels, critic'"):
        chosen(given)
    given.rows = "2 levels, critic"
    assert [row.name for row in chosen(given)] == ["2 levels, critic"]
