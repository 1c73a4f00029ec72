"""Probes: read the view, and linearly the pose, back from every level's state. They watch the agent and
never touch it.

Trained beside the agent on detached states, with an optimiser and random numbers of their own, so that a
run with them and one without are equal bit for bit. With them a subgoal latent can be drawn as a picture.
Accuracies are prequential: each state is scored before it is learned from.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float, Int
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from hjepa.envs.vector import Record
from hjepa.log import tags
from hjepa.log.pose import PoseTracker
from hjepa.types import Decision

OBJECTS, COLORS, STATES = 11, 6, 4
"""Numbers of MiniGrid's objects, colours and states of a cell."""
CHANNELS = OBJECTS + COLORS + STATES
POSE = 4
"""Columns and rows since the episode's start, cosine and sine of the direction."""
PROBE_FILE = "probe.safetensors"


@dataclass(frozen=True)
class DecodedView:
    """What a state says of the view; `*B` any batch shape."""

    view: Int[Tensor, "*B W V 3"]
    """Likeliest object, colour and state of each cell."""
    confidence: Float[Tensor, "*B W V"]
    """Probability of the likeliest object."""


class Decoder(nn.Module):
    """One level's probe: an MLP to the cells of the view, and a linear map to the pose."""

    mean: Tensor
    scale: Tensor
    pose_weight: Tensor
    pose_error: Tensor

    def __init__(self, dim: int, view: tuple[int, int], hidden: int, generator: torch.Generator) -> None:
        super().__init__()
        self.view = view
        self.first = _linear(dim, hidden, generator)
        self.last = _linear(hidden, view[0] * view[1] * CHANNELS, generator)
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("scale", torch.ones(dim))
        self.register_buffer("pose_weight", torch.zeros(dim + 1, POSE))
        self.register_buffer("pose_error", torch.full((), float("inf")))

    def forward(self, state: Float[Tensor, "*B D"]) -> Float[Tensor, "*B W V 21"]:
        """Logits of object, colour and state of every cell."""
        logits = self.last(F.gelu(self.first(self._standard(state))))
        return logits.unflatten(-1, (*self.view, CHANNELS))

    def pose(self, state: Float[Tensor, "*B D"]) -> Float[Tensor, "*B 4"]:
        """Linear readout of the pose."""
        return _with_one(self._standard(state)) @ self.pose_weight

    def fit_pose(self, states: Float[Tensor, "R D"], poses: Float[Tensor, "R 4"]) -> None:
        """Ridge regression in closed form."""
        rows = _with_one(self._standard(states)).double()
        ridge = 1e-3 * len(rows) * torch.eye(rows.shape[1], dtype=rows.dtype, device=rows.device)
        solution = torch.linalg.solve(rows.mT @ rows + ridge, rows.mT @ poses.double())
        self.pose_weight.copy_(solution)

    def standardise(self, states: Float[Tensor, "R D"]) -> None:
        """Take mean and scale of the inputs from these states."""
        self.mean.copy_(states.mean(0))
        self.scale.copy_(states.std(0).clamp_min(1e-3))

    def _standard(self, state: Tensor) -> Tensor:
        return (state - self.mean) / self.scale


class Probe(nn.Module):
    """Decoders of all levels, and the last states that were met, to learn from."""

    def __init__(
        self,
        dims: Sequence[int],
        view: tuple[int, int] = (7, 7),
        hidden: int = 256,
        capacity: int = 2048,
        learning_rate: float = 1e-3,
        seed: int = 0,
    ) -> None:
        """`dims`: the width of each level's state. Keeps the last `capacity` states."""
        super().__init__()
        self.settings = {"dims": list(dims), "view": list(view), "hidden": hidden}
        self._generator = torch.Generator().manual_seed(seed)
        self.decoders = nn.ModuleList([Decoder(dim, view, hidden, self._generator) for dim in dims])
        self._optimizer = torch.optim.Adam(self.parameters(), learning_rate)
        self._capacity = capacity
        self._poses = PoseTracker()
        self._views: list[Tensor] = []
        self._pose_rows: list[Tensor] = []
        self._states: list[tuple[Tensor, ...]] = []
        self._fresh = 0

    def decoder(self, level: int) -> Decoder:
        """The probe of one level."""
        decoder = self.decoders[level]
        assert isinstance(decoder, Decoder)
        return decoder

    def observe(self, decision: Decision, record: Record) -> None:
        """Keep one step of a batch, which must be the next of each row. No host synchronisation."""
        self._views.append(record.image)
        self._pose_rows.append(_pose_target(self._poses.update(record)))
        self._states.append(tuple(level.state.detach().float() for level in decision.levels))
        self._fresh += 1
        surplus = len(self._views) - max(1, self._capacity // len(record.image))
        for kept in (self._views, self._pose_rows, self._states):
            del kept[: max(surplus, 0)]

    def fit(self, updates: int = 16, batch: int = 128) -> dict[str, float]:
        """Score what came since the last call, then learn from what is kept. Scalars by tag; {} where
        nothing came."""
        if self._fresh == 0:
            return {}
        fresh = min(self._fresh, len(self._views))
        views, poses = torch.cat(self._views).long(), torch.cat(self._pose_rows)
        new = sum(len(view) for view in self._views[-fresh:])
        scalars: dict[str, float] = {}
        for level in range(len(self.decoders)):
            states = torch.cat([step[level] for step in self._states])
            decoder = self.decoder(level)
            scalars |= _score(level, decoder, states[-new:], views[-new:], poses[-new:])
            decoder.standardise(states)
            decoder.fit_pose(states, poses)
            self._learn(decoder, states, views, updates, batch)
        self._fresh = 0
        return scalars

    @torch.no_grad()
    def decode(self, level: int, state: Float[Tensor, "*B D"]) -> DecodedView:
        """The view that a state of `level` stands for, on the cpu."""
        logits = self.decoder(level)(state.to(self.decoder(level).mean.device)).cpu()
        objects, colors, states = logits.split([OBJECTS, COLORS, STATES], -1)
        view = torch.stack([part.argmax(-1) for part in (objects, colors, states)], -1)
        return DecodedView(view, objects.softmax(-1).amax(-1))

    @torch.no_grad()
    def position(self, level: int, state: Float[Tensor, "*B D"]) -> Float[Tensor, "*B 2"]:
        """Columns and rows since the episode's start, in the frame of `pose.PoseTracker`, on the cpu."""
        return self.decoder(level).pose(state.to(self.decoder(level).mean.device))[..., :2].cpu()

    def position_error(self, level: int) -> float:
        """Mean error of `position` when last scored, in cells; inf before that."""
        return float(self.decoder(level).pose_error)

    def save(self, run_dir: Path) -> None:
        """Write the decoders into the run folder, so that `hjepa watch` can draw subgoals."""
        target = run_dir / PROBE_FILE
        temporary = target.with_name(target.name + ".tmp")
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in self.state_dict().items()}
        save_file(tensors, temporary, metadata={"settings": json.dumps(self.settings)})
        temporary.replace(target)

    def _learn(self, decoder: Decoder, states: Tensor, views: Tensor, updates: int, batch: int) -> None:
        with torch.enable_grad():
            for _ in range(updates):
                rows = torch.randint(len(states), (batch,), generator=self._generator).to(states.device)
                loss = _cell_loss(decoder(states[rows]), views[rows])
                self._optimizer.zero_grad()
                loss.backward()
                self._optimizer.step()


def load_probe(run_dir: Path) -> Probe | None:
    """The probe that a run has saved; None where it has none."""
    path = run_dir / PROBE_FILE
    if not path.is_file():
        return None
    with safe_open(path, framework="pt") as file:
        settings = json.loads(file.metadata()["settings"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    columns, rows = settings["view"]
    probe = Probe(settings["dims"], (columns, rows), settings["hidden"])
    probe.load_state_dict(tensors)
    return probe


def _linear(inputs: int, outputs: int, generator: torch.Generator) -> nn.Linear:
    # Built without torch's global random numbers, which belong to the run.
    layer = nn.Linear(inputs, outputs, device="meta").to_empty(device="cpu")
    with torch.no_grad():
        layer.weight.normal_(0.0, inputs**-0.5, generator=generator)
        layer.bias.zero_()
    return layer


def _with_one(rows: Float[Tensor, "*B D"]) -> Float[Tensor, "*B D_1"]:
    return torch.cat([rows, torch.ones_like(rows[..., :1])], -1)


def _pose_target(pose: Int[Tensor, "B 3"]) -> Float[Tensor, "B 4"]:
    angle = pose[:, 2] * (torch.pi / 2)
    return torch.stack([pose[:, 0].float(), pose[:, 1].float(), angle.cos(), angle.sin()], 1)


def _cell_loss(logits: Float[Tensor, "R W V 21"], views: Int[Tensor, "R W V 3"]) -> Float[Tensor, ""]:
    parts = logits.split([OBJECTS, COLORS, STATES], -1)
    losses = [
        F.cross_entropy(part.flatten(0, 2), views[..., channel].clamp_max(part.shape[-1] - 1).flatten())
        for channel, part in enumerate(parts)
    ]
    return torch.stack(losses).sum()


@torch.no_grad()
def _score(
    level: int,
    decoder: Decoder,
    states: Float[Tensor, "R D"],
    views: Int[Tensor, "R W V 3"],
    poses: Float[Tensor, "R 4"],
) -> dict[str, float]:
    right = decoder(states)[..., :OBJECTS].argmax(-1) == views[..., 0]
    error = torch.linalg.vector_norm(decoder.pose(states)[:, :2] - poses[:, :2], dim=1).mean()
    decoder.pose_error.copy_(error)
    return {
        tags.PROBE_CELL_ACCURACY(level): float(right.float().mean()),
        tags.PROBE_POSITION_ERROR(level): float(error),
    }
