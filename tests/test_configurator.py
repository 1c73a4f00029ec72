"""Configurators: weights, floors, tokens, and the words they read."""

import numpy as np
import pytest
import torch

from hjepa.envs.text import MISSION_VOCABULARY, MISSION_WORDS, encode_mission
from hjepa.modules.configurator.fixed import Fixed
from hjepa.modules.configurator.mission import Mission
from hjepa.types import AgentSpec, EnvSpec, LevelSpec

DRIVES = ("task", "novelty", "guardrail")
TEXTS = ("go to the red ball", "go to the ball red", "open the blue door", "")


def make(kind, **fields):
    torch.manual_seed(0)
    config = kind.Config(**fields)
    levels = tuple(LevelSpec(i, 16, 4, 16, 7, 1, 1, 5, 7, 7, 16, 3, config.token_dim, 0.99) for i in range(2))
    env = EnvSpec("any", 7, (7, 7), 100)
    return kind(config, AgentSpec(env, levels, DRIVES, (False, False, True), config.token_dim, 0.99))


def missions():
    return torch.from_numpy(np.stack([encode_mission(text) for text in TEXTS]))


@pytest.mark.parametrize("kind", [Fixed, Mission])
def test_r43_weights_goal_and_tokens_have_the_shapes_of_the_message(kind):
    module = make(kind, intrinsic_weights={"task": 10.0, "novelty": 0.2}, critic_weight=0.5)
    task = module(missions(), torch.randn(4, 16))
    assert task.tokens.shape == ((4, 0, 0) if kind is Fixed else (4, 4, 32))
    torch.testing.assert_close(task.intrinsic_weights, torch.tensor([[10.0, 0.2, 1.0]]).expand(4, 3))
    torch.testing.assert_close(task.critic_weights, torch.full((4, 2), 0.5))
    assert task.goal.shape == (4, 16)
    assert not task.has_goal.any()


def test_r43_missions_set_different_tokens_and_weights():
    module = make(Mission)
    torch.nn.init.normal_(module.modulation.weight)
    task = module(missions(), torch.zeros(4, 16))
    for first in range(4):
        for second in range(first):
            assert (task.tokens[first] - task.tokens[second]).abs().max() > 0.05, (
                TEXTS[first],
                TEXTS[second],
            )
            assert (task.intrinsic_weights[first, :2] - task.intrinsic_weights[second, :2]).abs().max() > 1e-3
    assert task.tokens.isfinite().all()


def test_r43_gradient_reaches_every_parameter():
    module = make(Mission)
    torch.nn.init.normal_(module.modulation.weight)
    task = module(missions(), torch.zeros(4, 16))
    ((task.tokens * torch.randn_like(task.tokens)).sum() + task.intrinsic_weights[:, 0].sum()).backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in module.parameters())


@pytest.mark.parametrize("push", [-100.0, 100.0])
def test_r26_no_modulation_takes_a_guardrail_below_its_floor(push):
    module = make(Mission, intrinsic_weights={"guardrail": 3.0, "task": 2.0}, floors={"guardrail": 2.5})
    torch.nn.init.constant_(module.modulation.bias, push)
    weights = module(missions(), torch.zeros(4, 16)).intrinsic_weights
    expected = [0.0, 0.0, 2.5] if push < 0 else [4.0, 2.0, 6.0]
    torch.testing.assert_close(weights, torch.tensor(expected).expand(4, 3))


@pytest.mark.parametrize("kind", [Fixed, Mission])
def test_r26_a_guardrail_has_a_floor_by_default(kind):
    module = make(kind, intrinsic_weights={"guardrail": 0.0, "task": 0.0})
    weights = module(missions(), torch.zeros(4, 16)).intrinsic_weights
    torch.testing.assert_close(weights, torch.tensor([[0.0, 1.0, 1.0]]).expand(4, 3))


@pytest.mark.parametrize("kind", [Fixed, Mission])
@pytest.mark.parametrize("field", ["intrinsic_weights", "floors"])
def test_r43_a_misspelt_drive_is_named_with_the_options(kind, field):
    with pytest.raises(ValueError, match=r"'novlety'; the drives are task, novelty, guardrail; .* 'novelty'"):
        make(kind, **{field: {"novlety": 1.0}})


@pytest.mark.parametrize("kind", [Fixed, Mission])
def test_r43_negative_weights_are_refused(kind):
    with pytest.raises(ValueError, match="greater than or equal to 0"):
        kind.Config(intrinsic_weights={"task": -1.0})


def test_r43_padding_does_not_change_the_task():
    module = make(Mission)
    words = missions()[:1]
    longer = torch.nn.functional.pad(words[:, :8], (0, 4))
    torch.testing.assert_close(module(words, torch.zeros(1, 16)).tokens, module(longer, torch.zeros(1, 16)).tokens)


def test_words_are_numbered_alike_on_every_machine():
    numbers = encode_mission("Use the key, to open the door!")
    assert numbers.shape == (MISSION_WORDS,)
    assert numbers.dtype == np.int64
    assert numbers[:8].tolist() == encode_mission("use the key to open the door").tolist()[:8]
    assert numbers[7:].tolist() == [0] * (MISSION_WORDS - 7)
    assert numbers[1] == numbers[5]
    assert (numbers[:7] > 0).all() and (numbers < MISSION_VOCABULARY).all()
    assert encode_mission("go").tolist()[0] == 337
    assert (encode_mission("word " * 100) > 0).all()
    assert not encode_mission("").any()


@pytest.mark.parametrize("kind", [Fixed, Mission])
def test_what_is_worth_exploring_for_fades_as_the_agent_succeeds(kind):
    module = make(
        kind, intrinsic_weights={"task": 10.0, "novelty": 0.4}, final_weights={"novelty": 0.0, "guardrail": 0.0}
    )
    expected = {0.0: 0.4, 0.5: 0.2, 1.0: 0.0}
    for competence, novelty in expected.items():
        module.competence.fill_(competence)
        weights = module(missions(), torch.zeros(4, 16)).intrinsic_weights
        torch.testing.assert_close(weights, torch.tensor([[10.0, novelty, 1.0]]).expand(4, 3))
