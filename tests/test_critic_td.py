"""Temporal-difference critic: targets, a corridor with a known answer, blindness to the energy's scale."""

import time
from copy import deepcopy
from dataclasses import replace

import pytest
import torch

from hjepa.modules.critic.td import TemporalDifferenceCritic
from hjepa.nets import update_average
from hjepa.types import CriticBatch, LevelSpec

CELLS, GAMMA, STEP = 6, 0.9, 0.02
"""A corridor: left (0) and right (1); the last cell ends the episode at energy -1; steps cost 0.02."""


def level(index=0, dim=CELLS, discount=GAMMA, span=1, actions=2):
    return LevelSpec(index, dim, 4, dim, 4, span, span, 4, actions, actions, dim, 1, 0, discount)


def critic(index=0, span=1, **config):
    return TemporalDifferenceCritic(
        TemporalDifferenceCritic.Config(**({"width": 32} | config)), level(index, span=span)
    )


def batch(states, actions, energies, next_index, reaches, ended):
    tokens = torch.zeros(*energies.shape, 0, 0)
    return CriticBatch(states, states.detach(), actions, energies, next_index, reaches, ended, tokens)


def corridor(rows=64, time=12, scale=1.0):
    """Windows of a uniformly random walk; an episode that ended is followed by a new one."""
    cell = torch.randint(0, CELLS - 1, (rows,))
    cells, actions, energies, ended, over = [], [], [], [], torch.zeros(rows, dtype=torch.bool)
    for _ in range(time):
        action = torch.where(over, -1, torch.randint(0, 2, (rows,)))
        moved = torch.where(action == 1, cell + 1, (cell - 1).clamp_min(0))
        ends = ~over & (moved == CELLS - 1)
        cells.append(cell)
        actions.append(action)
        energies.append(torch.where(over, 0.0, STEP - ends.float()))
        ended.append(ends)
        cell, over = torch.where(over, torch.randint(0, CELLS - 1, (rows,)), moved), ends
    last = torch.arange(time).expand(rows, -1) == time - 1
    cells, actions, ended = (torch.stack(values, 1) for values in (cells, actions, ended))
    inside = (actions >= 0) & ~last
    following = (torch.arange(time) + 1).clamp_max(time - 1).expand(rows, -1)
    states = torch.nn.functional.one_hot(cells, CELLS).float()
    return batch(states, actions, scale * torch.stack(energies, 1), following, inside, ended & inside)


def optimum():
    """Q* of the corridor by value iteration."""
    q = torch.zeros(CELLS - 1, 2)
    for _ in range(200):
        value = torch.cat([q.amin(1), torch.zeros(1)])
        cell = torch.arange(CELLS - 1)
        left, right = (cell - 1).clamp_min(0), cell + 1
        arrives = (right == CELLS - 1).float()
        q = torch.stack([STEP + GAMMA * value[left], STEP - arrives + GAMMA * value[right]], 1)
    return q


def train(module, make, updates=400, rate=0.05):
    target = deepcopy(module).requires_grad_(False)
    optimiser = torch.optim.AdamW(module.parameters(), lr=3e-3, weight_decay=0)
    batches = [make() for _ in range(32)]
    for update in range(updates):
        loss, info = module.loss(batches[update % 32], target)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        update_average(target, module, rate)
    return info


def values(module):
    return module.action_values(torch.eye(CELLS)[: CELLS - 1], torch.zeros(CELLS - 1, 0, 0)).detach()


@pytest.mark.parametrize(("bins", "settings"), [(0, {}), (41, {}), (0, {"index": 1, "choices": True})])
def test_r31_action_values_on_a_corridor_are_right(bins, settings):
    torch.manual_seed(0)
    module = critic(steps=1, bins=bins, **settings)
    info = train(module, corridor, updates=700 if bins else 400)
    torch.testing.assert_close(values(module), optimum(), atol=0.04, rtol=0)
    assert info["correlation"] > 0.98


def test_r31_greedy_policy_is_right_with_five_steps():
    torch.manual_seed(0)
    module = critic(steps=5)
    train(module, corridor, updates=200)
    assert (values(module).argmin(-1) == 1).all()


def test_advantage_learning_widens_gaps_and_leaves_the_best_values():
    torch.manual_seed(0)
    wide = critic(width=64, steps=1, gap=0.5)
    train(wide, corridor, updates=1200)
    states = torch.eye(CELLS)[: CELLS - 1]
    found, exact = wide.action_values(states, torch.zeros(CELLS - 1, 0, 0)).detach(), optimum()
    torch.testing.assert_close(found.amin(1), exact.amin(1), atol=0.08, rtol=0)
    gaps, exact_gaps = found[:, 0] - found[:, 1], exact[:, 0] - exact[:, 1]
    assert float((gaps / exact_gaps).median()) == pytest.approx(2.0, abs=0.4)


def test_energies_of_any_scale_give_the_same_critic():
    learned = []
    for scale in (0.01, 1.0, 100.0):
        torch.manual_seed(0)
        module = critic(steps=1)
        train(module, lambda scale=scale: corridor(scale=scale), updates=150)
        learned.append(values(module) / scale)
    assert (learned[0].argmin(-1) == 1).all()
    torch.testing.assert_close(learned[0], learned[1], atol=0.02, rtol=0)
    torch.testing.assert_close(learned[2], learned[1], atol=0.02, rtol=0)


def test_r31_upper_level_learns_the_value_of_the_behaviour():
    """With expectile 0.5 the value is the random walk's mean energy-to-go, which a linear system gives."""
    torch.manual_seed(0)
    module = critic(index=1, steps=3, expectile=0.5)
    train(module, lambda: corridor(rows=128), updates=500)
    size = CELLS - 1
    move, energy = torch.zeros(size, size), torch.full((size,), STEP)
    for cell in range(size):
        move[cell, max(cell - 1, 0)] += 0.5
        if cell + 1 < size:
            move[cell, cell + 1] += 0.5
    energy[-1] -= 0.5
    truth = torch.linalg.solve(torch.eye(size) - GAMMA * move, energy)
    torch.testing.assert_close(values(module)[:, 0], truth, atol=0.06, rtol=0)


@pytest.mark.parametrize("bins", [0, 101])
def test_expectile_is_what_it_says(bins):
    """Energies -1 and 1 equally often, then the end: the tau-expectile of that coin is 2 tau - 1."""
    torch.manual_seed(0)
    module = critic(index=1, expectile=0.2, bins=bins)

    def coin():
        energies = torch.tensor([-1.0, 1.0]).repeat(64, 1)
        yes = torch.ones(64, 2, dtype=torch.bool)
        states = torch.ones(64, 2, CELLS)
        nothing = torch.zeros(64, 2, dtype=torch.int64)
        return batch(states, nothing, energies, nothing, ~yes, yes)

    train(module, coin, updates=300)
    value = module.action_values(torch.ones(1, CELLS), torch.zeros(1, 0, 0)).item()
    assert value == pytest.approx(-0.6, abs=0.03)


def chain_batch(energies, next_index, reaches, ended):
    time = len(energies)
    states = torch.zeros(1, time, CELLS)
    flags = (torch.tensor([values], dtype=torch.bool) for values in (reaches, ended))
    actions, chain = torch.zeros(1, time, dtype=torch.int64), torch.tensor([next_index])
    return batch(states, actions, torch.tensor([energies]), chain, *flags)


def test_targets_follow_chains_bootstrap_at_a_cut_and_not_at_an_end():
    module = critic(index=1, steps=2, span=1)
    bootstrap = torch.tensor([[0.0, 10.0, 20.0, 30.0]])
    cut = chain_batch([1.0, 2.0, 4.0, 8.0], [1, 2, 3, 3], [1, 1, 1, 0], [0, 0, 0, 0])
    target = module.targets(cut, bootstrap)[0]
    g = GAMMA
    expected = [1 + g * 2 + g * g * 20, 2 + g * 4 + g * g * 30, 4 + g * 30]
    assert target[:3].tolist() == pytest.approx(expected)
    end = chain_batch([1.0, 2.0, 4.0, 8.0], [1, 2, 2, 3], [1, 1, 0, 0], [0, 1, 0, 0])
    assert module.targets(end, bootstrap)[0, :2].tolist() == pytest.approx([1 + g * 2, 2.0])


def test_to_a_continuing_critic_life_goes_on_after_an_end_but_not_twice_after_a_cut():
    bootstrap, g = torch.full((1, 4), 10.0), GAMMA
    chain = chain_batch([1.0, 2.0, 4.0, 8.0], [1, 2, 2, 3], [1, 1, 0, 0], [0, 1, 0, 0])
    cut = chain_batch([1.0, 2.0, 4.0, 8.0], [1, 2, 2, 3], [1, 1, 0, 0], [0, 0, 0, 0])
    ends, continuing = critic(steps=2), critic(steps=2, continuing=True)
    continuing.ongoing.fill_(-0.3)
    assert ends.after_end() == 0 and continuing.after_end().item() == pytest.approx(-3)
    assert continuing.targets(chain, bootstrap)[0, :2].tolist() == pytest.approx([1 + g * (2 + g * -3), 2 + g * -3])
    assert ends.targets(chain, bootstrap)[0, :2].tolist() == pytest.approx([1 + g * 2, 2.0])
    assert continuing.targets(cut, bootstrap)[0, 0].item() == ends.targets(cut, bootstrap)[0, 0].item()


def test_a_continuing_critic_counts_on_what_steps_bring_that_end_nothing_and_never_on_costs():
    torch.manual_seed(0)
    module, target = critic(continuing=True), critic(continuing=True)
    chain = chain_batch([-0.4, -0.2, -9.0, 0.0], [1, 2, 2, 3], [1, 1, 0, 0], [0, 0, 1, 0])
    module.loss(chain, target)
    assert module.ongoing.item() == pytest.approx(-0.3)
    assert module.after_end().item() == target.after_end().item() == pytest.approx(-0.3 / (1 - GAMMA))
    module.ongoing.fill_(0.5)
    assert module.after_end() == 0


def test_an_advantage_is_what_was_expected_less_what_came():
    module = critic(steps=2)
    target = deepcopy(module)
    chain = chain_batch([1.0, 2.0, 4.0, 8.0], [1, 2, 2, 3], [1, 1, 0, 0], [0, 1, 0, 0])
    values = target.action_values(chain.target_states, chain.tokens).amin(-1)[0]
    advantage = module.advantages(chain, target)[0]
    assert advantage[0].item() == pytest.approx((values[0] - (1 + GAMMA * 2)).item())
    assert advantage[1].item() == pytest.approx((values[1] - 2.0).item())
    # What begins no step tells nothing.
    assert advantage[2:].tolist() == [0.0, 0.0]


def test_a_level_discounts_by_its_span_and_skips_by_its_stride():
    module = critic(index=1, steps=5, span=2)
    skip = chain_batch([1.0, 2.0, 4.0, 8.0, 16.0], [2, 3, 4, 3, 4], [1, 1, 1, 0, 0], [0] * 5)
    expected = 1 + GAMMA**2 * 4 + GAMMA**4 * 40
    assert module.targets(skip, 10.0 * torch.arange(5)[None])[0, 0].item() == pytest.approx(expected)


def test_r30_records_without_a_target_and_the_target_states_weigh_nothing():
    torch.manual_seed(0)
    module = critic()
    example = corridor(rows=4)
    example.states.requires_grad_()
    loss, _ = module.loss(example, deepcopy(module))
    (gradient,) = torch.autograd.grad(loss, example.states)
    used = (example.reaches | example.ended) & (example.choices >= 0)
    assert (gradient.abs().sum(-1) > 0)[used].all()
    assert (gradient[~used] == 0).all()
    none = torch.zeros_like(example.ended)
    empty = replace(example, reaches=none, ended=none)
    before = module.mean.clone(), module.scale().clone(), module.updates.clone()
    assert module.loss(empty, deepcopy(module))[0] == 0
    assert all(map(torch.equal, before, (module.mean, module.scale(), module.updates)))


def test_double_q_takes_the_online_argmin_and_the_targets_value():
    torch.manual_seed(0)
    module, target = critic(steps=1), critic(steps=1)
    for one in (module, target):
        one.loss(corridor(), target)
    example = corridor(rows=16)
    target_values = target.action_values(example.target_states, example.tokens)
    best = module.action_values(example.states, example.tokens).argmin(-1)
    assert (best != target_values.argmin(-1)).any()
    expected = example.energies[:, 0] + GAMMA * target_values.gather(-1, best[..., None])[:, 1, 0]
    rows = example.reaches[:, 0] & ~example.ended[:, 0]
    assert rows.any()
    taken = example.choices.clamp_min(0)
    bootstrap, lag = module._bootstrap(example, target, best, taken)
    torch.testing.assert_close(lag, target_values.gather(-1, taken[..., None]).squeeze(-1) - target_values.amin(-1))
    goals = module.targets(example, bootstrap)
    torch.testing.assert_close(goals[rows, 0], expected[rows])


def test_a_value_to_go_on_from_stays_within_what_the_energies_seen_allow():
    """Else gaps, which grow upon themselves, and the values they shift can grow for ever."""
    torch.manual_seed(0)
    module = critic(steps=1)
    module.loss(corridor(), deepcopy(module))
    assert (module.lowest, module.highest) == (pytest.approx(STEP - 1), pytest.approx(STEP))
    example, none = corridor(rows=16), torch.zeros(16, 12, dtype=torch.int64)
    for shift, bound in ((1e6, STEP), (-1e6, STEP - 1)):
        target = deepcopy(module)
        target.head.bias.data += shift
        bootstrap, _ = module._bootstrap(example, target, none, none)
        torch.testing.assert_close(bootstrap, torch.full_like(bootstrap, bound / (1 - GAMMA)))


def test_new_statistics_leave_the_values_of_critic_and_target_as_they_are():
    torch.manual_seed(0)
    module = critic()
    train(module, corridor, updates=5)
    target = deepcopy(module)
    before, mean = values(module), module.mean.clone()
    module.loss(corridor(scale=10.0), target)
    assert module.mean != mean
    torch.testing.assert_close(values(module), before)
    torch.testing.assert_close(values(target), before)


def test_value_is_the_lowest_action_value_and_goals_are_ignored():
    torch.manual_seed(0)
    module = critic()
    train(module, corridor, updates=5)
    state, tokens = torch.randn(3, 4, CELLS), torch.zeros(3, 4, 0, 0)
    value = module(state, torch.randn(3, 4, CELLS), torch.ones(3, 4, dtype=torch.bool), tokens)
    assert torch.equal(value, module.action_values(state, tokens).amin(-1))


def test_imagined_loss_pulls_predicted_states_only():
    torch.manual_seed(0)
    module = critic(bins=21)
    predicted, actual = torch.randn(8, CELLS, requires_grad=True), torch.randn(8, CELLS, requires_grad=True)
    tokens = torch.zeros(8, 0, 0)
    loss, _ = module.imagined_loss(predicted, actual, tokens)
    loss.backward()
    assert actual.grad is None and predicted.grad.abs().sum() > 0
    assert module.imagined_loss(actual, actual, tokens)[0] == 0


def test_loss_is_fast():
    module = TemporalDifferenceCritic(TemporalDifferenceCritic.Config(), level(dim=128, actions=7))
    rows, steps = 32, 20
    no = torch.zeros(rows, steps, dtype=torch.bool)
    following = (torch.arange(steps) + 1).clamp_max(steps - 1).expand(rows, -1)
    actions = torch.randint(0, 7, (rows, steps))
    example = batch(torch.randn(rows, steps, 128), actions, torch.randn(rows, steps), following, ~no, no)
    target, times = deepcopy(module), []
    for _ in range(10):
        start = time.process_time()
        module.loss(example, target)[0].backward()
        times.append(time.process_time() - start)
    print(f"median {sorted(times)[5] * 1e3:.1f} ms, least {min(times) * 1e3:.1f}")
    assert min(times) < 0.05


def test_golden_loss():
    torch.manual_seed(0)
    module = critic()
    target = deepcopy(module)
    losses = [module.loss(corridor(rows=8), target)[0].item() for _ in range(2)]
    torch.manual_seed(0)
    module = critic()
    target = deepcopy(module)
    assert losses == [module.loss(corridor(rows=8), target)[0].item() for _ in range(2)]
    assert losses == pytest.approx([0.5011640191078186, 0.2959616184234619], rel=1e-4)


def test_one_bin_is_refused():
    with pytest.raises(ValueError, match="at least 2"):
        critic(bins=1)
