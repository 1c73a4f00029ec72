"""The amortised policy: what it imitates, and how well."""

import dataclasses

import pytest
import torch
from planner_problems import NetworkProblem, level_spec

from hjepa.modules.planner.exhaustive import ExhaustivePlanner
from hjepa.modules.policy.amortised import AmortisedPolicy
from hjepa.types import Plan


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def make(index=0, **settings):
    spec = level_spec(index=index, token_dim=settings.pop("token_dim", 0))
    return AmortisedPolicy(AmortisedPolicy.Config(**settings), spec)


def arguments(rows=6, tokens=0):
    return torch.randn(rows, 16), torch.randn(rows, 16), torch.rand(rows) < 0.5, torch.randn(rows, 2, tokens)


def plan_of(first_energies, states=None):
    rows = len(first_energies)
    states = torch.zeros(rows, 3, 16) if states is None else states
    actions = first_energies.argmin(1, keepdim=True).expand(-1, 3)
    return Plan(actions, states, first_energies.amin(1), first_energies, torch.tensor(0))


@pytest.mark.parametrize("index", [0, 1])
def test_r37_distillation_lowers_the_divergence(index):
    """200 updates on the plans of a fixed problem: the policy comes to choose what the planner chose."""
    problem = NetworkProblem(64, width=16, horizon=2)
    state = problem.state[:, 0, 0]
    plan = ExhaustivePlanner(ExhaustivePlanner.Config(), level_spec()).plan(problem, None)
    policy = make(index, normalise=False)
    optimiser = torch.optim.AdamW(policy.parameters(), 1e-3)
    rows = (state, torch.zeros_like(state), torch.zeros(64, dtype=torch.bool), torch.zeros(64, 0, 0))
    history = []
    for _ in range(200):
        loss, info = policy.loss(*rows, plan)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        history.append(info)
    assert history[-1]["divergence"] < 0.1 * history[0]["divergence"]
    assert history[-1]["agreement"] > 0.95
    if index:
        assert history[-1]["subgoal_error"] < 0.1 * history[0]["subgoal_error"]


@pytest.mark.parametrize("factor", [1e-4, 1.0, 1e4])
def test_target_does_not_depend_on_the_scale_or_zero_of_energy(factor):
    energies = torch.rand(32, 7)
    reference = make()._target(energies)
    torch.testing.assert_close(make()._target(factor * (energies + 3)), reference, rtol=2e-2, atol=1e-3)


def test_target_copies_the_best_and_splits_ties():
    energies = torch.tensor([[0.0, 1.0, 2.0, 3.0], [1.0, 1.0, 5.0, 5.0], [4.0, 4.0, 4.0, 4.0]])
    target = make(rate=1.0)._target(energies)
    torch.testing.assert_close(target[0, 0], torch.tensor(1.0), atol=1e-3, rtol=0)
    torch.testing.assert_close(target[1], torch.tensor([0.5, 0.5, 0.0, 0.0]), atol=1e-3, rtol=0)
    torch.testing.assert_close(target[2], torch.full((4,), 0.25))


def test_catastrophic_choice_does_not_hide_the_differences_between_the_others():
    mild = torch.tensor([[0.0, 1.0, 2.0, 3.0, 4.0]])
    lava = torch.tensor([[0.0, 1.0, 2.0, 3.0, 1000.0]])
    torch.testing.assert_close(make()._target(mild), make()._target(lava), atol=1e-4, rtol=0)


def test_untried_choices_are_not_imitated_and_leave_no_nan():
    energies = torch.rand(4, 7)
    energies[:, 3] = float("inf")
    energies[1, :] = float("inf")
    energies[1, 2] = 0.5
    policy = make(1)
    loss, info = policy.loss(*arguments(4), plan_of(energies))
    loss.backward()
    target = policy._target(energies)
    assert (target[:, 3] == 0).all()
    assert target[1, 2] == 1
    assert all(value.isfinite() for value in info.values())
    assert all(p.grad is not None and p.grad.isfinite().all() for p in policy.parameters())


def test_divergence_is_zero_for_a_policy_that_is_the_target():
    policy = make()
    rows = arguments(4)
    logits, _ = policy(*rows)
    policy.eval()
    policy.scale.fill_(1 / policy.temperature)
    _, info = policy.loss(*rows, plan_of(-logits.detach()))
    torch.testing.assert_close(info["divergence"], torch.tensor(0.0), atol=1e-6, rtol=0)
    assert info["agreement"] == 1


def test_gradient_stops_at_the_plan():
    energies, states = torch.rand(6, 7, requires_grad=True), torch.randn(6, 3, 16, requires_grad=True)
    loss, _ = make(1).loss(*arguments(), plan_of(energies, states))
    loss.backward()
    assert energies.grad is None
    assert states.grad is None


def test_next_state_is_imitated_above_level_0_only():
    plan = plan_of(torch.rand(6, 7))
    other = dataclasses.replace(plan, states=plan.states + 1)
    rows = arguments()
    for index, differs in ((0, False), (1, True)):
        policy = make(index).eval()
        assert (policy.loss(*rows, plan)[0] != policy.loss(*rows, other)[0]) == differs
        assert ("subgoal_error" in policy.loss(*rows, plan)[1]) == differs


def test_subgoal_is_only_looked_at_where_there_is_one():
    policy = make()
    state, subgoal, has, tokens = arguments()
    changed = [policy(state, other, has, tokens)[0] for other in (subgoal, torch.full_like(subgoal, float("nan")))]
    torch.testing.assert_close(changed[0][~has], changed[1][~has])
    assert not torch.equal(policy(state, subgoal, has, tokens)[0][has], policy(state, -subgoal, has, tokens)[0][has])


def test_task_tokens_modulate_and_leading_shapes_are_free():
    policy = make(token_dim=4)
    torch.nn.init.normal_(policy.film.project.weight)
    state, subgoal, has, tokens = arguments(6, 4)
    logits, proposal = policy(state, subgoal, has, tokens)
    assert not torch.equal(logits, policy(state, subgoal, has, -tokens)[0])
    folded = [tensor.unflatten(0, (2, 3)) for tensor in (state, subgoal, has, tokens)]
    again, states = policy(*folded)
    torch.testing.assert_close(again.flatten(0, 1), logits)
    torch.testing.assert_close(states.flatten(0, 1), proposal)


def test_scale_is_a_running_mean_in_training_only():
    policy = make(rate=0.5)
    for energies, expected in (([0.0, 1.0, 2.0], 1.0), ([0.0, 3.0, 3.0], 2.0), ([1.0, 1.0, 1.0], 2.0)):
        policy._target(torch.tensor([energies]))
        assert policy.scale.item() == pytest.approx(expected)
    policy.eval()
    policy._target(torch.tensor([[0.0, 9.0, 9.0]]))
    assert policy.scale.item() == pytest.approx(2.0)
