"""A level's latent variable within its JEPA: criteria, free energy, information."""

import pytest
import torch
from torch import Tensor
from torch.nn.functional import layer_norm
from world_model_parts import build, level_batch, level_spec, random_states

from hjepa.modules.latent.discrete import DiscreteLatent
from hjepa.modules.latent.gaussian import GaussianLatent
from hjepa.modules.latent.none import NoLatent
from hjepa.modules.latent.sparse import SparseLatent
from hjepa.modules.world_model.jepa import JEPA
from hjepa.types import LevelBatch

LATENTS = [NoLatent, DiscreteLatent, GaussianLatent, SparseLatent]


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.mark.parametrize("latent", LATENTS)
def test_r16_r20_four_criteria_are_named_with_every_latent_variable(latent):
    spec = level_spec()
    model = build(spec, latent=latent)
    _, info = model.loss(level_batch(spec), random_states(spec), random_states(spec))
    assert {"informative_source", "informative_target", "predictable", "latent_information"} <= info.keys()
    assert (info["latent_information"] > 0) == (latent is not NoLatent)
    assert {
        "rollout_error_1",
        "rollout_error_4",
        "inverse_dynamics",
        "energy_readout",
        "continue",
    } <= info.keys()


def test_r20_a_discrete_latent_has_at_most_one_well_a_code():
    model = build(level_spec(), latent=DiscreteLatent).eval()
    state, action = torch.randn(1, 8).expand(50, -1), torch.randn(1, 5).expand(50, -1)
    z = model.latent.sample(state, 40).flatten(0, 1)
    lead = z.shape[0]
    after = model.predict(state[:1].expand(lead, -1), action[:1].expand(lead, -1), z, torch.zeros(lead, 0, 0)).state
    assert len(after.detach().round(decimals=4).unique(dim=0)) <= 8


def test_r21_free_energy_is_the_least_energy_over_every_code():
    model = build(level_spec(tokens=2), latent=DiscreteLatent).eval()
    state, action, target, tokens = (
        torch.randn(7, 8),
        torch.randn(7, 5),
        torch.randn(7, 8),
        torch.randn(7, 3, 2),
    )
    energies = []
    for code in torch.eye(8):
        after = model.predict(state, action, code.expand(7, -1), tokens).state
        energies.append((after - target).square().mean(-1))
    free = model.free_energy(state, action, tokens, target)
    assert torch.allclose(free, torch.stack(energies).amin(0), atol=1e-6)
    z, _ = model.latent.infer(state, action, target)
    assert ((model.predict(state, action, z, tokens).state - target).square().mean(-1) >= free - 1e-6).all()


def two_outcomes(rows: int) -> tuple[LevelBatch, Tensor]:
    """Two records: where the action leads, and one of two outcomes of a coin that nothing foretells."""
    spec = level_spec()
    batch = level_batch(spec, rows, 2, ends=0.0)
    centres = torch.randn(4, 2, 8, generator=torch.Generator().manual_seed(5))
    coin = torch.randint(2, (rows,))
    after = centres[batch.lower_actions[:, 0].argmax(-1), coin]
    return batch, layer_norm(torch.stack((batch.lower_states[:, 0], after), 1), (8,))


def train_on_two_outcomes(latent: torch.nn.Module, information: float, steps: int = 150) -> JEPA:
    model = build(level_spec(), latent=latent, rollout=1, information=information, inverse_dynamics=0.0)
    optimiser = torch.optim.Adam(model.parameters(), 8e-3)
    for _ in range(steps):
        batch, states = two_outcomes(128)
        optimiser.zero_grad()
        model.loss(batch, states, states)[0].backward()
        optimiser.step()
    return model.eval()


def test_r22_amortised_z_finds_the_outcome_and_tells_no_more():
    latent = DiscreteLatent(DiscreteLatent.Config(codes=4), level_spec())
    model = train_on_two_outcomes(latent, information=0.05)
    batch, states = two_outcomes(256)
    action = model.infer_actions(batch)[0][:, 0]
    z, information = model.latent.infer(states[:, 0], action, states[:, 1])
    error = (model.predict(states[:, 0], action, z, batch.tokens[:, 0]).state - states[:, 1]).square().mean(-1)
    free = model.free_energy(states[:, 0], action, batch.tokens[:, 0], states[:, 1])
    assert error.mean() < 0.1
    assert error.mean() - free.mean() < 0.05
    assert 0.5 < information.mean() < 1.0  # a coin is worth log 2 = 0.69 nats


def test_r23_a_wide_z_without_information_penalty_collapses():
    """Prediction copies the target out of z and no longer looks at the action: swapping it changes little."""

    def use(information: float) -> tuple[Tensor, Tensor]:
        torch.manual_seed(3)
        latent = GaussianLatent(GaussianLatent.Config(dim=8), level_spec())
        model = train_on_two_outcomes(latent, information)
        batch, states = two_outcomes(512)
        action, tokens = model.infer_actions(batch)[0][:, 0], batch.tokens[:, 0]
        z, _ = model.latent.infer(states[:, 0], action, states[:, 1])
        given = model.predict(states[:, 0], action, z, tokens).state
        swapped = model.predict(states[:, 0], action.roll(1, 0), z, tokens).state
        return (given - states[:, 1]).square().mean(), (swapped - states[:, 1]).square().mean()

    error, swapped = use(information=0.0)
    assert error < 0.02 and swapped < 0.3
    error, swapped = use(information=0.05)
    assert error < 0.1 and swapped > 0.9
