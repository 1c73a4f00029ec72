"""The hierarchical actor: plan, subgoal, plan, action; when to plan anew; greedy and joint; injection."""

from dataclasses import replace

import pytest
import torch
from tiny_agent import CPU, WIDTHS, calls, first_record, play, tiny_agent

from hjepa.data.spans import spans
from hjepa.interfaces import Request
from hjepa.planning import spread
from hjepa.train.learning import Windows, calibrate
from hjepa.types import REPLAN_REASONS, Subgoal

ROWS = 4
SPANS = (1, 2, 6)


def quiet(rows: int, levels: int, **changed) -> Request:
    """Nothing that would make any level plan anew, in mode 2."""
    fields = {
        "mode": torch.full((rows,), 2),
        "is_first": torch.zeros(rows, dtype=torch.bool),
        "surprise": torch.ones(rows),
        "tried": torch.zeros(rows, 3, dtype=torch.int64),
        "futile": torch.zeros(rows, 3, dtype=torch.int64),
        "visited": torch.zeros(rows, 1, WIDTHS[0]),
        "remembered": torch.zeros(rows, 1, dtype=torch.bool),
        "injected": (None,) * levels,
    }
    return Request(**fields | changed)


def situation(agent, rows: int = ROWS):
    """States of every level, far and fresh subgoals for them, and the task."""
    torch.manual_seed(1)
    task = agent.configure(torch.ones(rows, 1, dtype=torch.int64))
    states = agent.lift(torch.randn(rows, 16), task.tokens)
    everywhere = torch.ones(rows, dtype=torch.bool)
    subgoals = [
        Subgoal(torch.full((rows, level.upper_dim), 9.0), torch.full((rows,), 5), everywhere)
        for level in agent.spec.levels
    ]
    return states, subgoals, task


def reasons_of(choice, level: int) -> list[str]:
    return [REPLAN_REASONS[number] for number in choice.reasons[level].tolist()]


@pytest.mark.parametrize("mode", [1, 2])
@pytest.mark.parametrize("levels", [1, 2, 3])
def test_r41_plan_to_subgoal_to_plan_to_action(levels: int, mode: int) -> None:
    agent = tiny_agent(levels)
    _, decision, _ = play(agent, 1, mode)[0]
    for level in range(levels - 1):
        upper, subgoal = decision.levels[level + 1], decision.levels[level].subgoal
        assert subgoal.active.all()
        assert (subgoal.remaining == SPANS[level + 1]).all()
        assert (decision.levels[level].reason == REPLAN_REASONS.index("first")).all()
        if mode == 2:
            torch.testing.assert_close(subgoal.latent, upper.states[:, 0])
        else:
            given = decision.levels[level + 1].subgoal
            policy = agent.actor.policies[level + 1]
            _, proposal = policy(upper.state, given.latent, given.active, torch.zeros(3, 0, 0))
            torch.testing.assert_close(subgoal.latent, proposal)
            assert (upper.actions == -1).all() and upper.states.isnan().all()
    assert not decision.levels[-1].subgoal.active.any()
    if mode == 2:
        assert torch.equal(decision.action, decision.levels[0].actions[:, 0])


@pytest.mark.parametrize("levels", [2, 3])
def test_r41_the_plan_below_pursues_the_subgoal(levels: int) -> None:
    """What level 0 does is the best for its own problem under the subgoal that it got, and depends on it."""
    agent = tiny_agent(levels, "actor.subgoal_weight=100.0")
    torch.manual_seed(0)
    agent.world_models[0].action_encoder.embedding.weight.data.normal_(std=5.0)
    states, subgoals, task = situation(agent, 16)
    request = quiet(16, levels, is_first=torch.ones(16, dtype=torch.bool))
    choice = agent.actor.decide(agent.world, states, tuple(subgoals), task, request)
    again = agent.actor.search(agent.world, 0, states[0], choice.subgoals[0], task)
    assert torch.equal(choice.action, again.actions[:, 0])
    other = Subgoal(-choice.subgoals[0].latent, choice.subgoals[0].remaining, choice.subgoals[0].active)
    assert (agent.actor.search(agent.world, 0, states[0], other, task).energy != again.energy).all()


def test_r41_a_subgoal_is_kept_while_nothing_happens() -> None:
    agent = tiny_agent(3)
    states, subgoals, task = situation(agent)
    with calls(agent) as log:
        choice = agent.actor.decide(agent.world, states, tuple(subgoals), task, quiet(ROWS, 3))
    assert reasons_of(choice, 0) == reasons_of(choice, 1) == ["kept"] * ROWS
    assert {name for name in log if name.startswith("planner")} == {"planner 0"}
    for level in (0, 1):
        assert torch.equal(choice.subgoals[level].latent, subgoals[level].latent)
        assert torch.equal(choice.subgoals[level].remaining, subgoals[level].remaining)
    assert choice.plans[1] is None and choice.plans[2] is None


def test_r41_each_reason_to_plan_anew_row_by_row() -> None:
    agent = tiny_agent(2)
    states, subgoals, task = situation(agent, 5)
    latent, remaining = subgoals[0].latent.clone(), torch.tensor([5, 0, 5, 5, 5])
    latent[2] = states[1][2] + 0.01
    request = quiet(5, 2, is_first=torch.arange(5) == 4, surprise=torch.tensor([1.0, 1.0, 1.0, 100.0, 1.0]))
    given = (Subgoal(latent, remaining, subgoals[0].active), subgoals[1])
    choice = agent.actor.decide(agent.world, states, given, task, request)
    assert reasons_of(choice, 0) == ["kept", "deadline", "reached", "surprise", "first"]
    assert choice.subgoals[0].remaining.tolist() == [5, 2, 2, 2, 2]
    plan = choice.plans[1]
    assert plan is not None
    assert (plan.actions[0] == -1).all() and plan.energy[0].isnan()
    assert torch.equal(choice.subgoals[0].latent[0], latent[0])
    torch.testing.assert_close(choice.subgoals[0].latent[1:], plan.states[1:, 0])
    assert choice.distances[0][2] < 0.3 < choice.distances[0][0]


def test_r41_a_new_subgoal_above_is_a_reason_below() -> None:
    agent = tiny_agent(3)
    states, subgoals, task = situation(agent)
    subgoals[1] = Subgoal(subgoals[1].latent, torch.tensor([5, 0, 5, 5]), subgoals[1].active)
    choice = agent.actor.decide(agent.world, states, tuple(subgoals), task, quiet(ROWS, 3))
    assert reasons_of(choice, 1) == ["kept", "deadline", "kept", "kept"]
    assert reasons_of(choice, 0) == ["kept", "above", "kept", "kept"]


def test_r41_without_a_subgoal_there_is_a_first_one() -> None:
    agent = tiny_agent(2)
    states, subgoals, task = situation(agent)
    none = Subgoal(subgoals[0].latent, subgoals[0].remaining, torch.tensor([True, False, True, True]))
    choice = agent.actor.decide(agent.world, states, (none, subgoals[1]), task, quiet(ROWS, 2))
    assert reasons_of(choice, 0) == ["kept", "first", "kept", "kept"]
    assert choice.distances[0].isnan().tolist() == [False, True, False, False]


@pytest.mark.parametrize("mode", [1, 2])
def test_an_action_tried_in_vain_gives_way_to_the_others(mode: int) -> None:
    """Taking the chosen action again and again in one situation runs through all actions, mode 1 and mode 2 alike."""
    agent = tiny_agent(1)
    agent.actor.energy_unit.fill_(1.0)
    states, subgoals, task = situation(agent)
    tried = torch.zeros(ROWS, 3, dtype=torch.int64)
    for _ in range(200):
        request = quiet(ROWS, 1, mode=torch.full((ROWS,), mode), tried=tried)
        action = agent.actor.decide(agent.world, states, tuple(subgoals), task, request).action
        tried = tried.scatter_add(1, action[:, None], torch.ones_like(action[:, None]))
    assert (tried > 0).all()
    still = tiny_agent(1, "actor.habituation=0.0")
    request = quiet(ROWS, 1, mode=torch.full((ROWS,), mode))
    first = still.actor.decide(still.world, states, tuple(subgoals), task, request).action
    later = still.actor.decide(still.world, states, tuple(subgoals), task, replace(request, tried=tried)).action
    assert torch.equal(first, later)


@pytest.mark.parametrize("slack", [1.0, 2.0])
def test_r41_subgoals_last_for_the_span_of_the_level_above(slack: float) -> None:
    overrides = ["actor.reach_tolerance=0.0", "actor.surprise_threshold=1e9", f"actor.deadline_slack={slack}"]
    agent = tiny_agent(3, *overrides)
    # Waiting only: the episode lasts 16 steps.
    agent.actor.policies[0].choice.bias.data = torch.tensor([0.0, 100.0, 0.0])
    happened = play(agent, 14, 1)
    for level, span in enumerate(SPANS[1:]):
        anew = [step for step, (_, decision, _) in enumerate(happened) if decision.levels[level].reason[0] > 0]
        assert anew == list(range(0, 14, round(span * slack)))


def test_r41_a_new_episode_drops_the_subgoals_of_the_last() -> None:
    agent = tiny_agent(2)
    happened = play(agent, 20, 1, rows=2, epsilon=1.0)
    firsts = 0
    for record, decision, _ in happened:
        first = REPLAN_REASONS.index("first")
        assert torch.equal(decision.levels[0].reason == first, record.is_first)
        firsts += int(record.is_first.sum())
    assert firsts > 2


# ------------------------------------------------------------------- coordination, satisfaction
def coordinated(coordination: str):
    """Subgoals that a coordination chooses, and the total energy of every first choice."""
    agent = tiny_agent(2, f"actor.coordination={coordination}", "actor.subgoal_weight=3.0")
    torch.manual_seed(0)
    for level in (0, 1):
        agent.world_models[level].energy_scale.fill_(1.0)
        agent.world_models[level].readout[-1].weight.data.normal_(std=0.2)
        agent.critics[level].variance.fill_(1.0), agent.critics[level].updates.fill_(1.0)
    states, subgoals, task = situation(agent, 32)
    nothing = Subgoal(subgoals[0].latent, subgoals[0].remaining, ~subgoals[0].active)
    top = Subgoal(subgoals[1].latent, subgoals[1].remaining, ~subgoals[1].active)
    choice = agent.actor.decide(agent.world, states, (nothing, top), task, quiet(32, 2))
    plan = agent.actor.search(agent.world, 1, states[1], top, task)
    totals, reached = [], []
    for code in range(4):
        action = agent.world_models[1].action_encoder.table()[code].expand(32, -1)
        state = agent.world_models[1].predict(states[1], action, torch.zeros(32, 0), task.tokens).state
        toward = Subgoal(state.detach(), nothing.remaining, ~nothing.active)
        totals.append(plan.first_energies[:, code] + agent.actor.search(agent.world, 0, states[0], toward, task).energy)
        reached.append(state.detach())
    gaps = torch.stack([(choice.subgoals[0].latent - state).abs().amax(1) for state in reached], 1)
    assert (gaps.amin(1) < 1e-5).all()
    return choice, gaps.argmin(1), torch.stack(totals, 1)


def test_r42_joint_is_never_worse_than_greedy_and_sometimes_better() -> None:
    _, greedy, totals = coordinated("greedy")
    _, joint, same_totals = coordinated("joint")
    torch.testing.assert_close(totals, same_totals)
    total = {
        "greedy": totals.gather(1, greedy[:, None])[:, 0],
        "joint": totals.gather(1, joint[:, None])[:, 0],
    }
    assert (total["joint"] <= total["greedy"] + 1e-5).all()
    torch.testing.assert_close(total["joint"], totals.amin(1))
    assert (total["joint"] < total["greedy"] - 1e-4).any(), "they never differ here"


def test_confirmed_hands_down_the_best_state_that_the_level_below_comes_to() -> None:
    agent = tiny_agent(2, "actor.coordination=confirmed", "actor.subgoal_weight=3.0")
    torch.manual_seed(0)
    agent.critics[1].variance.fill_(1.0), agent.critics[1].updates.fill_(1.0)
    states, subgoals, task = situation(agent, 32)
    top = Subgoal(subgoals[1].latent, subgoals[1].remaining, ~subgoals[1].active)
    nothing = Subgoal(subgoals[0].latent, subgoals[0].remaining, ~subgoals[0].active)
    choice = agent.actor.decide(agent.world, states, (nothing, top), task, quiet(32, 2))
    model = agent.world_models[1]
    problem = agent.actor.problem(agent.world, 1, states[1], top, task)
    plan = agent.actor.search(agent.world, 1, states[1], top, task)
    ends, totals = [], []
    for code in range(4):
        action = model.action_encoder.table()[code].expand(32, -1)
        reached = model.predict(states[1], action, torch.zeros(32, 0), task.tokens).state.detach()
        toward = Subgoal(reached, torch.ones_like(top.remaining), torch.ones_like(top.active))
        way = agent.actor.search(agent.world, 0, states[0], toward, task).states
        passed = model.encoder(way, spread(task.tokens, way))
        nearest = (passed - reached[:, None]).norm(dim=-1).argmin(1)
        ends.append(passed[torch.arange(32), nearest].detach())
        both = problem.ending(torch.stack((ends[-1], reached), 1)).detach()
        totals.append(plan.first_energies[:, code] + both[:, 0] - both[:, 1])
    best = torch.stack(totals, 1).argmin(1)
    assert best.unique().numel() > 1
    torch.testing.assert_close(choice.subgoals[0].latent, torch.stack(ends, 1)[torch.arange(32), best])
    # Where the episode has been, without an end, nothing more is handed down.
    agent.actor.habituation_above = 1e6
    agent.actor.displacement_lifted.fill_(20.0)
    visited, remembered = torch.zeros(32, 3, 16), torch.tensor([True, False, False]).expand(32, -1)
    been = quiet(32, 2, visited=visited, remembered=remembered)
    where = model.encoder(visited[:, 0], task.tokens)
    distance = torch.stack([(end - where).norm(dim=-1) for end in ends], 1)
    shy = agent.actor.decide(agent.world, states, (nothing, top), task, been)
    farthest = torch.stack(ends, 1)[torch.arange(32), distance.argmax(1)]
    torch.testing.assert_close(shy.subgoals[0].latent, farthest)
    forgotten = quiet(32, 2, visited=visited, remembered=torch.zeros_like(remembered))
    same = agent.actor.decide(agent.world, states, (nothing, top), task, forgotten)
    assert torch.equal(same.subgoals[0].latent, choice.subgoals[0].latent)
    greedy = tiny_agent(2, "actor.coordination=greedy")
    alone = greedy.actor.decide(greedy.world, states, (nothing, top), task, quiet(32, 2))
    assert choice.evaluations > alone.evaluations, "what is tried out below counts"


def test_the_same_injected_subgoal_is_no_reason_to_plan_anew() -> None:
    agent = tiny_agent(2)
    states, subgoals, task = situation(agent, 8)
    goal = torch.randn_like(states[1])
    request = quiet(8, 2)
    request = replace(request, injected=(None, goal))
    held = Subgoal(goal.clone(), subgoals[1].remaining, torch.ones_like(subgoals[1].active))
    held.latent[0] += 1
    choice = agent.actor.decide(agent.world, states, (subgoals[0], held), task, request)
    injected = REPLAN_REASONS.index("injected")
    assert (choice.reasons[1] == injected).tolist() == [True] + 7 * [False]
    torch.testing.assert_close(choice.subgoals[1].latent, goal)


@pytest.mark.parametrize("satisfaction", ["lifted", "own", "critic"])
def test_r42_satisfaction_is_measured_where_the_config_says(satisfaction: str) -> None:
    critic = ["critic.kind=quasimetric"] if satisfaction == "critic" else []
    agent = tiny_agent(2, f"actor.satisfaction={satisfaction}", "actor.subgoal_weight=2.0", *critic)
    agent.actor.displacement_lifted.fill_(4.0)
    agent.actor.displacement_own.fill_(8.0)
    states, subgoals, task = situation(agent)
    toward, away = subgoals[0], Subgoal(subgoals[0].latent, subgoals[0].remaining, ~subgoals[0].active)
    first = torch.eye(3)[:1].expand(ROWS, 1, -1)
    scores, ends = [], []
    for subgoal in (toward, away):
        made = agent.actor.problem(agent.world, 0, states[0], subgoal, task)
        node = made.step(made.root(), first)
        scores.append(made.score(node)[:, 0])
        ends.append(node)
    end, upper = ends[0].state[:, 0, 0], agent.world_models[1]
    if satisfaction == "lifted":
        distance = (upper.encoder(end, task.tokens) - toward.latent).norm(dim=-1) / 4
    elif satisfaction == "critic":
        every = torch.ones(ROWS, dtype=torch.bool)
        distance = agent.critics[1](upper.encoder(end, task.tokens), toward.latent, every, task.tokens)
    else:
        distance = (end - upper.lower(toward.latent)).norm(dim=-1) / 8
    discount = ends[0].log_discount[:, 0, 0].exp()
    torch.testing.assert_close(scores[0] - scores[1], 2 * discount * distance, rtol=1e-4, atol=1e-5)


def test_calibration_moves_toward_what_states_do() -> None:
    agent = tiny_agent(3)
    for _ in range(400):
        agent.actor.calibrate(torch.tensor([2.0, 3.0]), torch.tensor([4.0, 5.0]))
    torch.testing.assert_close(agent.actor.displacement_lifted, torch.tensor([2.0, 3.0]), atol=0.02, rtol=0)
    torch.testing.assert_close(agent.actor.displacement_own, torch.tensor([4.0, 5.0]), atol=0.02, rtol=0)


def test_steps_that_no_window_holds_leave_the_calibration_as_it_is() -> None:
    agent = tiny_agent(3)
    long = agent.spec.levels[2].span
    shapes = {level: torch.zeros(2, 4, spec.dim) for level, spec in enumerate(agent.spec.levels)}
    assert agent.spec.levels[1].span < 4 <= long
    no = torch.zeros(2, 4, dtype=torch.bool)
    steps = tuple(spans(no, no, no, torch.zeros(2, 4, 1), spec.span, 0.9) for spec in agent.spec.levels)
    states = tuple(torch.randn_like(shape) for shape in shapes.values())
    task = agent.configure(torch.zeros(8, 1, dtype=torch.int64))
    tokens = task.tokens.view(2, 4, *task.tokens.shape[1:])
    calibrate(agent, Windows(states, states, steps, torch.zeros(2, 4, dtype=torch.int64), task, tokens))
    assert agent.actor.displacement_lifted[0] != 1 and agent.actor.displacement_own[0] != 1
    assert agent.actor.displacement_lifted[1] == 1 and agent.actor.displacement_own[1] == 1


# --------------------------------------------------------------------------------------- injection
@pytest.mark.parametrize("mode", [1, 2])
@pytest.mark.parametrize("level", [0, 1, 2])
def test_r44_injected_subgoals_are_used_at_any_level_and_logged(level: int, mode: int) -> None:
    agent = tiny_agent(3, "actor.subgoal_weight=50.0")
    record, state = first_record(), agent.initial(3, CPU)
    injected = {level: torch.randn(3, agent.spec.levels[level].upper_dim)}
    decision, after = agent.act(record, state, mode, injected=injected)
    subgoal = decision.levels[level].subgoal
    assert torch.equal(subgoal.latent, injected[level]) and subgoal.active.all()
    assert (decision.levels[level].reason == REPLAN_REASONS.index("injected")).all()
    assert torch.equal(after.subgoals[level].latent, injected[level])
    if mode == 2:
        pursued = agent.actor.search(
            agent.world, level, decision.levels[level].state, subgoal, agent.configure(record.mission)
        )
        torch.testing.assert_close(decision.levels[level].plan_energy, pursued.energy)
        alone, _ = agent.act(record, state, mode)
        assert (decision.levels[level].plan_energy - alone.levels[level].plan_energy).abs().min() > 1e-3


def test_r44_the_lowest_level_alone_follows_an_oracle() -> None:
    agent = tiny_agent(2, "actor.subgoal_weight=50.0")
    record, state = first_record(), agent.initial(3, CPU)
    target = torch.randn(3, 12)
    decision, after = agent.act(record, state, 2, levels=1, injected={0: target})
    alone, left = agent.act(record, after, 2, levels=1)
    assert torch.equal(decision.levels[0].subgoal.latent, target)
    assert (decision.levels[0].plan_energy - alone.levels[0].plan_energy).abs().min() > 1e-3
    assert not left.subgoals[0].active.any(), "it outlives its injection"


# --------------------------------------------------------------------------------------- distillation
def test_the_policies_alone_learn_from_the_actors_loss() -> None:
    agent = tiny_agent(2).train()
    states, _, task = situation(agent, 16)
    states = tuple(state.detach().requires_grad_() for state in states)
    loss, info = agent.actor.loss(agent.world, states, task, ())
    loss.backward()
    assert {"divergence_0", "divergence_1", "subgoal_error_1"} <= set(info)
    assert all(state.grad is None for state in states)
    reached = {name.split(".")[0] for name, parameter in agent.named_parameters() if parameter.grad is not None}
    inside = {name.split(".")[1] for name, parameter in agent.named_parameters() if parameter.grad is not None}
    assert reached == {"actor"} and inside == {"policies"}


def test_warm_start_is_the_policy_unrolled_through_the_world_model() -> None:
    agent = tiny_agent(1, "actor.warm_start=true", "levels.0.horizon=3")
    states, subgoals, task = situation(agent)
    seen = []
    planner = agent.actor.planners[0].plan
    agent.actor.planners[0].plan = lambda problem, warm: seen.append(warm) or planner(problem, warm)
    agent.actor.search(agent.world, 0, states[0], subgoals[0], task)
    state = states[0]
    for step in range(3):
        logits, _ = agent.actor.policies[0](state, subgoals[0].latent, subgoals[0].active, task.tokens)
        torch.testing.assert_close(seen[0][:, step], logits.log_softmax(-1))
        action = agent.world_models[0].action_encoder.table()[logits.argmax(-1)]
        state = agent.world_models[0].predict(state, action, torch.zeros(ROWS, 0), task.tokens).state
