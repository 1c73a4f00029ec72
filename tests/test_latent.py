"""Latent variables: widths, information, sampling, candidates."""

import math

import pytest
import torch

from hjepa.modules.latent.discrete import DiscreteLatent
from hjepa.modules.latent.gaussian import GaussianLatent
from hjepa.modules.latent.none import NoLatent
from hjepa.modules.latent.sparse import SparseLatent
from hjepa.types import LevelSpec

KINDS = [NoLatent, DiscreteLatent, GaussianLatent, SparseLatent]


def spec() -> LevelSpec:
    return LevelSpec(
        index=0, dim=6, action_dim=3, lower_dim=6, lower_action_dim=4, stride=1, span=1, horizon=2,
        num_env_actions=4, num_actions=4, upper_dim=6, num_drives=1, token_dim=0, discount=0.99,
    )  # fmt: skip


def inputs(*lead: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return torch.randn(*lead, 6), torch.randn(*lead, 3), torch.randn(*lead, 6)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.mark.parametrize("kind", KINDS)
def test_r20_every_kind_has_its_widths_for_any_batch_shape(kind):
    latent = kind(kind.Config(), spec())
    for lead in ((5,), (2, 3), (2, 3, 4)):
        state, action, target = inputs(*lead)
        z, information = latent.infer(state, action, target)
        assert z.shape == (*lead, latent.dim)
        assert information.shape == lead
        assert (information >= 0).all()
        assert latent.sample(state, 7).shape == (*lead, 7, latent.dim)
        assert latent.candidates(state).shape[:-2] == lead


@pytest.mark.parametrize("kind", KINDS[1:])
def test_r22_inference_and_penalty_are_differentiable_in_the_target(kind):
    latent = kind(kind.Config(), spec())
    for part in (0, 1):
        state, action, target = inputs(64)
        target.requires_grad_()
        (latent.infer(state, action, target)[part] * torch.randn(64, 1 if part == 0 else 64)).sum().backward()
        assert target.grad.abs().sum() > 0


def test_discrete_information_is_the_divergence_from_the_prior():
    latent = DiscreteLatent(DiscreteLatent.Config(codes=5), spec())
    state, action, target = inputs(10)
    q = torch.distributions.Categorical(logits=latent.posterior(torch.cat((state, action, target), -1)))
    p = torch.distributions.Categorical(logits=latent.prior(state))
    assert torch.allclose(latent.infer(state, action, target)[1], torch.distributions.kl_divergence(q, p), atol=1e-6)


def test_gaussian_information_is_the_divergence_from_the_standard_normal():
    latent = GaussianLatent(GaussianLatent.Config(dim=4), spec())
    state, action, target = inputs(10)
    mean, log_std = latent.posterior(torch.cat((state, action, target), -1)).chunk(2, -1)
    q = torch.distributions.Normal(mean, log_std.exp())
    expected = torch.distributions.kl_divergence(q, torch.distributions.Normal(0, 1)).sum(-1)
    assert torch.allclose(latent.infer(state, action, target)[1], expected, atol=1e-5)


def test_inference_draws_in_training_and_is_deterministic_otherwise():
    for kind in (DiscreteLatent, GaussianLatent):
        latent, given = kind(kind.Config(), spec()), inputs(50)
        assert not torch.equal(latent.infer(*given)[0], latent.infer(*given)[0])
        latent.eval()
        assert torch.equal(latent.infer(*given)[0], latent.infer(*given)[0])


def test_discrete_z_is_one_hot_and_its_candidates_are_every_code():
    latent = DiscreteLatent(DiscreteLatent.Config(codes=5), spec())
    z, _ = latent.infer(*inputs(30))
    assert torch.allclose(z.detach().sort(-1).values, torch.eye(5)[-1].expand(30, 5), atol=1e-6)
    assert torch.equal(latent.candidates(torch.randn(2, 6))[1], torch.eye(5))


def test_samples_follow_the_prior():
    state = torch.randn(1, 6)
    discrete = DiscreteLatent(DiscreteLatent.Config(codes=3), spec())
    frequency = discrete.sample(state, 20000).mean(-2)
    assert torch.allclose(frequency, discrete.prior(state).softmax(-1), atol=0.02)
    gaussian = GaussianLatent(GaussianLatent.Config(dim=2), spec()).sample(state, 20000)
    assert abs(gaussian.std() - 1) < 0.02
    sparse = SparseLatent(SparseLatent.Config(dim=2, alpha=2.0), spec()).sample(state, 20000)
    # exp(-2 |z|): mean magnitude 1/2, std sqrt(2)/2.
    assert abs(sparse.abs().mean() - 0.5) < 0.02
    assert abs(sparse.std() - math.sqrt(2) / 2) < 0.03


def test_continuous_candidates_begin_with_the_mode():
    for kind in (GaussianLatent, SparseLatent):
        candidates = kind(kind.Config(draws=3), spec()).candidates(torch.randn(4, 6))
        assert candidates.shape[1] == 4
        assert (candidates[:, 0] == 0).all() and (candidates[:, 1:] != 0).all()


def test_sparse_information_is_alpha_times_the_norm():
    latent = SparseLatent(SparseLatent.Config(alpha=0.3), spec())
    z, information = latent.infer(*inputs(8))
    assert torch.allclose(information, 0.3 * z.abs().sum(-1))
