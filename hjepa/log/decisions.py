"""Decisions taken while collecting: their energies, weights, modes and guardrail hits, since the last reading."""

import torch
from jaxtyping import Float
from torch import Tensor

from hjepa.cost import intrinsic_energy
from hjepa.log import tags
from hjepa.types import AgentSpec, Decision

SUMS = ("total", "mode_2", "evaluations", "surprise", "steps")


class DecisionTracker:
    """Adds up on the device, without host synchronisation, until `summary` reads and forgets."""

    def __init__(self, spec: AgentSpec) -> None:
        self._drives = spec.drives
        self._guardrails = [number for number, guardrail in enumerate(spec.guardrails) if guardrail]
        self._sums: Tensor | None = None

    def update(self, decision: Decision) -> None:
        """Count one decision of a batch."""
        energies = decision.energies
        hits = energies[:, self._guardrails] > 0
        total = intrinsic_energy(energies, decision.intrinsic_weights).mean()
        mode_2, rows = (decision.mode == 2).float().mean(), len(decision.mode)
        others = torch.stack(
            [total, mode_2, decision.evaluations / rows, decision.surprise.mean(), torch.ones_like(total)]
        )
        parts = (energies.mean(0), decision.intrinsic_weights.mean(0), hits.float().mean(0), others)
        added = torch.cat(parts).detach()
        self._sums = added if self._sums is None else self._sums + added

    def summary(self) -> dict[str, float]:
        """Means by tag since the last summary; {} where nothing was decided."""
        if self._sums is None:
            return {}
        values = (self._sums / self._sums[-1]).tolist()
        self._sums = None
        count = len(self._drives)
        scalars = {tags.ENERGY(name): values[number] for number, name in enumerate(self._drives)}
        scalars |= {tags.CONFIGURATOR_WEIGHT(name): values[count + n] for n, name in enumerate(self._drives)}
        hits = values[2 * count : 2 * count + len(self._guardrails)]
        scalars |= {tags.GUARDRAIL_HITS(self._drives[n]): hit for n, hit in zip(self._guardrails, hits, strict=True)}
        total, mode_2, evaluations, surprise, _ = values[-len(SUMS) :]
        return scalars | {
            tags.ENERGY_TOTAL(): total,
            tags.MODE_2_SHARE(): mode_2,
            tags.EVALUATIONS(): evaluations,
            tags.SURPRISE(): surprise,
        }

    def tensors(self) -> dict[str, Float[Tensor, " sums"]]:
        """All state, by name, for a checkpoint."""
        return {} if self._sums is None else {"decisions": self._sums}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Continue from what `tensors` gave, among which there may be others."""
        self._sums = tensors.get("decisions")
