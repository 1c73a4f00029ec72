"""The loss of a whole batch: what it is made of, what it reaches, and that it teaches."""

from copy import deepcopy

import pytest
import torch
from tiny_agent import SHAPING, batch_of, play, tiny_config, tiny_run, updates

from hjepa.data.spans import spans
from hjepa.train.learning import (
    Shaping,
    agent_loss,
    choices_taken,
    critic_batch,
    critic_loss,
    encode,
    level_batch,
    one_hot_actions,
)
from hjepa.train.seeding import seed_everything_at


def reached(agent, loss) -> set[str]:
    """Which parts of the agent a loss has a gradient in."""
    agent.zero_grad()
    loss.backward()
    return {
        ".".join(name.split(".")[:2])
        for name, parameter in agent.named_parameters()
        if parameter.grad is not None and parameter.grad.abs().sum() > 0
    }


@pytest.mark.parametrize("levels", [1, 2, 3])
def test_r03_the_loss_reaches_perception_encoders_and_policies(levels: int, tmp_path) -> None:
    config = tiny_config(levels)
    run = tiny_run(config, tmp_path)
    agent = run.agent
    updates(agent, [batch_of(run, config)])
    agent.zero_grad()
    agent_loss(agent, batch_of(run, config, 1), SHAPING)[0].backward()
    parts = [agent.perception, *agent.actor.policies]
    parts += [model.encoder for model in list(agent.world_models)[1:]]
    for part in parts:
        assert sum(float(p.grad.abs().sum()) for p in part.parameters() if p.grad is not None) > 0
    for part in (agent.target_perception, agent.target_encoders, agent.target_critics):
        assert all(parameter.grad is None for parameter in part.parameters())
    assert not list(agent.intrinsic_cost.parameters())


def test_r30_learning_reads_the_store_and_never_the_environment(tmp_path) -> None:
    config = tiny_config(2)
    run = tiny_run(config, tmp_path)
    batch, twin = batch_of(run, config), batch_of(run, config)

    def untouchable(*arguments):
        raise AssertionError("the environment was asked")

    for env in run.env.envs:
        env.step = env.reset = untouchable
    run.env.step = run.collector.collect_until = untouchable
    losses = []
    for drawn in (batch, twin):
        seed_everything_at(0)
        # A copy: computing a loss moves running statistics.
        losses.append(agent_loss(deepcopy(run.agent), drawn, SHAPING)[0])
    assert torch.equal(*losses)


def test_r07_every_levels_steps_span_the_product_of_the_strides(tmp_path) -> None:
    config = tiny_config(3)
    run = tiny_run(config, tmp_path)
    batch = batch_of(run, config)
    windows = encode(run.agent, batch, SHAPING)
    for level, span in enumerate((1, 2, 6)):
        found = windows.spans[level]
        ends = (batch.is_first, batch.terminated, batch.truncated, batch.energies)
        expected = spans(*ends, span, config.discount)
        assert torch.equal(found.end, expected.end) and torch.equal(found.energies, expected.energies)
        length = found.end - torch.arange(config.train.window)
        assert (length[found.reaches] == span).all() and found.reaches.any()


def test_r10_the_higher_the_level_the_more_time_a_predicted_step_takes(tmp_path) -> None:
    config = tiny_config(3)
    run = tiny_run(config, tmp_path)
    windows = encode(run.agent, batch_of(run, config), SHAPING)
    lower_actions = one_hot_actions(windows.actions, run.agent.spec.env.num_actions)
    for level in range(3):
        batch = level_batch(windows, level, lower_actions)
        lower_actions = choices_taken(run.agent, windows, batch, level).embeddings
        assert lower_actions.shape[-1] == 4
        assert batch.lower_states.shape[-1] == (16, 16, 12)[level]
        assert not batch.lower_states.requires_grad or level == 0


def test_terms_are_named_by_level_and_finite(tmp_path) -> None:
    config = tiny_config(2)
    run = tiny_run(config, tmp_path)
    _, info = agent_loss(run.agent, batch_of(run, config), SHAPING)
    assert {name.partition("/")[0] for name in info} == {
        "level_0",
        "level_1",
        "critic_0",
        "critic_1",
        "actor",
    }
    for name, value in info.items():
        assert value.dim() == 0 and not value.requires_grad and torch.isfinite(value), name


@pytest.mark.parametrize("shapes", [True, False])
def test_the_critic_shapes_perception_only_where_asked(shapes: bool, tmp_path) -> None:
    config = tiny_config(2)
    run = tiny_run(config, tmp_path)
    updates(run.agent, [batch_of(run, config)])
    shaping = Shaping(critic_shapes_encoder=shapes, upper_shapes_lower=False)
    for level in (0, 1):
        windows = encode(run.agent, batch_of(run, config, 1), shaping)
        actions = one_hot_actions(windows.actions, 3)
        if level:
            actions = choices_taken(run.agent, windows, level_batch(windows, 0, actions), 0).embeddings
        taken = choices_taken(run.agent, windows, level_batch(windows, level, actions), level)
        steps = critic_batch(windows, level, taken.indices, shaping)
        loss, _ = critic_loss(run.agent, windows, level, steps, actions)
        parts = reached(run.agent, loss)
        assert f"critics.{level}" in parts
        assert any(name.startswith("perception.") for name in parts) == (shapes and level == 0)


@pytest.mark.parametrize("shapes", [True, False])
def test_an_upper_level_shapes_the_lower_one_only_where_asked(shapes: bool, tmp_path) -> None:
    config = tiny_config(2)
    run = tiny_run(config, tmp_path)
    windows = encode(run.agent, batch_of(run, config), Shaping(False, shapes))
    parts = reached(run.agent, windows.states[1].square().sum())
    assert any(name.startswith("world_models") for name in parts)
    assert any(name.startswith("perception") for name in parts) == shapes


def test_targets_move_by_the_rate(tmp_path) -> None:
    config = tiny_config(2)
    agent = tiny_run(config, tmp_path).agent
    for parameter in (*agent.perception.parameters(), *agent.critics.parameters()):
        parameter.data.add_(1.0)
    old = [parameter.clone() for parameter in agent.target_perception.parameters()]
    agent.update_targets(0.25)
    for before, now, online in zip(
        old, agent.target_perception.parameters(), agent.perception.parameters(), strict=True
    ):
        torch.testing.assert_close(now, before.lerp(online, 0.25))


def test_r12_the_world_model_learns_online_from_mode_1(tmp_path) -> None:
    """Alternating a little acting in mode 1 with an update, predictions and readouts get better."""
    config = tiny_config(1, "train.collect_mode=1", "train.epsilon=0.3")
    run = tiny_run(config, tmp_path)
    batches, modes = [], []
    run.collector.observers.append(lambda decision, record: modes.append(decision.mode))
    for number in range(40):
        run.collector.collect_until(100 + 8 * number)
        batches.append(batch_of(run, config, number))
    assert (torch.stack(modes) == 1).all()
    # The first batches come back at the end: later ones hold more ends of episodes, and are harder.
    infos = updates(run.agent, batches * 3 + batches[:8], rate=5e-3)
    for term in ("level_0/energy_readout", "level_0/continue"):
        early = sum(float(info[term]) for info in infos[:8])
        late = sum(float(info[term]) for info in infos[-8:])
        assert late < 0.7 * early, (term, early, late)
    assert all((decision.mode == 1).all() for _, decision, _ in play(run.agent.eval(), 2, 1))
