"""Losses and shared blocks: known values, invariances, gradients."""

import math

import pytest
import torch

from hjepa import losses, nets


def everything(*shape: int) -> torch.Tensor:
    return torch.ones(shape, dtype=torch.bool)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def test_a_weighted_mean_counts_by_weight_and_is_zero_where_nothing_counts():
    values = torch.tensor([1.0, 2.0, 6.0])
    assert losses.weighted_mean(values, torch.tensor([1.0, 0.0, 3.0])) == 4.75
    mask = torch.tensor([True, True, False])
    assert losses.weighted_mean(values, 7.0 * mask) == losses.masked_mean(values, mask)
    assert losses.weighted_mean(values, torch.zeros(3)) == 0


def test_std_hinge_is_zero_for_wide_states_and_near_the_floor_for_collapsed_ones():
    assert losses.std_hinge(3 * torch.randn(500, 6))[0] == 0
    # sqrt(var + 1e-4) leaves 0.01 of the floor.
    assert torch.isclose(losses.std_hinge(torch.ones(500, 6))[0], torch.tensor(0.99), atol=1e-4)


def test_covariance_of_duplicated_dimensions_is_their_variance_squared():
    x = torch.randn(4000, 1)
    doubled = torch.cat((x, x), 1)
    expected = x.var().square()
    assert torch.isclose(losses.off_diagonal_covariance(doubled), expected, rtol=1e-4)
    assert losses.off_diagonal_covariance(torch.randn(20000, 4)) < 1e-3


def test_masked_statistics_equal_those_of_the_kept_rows():
    states, mask = torch.randn(50, 5), torch.rand(50) < 0.5
    states[~mask] = 1e3
    for function in (losses.std_hinge, losses.variance_covariance):
        masked, kept = function(states, mask)[0], function(states[mask])[0]
        assert torch.isclose(masked, kept, atol=1e-5)
    whole = torch.isclose(losses.off_diagonal_covariance(states, mask), losses.off_diagonal_covariance(states[mask]))
    assert whole


def test_centring_makes_statistics_blind_to_what_is_constant_in_an_episode():
    layout = torch.randn(64, 1, 8).expand(-1, 20, -1)
    assert losses.std_hinge(2 * layout)[0] < 0.1
    assert losses.std_hinge(losses.centre_windows(2 * layout))[0] > 0.98


def test_r18_sigreg_is_about_one_for_a_normal_and_large_for_collapsed_states():
    normal, _ = losses.sigreg(torch.randn(2048, 16), directions=256)
    collapsed, _ = losses.sigreg(torch.zeros(2048, 16), directions=256)
    narrow, _ = losses.sigreg(0.5 * torch.randn(2048, 16), directions=256)
    assert 0.8 < normal < 1.4
    assert normal / 2048 < 1e-3
    assert collapsed > 100 * normal
    assert narrow > 20 * normal


def test_sigreg_equals_the_integral_it_stands_for():
    # Zeros have the characteristic function 1: n * integral of (1 - exp(-t^2/2))^2 exp(-t^2/2).
    t = torch.linspace(-3, 3, 60001, dtype=torch.float64)
    window = torch.exp(-t.square() / 2)
    expected = torch.trapezoid((1 - window).square() * window, t) * 7
    value, _ = losses.sigreg(torch.zeros(7, 3, dtype=torch.float64), directions=5)
    assert torch.isclose(value, expected, rtol=1e-2)


def test_sigreg_gradient_spreads_collapsed_states():
    states = (0.1 * torch.randn(256, 4)).requires_grad_()
    optimiser = torch.optim.Adam([states], 0.05)
    for _ in range(150):
        optimiser.zero_grad()
        losses.sigreg(states, directions=64)[0].backward()
        optimiser.step()
    assert 0.8 < states.std(0).mean() < 1.2


def test_infonce_of_uninformative_predictions_is_the_log_of_the_choices():
    constant = torch.ones(33, 4)
    loss, _ = losses.infonce(constant, constant, everything(33), negatives=33)
    assert torch.isclose(loss, torch.tensor(math.log(33)), atol=1e-5)
    targets = torch.randn(33, 64)
    loss, info = losses.infonce(targets, targets, everything(33), negatives=33)
    assert loss < 0.2
    assert info["infonce_accuracy"] == 1


def test_infonce_ignores_rows_outside_the_mask():
    predictions, targets, mask = torch.randn(20, 8), torch.randn(20, 8), torch.rand(20) < 0.6
    whole, _ = losses.infonce(predictions, targets, mask, negatives=20)
    kept, _ = losses.infonce(predictions[mask], targets[mask], everything(int(mask.sum())), negatives=20)
    assert torch.isclose(whole, kept, atol=1e-5)


def test_prediction_error_counts_rows_in_the_mask_only():
    predictions, targets = torch.zeros(4, 3), torch.full((4, 3), 2.0)
    targets[2:] = 100.0
    mask = torch.tensor([True, True, False, False])
    assert losses.prediction_error(predictions, targets, mask)[0] == 4
    assert losses.prediction_error(predictions, targets, ~everything(4))[0] == 0


def test_inverse_dynamics_is_cross_entropy_and_does_not_move_the_weights():
    logits, weights = torch.randn(9, 4), torch.softmax(torch.randn(9, 4), -1).requires_grad_()
    loss, _ = losses.inverse_dynamics(logits.requires_grad_(), weights, everything(9))
    assert torch.isclose(loss, torch.nn.functional.cross_entropy(logits, weights.detach()))
    loss.backward()
    assert weights.grad is None
    assert logits.grad is not None


def test_r19_temporal_variance_sees_slow_features():
    slow = torch.randn(32, 1, 8).expand(-1, 10, -1)
    assert losses.temporal_variance(slow)[0] > 0.98
    assert losses.temporal_variance(5 * torch.randn(32, 10, 8))[0] < 0.05


def test_time_similarity_skips_pairs_that_do_not_belong_together():
    states = torch.zeros(1, 4, 2)
    states[:, 2:] = 3.0
    mask = torch.tensor([[True, False, True]])
    assert losses.time_similarity(states, mask)[0] == 0
    assert losses.time_similarity(states, everything(1, 3))[0] == 3


@pytest.mark.parametrize("name", ["std_hinge", "variance_covariance", "temporal_variance", "sigreg"])
def test_gradcheck(name):
    states = (0.3 * torch.randn(4, 5, 3, dtype=torch.float64)).requires_grad_()

    def function(x: torch.Tensor) -> torch.Tensor:
        torch.manual_seed(1)
        return getattr(losses, name)(x)[0]

    assert torch.autograd.gradcheck(function, states)


def test_golden_losses():
    states, other, mask = torch.randn(6, 5, 4), torch.randn(30, 4), torch.arange(30) % 3 > 0
    found = [
        losses.variance_covariance(states)[0],
        losses.sigreg(states, directions=8)[0],
        losses.infonce(states.flatten(0, 1), other, mask)[0],
        losses.prediction_error(states.flatten(0, 1), other, mask)[0],
    ]
    assert torch.allclose(torch.stack(found), torch.tensor(GOLDEN), rtol=1e-4)


GOLDEN = [0.087742, 1.024627, 9.077467, 2.262699]


def test_effective_rank_of_known_matrices():
    assert torch.isclose(nets.effective_rank(torch.eye(7)), torch.tensor(7.0))
    assert torch.isclose(nets.effective_rank(torch.ones(9, 4)), torch.tensor(1.0), atol=1e-3)
    assert nets.effective_rank(torch.zeros(5, 3)) == 1
    weights = torch.tensor([0.5, 0.25, 0.25])
    assert torch.isclose(nets.effective_rank(weights.diag()), torch.tensor(2**1.5), atol=1e-4)


def test_film_starts_as_the_identity_and_learns_from_tokens():
    film, x, tokens = nets.FiLM(3, 5), torch.randn(2, 4, 5), torch.randn(2, 4, 6, 3)
    assert torch.equal(film(x, tokens), x)
    film(x, tokens).square().sum().backward()
    assert film.project is not None and film.project.weight.grad is not None
    assert film.project.weight.grad.abs().sum() > 0
    assert not list(nets.FiLM(0, 5).parameters())
    assert torch.equal(nets.FiLM(0, 5)(x, torch.zeros(2, 4, 0, 0)), x)


def test_update_average_moves_parameters_and_copies_buffers():
    average, online = torch.nn.BatchNorm1d(3), torch.nn.BatchNorm1d(3)
    torch.nn.init.constant_(online.weight, 5.0)
    online.running_mean.fill_(2.0)
    nets.update_average(average, online, 0.25)
    assert torch.allclose(average.weight, torch.full((3,), 2.0))
    assert torch.equal(average.running_mean, online.running_mean)
    nets.update_average(torch.nn.Identity(), torch.nn.Identity(), 0.5)


def test_small_functions():
    x = torch.tensor([-50.0, 0.0, 0.3])
    assert torch.allclose(nets.symexp(nets.symlog(x)), x, rtol=1e-4)
    assert nets.one_hot(torch.tensor([1, -1]), 3).tolist() == [[0, 1, 0], [0, 0, 0]]
    weights = torch.tensor([[0.2, 0.7, 0.1]], requires_grad=True)
    chosen = nets.straight_through(weights)
    assert torch.allclose(chosen, torch.tensor([[0.0, 1.0, 0.0]]))
    (chosen * torch.tensor([1.0, 2.0, 3.0])).sum().backward()
    assert weights.grad.tolist() == [[1, 2, 3]]
    block = nets.ResidualBlock(4, 8)
    assert (block(x.new_ones(2, 4)) - 1).abs().max() < 0.2
