"""Every planner against tables whose optimum is known by enumeration."""

import pytest
import torch
from planner_problems import NetworkProblem, TabularProblem, level_spec

from hjepa.modules.planner.beam import BeamPlanner
from hjepa.modules.planner.cem import CrossEntropyPlanner
from hjepa.modules.planner.exhaustive import ExhaustivePlanner
from hjepa.modules.planner.gradient import GradientPlanner
from hjepa.modules.planner.mcts import TreeSearchPlanner
from hjepa.modules.planner.mppi import PathIntegralPlanner
from hjepa.modules.planner.shooting import ShootingPlanner
from hjepa.nets import one_hot
from hjepa.search import expand, gather, normalised_prior, roll_out

AMPLE = {
    "exhaustive": (ExhaustivePlanner, {}),
    "beam": (BeamPlanner, {"width": 64}),
    "cem": (CrossEntropyPlanner, {"population": 400, "iterations": 8}),
    "mppi": (PathIntegralPlanner, {"population": 400, "iterations": 8}),
    "gradient": (GradientPlanner, {"restarts": 96, "iterations": 30, "noise": 1.0}),
    "mcts": (TreeSearchPlanner, {"simulations": 60}),
    "shooting": (ShootingPlanner, {"candidates": 6000, "prior_weight": 0.0}),
}
SMALL = {
    "exhaustive": (ExhaustivePlanner, {"limit": 60}),
    "beam": (BeamPlanner, {"width": 4}),
    "cem": (CrossEntropyPlanner, {"population": 10, "iterations": 2}),
    "mppi": (PathIntegralPlanner, {"population": 10, "iterations": 2}),
    "gradient": (GradientPlanner, {"restarts": 8, "iterations": 2}),
    "mcts": (TreeSearchPlanner, {"simulations": 2}),
    "shooting": (ShootingPlanner, {"candidates": 20}),
}
KINDS = list(AMPLE)


def make(budget, kind, problem, **overrides):
    planner, settings = budget[kind]
    spec = level_spec(problem.num_actions, problem.horizon)
    return planner(planner.Config(**{**settings, **overrides}), spec)


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("num_actions", "horizon"), [(7, 3), (16, 2)])
def test_r36_every_planner_finds_the_optimum(kind, num_actions, horizon):
    problem = TabularProblem(8, num_actions, horizon)
    plan = make(AMPLE, kind, problem).plan(problem, None)
    torch.testing.assert_close(plan.energy, problem.brute_force().amin(1), atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_r36_optimum_within_the_support(kind):
    problem = TabularProblem(8, 5, 3, forbidden=0.5)
    plan = make(AMPLE, kind, problem).plan(problem, None)
    torch.testing.assert_close(plan.energy, problem.brute_force().amin(1), atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_r39_samples_of_z_count_through_the_score(kind):
    problem = TabularProblem(4, 5, 2, samples=3, risk=1.0)
    plan = make(AMPLE, kind, problem).plan(problem, None)
    torch.testing.assert_close(plan.energy, problem.brute_force().amin(1), atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_plan_is_consistent_with_itself(kind):
    problem = TabularProblem(8, 7, 4, forbidden=0.4)
    plan = make(SMALL, kind, problem).plan(problem, None)
    for row in range(problem.batch):
        energy = problem.energy_of(row, plan.actions[row].tolist())
        assert energy == pytest.approx(plan.energy[row].item(), abs=1e-5)  # None: out of support
    again = roll_out(problem, 1, lambda step, _: one_hot(plan.actions[:, None, step], 7))
    torch.testing.assert_close(plan.states, again.states[:, 0], atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("samples", [1, 2])
def test_evaluations_are_counted(kind, samples):
    problem = TabularProblem(3, 5, 3, samples=samples)
    plan = make(SMALL, kind, problem).plan(problem, None)
    assert plan.evaluations.dtype == torch.int64
    assert plan.evaluations.item() == problem.evaluations


@pytest.mark.parametrize("kind", KINDS)
def test_every_first_choice_in_support_is_tried(kind):
    """Distillation imitates `first_energies`, which hold nothing for choices out of support."""
    problem = TabularProblem(8, 7, 4, forbidden=0.4)
    plan = make(SMALL, kind, problem).plan(problem, None)
    allowed = normalised_prior(problem, problem.root())[:, 0].isfinite()
    assert torch.equal(plan.first_energies.isfinite(), allowed)
    torch.testing.assert_close(plan.first_energies.amin(1), plan.energy)
    assert torch.equal(plan.first_energies.argmin(1), plan.actions[:, 0])


@pytest.mark.parametrize("kind", ["exhaustive", "mcts"])
def test_first_energies_are_exact_where_everything_is_tried(kind):
    problem = TabularProblem(4, 5, 3, forbidden=0.3)
    plan = make(AMPLE, kind, problem).plan(problem, None)
    torch.testing.assert_close(plan.first_energies, problem.brute_force(), atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_r38_warm_start_is_never_left_worse(kind):
    """Warm-started at the optimum, each planner returns it within a budget that does not find it alone."""
    problem = TabularProblem(32, 7, 4)
    optimum = ExhaustivePlanner(ExhaustivePlanner.Config(), level_spec()).plan(problem, None)
    warm_start = (0.5 * one_hot(optimum.actions, 7) + 0.5 / 7).log()
    cold = make(SMALL, kind, problem).plan(problem, None)
    warm = make(SMALL, kind, problem).plan(problem, warm_start)
    assert cold.energy.mean() > optimum.energy.mean() + 1e-3
    if kind == "mcts":  # draws from the warm start, and does not follow it to the letter
        assert warm.energy.mean() < cold.energy.mean() - 0.05
    else:
        torch.testing.assert_close(warm.energy, optimum.energy, atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", ["cem", "mppi", "gradient", "shooting", "mcts"])
def test_r38_imperfect_warm_start_lowers_the_cost(kind):
    """A policy that is right three times in four helps searches of equal, small budget."""
    problem = TabularProblem(128, 7, 4)
    optimum = ExhaustivePlanner(ExhaustivePlanner.Config(), level_spec()).plan(problem, None)
    wrong = torch.rand(128, 4) < 0.25
    actions = torch.where(wrong, torch.randint(7, (128, 4)), optimum.actions)
    warm_start = (0.5 * one_hot(actions, 7) + 0.5 / 7).log()
    cold = make(SMALL, kind, problem).plan(problem, None)
    warm = make(SMALL, kind, problem).plan(problem, warm_start)
    assert warm.energy.mean() < cold.energy.mean() - 0.02


@pytest.mark.parametrize("kind", KINDS)
def test_r11_candidates_are_batched(kind):
    problem = TabularProblem(3, 5, 3)
    make(SMALL, kind, problem).plan(problem, None)
    iterations = {"cem": 2, "mppi": 2, "gradient": 3, "mcts": 2}.get(kind, 1)
    assert problem.calls == iterations * problem.horizon


@pytest.mark.parametrize("kind", KINDS)
def test_empty_support_means_no_restriction(kind):
    problem = TabularProblem(4, 5, 2, forbidden=1.1)
    plan = make(AMPLE, kind, problem).plan(problem, None)
    torch.testing.assert_close(plan.energy, problem.brute_force().amin(1), atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_equal_energies_are_no_trouble(kind):
    problem = TabularProblem(4, 5, 3, scale=0.0)
    plan = make(SMALL, kind, problem).plan(problem, None)
    assert torch.equal(plan.energy, torch.zeros(4))
    assert ((plan.actions >= 0) & (plan.actions < 5)).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_scale_of_energy_does_not_matter(kind, scale):
    problem = TabularProblem(8, 5, 2, scale=scale)
    plan = make(AMPLE, kind, problem).plan(problem, None)
    torch.testing.assert_close(plan.energy, problem.brute_force().amin(1), atol=1e-5 * scale, rtol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_same_seed_same_plan(kind):
    problem = TabularProblem(4, 7, 4)
    plans = []
    for _ in range(2):
        torch.manual_seed(3)
        plans.append(make(SMALL, kind, problem).plan(problem, None))
    assert torch.equal(plans[0].actions, plans[1].actions)
    assert torch.equal(plans[0].first_energies, plans[1].first_energies)


def test_beam_is_exact_when_it_is_wide_enough_and_better_when_wider():
    problem = TabularProblem(32, 5, 5)
    exact = make(AMPLE, "exhaustive", problem).plan(problem, None)
    energies = [make(SMALL, "beam", problem, width=width).plan(problem, None).energy for width in (5, 25, 625)]
    assert energies[0].mean() >= energies[1].mean() >= energies[2].mean()
    torch.testing.assert_close(energies[2], exact.energy)


def test_exhaustive_bounds_its_work_by_pruning():
    problem = TabularProblem(4, 7, 6)
    plan = make(AMPLE, "exhaustive", problem, limit=700).plan(problem, None)
    assert plan.evaluations.item() == 4 * (7 + 49 + 343 + 3 * 700)


def test_r2_gradient_planner_descends_and_leaves_no_gradient_behind():
    problem = NetworkProblem(4)
    planner = make(SMALL, "gradient", problem)
    zeros = torch.zeros(4, 8, 3, 7)
    _, gradient = planner.descent(problem, zeros, zeros)
    assert (gradient.abs().amax((0, 1, 3)) > 0).all()  # at every step of the horizon
    assert not planner.plan(problem, None).energy.requires_grad
    assert all(parameter.grad is None for parameter in problem.model.parameters())


def test_gradient_planner_gains_from_descent():
    """With the very same number of draws, following the gradient beats staying put."""
    problem = TabularProblem(64, 7, 5)
    still = make(SMALL, "gradient", problem, iterations=15, learning_rate=1e-9).plan(problem, None)
    moving = make(SMALL, "gradient", problem, iterations=15).plan(problem, None)
    assert moving.energy.mean() < still.energy.mean() - 0.02


@pytest.mark.parametrize("kind", ["cem", "mppi", "mcts"])
def test_iterating_beats_shooting_at_equal_budget(kind):
    problem = TabularProblem(64, 7, 5)
    settings = {"cem": {"population": 70, "iterations": 5}, "mppi": {"population": 70, "iterations": 5}}
    guided = make(AMPLE, kind, problem, **settings.get(kind, {"simulations": 50})).plan(problem, None)
    blind = make(AMPLE, "shooting", problem, candidates=350).plan(problem, None)
    assert guided.evaluations == blind.evaluations
    assert guided.energy.mean() < blind.energy.mean() - 0.01


@pytest.mark.parametrize("backup", ["min", "mean"])
def test_mcts_backups_keep_the_best_plan(backup):
    problem = TabularProblem(8, 5, 3)
    plan = make(AMPLE, "mcts", problem, backup=backup).plan(problem, None)
    torch.testing.assert_close(plan.energy, problem.brute_force().amin(1), atol=1e-5, rtol=0)


def test_expand_and_gather_agree_with_single_steps():
    problem = TabularProblem(2, 3, 2)
    children = expand(problem, expand(problem, problem.root()))
    assert children.energy.shape == (2, 9, 1)
    index = torch.tensor([[5, 0], [7, 7]])
    chosen = gather(children, index)
    for row, column in ((0, 0), (0, 1), (1, 0)):
        first, second = divmod(index[row, column].item(), 3)
        total = problem.score(chosen)[row, column].item()
        assert total == pytest.approx(problem.energy_of(row, (first, second)), abs=1e-5)
