"""The probe matrix: which true facts can be read linearly off each level's states.

Ridge regression in closed form on the even rows of a sample, scored on the odd ones, which are other layouts. Being a
function of the sample alone, it draws no random number and has nothing to save.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import one_hot

from hjepa.log import sample_tags
from hjepa.log.facts import Facts
from hjepa.log.sample import Sample

RIDGE = 1e-2


@dataclass(frozen=True)
class ProbeMatrix:
    """Accuracies by fact and level, beside that of always naming the commonest class."""

    facts: tuple[str, ...]
    accuracy: Float[Tensor, "facts L"]
    baseline: Float[Tensor, " facts"]
    constant: tuple[str, ...]
    """Facts that took one value only, which no probe can be asked for."""

    def scalars(self) -> dict[str, float]:
        """By tag."""
        found = {sample_tags.PROBE_BASELINE(fact): float(self.baseline[row]) for row, fact in enumerate(self.facts)}
        for row, fact in enumerate(self.facts):
            for level in range(self.accuracy.shape[1]):
                found[sample_tags.PROBE_FACT(level, fact)] = float(self.accuracy[row, level])
        return found


def probe_matrix(sample: Sample) -> ProbeMatrix:
    """Fit and score every fact at every level."""
    facts, constant, accuracy, baseline = [], [], [], []
    for name in sample_tags.FACTS:
        labels = sample.facts.classes(name)
        if int((labels == labels[0, 0]).all()):
            constant.append(name)
            continue
        facts.append(name)
        baseline.append(_commonest(labels))
        accuracy.append([_accuracy(level.state, sample.facts, name) for level in sample.levels])
    shape = (len(facts), len(sample.levels))
    return ProbeMatrix(tuple(facts), torch.tensor(accuracy).view(shape), torch.tensor(baseline), tuple(constant))


@dataclass(frozen=True)
class Places:
    """Where each level's states say that the agent is: a linear readout of the true column and row."""

    weights: tuple[Float[Tensor, "D_1 2"], ...]
    errors: tuple[float, ...]
    """Mean distance to the true place on other layouts, in cells, a level."""

    def at(self, level: int, states: Float[Tensor, "N D"]) -> Float[Tensor, "N 2"]:
        """Columns and rows that states of a level stand for."""
        return _with_one(states) @ self.weights[level]


def places(sample: Sample) -> Places:
    """Fit the readout on the even rows of a sample; its errors are those on the odd ones."""
    true = torch.stack([sample.facts.column, sample.facts.row], -1).float()
    weights, errors = [], []
    for level in sample.levels:
        learned, asked = (_with_one(level.state[rows::2].flatten(0, 1)) for rows in (0, 1))
        solution = _solve(learned, true[::2].flatten(0, 1))
        off = asked @ solution - true[1::2].flatten(0, 1)
        weights.append(solution.cpu())
        errors.append(float(torch.linalg.vector_norm(off, dim=-1).mean()))
    return Places(tuple(weights), tuple(errors))


def _with_one(rows: Float[Tensor, "N D"]) -> Float[Tensor, "N D_1"]:
    return torch.nn.functional.pad(rows, (0, 1), value=1.0)


def _commonest(labels: Int[Tensor, "B T"]) -> float:
    learned, asked = labels[::2], labels[1::2]
    return float((asked == learned.flatten().mode().values).float().mean())


def _accuracy(states: Float[Tensor, "B T D"], facts: Facts, name: str) -> float:
    learned, asked = states[::2].flatten(0, 1), states[1::2].flatten(0, 1)
    mean, scale = learned.mean(0), learned.std(0).clamp_min(1e-3)
    inputs, questions = (torch.nn.functional.pad((rows - mean) / scale, (0, 1), value=1.0) for rows in (learned, asked))
    if name == "position":
        # As numbers: cells are too many to be learned one by one.
        places = torch.stack([facts.column, facts.row], -1).float()
        answers = (questions @ _solve(inputs, places[::2].flatten(0, 1))).round()
        return float((answers == places[1::2].flatten(0, 1)).all(-1).float().mean())
    labels = facts.classes(name)
    classes, numbers = labels[::2].flatten().unique(return_inverse=True)
    answers = (questions @ _solve(inputs, one_hot(numbers, len(classes)).float())).argmax(-1)
    return float((classes[answers] == labels[1::2].flatten()).float().mean())


def _solve(inputs: Float[Tensor, "R D"], targets: Float[Tensor, "R K"]) -> Float[Tensor, "D K"]:
    rows = inputs.double()
    ridge = RIDGE * len(rows) * torch.eye(rows.shape[1], dtype=rows.dtype, device=rows.device)
    return torch.linalg.solve(rows.mT @ rows + ridge, rows.mT @ targets.double()).float()
