"""Action encoders: what a segment's action is, and what is in support."""

import math

import pytest
import torch
from tiny_agent import DUMMY, tiny_config

from hjepa.build import build_agent
from hjepa.config import ConfigError
from hjepa.envs.make import env_spec
from hjepa.modules.action_encoder.bank import MacroBank
from hjepa.modules.action_encoder.codes import MacroCodes
from hjepa.modules.action_encoder.discrete import DiscreteActions
from hjepa.types import LevelSpec


def spec(stride: int) -> LevelSpec:
    return LevelSpec(
        index=int(stride > 1), dim=6, action_dim=3, lower_dim=5, lower_action_dim=4, stride=stride,
        span=stride, horizon=2, num_env_actions=4, num_actions=0,
        upper_dim=6, num_drives=1, token_dim=0, discount=0.99,
    )  # fmt: skip


def segments(*lead: int) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(*lead, 4, 5), torch.randn(*lead, 3, 4)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.mark.parametrize("kind", [MacroCodes, MacroBank])
def test_macro_actions_have_their_shapes_and_gradients(kind):
    encoder = kind(kind.Config(), spec(3))
    states, actions = segments(2, 7)
    embedding, weights = encoder.infer(states.requires_grad_(), actions.requires_grad_())
    assert embedding.shape == (2, 7, 3)
    assert weights.shape == (2, 7, encoder.num_actions)
    assert torch.allclose(weights.sum(-1), torch.ones(2, 7))
    assert encoder.table().shape == (encoder.num_actions, 3)
    (embedding * torch.randn(2, 7, 3)).sum().backward()
    assert states.grad.abs().sum() > 0 and actions.grad.abs().sum() > 0
    support = encoder.support(torch.randn(2, 7, 6))
    assert torch.allclose(support.logsumexp(-1), torch.zeros(2, 7), atol=1e-5)


def test_discrete_actions_are_the_environment_s():
    encoder = DiscreteActions(DiscreteActions.Config(), spec(1))
    actions = torch.eye(4)[[2, 0]].unsqueeze(1)
    embedding, weights = encoder.infer(torch.randn(2, 2, 5), actions)
    assert torch.equal(embedding, encoder.table()[[2, 0]])
    assert weights.argmax(-1).tolist() == [2, 0]
    assert torch.allclose(encoder.support(torch.randn(3, 6)), torch.full((3, 4), -math.log(4)))
    nothing, _ = encoder.infer(torch.randn(1, 2, 5), torch.zeros(1, 1, 4))
    assert (nothing == 0).all()


@pytest.mark.parametrize("stride", [1, 2])
def test_discrete_actions_are_refused_above_level_0_when_the_agent_is_built(stride):
    config = tiny_config(2, "world_model.action_encoder.kind=discrete", f"levels.1.stride={stride}")
    with pytest.raises(ConfigError, match=r"^action_encoder\.discrete: .*level 1.*codes or bank$"):
        build_agent(config, env_spec(DUMMY))


def test_codes_embed_the_chosen_code_and_draw_only_in_training():
    encoder = MacroCodes(MacroCodes.Config(codes=5), spec(3))
    given = segments(40)
    embedding, weights = encoder.infer(*given)
    assert torch.allclose(embedding, encoder.table()[weights.argmax(-1)], atol=1e-5)
    assert not torch.equal(encoder.infer(*given)[1], encoder.infer(*given)[1])
    encoder.eval()
    assert torch.equal(encoder.infer(*given)[1], encoder.infer(*given)[1])


def test_codes_of_actions_alone_are_blind_to_what_came_of_them():
    states, actions = segments(40)
    for changes in (True, False):
        encoder = MacroCodes(MacroCodes.Config(codes=5, changes=changes), spec(3)).eval()
        code, elsewhere = encoder.infer(states, actions)[1], encoder.infer(torch.randn_like(states), actions)[1]
        assert torch.equal(code, elsewhere) != changes
        assert not torch.equal(code, encoder.infer(states, torch.randn_like(actions))[1])


def test_codes_usage_term_spreads_them_out():
    def perplexity(usage: float) -> float:
        torch.manual_seed(1)
        encoder = MacroCodes(MacroCodes.Config(codes=8, usage=usage), spec(3))
        torch.nn.init.constant_(encoder.posterior[-1].bias[0:1], 6.0)  # nearly all segments fall on code 0
        optimiser, given = torch.optim.Adam(encoder.parameters(), 0.01), segments(256)
        for _ in range(60):
            loss, info = encoder.loss(encoder.infer(*given)[1], torch.randn(256, 6))
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        return float(info["code_perplexity"])

    assert perplexity(1.0) > 6
    assert perplexity(0.0) < 3


def test_codes_prior_learns_what_occurs_from_a_state_and_shapes_no_encoder():
    encoder = MacroCodes(MacroCodes.Config(codes=3, usage=0.0), spec(3))
    state = torch.randn(300, 6, requires_grad=True)
    occurs = (state[:, 0] > 0).long()  # code 2 never occurs
    weights = torch.eye(3)[occurs]
    optimiser = torch.optim.Adam(encoder.prior.parameters(), 0.02)
    for _ in range(100):
        optimiser.zero_grad()
        encoder.loss(weights, state)[0].backward()
        optimiser.step()
    assert state.grad is None
    support = encoder.support(state.detach())
    assert (support.argmax(-1) == occurs).float().mean() > 0.95
    assert support[:, 2].exp().mean() < 0.05


@pytest.mark.parametrize("kind", [MacroCodes, MacroBank])
def test_rows_without_weights_do_not_count(kind):
    encoder = kind(kind.Config(), spec(3))
    weights, state = encoder.infer(*segments(20))[1].detach(), torch.randn(20, 6)
    weights[10:] = 0
    assert torch.isclose(encoder.loss(weights, state)[0], encoder.loss(weights[:10], state[:10])[0], atol=1e-5)


def test_bank_is_refilled_in_training_with_macro_actions_of_real_segments():
    encoder = MacroBank(MacroBank.Config(entries=8, refresh=4), spec(3))
    before = encoder.table()
    states, actions = segments(50)
    actions[25:] = 0  # nothing was done there
    with torch.no_grad():
        inferred, _ = encoder.infer(states, actions)
    after = encoder.table()
    assert torch.equal(after[4:], before[4:])
    same = (after[:4, None] == inferred).all(-1)
    assert same[:, :25].any(-1).all() and not same[:, 25:].any()
    encoder.infer(states, actions)
    assert encoder.cursor == 0 and not torch.equal(encoder.table()[4:], before[4:])
    encoder.eval()
    kept = encoder.table()
    encoder.infer(states, actions)
    assert torch.equal(encoder.table(), kept)


def test_bank_weights_are_the_nearest_entry_and_support_prefers_likely_ones():
    encoder = MacroBank(MacroBank.Config(entries=32), spec(3)).eval()
    action, weights = encoder.infer(*segments(9))
    distance = torch.cdist(action, encoder.table())
    assert torch.equal(weights.argmax(-1), distance.argmin(-1))
    state, chosen = torch.randn(64, 6), torch.eye(32)[3].expand(64, -1)
    optimiser = torch.optim.Adam(encoder.prior.parameters(), 0.02)
    for _ in range(60):
        optimiser.zero_grad()
        encoder.loss(chosen, state)[0].backward()
        optimiser.step()
    assert (encoder.support(state).argmax(-1) == 3).all()
