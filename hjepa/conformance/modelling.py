"""What the parts of a world model promise, and the whole."""

from dataclasses import replace

import torch
from torch import Tensor, nn

from hjepa.conformance.cases import ROWS, TIME, Bench, Sample, expect, level_spans
from hjepa.conformance.core import promised_by, require, require_close, require_shape
from hjepa.interfaces import ActionEncoder, Encoder, Latent, Loss, Objective, Predictor, WorldModel
from hjepa.types import LevelBatch


# ------------------------------------------------------------------- shared
def require_gradient(name: str, tensor: Tensor) -> None:
    """Raise BrokenPromiseError unless a finite gradient other than zero has reached a leaf."""
    require(tensor.grad is not None, f"no gradient reaches {name}")
    assert tensor.grad is not None
    require(tensor.grad.isfinite().all(), f"the gradient of {name} is not finite")
    require(tensor.grad.abs().sum() > 0, f"the gradient of {name} is zero")


def require_trained(module: nn.Module) -> None:
    """Raise BrokenPromiseError where a module has parameters and none of them got a gradient."""
    parameters = list(module.parameters())
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    trained = any(bool(gradient.abs().sum() > 0) for gradient in gradients)
    require(trained or not parameters, "no gradient reaches its parameters")


def require_loss(loss: Loss) -> Tensor:
    """A scalar, finite loss whose info holds detached scalars; returns the loss."""
    value, info = loss
    require_shape("loss", value)
    require(value.isfinite(), "the loss is not finite")
    for name, term in info.items():
        require(isinstance(term, Tensor) and term.dim() == 0, f"info[{name!r}] is not a scalar tensor")
        require(not term.requires_grad, f"info[{name!r}] carries a gradient: detach it")
    return value


def leaf(tensor: Tensor) -> Tensor:
    """A copy that a gradient can reach."""
    return tensor.detach().clone().requires_grad_()


def weigh(tensor: Tensor) -> Tensor:
    """A scalar of a tensor that no symmetry makes flat."""
    generator = torch.linspace(-1, 1.3, tensor.numel()).sin().view_as(tensor)
    return (tensor * generator).sum()


# ------------------------------------------------------------------- encoder
@promised_by("encoder")
def any_leading_shape(bench: Bench) -> None:
    """[B, D] and [B, T, D] are encoded alike."""
    module, sample = expect(bench.module, Encoder).eval(), bench.sample()
    whole = module(sample.lower_states, sample.tokens)
    require_shape("state", whole, ROWS, TIME, bench.level.dim)
    one = module(sample.lower_states[:, 0], sample.tokens[:, 0])
    require_shape("state of one record", one, ROWS, bench.level.dim)
    require_close("a record alone and in its window", one, whole[:, 0])


@promised_by("encoder")
def gradient_reaches_the_lower_state(bench: Bench) -> None:
    """Subgoals are judged after lifting: the gradient must come through, and train the encoder."""
    lower, sample = leaf(bench.sample().lower_states), bench.sample()
    state = expect(bench.module, Encoder)(lower, sample.tokens)
    require(state.requires_grad, "the state carries no gradient")
    weigh(state).backward()
    require_gradient("the lower state", lower)
    require_trained(bench.module)


# ------------------------------------------------------------------- action encoder
@promised_by("action_encoder")
def choices(bench: Bench) -> None:
    """A table of `num_actions` embeddings; an action, weights over the choices and a log prior a row."""
    module, sample = expect(bench.module, ActionEncoder).eval(), bench.sample()
    count, width = module.num_actions, bench.level.action_dim
    require_shape("table()", module.table(), count, width)
    action, weights = module.infer(sample.segment_states, sample.segment_actions)
    require_shape("inferred action", action, ROWS, width)
    require_shape("weights", weights, ROWS, count)
    require((weights > -1e-5).all() and (weights.sum(-1) < 1 + 1e-4).all(), "weights are not a distribution")
    support = module.support(sample.states)
    require_shape("support", support, ROWS, TIME, count)
    require_close("exp(support) summed and 1", support.exp().sum(-1), torch.ones(ROWS, TIME), 1e-3)


@promised_by("action_encoder")
def segments_of_any_leading_shape(bench: Bench) -> None:
    """[B, stride, M] and [B, T, stride, M] are inferred alike."""
    module, sample = expect(bench.module, ActionEncoder).eval(), bench.sample()
    states, actions = sample.segment_states, sample.segment_actions
    single, _ = module.infer(states, actions)
    double, _ = module.infer(torch.stack((states, states), 1), torch.stack((actions, actions), 1))
    require_shape("action", double, ROWS, 2, bench.level.action_dim)
    require_close("the same segment twice", double[:, 1], single)


@promised_by("action_encoder")
def gradient_reaches_the_inference(bench: Bench) -> None:
    """The inferred action trains the encoder."""
    sample = bench.sample()
    action, _ = expect(bench.module, ActionEncoder).infer(sample.segment_states, sample.segment_actions)
    require(action.requires_grad or not list(bench.module.parameters()), "the action carries no gradient")
    weigh(action).backward()
    require_trained(bench.module)


@promised_by("action_encoder")
def loss_of_nothing_is_finite(bench: Bench) -> None:
    """Its loss is finite, also where no row counts, and does not move the states."""
    module, sample = expect(bench.module, ActionEncoder), bench.sample()
    _, weights = module.infer(sample.segment_states, sample.segment_actions)
    states = leaf(sample.states[:, 0])
    require_loss(module.loss(torch.zeros_like(weights), states))
    value = require_loss(module.loss(weights, states))
    if value.requires_grad:
        value.backward()
    require(states.grad is None or not states.grad.any(), "its loss moves the states it starts from")


# ------------------------------------------------------------------- predictor
@promised_by("predictor")
def predicts_any_leading_shape(bench: Bench) -> None:
    """Candidates are batched: [B, D] and [B, N, S, D] are predicted alike."""
    module, sample = expect(bench.module, Predictor).eval(), bench.sample()
    arguments = [sample.states, sample.actions, sample.latent, sample.tokens]
    whole = module(*arguments)
    require_shape("state", whole, ROWS, TIME, bench.level.dim)
    one = module(*(tensor[:, 0] for tensor in arguments))
    deep = module(*(tensor.unsqueeze(1) for tensor in arguments))
    require_close("one record alone and in its batch", one, whole[:, 0])
    require_close("a batch with a candidate dimension", deep.squeeze(1), whole)


@promised_by("predictor")
def differentiable_in_every_argument(bench: Bench) -> None:
    """Planning by gradient goes through state, action and z; training through the parameters."""
    sample = bench.sample()
    inputs = {"state": leaf(sample.states), "action": leaf(sample.actions), "latent": leaf(sample.latent)}
    weigh(expect(bench.module, Predictor)(*inputs.values(), sample.tokens)).backward()
    for name, tensor in inputs.items():
        require_gradient(name, tensor)
    require_trained(bench.module)


# ------------------------------------------------------------------- latent variable
@promised_by("latent")
def latent_shapes(bench: Bench) -> None:
    """z is `dim` wide wherever it comes from; R(z) is a number a row, in nats and so not negative."""
    module, sample = expect(bench.module, Latent), bench.sample()
    states, actions = sample.states[:, :-1], sample.actions[:, :-1]
    inferred, information = module.infer(states, actions, sample.states[:, 1:])
    require_shape("inferred z", inferred, ROWS, TIME - 1, module.dim)
    require_shape("R(z)", information, ROWS, TIME - 1)
    require((information >= -1e-4).all(), "R(z) is negative")
    require_shape("samples of z", module.sample(sample.states, 4), ROWS, TIME, 4, module.dim)
    candidates = module.candidates(sample.states)
    require(candidates.dim() == 4 and candidates.shape[2] > 0, f"candidates have shape {list(candidates.shape)}")
    require_shape("candidates of z", candidates, ROWS, TIME, candidates.shape[2], module.dim)


@promised_by("latent")
def inference_is_trained(bench: Bench) -> None:
    """Both z and its information penalty have a gradient (unless z is empty)."""
    module, sample = expect(bench.module, Latent), bench.sample()
    states, actions = sample.states[:, :-1], sample.actions[:, :-1]
    inferred, information = module.infer(states, actions, sample.states[:, 1:])
    if module.dim == 0:
        require(information.abs().sum() == 0, "an empty z has no information")
        return
    for name, value in (("z", inferred), ("R(z)", information)):
        require(value.requires_grad, f"{name} carries no gradient")
        module.zero_grad()
        weigh(value).backward(retain_graph=True)
        require_trained(module)


# ------------------------------------------------------------------- objective
def objective_inputs(sample: Sample) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """States, predictions, targets and a mask that leaves some rows out."""
    states, targets = leaf(sample.states), leaf(sample.states[:, 1:].flatten(0, 1))
    predictions = leaf(targets + 0.3 * sample.states[:, :-1].flatten(0, 1))
    return states, predictions, targets, ~sample.is_first[:, 1:].flatten()


@promised_by("objective")
def loss_and_gradient(bench: Bench) -> None:
    """A scalar loss that moves predictions, and no targets where these come from the moving average."""
    module = expect(bench.module, Objective)
    states, predictions, targets, mask = objective_inputs(bench.sample())
    require_loss(module(states, predictions, targets, mask)).backward()
    require_gradient("predictions", predictions)
    moved = targets.grad is not None and bool(targets.grad.any())
    require(not (module.target_network and moved), "the gradient reaches the moving average's states")


@promised_by("objective")
def masked_rows_do_not_count(bench: Bench) -> None:
    """What stands in a row outside the mask is nothing to the loss; an empty mask is finite."""
    module = expect(bench.module, Objective).eval()
    states, predictions, targets, mask = (tensor.detach() for tensor in objective_inputs(bench.sample()))
    values = []
    for noise in (0.0, 5.0):
        torch.manual_seed(0)
        changed = torch.where(mask[:, None], predictions, predictions + noise)
        values.append(module(states, changed, torch.where(mask[:, None], targets, targets - noise), mask)[0])
    require_close("losses with other numbers outside the mask", values[1], values[0])
    require_loss(module(states, predictions, targets, torch.zeros_like(mask)))


@promised_by("objective")
def prefers_the_truth(bench: Bench) -> None:
    """A perfect prediction costs less than a bad one."""
    module = expect(bench.module, Objective).eval()
    states, _, targets, mask = (tensor.detach() for tensor in objective_inputs(bench.sample()))
    values = []
    for predictions in (targets, -targets):
        torch.manual_seed(0)
        values.append(float(module(states, predictions, targets, mask)[0].detach()))
    truth, opposite = values
    require(truth < opposite, f"the truth costs {truth:.3g}, its opposite {opposite:.3g}")


# ------------------------------------------------------------------- world model
def level_batch(bench: Bench, sample: Sample) -> LevelBatch:
    """The level's share of a training batch."""
    steps = level_spans(sample, bench.level)
    return LevelBatch(sample.lower_states, sample.lower_states, sample.lower_actions, steps, sample.tokens)


@promised_by("world_model")
def prediction_shapes(bench: Bench) -> None:
    """The next state, an energy for every drive, a log-probability, and the readout of the level below."""
    module, sample, level = expect(bench.module, WorldModel), bench.sample(), bench.level
    latents = torch.zeros(ROWS, TIME, module.latent.dim)
    prediction = module.predict(sample.states, sample.actions, latents, sample.tokens)
    require_shape("state", prediction.state, ROWS, TIME, level.dim)
    require_shape("energies", prediction.energies, ROWS, TIME, level.num_drives)
    require_shape("log_continue", prediction.log_continue, ROWS, TIME)
    require((prediction.log_continue <= 0).all(), "log_continue is positive: it is a log-probability")
    require_shape("lower", module.lower(sample.states), ROWS, TIME, level.lower_dim)
    require(module.spec == level, "spec is not the level it was built for")


@promised_by("world_model")
def prediction_is_differentiable(bench: Bench) -> None:
    """The gradient of the cost reaches state and action through the prediction."""
    module, sample = expect(bench.module, WorldModel), bench.sample()
    state, action = leaf(sample.states), leaf(sample.actions)
    latents = torch.zeros(ROWS, TIME, module.latent.dim)
    weigh(module.predict(state, action, latents, sample.tokens).state).backward()
    require_gradient("state", state)
    require_gradient("action", action)


@promised_by("world_model")
def loss_trains_the_state(bench: Bench) -> None:
    """The JEPA loss moves the level's own states and its parameters, never the moving average's states."""
    module, sample = expect(bench.module, WorldModel), bench.sample()
    states, targets = leaf(sample.states), leaf(sample.states + 0.1)
    require_loss(module.loss(level_batch(bench, sample), states, targets)).backward()
    require_gradient("the level's states", states)
    require(targets.grad is None or not targets.grad.any(), "the loss moves the moving average's states")
    require_trained(module)


@promised_by("world_model")
def loss_without_a_target_is_finite(bench: Bench) -> None:
    """A batch in which no step reaches anything still has a finite loss and gradient."""
    module, sample = expect(bench.module, WorldModel), bench.sample()
    batch = level_batch(bench, sample)
    nothing = torch.zeros_like(batch.spans.reaches)
    batch = replace(batch, spans=replace(batch.spans, reaches=nothing, ended=nothing, valid=nothing))
    states = leaf(sample.states)
    value = require_loss(module.loss(batch, states, sample.states))
    if value.requires_grad:
        value.backward()
    require(states.grad is None or bool(states.grad.isfinite().all()), "the gradient is not finite")
