"""Episodes are counted right: checked against environments stepped by hand."""

import numpy as np
import pytest
import torch
from torch import nn

from hjepa.envs.dummy import FORWARD, OPTIMAL_RETURN, OPTIMAL_STEPS
from hjepa.envs.make import make_env
from hjepa.eval.rollout import RandomAgent, decision_latency, run_episodes
from hjepa.log.progress import LiveLine
from hjepa.log.trace import Recorder
from hjepa.types import Decision, LevelDecision, Subgoal

DUMMY, EMPTY = "hjepa/Dummy-v0", "MiniGrid-Empty-Random-5x5-v0"


class Scripted(nn.Module):
    """Acts by a cycle of actions that starts anew with each episode; its state is the step since."""

    def __init__(self, cycle: list[int], dim: int = 3) -> None:
        super().__init__()
        self.cycle, self.dim = torch.tensor(cycle), dim
        self.weight = nn.Parameter(torch.zeros(()))
        self.modes = []

    def initial(self, batch, device):
        return torch.zeros(batch, dtype=torch.int64, device=device)

    def act(self, record, state, mode=2, epsilon=0.0, levels=None, injected=None):
        self.modes.append((self.training, mode, levels, injected))
        time = torch.where(record.is_first, 0, state + 1)
        action = self.cycle[time % len(self.cycle)]
        rows = len(action)
        latent = time[:, None].float().expand(rows, self.dim)
        nothing = torch.full((rows,), float("nan"))
        subgoal = Subgoal(latent, torch.zeros_like(time), torch.ones_like(record.is_first))
        level = LevelDecision(
            latent,
            subgoal,
            nothing,
            torch.ones_like(time),
            time[:, None],
            latent[:, None],
            nothing,
            nothing,
        )
        energies = -record.reward[:, None]
        one = torch.ones_like(energies)
        evaluations = torch.tensor(3 * rows)
        decision = Decision(action, torch.full_like(time, 2), (level, level), energies, one, one[:, 0], evaluations)
        return decision, time


def by_hand(env_id, seed, cycle):
    env = make_env(env_id)
    env.reset(seed=seed)
    total, steps, over = 0.0, 0, False
    while not over:
        _, reward, terminated, truncated, _ = env.step(cycle[steps % len(cycle)])
        total, steps, over = total + float(reward), steps + 1, terminated or truncated
    env.close()
    return total, steps


@pytest.mark.parametrize("num_envs", [1, 3, 16])
def test_each_seed_is_played_once_whatever_the_batch(num_envs):
    seeds = [5, 6, 7, 8, 9, 10, 11]
    cycle = [2, 2, 1, 2, 2, 0, 2]
    episodes = run_episodes(Scripted(cycle), EMPTY, seeds, 2, num_envs=num_envs)
    expected = [by_hand(EMPTY, seed, cycle) for seed in seeds]
    assert episodes.seeds.tolist() == seeds
    assert episodes.returns == pytest.approx([one[0] for one in expected], abs=1e-6)
    assert episodes.lengths.tolist() == [one[1] for one in expected]
    assert 0 < episodes.success.sum() < len(seeds)
    assert episodes.evaluations == 3.0


def test_a_live_line_says_how_many_episodes_are_over(capsys, monkeypatch):
    monkeypatch.setattr("hjepa.log.progress.PLAIN_SECONDS", 0.0)
    with LiveLine(3) as line:
        run_episodes(Scripted([FORWARD]), DUMMY, [1, 2, 3], 1, num_envs=2, line=line)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].split() == ["0/3", "episodes", "over"]
    # Two rounds: two rows play an episode each, then one of them the third.
    assert "2/3 episodes over  0:00 left" in lines
    assert lines[-1] == "3/3 episodes over  0:00 left"


def test_the_optimum_of_the_dummy():
    episodes = run_episodes(Scripted([FORWARD]), DUMMY, [1, 2, 3], 1, num_envs=2)
    assert episodes.success.all()
    assert episodes.returns == pytest.approx([OPTIMAL_RETURN] * 3)
    assert episodes.lengths.tolist() == [OPTIMAL_STEPS] * 3


def test_a_time_out_is_no_success():
    episodes = run_episodes(Scripted([1]), DUMMY, [1, 2], 1)
    assert not episodes.success.any()
    assert (episodes.lengths == 16).all()


def test_evaluating_leaves_a_training_run_as_it_was():
    agent = Scripted([FORWARD])
    agent.train()
    torch.manual_seed(3)
    before = torch.get_rng_state()
    run_episodes(agent, DUMMY, [1], "auto", levels=1)
    run_episodes(RandomAgent(3), DUMMY, [1, 2], 1)
    assert torch.equal(torch.get_rng_state(), before)
    assert agent.training
    assert agent.modes[0] == (False, "auto", 1, None)


def test_the_random_agent_replays_by_its_seeds():
    first, second = (run_episodes(RandomAgent(7), EMPTY, [3, 4, 5], 1) for _ in range(2))
    assert np.array_equal(first.lengths, second.lengths)
    assert first.evaluations == 0.0


def test_an_oracle_sees_the_record_and_its_subgoals_are_passed_on():
    agent = Scripted([FORWARD])
    run_episodes(agent, DUMMY, [1], 2, injected=lambda record: {0: record.reward[:, None]})
    assert agent.modes[0][3][0].shape == (1, 1)


def test_no_seed_is_an_error():
    with pytest.raises(ValueError, match="seed"):
        run_episodes(RandomAgent(3), DUMMY, [], 1)


def test_latency_is_of_one_environment_and_skips_the_warm_up():
    agent = Scripted([FORWARD])
    assert decision_latency(agent, DUMMY, 1, 2, decisions=5, warm_up=2).shape == (5,)
    assert len(agent.modes) == 7


def test_traces_hold_whole_episodes_and_no_more_than_asked():
    cycle = [2, 2, 1, 2, 2, 0, 2]
    recorder = Recorder(EMPTY, limit=3)
    seeds = [5, 6, 7, 8, 9]
    episodes = run_episodes(Scripted(cycle), EMPTY, seeds, 2, num_envs=2, recorder=recorder)
    assert len(recorder.traces) == 3
    for trace in recorder.traces:
        number = seeds.index(trace.seed)
        assert trace.length == episodes.lengths[number]
        assert float(trace.record.reward.sum()) == pytest.approx(episodes.returns[number])
        assert trace.success == episodes.success[number]
        assert trace.record.is_first.tolist() == [True] + [False] * trace.length
        assert trace.record.previous_action[1:].tolist() == trace.action[:-1].tolist()
        assert trace.levels[0].subgoal.latent[:, 0].tolist() == list(range(trace.length + 1))
        assert trace.energies[:, 0].tolist() == (-trace.record.reward).tolist()


def test_more_traces_than_episodes_gives_each_once():
    recorder = Recorder(DUMMY, limit=10)
    run_episodes(Scripted([FORWARD, 1, FORWARD]), DUMMY, [1, 2, 3], 2, num_envs=2, recorder=recorder)
    assert sorted(trace.seed for trace in recorder.traces) == [1, 2, 3]
