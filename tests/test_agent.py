"""One decision of the agent: the order of things, what mode 1 may touch, levels, tokens, memory."""

import itertools
from dataclasses import replace

import pytest
import torch
from tiny_agent import CPU, calls, first_record, play, tiny_agent

from hjepa.agent import Agent
from hjepa.types import Observation, Task

THINKING = ("predict", "critic", "planner", "perceived", "predicted")
"""World model, cost and search: what reacting does without."""


def decided(agent: Agent, mode, rows: int = 3):
    """One decision on first records, with the names of what was called before and after the actor decided."""
    with calls(agent) as log:
        decision, _ = agent.act(first_record(rows), agent.initial(rows, CPU), mode)
    cut = log.index("decide")
    return decision, log[:cut], log[cut + 1 :]


def test_r04_no_gradient_passes_through_the_environment() -> None:
    agent = tiny_agent()
    for record, decision, state in play(agent, 3, 2, rows=2):
        assert not record.reward.requires_grad
        held = [decision.energies, state.carry, state.predicted, state.memory.keys, state.memory.values]
        held += [level.state for level in decision.levels] + [subgoal.latent for subgoal in state.subgoals]
        assert not any(tensor.requires_grad for tensor in held)


@pytest.mark.parametrize("levels", [1, 2, 3])
def test_r05_mode_1_touches_neither_world_model_nor_cost_before_it_acts(levels: int) -> None:
    decision, before, after = decided(tiny_agent(levels), 1)
    assert not [name for name in before if name.startswith(THINKING)]
    assert [name for name in before if name.startswith("policy")]
    # Afterwards: what was met is judged and remembered, and the next state predicted, to be surprised by.
    assert {"perceived", "critic 0", "write", "predict 0"} <= set(after)
    assert (decision.mode == 1).all() and decision.evaluations == 0


def test_r05_mode_2_does_plan_before_it_acts() -> None:
    _, before, _ = decided(tiny_agent(2), 2)
    assert {"planner 0", "planner 1", "predict 0", "predict 1", "predicted", "critic 0"} <= set(before)
    assert not [name for name in before if name.startswith("policy")]


def test_r05_a_broken_world_model_does_not_change_what_mode_1_does() -> None:
    agent = tiny_agent(2)
    reference = play(agent, 1, 1)[0][1].action
    for part in (*agent.world_models, *agent.critics):
        for name, parameter in part.named_parameters():
            if not name.startswith("encoder"):
                parameter.data.fill_(float("nan"))
    assert torch.equal(play(agent, 1, 1)[0][1].action, reference)


@pytest.mark.parametrize("levels", [1, 2, 3])
def test_r06_each_level_encodes_the_one_below(levels: int) -> None:
    agent = tiny_agent(levels)
    state, tokens = torch.randn(5, 16), torch.zeros(5, 0, 0)
    states = agent.lift(state, tokens)
    assert len(states) == levels and states[0] is state
    for level in range(1, levels):
        torch.testing.assert_close(states[level], agent.world_models[level].encoder(states[level - 1], tokens))
    _, decision, _ = play(agent, 1, 1)[0]
    assert [level.state.shape[-1] for level in decision.levels] == [16, 12, 8][:levels]


def test_r06_fewer_levels_may_act() -> None:
    agent = tiny_agent(3)
    record, state = first_record(), agent.initial(3, CPU)
    for levels in (1, 2, 3):
        with calls(agent) as log:
            decision, after = agent.act(record, state, 2, levels=levels)
        assert len(decision.levels) == levels and len(after.subgoals) == 3
        assert {name for name in log if name.startswith("planner")} == {f"planner {n}" for n in range(levels)}


def test_r07_strides_and_horizons_come_from_the_config() -> None:
    agent = tiny_agent(3, "levels.1.stride=3", "levels.2.stride=2", "levels.2.horizon=5", "levels.0.horizon=1")
    assert [level.stride for level in agent.spec.levels] == [1, 3, 2]
    assert [level.span for level in agent.spec.levels] == [1, 3, 6]
    _, decision, _ = play(agent, 1, 2)[0]
    assert [level.actions.shape[1] for level in decision.levels] == [1, 2, 5]
    assert [level.states.shape[1] for level in decision.levels] == [1, 2, 5]
    assert [level.subgoal.remaining.unique().item() for level in decision.levels[:2]] == [3, 6]


def test_r08_task_tokens_change_every_levels_state() -> None:
    torch.manual_seed(0)
    agent = tiny_agent(3, "configurator.kind=mission")
    # Modulation begins at the identity, so that untrained tokens say nothing: let them.
    for name, parameter in agent.named_parameters():
        if "film" in name.lower() or "modul" in name.lower():
            parameter.data.normal_(std=0.3)
    record = first_record(2)
    other = record.mission.clone()
    other[:, 0] = other[:, 0] + 1
    states = []
    for mission in (record.mission, other):
        task = agent.configure(mission)
        assert task.tokens.shape[1] > 0
        observation = Observation(record.image, mission)
        lowest, _ = agent.perceive(observation, record, agent.initial(2, CPU).carry, task)
        states.append(agent.lift(lowest, task.tokens))
    for one, another in zip(*states, strict=True):
        assert (one - another).abs().max() > 1e-4


@pytest.mark.parametrize("mode", [1, 2])
def test_r29_triples_are_written_in_both_modes_and_flagged_as_lived(mode: int) -> None:
    agent = tiny_agent(2)
    happened = play(agent, 12, mode, rows=2)
    # The longest time without a new episode.
    firsts = [number for number, (record, _, _) in enumerate(happened) if record.is_first.any()]
    begin, after = max(itertools.pairwise([*firsts, len(happened)]), key=lambda pair: pair[1] - pair[0])
    memory = happened[after - 1][2].memory
    assert happened[begin][0].is_first.all()
    for _, decision, state in happened[begin:after]:
        entry, found = agent.memory.at(memory, state.time)
        assert found.all() and not entry.imagined.any()
        torch.testing.assert_close(entry.state, decision.levels[0].state)
        torch.testing.assert_close(entry.critic, decision.levels[0].value)
        torch.testing.assert_close(entry.intrinsic, (decision.energies * decision.intrinsic_weights).sum(-1))
        assert torch.equal(entry.action, decision.action)
    assert memory.written.tolist() == [after - begin] * 2 and after - begin > 1


def test_r29_an_episode_begins_with_an_empty_memory() -> None:
    agent = tiny_agent(1)
    for record, _, state in play(agent, 40, 1, rows=2, epsilon=1.0):
        assert (state.memory.written[record.is_first] == 1).all()
        assert (state.time[record.is_first] == 0).all()
        assert torch.equal(state.memory.written, state.time + 1)


def test_r35_the_seven_steps_of_mode_2_in_order() -> None:
    """Perceive, propose, simulate, evaluate, plan, act, store (L22 section 3.1.2)."""
    agent = tiny_agent(2, "actor.warm_start=true")
    with calls(agent) as log:
        agent.act(first_record(), agent.initial(3, CPU), 2)
    first = {name: log.index(name) for name in set(log)}
    last = {name: len(log) - 1 - log[::-1].index(name) for name in set(log)}
    for level in (0, 1):
        steps = [f"encoder {level}" if level else "perception", f"policy {level}", f"predict {level}"]
        steps += ["decide", "write"]
        order = [first[name] for name in steps]
        assert order == sorted(order), (steps, log)
        # Simulated and evaluated inside the search, which ends with the plan.
        assert first[f"predict {level}"] < first["predicted"] or level == 0
        assert first[f"policy {level}"] < first[f"planner {level}"] < first["decide"]
        inside = log[last[f"policy {level}"] : first[f"planner {level}"]]
        assert {f"predict {level}", "predicted", f"critic {level}"} <= set(inside)
        assert inside.index(f"predict {level}") < inside.index("predicted")
        assert len(inside) - 1 - inside[::-1].index(f"critic {level}") > inside.index("predicted")
    assert first["configurator"] < first["perception"]
    assert first["planner 1"] < first["planner 0"] < first["decide"] < first["perceived"] < first["write"]


def test_r40_auto_plans_where_the_policy_is_unsure() -> None:
    always = play(tiny_agent(2, "actor.auto_entropy=0"), 2, "auto")
    never = play(tiny_agent(2, "actor.auto_entropy=1"), 2, "auto")
    assert all((decision.mode == 2).all() for _, decision, _ in always)
    assert all((decision.mode == 1).all() for _, decision, _ in never)


def test_r40_auto_decides_row_by_row_and_each_row_as_in_its_mode() -> None:
    agent = tiny_agent(1, "actor.auto_entropy=0.5")
    record, state = first_record(2), agent.initial(2, CPU)
    policy = agent.actor.policies[0].forward

    def surer(*arguments):
        logits, proposal = policy(*arguments)
        return logits + torch.tensor([[50.0, 0.0, 0.0], [0.0, 0.0, 0.0]]), proposal

    agent.actor.policies[0].forward = surer
    decision, _ = agent.act(record, state, "auto")
    assert decision.mode.tolist() == [1, 2]
    planned, _ = agent.act(record, state, 2)
    assert decision.action.tolist() == [0, planned.action[1].item()]
    assert (decision.levels[0].actions[0] == -1).all() and decision.levels[0].plan_energy[0].isnan()
    torch.testing.assert_close(decision.levels[0].plan_energy[1], planned.levels[0].plan_energy[1])


class Setting(torch.nn.Module):
    """Gives a task as another configurator does, with some fields changed."""

    def __init__(self, inner, **changed) -> None:
        super().__init__()
        self.inner, self.changed = inner, changed

    def forward(self, mission, top_state) -> Task:
        return replace(self.inner(mission, top_state), **self.changed)


def test_r43_the_configurators_weights_order_the_plans() -> None:
    """The same plans weigh differently: energy is linear in u and v."""
    agent = tiny_agent(1)
    (
        agent.critics[0].variance.fill_(1.0),
        agent.critics[0].updates.fill_(1.0),
        agent.critics[0].mean.fill_(2.0),
    )
    agent.world_models[0].energy_scale.fill_(1.0)
    agent.world_models[0].readout[-1].weight.data.normal_(std=0.3)
    inner = agent.configurator

    def plan_energy(drives: list[float], critic: float):
        weights = torch.tensor([drives]).expand(2, -1)
        agent.configurator = Setting(inner, intrinsic_weights=weights, critic_weights=torch.full((2, 1), critic))
        decision, _ = agent.act(first_record(2), agent.initial(2, CPU), 2)
        assert torch.equal(decision.intrinsic_weights, weights)
        return decision.levels[0].plan_energy

    nothing = plan_energy([0.0] * 5, 0.0)
    assert (nothing == 0).all()
    single = plan_energy([1.0, 2.0, 1.5, 1.0, 0.5], 3.0)
    torch.testing.assert_close(plan_energy([2.0, 4.0, 3.0, 2.0, 1.0], 6.0), 2 * single)
    assert ((plan_energy([0.0] * 5, 3.0) - single).abs() > 1e-4).all()


def test_r43_the_configurators_goal_reaches_the_top_levels_critic_only() -> None:
    agent = tiny_agent(2, "critic.kind=goal")
    goal, seen = torch.full((2, 12), 7.0), {0: [], 1: []}
    agent.configurator = Setting(agent.configurator, goal=goal, has_goal=torch.ones(2, dtype=torch.bool))
    for level, critic in enumerate(agent.critics):

        def forward(state, goal, has_goal, tokens, level=level, original=critic.forward):
            seen[level].append((goal, has_goal))
            return original(state, goal, has_goal, tokens)

        critic.forward = forward
    agent.act(first_record(2), agent.initial(2, CPU), 2)
    assert len(seen[0]) > 1 and len(seen[1]) > 1
    assert all((goal == 7.0).all() and has_goal.all() for goal, has_goal in seen[1])
    assert not any(has_goal.any() for _, has_goal in seen[0])


@pytest.mark.parametrize("levels", [1, 2])
def test_r43_a_goal_that_is_shown_reaches_the_critic_of_the_highest_acting_level(levels: int) -> None:
    agent = tiny_agent(2, "critic.kind=goal")
    record, seen = first_record(2), {0: [], 1: []}
    goal = agent.goal_state(record.observation) + 1
    lifted = agent.lift(goal, torch.zeros(2, 0, 0))
    for level, critic in enumerate(agent.critics):

        def forward(state, goal, has_goal, tokens, level=level, original=critic.forward):
            seen[level].append((goal, has_goal))
            return original(state, goal, has_goal, tokens)

        critic.forward = forward
    agent.act(record, agent.initial(2, CPU), 2, levels=levels, goal=goal)
    for level in range(levels):
        assert len(seen[level]) > 1
        for aim, has_goal in seen[level]:
            assert has_goal.all() == (level == levels - 1)
            rows = lifted[level].view(2, *([1] * (aim.dim() - 2)), -1)
            assert level < levels - 1 or torch.equal(aim, rows.expand_as(aim))


def test_r43_the_configurators_tokens_reach_every_part_that_they_modulate() -> None:
    agent = tiny_agent(2, "configurator.kind=mission")
    seen: dict[str, set[tuple[int, ...]]] = {}
    watched = {
        "perception": agent.perception,
        "encoder": agent.world_models[1].encoder,
        "predictor": agent.world_models[1].predictor,
        "critic": agent.critics[1],
    }
    for name, module in watched.items():
        module.register_forward_pre_hook(
            lambda module, arguments, name=name: seen.setdefault(name, set()).add(tuple(arguments[-1].shape[-2:]))
        )
    agent.act(first_record(2), agent.initial(2, CPU), 2)
    assert seen == {name: {(4, 32)} for name in watched}


def test_surprise_is_the_prediction_error_relative_to_its_mean() -> None:
    agent = tiny_agent(1)
    happened = play(agent, 3, 1, rows=2)
    assert (happened[0][1].surprise == 1).all()
    for (_, _, before), (_, decision, _) in itertools.pairwise(happened):
        error = (decision.levels[0].state - before.predicted).square().mean(-1)
        torch.testing.assert_close(decision.surprise, error / agent.surprise_mean)


def test_random_actions_at_epsilon_1_are_uniform() -> None:
    agent = tiny_agent(1)
    actions = torch.cat([decision.action for _, decision, _ in play(agent, 12, 1, rows=32, epsilon=1.0)])
    share = torch.bincount(actions, minlength=3) / len(actions)
    assert ((share - 1 / 3).abs() < 0.12).all()


def test_acting_twice_with_the_same_seeds_is_the_same() -> None:
    for mode in (1, 2):
        one, two = play(tiny_agent(2), 6, mode, epsilon=0.3), play(tiny_agent(2), 6, mode, epsilon=0.3)
        for (_, decision, state), (_, other, other_state) in zip(one, two, strict=True):
            assert torch.equal(decision.action, other.action)
            assert torch.equal(state.predicted, other_state.predicted)


def test_repeated_drives_are_told_apart_by_number_everywhere() -> None:
    drives = "intrinsic_cost.drives=[{kind: task}, {kind: novelty}, {kind: novelty}]"
    agent = tiny_agent(1, drives, "configurator.intrinsic_weights={novelty_2: 0.5, elliptical: 3.0}")
    assert agent.spec.drives == agent.intrinsic_cost.names == ("task", "novelty", "novelty_2")
    weights = agent.configure(torch.ones(1, 1, dtype=torch.int64)).intrinsic_weights
    torch.testing.assert_close(weights, torch.tensor([[10.0, 0.05, 0.5]]))
