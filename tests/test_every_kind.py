"""R1: every kind of every slot is taken by one override, acts in every mode, and learns."""

import pytest
import torch
from tiny_agent import DEBUG, DUMMY, SHAPING, batch_of, play, tiny_config, tiny_run, updates

from hjepa.config import load
from hjepa.config.registry import SLOTS, kinds
from hjepa.train.learning import agent_loss

PATHS = {
    "configurator": "configurator.kind={kind}",
    "perception": "perception.kind={kind}",
    "world_model": "world_model.kind={kind}",
    "encoder": "world_model.encoder.kind={kind}",
    "action_encoder": "world_model.action_encoder.kind={kind}",
    "predictor": "world_model.predictor.kind={kind}",
    "objective": "world_model.objective.kind={kind}",
    "latent": "world_model.latent.kind={kind}",
    "intrinsic_cost": "intrinsic_cost.kind={kind}",
    "drive": "intrinsic_cost.drives=[{{kind: task}}, {{kind: novelty}}, {{kind: {kind}}}]",
    "critic": "critic.kind={kind}",
    "memory": "memory.kind={kind}",
    "actor": "actor.kind={kind}",
    "planner": "levels.1.planner.kind={kind}",
    "policy": "actor.policy.kind={kind}",
}
"""The override that chooses a kind, as on the command line."""
UNUSED = {
    "configurator.modulation.bias",
    "configurator.modulation.weight",
    "actor.policies.0.displacement.bias",
    "actor.policies.0.displacement.weight",
}
"""Parameters that no loss reaches: drive weights are given, and the lowest level hands no state down."""
CASES = [(slot, kind) for slot in SLOTS for kind in kinds(slot)]


def modules_of(agent, slot):
    """The modules of a slot in an agent."""
    models, actor = agent.world_models, agent.actor
    return {
        "configurator": [agent.configurator],
        "perception": [agent.perception],
        "world_model": models,
        "encoder": [model.encoder for model in models[1:]],
        "action_encoder": [model.action_encoder for model in models],
        "predictor": [model.predictor for model in models],
        "objective": [model.objective for model in models],
        "latent": [model.latent for model in models],
        "intrinsic_cost": [agent.intrinsic_cost],
        "drive": agent.intrinsic_cost.drives,
        "critic": agent.critics,
        "memory": [agent.memory],
        "actor": [actor],
        "planner": actor.planners[1:],
        "policy": actor.policies,
    }[slot]


def overrides(slot: str, kind: str) -> list[str]:
    """What is written on the command line to have this kind."""
    if slot == "drive" and kind in ("task", "novelty"):
        return ["intrinsic_cost.drives=[{kind: task}, {kind: novelty}]"]
    if (slot, kind) == ("action_encoder", "discrete"):
        return []  # level 0's own, whatever the config says of the levels above
    return [PATHS[slot].format(kind=kind)]


def test_r01_every_slot_has_a_case() -> None:
    assert set(PATHS) == set(SLOTS)
    assert all(kinds(slot) for slot in SLOTS)


@pytest.mark.parametrize(("slot", "kind"), CASES, ids=[f"{slot}-{kind}" for slot, kind in CASES])
def test_r01_every_kind_acts_in_every_mode_and_learns(slot: str, kind: str, tmp_path) -> None:
    config = load(DEBUG, [f"env.id={DUMMY}", *overrides(slot, kind)])
    run = tiny_run(config, tmp_path, frames=60)
    agent, modules = run.agent, modules_of(run.agent, slot)
    files = {type(module).__module__.rpartition(".")[2] for module in modules}
    assert kind in files, "another implementation was built"
    for mode in (1, 2, "auto"):
        for _, decision, _ in play(agent, 2, mode, rows=2):
            assert ((decision.action >= 0) & (decision.action < 3)).all()
            assert torch.isfinite(decision.energies).all()
    before = [parameter.detach().clone() for module in modules for parameter in module.parameters()]
    infos = updates(agent, [batch_of(run, config, number) for number in range(2)])
    for name, value in infos[-1].items():
        assert torch.isfinite(value).all(), name
    after = [parameter for module in modules for parameter in module.parameters()]
    if any(parameter.requires_grad for parameter in after):
        assert any(not torch.equal(old, new) for old, new in zip(before, after, strict=True)), "nothing learned"


@pytest.mark.parametrize("levels", [1, 2, 3])
def test_r01_all_that_can_learn_gets_a_gradient(levels: int, tmp_path) -> None:
    config = tiny_config(levels, "configurator.kind=mission", "world_model.latent.kind=gaussian")
    run = tiny_run(config, tmp_path)
    infos = updates(run.agent, [batch_of(run, config)])
    assert torch.isfinite(infos[0]["total"])
    # The second update's: heads that begin at zero pass nothing on in the first.
    loss, _ = agent_loss(run.agent, batch_of(run, config, 1), SHAPING)
    run.agent.zero_grad()
    loss.backward()
    idle = {
        name
        for name, parameter in run.agent.named_parameters()
        if parameter.requires_grad and (parameter.grad is None or not parameter.grad.abs().sum() > 0)
    }
    assert idle == UNUSED
