"""A level's JEPA: rollouts, gradients, masks, readouts."""

import pytest
import torch
from torch import Tensor
from torch.nn.functional import layer_norm, one_hot
from world_model_parts import SPECS, Spy, build, level_batch, level_spec, random_states

from hjepa.data.spans import spans
from hjepa.modules.action_encoder.bank import MacroBank
from hjepa.modules.action_encoder.codes import MacroCodes
from hjepa.modules.encoder.identity import IdentityEncoder
from hjepa.modules.latent.gaussian import GaussianLatent
from hjepa.modules.objective.ema import EMAObjective
from hjepa.modules.objective.infonce import InfoNCEObjective
from hjepa.modules.objective.sigreg import SIGRegObjective
from hjepa.modules.objective.vicreg import VICRegObjective
from hjepa.modules.predictor.gru import GRUPredictor
from hjepa.modules.predictor.residual import ResidualPredictor
from hjepa.types import LevelBatch, LevelSpec

OBJECTIVES = [EMAObjective, VICRegObjective, SIGRegObjective, InfoNCEObjective]


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


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


def test_r19_monitors_tell_collapse_and_slow_features_apart():
    model = build(level_spec())
    healthy = model.monitors(torch.randn(64, 20, 8))
    assert healthy["effective_rank"] > 7.5 and healthy["within_episode_std"] > 0.9
    slow = model.monitors(torch.randn(64, 1, 8).expand(-1, 20, -1))
    assert slow["std"] > 0.8 and slow["effective_rank"] > 7 and slow["within_episode_std"] < 1e-5
    flat = model.monitors(torch.randn(64, 20, 1).expand(-1, -1, 8))
    assert flat["effective_rank"] < 1.1
    assert model.monitors(torch.ones(64, 20, 8))["std"] < 1e-6


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
