"""What planners, policies and the actor promise."""

from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor, nn

from hjepa.conformance.cases import ROWS, Bench, company, expect
from hjepa.conformance.core import promised_by, require, require_close, require_shape
from hjepa.conformance.modelling import require_loss
from hjepa.conformance.probes import a_request, a_task, decide, level_states, no_subgoals
from hjepa.conformance.table import CHOICES, HORIZON, STATES, TableProblem
from hjepa.interfaces import Actor, Planner, Policy, World
from hjepa.types import REPLAN_REASONS, Plan, Walked


# ------------------------------------------------------------------- planner
def solve(bench: Bench, problem: TableProblem, warm_start: Tensor | None = None) -> Plan:
    """A plan for a table, under a seed; without gradient, as the actor asks for it."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        return expect(bench.module, Planner).plan(problem, warm_start)


def require_consistent(problem: TableProblem, plan: Plan) -> None:
    """Raise BrokenPromiseError unless a plan is what it says: its energy, states and first energies."""
    require_shape("actions", plan.actions, ROWS, HORIZON)
    require(plan.actions.dtype == torch.int64, f"actions are {plan.actions.dtype}, not int64")
    require((plan.actions >= 0).all() and (plan.actions < CHOICES).all(), "an action is not a choice of the table")
    energy, states = problem.replay(plan.actions[:, None])
    require_close("energy, and the score of the plan played back,", plan.energy, energy[:, 0])
    require_shape("states", plan.states, ROWS, HORIZON, STATES)
    require_close("states, and those of the plan played back,", plan.states, states[:, 0])
    require_shape("first_energies", plan.first_energies, ROWS, CHOICES)
    own = plan.first_energies.gather(1, plan.actions[:, :1])[:, 0]
    require_close("first_energies of the chosen first choice, and energy,", own, plan.energy)
    require((plan.first_energies >= plan.energy[:, None] - 1e-5).all(), "it tried a better plan than it returns")


@promised_by("planner")
def plan_is_what_it_says(bench: Bench) -> None:
    """Energy, states and first energies are those of the plan, which is the best it tried."""
    problem = TableProblem(0, ROWS)
    plan = solve(bench, problem)
    require_consistent(problem, plan)
    require(not plan.energy.requires_grad, "the plan carries a gradient")
    require(
        plan.evaluations.dim() == 0 and int(plan.evaluations) > 0,
        "evaluations does not count the predictions",
    )


@promised_by("planner")
def first_energies_are_possible(bench: Bench) -> None:
    """No first choice is said to be better than the best plan that begins with it."""
    problem = TableProblem(1, ROWS)
    plans = problem.every_plan()
    energies, _ = problem.replay(plans)
    plan = solve(bench, problem)
    for choice in range(CHOICES):
        best = energies.masked_fill(plans[:, :, 0] != choice, float("inf")).amin(1)
        require((plan.first_energies[:, choice] >= best - 1e-4).all(), "a first energy is below any plan's")


@promised_by("planner")
def finds_the_obvious(bench: Bench) -> None:
    """Where a choice costs the same in every state, the plan repeats the cheapest one."""
    plan = solve(bench, TableProblem(2, ROWS, easy=True))
    problem = TableProblem(2, ROWS, easy=True)
    best = problem.replay(problem.every_plan())[0].amin(1)
    require_close("energy of the plan and of the optimum", plan.energy, best, 1e-3)


@promised_by("planner")
def stays_in_support(bench: Bench) -> None:
    """A choice whose prior is -inf is never taken, and was never tried."""
    allowed = torch.tensor([False, True, False, True])
    plan = solve(bench, TableProblem(3, ROWS, allowed=allowed))
    require(allowed[plan.actions].all(), "it takes a choice that is out of support")
    require(plan.first_energies[:, ~allowed].isinf().all(), "it tried a first choice that is out of support")
    only = torch.arange(CHOICES) == 2
    problem = TableProblem(4, ROWS, allowed=only)
    plan = solve(bench, problem)
    require((plan.actions == 2).all(), "where one choice is in support, it takes another")
    require_consistent(problem, plan)


@promised_by("planner")
def takes_a_warm_start(bench: Bench) -> None:
    """Log-probabilities to begin from are accepted, and the plan stays what it says."""
    problem = TableProblem(5, ROWS)
    start = torch.randn(ROWS, HORIZON, CHOICES).log_softmax(-1)
    require_consistent(problem, solve(bench, problem, start))


# ------------------------------------------------------------------- policy
def a_plan(bench: Bench, best: Tensor) -> Plan:
    """A plan that begins with `best` [B]; one other first choice was not tried."""
    level = bench.level
    energies = torch.ones(len(best), level.num_actions).scatter(1, best[:, None], 0.0)
    energies = energies.scatter(1, (best[:, None] + 1) % level.num_actions, float("inf"))
    states = torch.zeros(len(best), level.horizon, level.dim)
    actions = best[:, None].expand(-1, level.horizon)
    return Plan(actions, states, torch.zeros(len(best)), energies, torch.tensor(1))


@promised_by("policy")
def logits_and_next_state(bench: Bench) -> None:
    """Logits over the level's choices and a state of the level, in any batch shape."""
    module, sample, level = expect(bench.module, Policy).eval(), bench.sample(), bench.level
    subgoal = sample.subgoal[:, None].expand(-1, 13, -1)
    has_subgoal = sample.has_goal[:, None].expand(-1, 13)
    logits, state = module(sample.states, subgoal, has_subgoal, sample.tokens)
    require_shape("logits", logits, ROWS, 13, level.num_actions)
    require_shape("next state", state, ROWS, 13, level.dim)
    one, _ = module(sample.states[:, 0], subgoal[:, 0], has_subgoal[:, 0], sample.tokens[:, 0])
    require_close("a state alone and in its window", one, logits[:, 0])


@promised_by("policy")
def an_absent_subgoal_is_not_looked_at(bench: Bench) -> None:
    """Where `has_subgoal` is false, what stands in `subgoal` changes nothing."""
    module, sample = expect(bench.module, Policy).eval(), bench.sample()
    none = torch.zeros(ROWS, dtype=torch.bool)
    calls = [
        module(sample.states[:, 0], goal, none, sample.tokens[:, 0]) for goal in (sample.subgoal, sample.subgoal + 3)
    ]
    for left, right in zip(*calls, strict=True):
        require_close("outputs with different absent subgoals", left, right)


@promised_by("policy")
def distillation_imitates_the_plan(bench: Bench) -> None:
    """Training on a plan makes its first choice the likeliest one; an untried choice (+inf) does no harm."""
    module, sample = expect(bench.module, Policy).train(), bench.sample()
    plan = a_plan(bench, torch.arange(ROWS) % bench.level.num_actions)
    arguments = (sample.states[:, 0], sample.subgoal, sample.has_goal, sample.tokens[:, 0])
    optimiser = torch.optim.Adam(module.parameters(), 1e-2)
    first = last = float("nan")
    for step in range(40):
        loss = require_loss(module.loss(*arguments, plan))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        last = float(loss.detach())
        first = last if step == 0 else first
    require(last < first, f"the loss went from {first:.3g} to {last:.3g} in 40 steps")
    logits, _ = module.eval()(*arguments)
    require((logits.argmax(-1) == plan.actions[:, 0]).all(), "the policy does not come to choose as the plan does")


# ------------------------------------------------------------------- actor
class Forbidden(nn.Module):
    """A module that must not be touched."""

    def __getattr__(self, name: str) -> object:
        raise AssertionError(f"mode 1 uses the world model or the cost before it acts ({name})")


@promised_by("actor")
def mode_1_reacts(bench: Bench) -> None:
    """Mode 1 touches neither world model, critic nor cost (L22 section 3.1.1)."""
    count, forbidden = len(bench.agent.levels), cast(Any, Forbidden())
    world = World([forbidden] * count, [forbidden] * count, forbidden)
    choice = decide(bench, expect(bench.module, Actor), bench.sample(), 1, world)
    require((choice.mode == 1).all(), "it does not say that it acted in mode 1")
    require(int(choice.evaluations) == 0, "it counts predictions in mode 1")


@promised_by("actor")
def decisions_are_complete(bench: Bench) -> None:
    """An environment action a row; a subgoal, distance, reason and plan entry for every level."""
    count = len(bench.agent.levels)
    for mode in (1, 2):
        choice = decide(bench, expect(bench.module, Actor), bench.sample(), mode, None)
        require_shape("action", choice.action, ROWS)
        inside = (choice.action >= 0) & (choice.action < bench.agent.env.num_actions)
        require(choice.action.dtype == torch.int64 and inside.all(), "an action is not one of the environment's")
        require((choice.mode == mode).all(), f"asked for mode {mode}, it says {choice.mode.unique().tolist()}")
        for name in ("subgoals", "distances", "reasons", "plans"):
            require(len(getattr(choice, name)) == count, f"{name} has not one entry for each of {count} levels")
        require(not choice.subgoals[-1].active.any(), "the top level is under a subgoal")
        for level, subgoal in enumerate(choice.subgoals[:-1]):
            require(subgoal.active.all(), f"level {level} got no subgoal")
            require_shape(f"subgoal of level {level}", subgoal.latent, ROWS, bench.agent.levels[level].upper_dim)
        require(mode == 1 or choice.plans[0] is not None, "mode 2 shows no plan for level 0")


@promised_by("actor")
def subgoals_last(bench: Bench) -> None:
    """A subgoal that is neither reached nor due is kept."""
    module, spec, sample = expect(bench.module, Actor), bench.agent, bench.sample()
    if len(spec.levels) == 1:
        return
    first = decide(bench, module, sample, 2, None)
    states = level_states(spec, sample)
    held = tuple(replace(goal, latent=goal.latent + 50) for goal in first.subgoals)
    request = a_request(spec, ROWS, 2, first=False)
    with torch.no_grad():
        choice = module.decide(company(spec)[0], states, held, a_task(spec, sample), request)
    require(
        REPLAN_REASONS[0] == "kept" and (choice.reasons[0] == 0).all(),
        "it replaces a subgoal that still holds",
    )
    require_close("the subgoal that was kept", choice.subgoals[0].latent, held[0].latent)


@promised_by("actor")
def an_injected_subgoal_is_followed(bench: Bench) -> None:
    """An oracle's subgoal takes the place of its own, and is named as such."""
    module, spec, sample = expect(bench.module, Actor), bench.agent, bench.sample()
    if len(spec.levels) == 1:
        return
    oracle = torch.randn(ROWS, spec.levels[0].upper_dim)
    request = replace(a_request(spec, ROWS, 2), injected=(oracle, None))
    states, subgoals = level_states(spec, sample), no_subgoals(spec, ROWS)
    with torch.no_grad():
        choice = module.decide(company(spec)[0], states, subgoals, a_task(spec, sample), request)
    require_close("the subgoal of level 0 and the oracle's", choice.subgoals[0].latent, oracle)
    injected = REPLAN_REASONS.index("injected")
    require((choice.reasons[0] == injected).all(), "the reason is not 'injected'")


@promised_by("actor")
def loss_reaches_the_policies_only(bench: Bench) -> None:
    """Distillation trains the policies; world models, critics and states are left alone."""
    module, spec, sample = expect(bench.module, Actor), bench.agent, bench.sample()
    world = company(spec)[0]
    states = tuple(
        state.requires_grad_() for state in level_states(spec, replace(sample, states=sample.states.clone()))
    )
    choice, ones = torch.zeros(ROWS, dtype=torch.int64), torch.ones(ROWS, dtype=torch.bool)
    walked = tuple(
        Walked(choice, torch.randn(ROWS, level.upper_dim), ones, torch.randn(ROWS, level.dim), ones, torch.randn(ROWS))
        for level in spec.levels
    )
    require_loss(module.loss(world, states, a_task(spec, sample), walked)).backward()
    policies = list(module.policies.parameters())
    require(any(one.grad is not None and bool(one.grad.any()) for one in policies), "the policies get no gradient")
    others = nn.ModuleList([*world.world_models, *world.critics]).parameters()
    touched = any(one.grad is not None and bool(one.grad.any()) for one in others)
    require(not touched, "the gradient reaches world models or critics")
    moved = any(state.grad is not None and bool(state.grad.any()) for state in states)
    require(not moved, "the gradient reaches the states")
