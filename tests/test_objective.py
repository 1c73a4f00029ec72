"""Objectives: the criteria of L22 as separate terms, on both branches, and each one against collapse."""

import pytest
import torch

from hjepa.modules.objective.ema import EMAObjective
from hjepa.modules.objective.infonce import InfoNCEObjective
from hjepa.modules.objective.sigreg import SIGRegObjective
from hjepa.modules.objective.vicreg import VICRegObjective
from hjepa.types import LevelSpec

KINDS = [EMAObjective, VICRegObjective, SIGRegObjective, InfoNCEObjective]


def spec() -> LevelSpec:
    return LevelSpec(
        index=0, dim=6, action_dim=3, lower_dim=6, lower_action_dim=4, stride=1, span=1, horizon=2,
        num_env_actions=4, num_actions=4, upper_dim=6, num_drives=1, token_dim=0, discount=0.99,
    )  # fmt: skip


def case() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    states, mask = torch.randn(16, 5, 6), torch.rand(64) < 0.8
    return states, torch.randn(64, 6), states[:, 1:].reshape(64, 6), mask


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.mark.parametrize("kind", KINDS)
def test_r16_criteria_are_separate_terms(kind):
    _, info = kind(kind.Config(), spec())(*case())
    assert {"informative_source", "informative_target", "predictable"} <= info.keys()
    assert not any(value.requires_grad for value in info.values())
    assert all(value.shape == () for value in info.values())


@pytest.mark.parametrize("kind", KINDS)
def test_rows_outside_the_mask_change_nothing(kind):
    objective = kind(kind.Config(), spec())
    states, predictions, targets, mask = case()
    torch.manual_seed(1)
    loss, _ = objective(states, predictions, targets, mask)
    torch.manual_seed(1)
    predictions[~mask], targets[~mask] = 1e3, -1e3
    assert torch.isclose(objective(states, predictions, targets, mask)[0], loss, rtol=1e-5)


def test_r17_vicreg_acts_on_both_branches_without_the_prediction_error():
    objective = VICRegObjective(VICRegObjective.Config(prediction=0.0), spec())
    states, predictions, _, mask = case()
    targets = torch.randn(64, 6).mul(0.3).requires_grad_()
    states = (0.3 * states).requires_grad_()
    objective(states, predictions, targets, mask)[0].backward()
    assert states.grad.abs().sum() > 0 and targets.grad.abs().sum() > 0
    assert (targets.grad[~mask] == 0).all()


def test_r17_vicreg_moves_targets_toward_predictions_and_ema_does_not():
    for kind, moves in ((VICRegObjective, True), (EMAObjective, False)):
        states, predictions, _, mask = case()
        targets = torch.randn(64, 6).requires_grad_()
        objective = kind(kind.Config(), spec())
        assert objective.target_network is not moves
        loss, _ = objective(states.requires_grad_(), predictions, targets, mask)
        loss.backward()
        assert (targets.grad is not None) is moves


@pytest.mark.parametrize("kind", KINDS)
def test_r18_every_objective_keeps_an_encoder_from_collapsing_where_plain_prediction_does_not(kind):
    """The encoder learns to predict itself; shrinking is what prediction error alone asks for."""

    def spread(objective: torch.nn.Module | None) -> float:
        torch.manual_seed(2)
        encoder, predictor = torch.nn.Linear(8, 6), torch.nn.Linear(6, 6)
        learned = [encoder, predictor] + ([objective] if objective else [])
        optimiser = torch.optim.Adam([p for module in learned for p in module.parameters()], 0.02)
        for _ in range(120):
            start = torch.randn(64, 1, 8)
            states = encoder(torch.cat((start, 0.7 * start + 0.7 * torch.randn_like(start)), 1))
            predictions, targets = predictor(states[:, 0]), states[:, 1]
            mask = torch.ones(64, dtype=torch.bool)
            loss = (predictions - targets).square().mean()
            if objective is not None:
                loss, _ = objective(states, predictions, targets, mask)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        return float(states.detach().flatten(0, 1).std(0).mean())

    settings = {"directions": 64, "weight": 1.0} if kind is SIGRegObjective else {}
    alone, kept = spread(None), spread(kind(kind.Config(**settings), spec()))
    assert alone < 0.1
    assert kept > 2 * alone


@pytest.mark.parametrize("kind", [EMAObjective, VICRegObjective, SIGRegObjective])
def test_r19_the_terms_within_windows_see_slow_features(kind):
    layout = torch.randn(64, 1, 6).expand(-1, 8, -1).contiguous()
    rows, mask = layout[:, 1:].reshape(-1, 6), torch.ones(64 * 7, dtype=torch.bool)
    costs = []
    for within in (0.0, 1.0):
        torch.manual_seed(3)
        settings = {"directions": 64} if kind is SIGRegObjective else {}
        objective = kind(kind.Config(within=within, **settings), spec())
        slow = objective(layout, rows, rows, mask)[0]
        torch.manual_seed(3)
        fast = objective(torch.randn(64, 8, 6), rows, rows, mask)[0]
        costs.append(float((slow - fast).detach()))
    assert costs[1] > costs[0] + 0.1
