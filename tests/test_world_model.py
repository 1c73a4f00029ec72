"""A level's JEPA: rollouts, gradients, masks, readouts, latent variables."""

import pytest
import torch
from torch import Tensor
from torch.nn.functional import layer_norm, one_hot

from hjepa.data.spans import spans
from hjepa.interfaces import Objective
from hjepa.modules.action_encoder.bank import MacroBank
from hjepa.modules.action_encoder.codes import MacroCodes
from hjepa.modules.action_encoder.discrete import DiscreteActions
from hjepa.modules.encoder.identity import IdentityEncoder
from hjepa.modules.encoder.mlp import MLPEncoder
from hjepa.modules.latent.discrete import DiscreteLatent
from hjepa.modules.latent.gaussian import GaussianLatent
from hjepa.modules.latent.none import NoLatent
from hjepa.modules.latent.sparse import SparseLatent
from hjepa.modules.objective.ema import EMAObjective
from hjepa.modules.objective.infonce import InfoNCEObjective
from hjepa.modules.objective.sigreg import SIGRegObjective
from hjepa.modules.objective.vicreg import VICRegObjective
from hjepa.modules.predictor.gru import GRUPredictor
from hjepa.modules.predictor.residual import ResidualPredictor
from hjepa.modules.world_model.jepa import JEPA
from hjepa.types import LevelBatch, LevelSpec

OBJECTIVES = [EMAObjective, VICRegObjective, SIGRegObjective, InfoNCEObjective]
LATENTS = [NoLatent, DiscreteLatent, GaussianLatent, SparseLatent]


class Spy(Objective):
    """Keeps what it is given."""

    target_network = True

    def forward(self, states, predictions, targets, mask):
        self.predictions, self.targets, self.mask = predictions, targets, mask
        return (predictions - targets).square().mean(), {}


def level_spec(index: int = 0, stride: int = 1, span: int = 1, dim: int = 8, tokens: int = 0) -> LevelSpec:
    return LevelSpec(
        index=index, dim=dim, action_dim=5, lower_dim=dim, lower_action_dim=4 if index == 0 else 5,
        stride=stride, span=span, horizon=2, num_env_actions=4, num_actions=0,
        upper_dim=dim, num_drives=2, token_dim=tokens,
        discount=0.9,
    )  # fmt: skip


def build(spec: LevelSpec, predictor=None, objective=None, latent=None, actions=None, **settings) -> JEPA:
    """A world model of small parts; parts are built from their default configs unless given."""
    lowest = spec.index == 0
    kinds = {
        "encoder": IdentityEncoder if lowest else MLPEncoder,
        "action_encoder": actions or (DiscreteActions if lowest else MacroCodes),
        "predictor": predictor or ResidualPredictor,
        "objective": objective or EMAObjective,
        "latent": latent or NoLatent,
    }
    parts = {
        name: part if isinstance(part, torch.nn.Module) else part(part.Config(), spec) for name, part in kinds.items()
    }
    return JEPA(JEPA.Config(**settings), spec, **parts)


def level_batch(spec: LevelSpec, rows: int = 6, time: int = 20, ends: float = 0.06) -> LevelBatch:
    """Random windows that cross episodes, some terminated and some cut off by the time limit."""
    over = torch.rand(rows, time) < ends
    terminated = over & (torch.rand(rows, time) < 0.7)
    is_first = torch.zeros_like(over)
    is_first[:, 1:] = over[:, :-1]
    energies = torch.randn(rows, time, 2)
    steps = spans(is_first, terminated, over & ~terminated, energies, spec.span, spec.discount)
    lower = layer_norm(torch.randn(rows, time, spec.lower_dim), (spec.lower_dim,))
    actions = torch.randn(rows, time, spec.lower_action_dim)
    if spec.index == 0:
        actions = one_hot(torch.randint(4, (rows, time)), 4).float()
    tokens = torch.randn(rows, time, 3, spec.token_dim) if spec.token_dim else torch.zeros(rows, time, 0, 0)
    return LevelBatch(lower, lower.clone(), actions, steps, tokens)


def random_states(spec: LevelSpec, rows: int = 6, time: int = 20) -> Tensor:
    return layer_norm(torch.randn(rows, time, spec.dim), (spec.dim,))


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


SPECS = [level_spec(), level_spec(1, 3, 3), level_spec(2, 2, 6)]


@pytest.mark.parametrize("spec", SPECS, ids=["level0", "level1", "level2"])
@pytest.mark.parametrize("predictor", [ResidualPredictor, GRUPredictor])
def test_r9_rollouts_in_the_loss_equal_chained_single_steps(spec, predictor):
    spy = Spy()
    model, batch, states = (
        build(spec, predictor, spy, rollout=3).eval(),
        level_batch(spec),
        random_states(spec),
    )
    with torch.no_grad():
        model.loss(batch, states, states)
        action, _ = model.infer_actions(batch)
    found, expected = [], []
    for row, start, step, index in chains(batch, spec, 3):
        state = states[row, start]
        for k in range(step + 1):
            tokens = batch.tokens[row, start + k * spec.span]
            with torch.no_grad():
                state = model.predict(
                    state[None], action[row, start + k * spec.span][None], state[None, :0], tokens[None]
                ).state[0]
        found.append(spy.predictions[index])
        expected.append(state)
    assert len(found) > 20
    assert torch.allclose(torch.stack(found), torch.stack(expected), atol=1e-5)


def chains(batch: LevelBatch, spec: LevelSpec, rollout: int):
    """Every rollout step with a target, by walking along `Spans.end`: row, start, step, place."""
    rows, time = batch.spans.end.shape
    offset = 0
    for step in range(min(rollout, (time - 1) // spec.span)):
        starts = time - 1 - step * spec.span
        for row in range(rows):
            for start in range(starts):
                at, alive = start, True
                for k in range(step + 1):
                    alive = alive and bool(batch.spans.reaches[row, at])
                    alive = alive and (k == step or not batch.spans.ended[row, at])
                    at = int(batch.spans.end[row, at])
                if alive:
                    yield row, start, step, offset + row * starts + start
        offset += rows * starts


@pytest.mark.parametrize("spec", SPECS, ids=["level0", "level1", "level2"])
def test_r10_a_step_of_a_level_is_compared_with_the_state_one_span_on(spec):
    spy = Spy()
    model, batch, states = build(spec, objective=spy, rollout=3), level_batch(spec), random_states(spec)
    model.loss(batch, states, states)
    expected = torch.zeros_like(spy.mask)
    for row, start, step, index in chains(batch, spec, 3):
        expected[index] = True
        assert torch.equal(spy.targets[index], states[row, start + (step + 1) * spec.span])
    assert torch.equal(spy.mask, expected)
    assert 0 < expected.sum() < len(expected)


def test_r11_candidates_are_batched():
    spec = level_spec(tokens=2)
    model = build(spec, latent=GaussianLatent).eval()
    state, action, latent, tokens = (
        torch.randn(2, 3, 4, 8),
        torch.randn(2, 3, 4, 5),
        torch.randn(2, 3, 4, 8),
        torch.randn(2, 3, 4, 6, 2),
    )
    whole = model.predict(state, action, latent, tokens)
    one = model.predict(state[1, 2, 3], action[1, 2, 3], latent[1, 2, 3], tokens[1, 2, 3])
    assert torch.allclose(whole.state[1, 2, 3], one.state, atol=1e-5)
    assert torch.allclose(whole.energies[1, 2, 3], one.energies, atol=1e-5)
    assert whole.log_continue.shape == (2, 3, 4) and (whole.log_continue < 0).all()
    assert model.lower(state).shape == state.shape


@pytest.mark.parametrize("predictor", [ResidualPredictor, GRUPredictor])
def test_r2_prediction_is_differentiable_in_state_action_and_z(predictor):
    model = build(level_spec(tokens=2), predictor, latent=GaussianLatent).double()
    model.energy_scale.fill_(2.0)
    torch.nn.init.normal_(model.readout[-1].weight)
    inputs = [torch.randn(3, width, dtype=torch.float64, requires_grad=True) for width in (8, 5, 8)]
    tokens = torch.randn(3, 4, 2, dtype=torch.float64, requires_grad=True)

    def function(*given: Tensor) -> tuple[Tensor, ...]:
        prediction = model.predict(*given)
        return prediction.state, prediction.energies, prediction.log_continue

    assert torch.autograd.gradcheck(function, (*inputs, tokens))


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("spec", SPECS[:2], ids=["level0", "level1"])
def test_r3_r18_gradient_reaches_encoder_and_every_part_under_every_objective(spec, objective):
    model, batch = build(spec, objective=objective), level_batch(spec)
    lower = batch.lower_states.requires_grad_()
    states = model.encoder(lower, batch.tokens)
    loss, info = model.loss(batch, states, states.detach())
    loss.backward()
    assert torch.isfinite(loss)
    assert all(torch.isfinite(value) and not value.requires_grad for value in info.values())
    assert lower.grad.abs().sum() > 0
    # The readout of energies begins at zero, so that what feeds it gets its gradient from the second step on.
    missing = [name for name, p in model.named_parameters() if p.grad is None]
    assert missing == []


@pytest.mark.parametrize("actions", [MacroCodes, MacroBank])
def test_r3_gradient_reaches_macro_actions(actions):
    spec = level_spec(1, 3, 3)
    model, batch, states = (
        build(spec, actions=actions, objective=Spy(), inverse_dynamics=0.0),
        level_batch(spec),
        random_states(spec),
    )
    model.loss(batch, states, states)[0].backward()
    network = model.action_encoder.posterior if actions is MacroCodes else model.action_encoder.pool
    assert network[0].weight.grad.abs().sum() > 0


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


def test_r19_monitors_tell_collapse_and_slow_features_apart():
    model = build(level_spec())
    healthy = model.monitors(torch.randn(64, 20, 8))
    assert healthy["effective_rank"] > 7.5 and healthy["within_episode_std"] > 0.9
    slow = model.monitors(torch.randn(64, 1, 8).expand(-1, 20, -1))
    assert slow["std"] > 0.8 and slow["effective_rank"] > 7 and slow["within_episode_std"] < 1e-5
    flat = model.monitors(torch.randn(64, 20, 1).expand(-1, -1, 8))
    assert flat["effective_rank"] < 1.1
    assert model.monitors(torch.ones(64, 20, 8))["std"] < 1e-6


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


def test_infer_actions_clips_segments_to_their_ends():
    spec, seen = level_spec(2, 2, 6), {}
    batch = level_batch(spec, ends=0.15)
    model = build(spec)
    infer = model.action_encoder.infer

    def record(states: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        seen["states"], seen["actions"] = states, actions
        return infer(states, actions)

    model.action_encoder.infer = record
    model.infer_actions(batch)
    for row in range(6):
        for start in range(20):
            end = int(batch.spans.end[row, start])
            for step in range(3):
                at = start + 3 * step
                assert torch.equal(seen["states"][row, start, step], batch.lower_states[row, min(at, end)])
                if step < 2:
                    expected = batch.lower_actions[row, at] if at < end else torch.zeros(5)
                    assert torch.equal(seen["actions"][row, start, step], expected)


def test_readouts_learn_energies_of_any_scale_and_the_end_of_episodes():
    spec = level_spec()
    model = build(spec, rollout=2)
    optimiser = torch.optim.Adam(model.parameters(), 1e-2)
    scale = torch.tensor([100.0, 0.01])
    for _ in range(150):
        batch, states = coloured(spec, scale)
        optimiser.zero_grad()
        model.loss(batch, states, states)[0].backward()
        optimiser.step()
    batch, states = coloured(spec, scale)
    action, _ = model.infer_actions(batch)
    model.eval()
    prediction = model.predict(states, action, states[..., :0], batch.tokens)
    valid, energies = batch.spans.valid, batch.spans.energies
    error = ((prediction.energies - energies).abs() / scale)[valid].mean(0)
    assert (error < 0.1).all()
    going = prediction.log_continue.exp()
    assert going[valid & batch.spans.ended].mean() < 0.3 and going[valid & ~batch.spans.ended].mean() > 0.9


def coloured(spec: LevelSpec, scale: Tensor) -> tuple[LevelBatch, Tensor]:
    """Actions 0 and 1 meet the two drives' energies; action 2 ends the episode."""
    kind = torch.randint(4, (16, 12))
    previous = torch.cat((torch.full((16, 1), 3), kind[:, :-1]), 1)
    over = previous == 2
    is_first = torch.zeros_like(over)
    is_first[:, 1:] = over[:, :-1]
    energies = one_hot(previous, 4)[..., :2] * scale
    steps = spans(is_first, over, torch.zeros_like(over), energies, 1, 0.9)
    states = layer_norm(torch.randn(16, 12, 8), (8,))
    return LevelBatch(states, states, one_hot(kind, 4).float(), steps, torch.zeros(16, 12, 0, 0)), states


def test_the_lower_readout_shapes_no_state():
    spec = level_spec(1, 3, 3)
    model, batch = (
        build(spec, objective=Spy(), prediction=0.0, energy=0.0, continuation=0.0, inverse_dynamics=0.0),
        level_batch(spec),
    )
    states = random_states(spec).requires_grad_()
    model.loss(batch, states, states.detach())[0].backward()
    assert states.grad is None or (states.grad == 0).all()
    assert model.lower_head[0].weight.grad.abs().sum() > 0


def test_slowness_terms_are_off_by_default_and_named_when_on():
    spec = level_spec()
    batch, states = level_batch(spec), random_states(spec)
    assert not {"temporal_variance", "time_similarity"} & build(spec).loss(batch, states, states)[1].keys()
    _, info = build(spec, temporal_variance=1.0, time_similarity=1.0).loss(batch, states, states)
    assert info["time_similarity"] > 0 and info["temporal_variance"] >= 0


def test_identity_encoder_needs_equal_widths():
    spec = level_spec(1, 2, 2)
    with pytest.raises(ValueError, match=r"levels\.1\.dim"):
        IdentityEncoder(IdentityEncoder.Config(), LevelSpec(**{**vars(spec), "lower_dim": 3}))


def test_r8_task_tokens_change_the_lifted_and_the_predicted_state():
    spec = level_spec(1, 2, 2, tokens=3)
    model = build(spec)
    for module in model.modules():
        if hasattr(module, "project") and module.project is not None:
            torch.nn.init.normal_(module.project.weight)
    state, action, tokens = torch.randn(4, 8), torch.randn(4, 5), torch.randn(4, 2, 3)
    lifted = model.encoder(state, tokens)
    assert not torch.allclose(lifted, model.encoder(state, 2 * tokens))
    after = model.predict(state, action, state[:, :0], tokens).state
    assert not torch.allclose(after, model.predict(state, action, state[:, :0], 2 * tokens).state)


def test_golden_losses():
    found = []
    for spec in SPECS:
        torch.manual_seed(7)
        model, batch, states = build(spec), level_batch(spec), random_states(spec)
        found.append(model.loss(batch, states, random_states(spec))[0])
    assert torch.allclose(torch.stack(found), torch.tensor(GOLDEN), rtol=1e-4)


GOLDEN = [8.334314, 12.460142, 12.859006]
