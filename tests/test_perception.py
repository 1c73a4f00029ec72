"""What every kind of perception must do."""

import pytest
import torch

from hjepa.modules.perception.feedforward import Feedforward
from hjepa.modules.perception.pose_map import PoseMap
from hjepa.modules.perception.recurrent import Recurrent
from hjepa.types import AgentSpec, EnvSpec, LevelSpec, Observation

KINDS = [PoseMap, Feedforward, Recurrent]
DIM, TOKENS = 32, 5


def make(kind, token_dim=TOKENS, **fields):
    torch.manual_seed(0)
    level = LevelSpec(0, DIM, 4, DIM, 7, 1, 1, 5, 7, 7, DIM, 1, token_dim, 0.99)
    spec = AgentSpec(EnvSpec("any", 7, (7, 7), 100), (level,), ("task",), (False,), token_dim, 0.99)
    return kind(kind.Config(**fields), spec)


def views(*shape):
    parts = [torch.randint(0, high, (*shape, 7, 7), dtype=torch.uint8) for high in (10, 6, 3)]
    return Observation(torch.stack(parts, -1), torch.zeros(*shape, 3, dtype=torch.int64))


def window(batch, length):
    previous = torch.randint(0, 7, (batch, length))
    is_first = torch.zeros(batch, length, dtype=torch.bool)
    is_first[0, 3] = is_first[1, 0] = is_first[1, 6] = True
    return (
        views(batch, length),
        previous.masked_fill(is_first, -1),
        is_first,
        torch.randn(batch, length, 2, TOKENS),
    )


def away_from_the_start(module, batch):
    """A carry from the middle of an episode."""
    carry = module.initial(batch, torch.device("cpu"))
    for _ in range(3):
        carry = module(views(batch), torch.randint(0, 7, (batch,)), carry, torch.randn(batch, 2, TOKENS))[1]
    return carry.detach()


@pytest.mark.parametrize("kind", KINDS)
def test_observe_equals_stepping_with_resets_inside_the_window(kind):
    module = make(kind)
    carry = away_from_the_start(module, 3)
    observation, previous, is_first, tokens = window(3, 8)
    states, carries, fresh = [], [], module.initial(3, carry.device)
    for t in range(8):
        carries.append(carry.clone())
        carry = torch.where(is_first[:, t].view(-1, *[1] * (carry.dim() - 1)), fresh, carry)
        state, carry = module(observation[:, t], previous[:, t], carry, tokens[:, t])
        states.append(state)
    observed = module.observe(observation, previous, is_first, torch.stack(carries, 1), tokens)
    torch.testing.assert_close(observed, torch.stack(states, 1), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_states_are_layer_normed_and_the_given_carry_is_left_alone(kind):
    module = make(kind)
    carry = away_from_the_start(module, 3)
    kept = carry.clone()
    _, last = module(views(3), torch.randint(0, 7, (3,)), carry, torch.randn(3, 2, TOKENS))
    assert (last.shape, last.dtype) == (kept.shape, kept.dtype)
    assert torch.equal(carry, kept)
    carry = kept = kept[:, None].repeat(1, 8, *[1] * (kept.dim() - 1))
    carry = carry.clone()
    states = module.observe(*window(3, 8)[:3], carry, torch.randn(3, 8, 2, TOKENS))
    assert states.shape == (3, 8, DIM)
    assert torch.equal(carry, kept)
    torch.testing.assert_close(states.mean(-1), torch.zeros(3, 8), atol=1e-5, rtol=0)
    torch.testing.assert_close(states.var(-1, unbiased=False), torch.ones(3, 8), atol=1e-2, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_r13_masked_input_still_gives_a_state(kind):
    module = make(kind)
    masked = views(2).map(torch.zeros_like)
    tokens = torch.randn(2, 2, TOKENS)
    state, carry = module(masked, torch.tensor([-1, 2]), module.initial(2, torch.device("cpu")), tokens)
    assert state.isfinite().all()
    assert state.std() > 0.1
    again, _ = module(masked, torch.tensor([0, 2]), carry, tokens)
    assert again.isfinite().all()


@pytest.mark.parametrize("kind", [PoseMap, Recurrent])
def test_r13_what_was_seen_outlasts_a_masked_step(kind):
    module = make(kind)
    observation, masked = views(1), views(1).map(torch.zeros_like)
    tokens, still = torch.zeros(1, 2, TOKENS), torch.tensor([6])
    fresh = module.initial(1, torch.device("cpu"))
    _, remembers = module(observation, torch.tensor([-1]), fresh, tokens)
    seen, _ = module(masked, still, remembers, tokens)
    unseen, _ = module(masked, still, fresh, tokens)
    assert (seen - unseen).abs().max() > 0.05


@pytest.mark.parametrize("kind", KINDS)
def test_r8_task_tokens_change_the_state(kind):
    module = make(kind)
    arguments = (views(2), torch.tensor([-1, -1]), module.initial(2, torch.device("cpu")))
    tokens = torch.randn(2, 2, TOKENS, requires_grad=True)
    plain, _ = module(*arguments, torch.zeros(2, 2, TOKENS))
    torch.testing.assert_close(module(*arguments, tokens)[0], plain)  # FiLM starts as the identity
    (plain * torch.randn(2, DIM)).sum().backward()
    assert module.encoder.film.project.bias.grad.abs().sum() > 0
    torch.nn.init.normal_(module.encoder.film.project.weight)
    state, _ = module(*arguments, tokens)
    assert (state - plain).abs().max() > 0.1
    assert torch.autograd.grad((state * torch.randn(2, DIM)).sum(), tokens)[0].abs().sum() > 0


@pytest.mark.parametrize("kind", KINDS)
def test_every_parameter_gets_a_gradient(kind):
    module = make(kind, token_dim=0)
    observation, previous, is_first, _ = window(3, 8)
    tokens = torch.zeros(3, 8, 0, 0)
    carries = module.initial(3, torch.device("cpu"))[:, None]
    carries = carries.repeat(1, 8, *[1] * (carries.dim() - 2))
    states = module.observe(observation, previous, is_first, carries, tokens)
    (states * torch.randn_like(states)).sum().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in module.parameters())


def test_pose_map_rejects_a_map_that_cannot_hold_the_view():
    with pytest.raises(ValueError, match="odd"):
        PoseMap.Config(map_size=14)
    with pytest.raises(ValueError, match="at most map_size"):
        PoseMap.Config(map_size=13, crop=15)
    level = LevelSpec(0, DIM, 4, DIM, 7, 1, 1, 5, 7, 7, DIM, 1, 0, 0.99)
    spec = AgentSpec(EnvSpec("any", 7, (9, 9), 100), (level,), ("task",), (False,), 0, 0.99)
    with pytest.raises(ValueError, match="needs 17"):
        PoseMap(PoseMap.Config(map_size=13, periphery=9), spec)


def test_pose_map_shows_the_carried_object_in_the_hands_and_not_on_the_map():
    module = make(PoseMap, token_dim=0)
    image = torch.zeros(1, 7, 7, 3, dtype=torch.uint8)
    image[..., 0] = 1
    image[0, 3, 6] = torch.tensor([5, 4, 0], dtype=torch.uint8)
    empty_handed = image.clone()
    empty_handed[0, 3, 6] = torch.tensor([1, 0, 0], dtype=torch.uint8)
    mission, tokens, fresh = (
        torch.zeros(1, 3, dtype=torch.int64),
        torch.zeros(1, 0, 0),
        module.initial(1, image.device),
    )
    with_key, carry = module(Observation(image, mission), torch.tensor([-1]), fresh, tokens)
    without, other = module(Observation(empty_handed, mission), torch.tensor([-1]), fresh, tokens)
    assert (with_key - without).abs().max() > 1e-3
    assert torch.equal(carry[:, 0], other[:, 0])
