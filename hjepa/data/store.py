"""The episode store: what was experienced, in memory as a ring and on disk as append-only shards.

It is the replay memory for training, another object than the agent's short-term memory. Every environment is
a stream; record number t of a stream (counted since the run began) lies at place t modulo the ring's length,
so that a store restored from disk equals the one that was saved, place by place.

A shard is written once and never changed. It is deleted by `prune`, not when it leaves the ring: until the
next checkpoint is durable, the last one still needs it.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from pydantic import Field, ValidationError
from torch import Tensor

from hjepa.config import ConfigError, ConfigModel
from hjepa.data.files import TEMPORARY, checksum, read_tensors, sync_folder, tensor_bytes, write_atomic
from hjepa.envs.text import MISSION_WORDS
from hjepa.envs.vector import Record
from hjepa.types import EnvSpec, Observation, Trajectory


class Shard(ConfigModel):
    """A file of records `first` up to `first + count` of every stream."""

    first: int = Field(ge=0)
    count: int = Field(gt=0)
    sha256: str = Field(pattern="^[0-9a-f]{64}$")

    @property
    def name(self) -> str:
        """File name; not stored, so that a manifest cannot name any other file."""
        return f"records_{self.first:012d}_{self.end:012d}.safetensors"

    @property
    def end(self) -> int:
        """Number of the first record after the shard."""
        return self.first + self.count


class Manifest(ConfigModel):
    """What a checkpoint keeps of the store: which shards hold its records, and their checksums."""

    num_envs: int
    length: int
    written: int = Field(ge=0)
    shards: tuple[Shard, ...]

    @classmethod
    def parse(cls, manifest: dict[str, Any]) -> "Manifest":
        """Validate what `EpisodeStore.flush` gave, or raise ConfigError."""
        try:
            return cls.model_validate_json(json.dumps(manifest))
        except ValidationError as error:
            first = error.errors()[0]
            path = ".".join(str(part) for part in first["loc"])
            raise ConfigError(f"store manifest: {path}: {first['msg']}") from error


class EpisodeStore:
    """Streams of records, [num_envs, time]; the last `capacity_records` over all streams are kept."""

    def __init__(
        self,
        capacity_records: int,
        num_envs: int,
        spec: EnvSpec,
        num_drives: int,
        carry: Tensor,
        folder: Path,
    ) -> None:
        """`carry` is an example of perception's carry, [any, *S], of which type and S are taken.

        `folder` is made at the first flush. Raises ValueError where the capacity is less than a record a
        stream.
        """
        self.num_envs, self.length, self.folder = num_envs, capacity_records // num_envs, folder
        if self.length < 1:
            raise ValueError(f"capacity_records must be at least {num_envs}, one a stream (got {capacity_records})")
        self.written = 0
        """Records appended to each stream since the run began."""
        self._shards: list[Shard] = []
        self._ring = {
            "image": self._stream(torch.uint8, *spec.view, 3),
            "mission": self._stream(torch.int16, MISSION_WORDS),
            "previous_action": self._stream(torch.int16),
            "reward": self._stream(torch.float32),
            "terminated": self._stream(torch.bool),
            "truncated": self._stream(torch.bool),
            "is_first": self._stream(torch.bool),
            "energies": self._stream(torch.float32, num_drives),
            "carry": self._stream(carry.dtype, *carry.shape[1:]),
        }

    def _stream(self, dtype: torch.dtype, *shape: int) -> Tensor:
        return torch.zeros(self.num_envs, self.length, *shape, dtype=dtype)

    @property
    def oldest(self) -> int:
        """Number of the oldest record that is still held."""
        return max(0, self.written - self.length)

    @property
    def filled(self) -> int:
        """Records held of each stream."""
        return self.written - self.oldest

    def append(self, record: Record, energies: Float[Tensor, "N U"], carry: Tensor) -> None:
        """Add one record to each stream, with the energies perceived there, and the carry from before it.

        Raises ValueError where a shape is not the store's (nothing is broadcast).
        """
        values = {
            "image": record.image,
            "mission": record.mission,
            "previous_action": record.previous_action,
            "reward": record.reward,
            "terminated": record.terminated,
            "truncated": record.truncated,
            "is_first": record.is_first,
            "energies": energies,
            "carry": carry,
        }
        place = self.written % self.length
        for name, value in values.items():
            target = self._ring[name][:, place]
            if value.shape != target.shape:
                raise ValueError(f"{name}: expected {list(target.shape)}, got {list(value.shape)}")
            target.copy_(value)
        self.written += 1

    def windows(self, row: Int[Tensor, " B"], start: Int[Tensor, " B"], window: int) -> Trajectory:
        """Windows that begin at record number `start` of stream `row`; all of it must be held still."""
        place = (start.unsqueeze(1) + torch.arange(window)) % self.length
        index = row.unsqueeze(1) * self.length + place
        return Trajectory(
            observation=Observation(self._gather("image", index), self._gather("mission", index).long()),
            previous_action=self._gather("previous_action", index).long(),
            energies=self._gather("energies", index),
            is_first=self._gather("is_first", index),
            terminated=self._gather("terminated", index),
            truncated=self._gather("truncated", index),
            carries=self._gather("carry", index),
        )

    def terminals(self) -> Int[Tensor, "R 2"]:
        """Stream and record number of every record held at which an episode terminated, in the ring's order."""
        found = self._ring["terminated"].nonzero()
        newest = self.written - 1
        number = newest - (newest - found[:, 1]) % self.length
        held = number >= self.oldest
        return torch.stack((found[:, 0], number), 1)[held]

    def rewards(self, row: Int[Tensor, " B"], start: Int[Tensor, " B"], window: int) -> Float[Tensor, "B T"]:
        """The environment's own rewards in the same windows; for export, the agent learns from energies."""
        place = (start.unsqueeze(1) + torch.arange(window)) % self.length
        return self._gather("reward", row.unsqueeze(1) * self.length + place)

    def _gather(self, name: str, index: Tensor) -> Tensor:
        return self._ring[name].flatten(0, 1).index_select(0, index.flatten()).unflatten(0, index.shape)

    # ---------------------------------------------------------------------------------------------- on disk
    def flush(self) -> dict[str, Any]:
        """Write the records since the last flush to a shard; return the manifest for `restore`, as JSON.

        Durable when it returns. Records that were overwritten before any flush are lost.
        """
        flushed = self._shards[-1].end if self._shards else 0
        first = max(flushed, self.oldest)
        if first < self.written:
            place = torch.arange(first, self.written) % self.length
            content = tensor_bytes({name: values[:, place] for name, values in self._ring.items()})
            shard = Shard(first=first, count=self.written - first, sha256=checksum(content))
            self.folder.mkdir(parents=True, exist_ok=True)
            write_atomic(self.folder / shard.name, content)
            self._shards.append(shard)
        self._shards = [shard for shard in self._shards if shard.end > self.oldest]
        manifest = Manifest(
            num_envs=self.num_envs, length=self.length, written=self.written, shards=tuple(self._shards)
        )
        return manifest.model_dump(mode="json")

    def prune(self, manifests: Iterable[dict[str, Any]]) -> None:
        """Delete the shards that neither the store nor any of `manifests` (the kept checkpoints') needs."""
        needed = {shard.name for manifest in manifests for shard in Manifest.parse(manifest).shards}
        needed |= {shard.name for shard in self._shards}
        self._delete(path for path in self.folder.glob("records_*.safetensors") if path.name not in needed)

    def restore(self, manifest: dict[str, Any]) -> None:
        """Fill the store from disk. Shards written after the manifest are deleted: they will be written anew.

        Raises ConfigError, naming the file or the field, where a shard is missing, damaged or of another
        store.
        """
        saved = Manifest.parse(manifest)
        for name in ("num_envs", "length"):
            if getattr(saved, name) != getattr(self, name):
                raise ConfigError(f"store.{name}: saved {getattr(saved, name)} (got {getattr(self, name)})")
        self.written = saved.written
        self._check_complete(saved.shards)
        for shard in saved.shards:
            self._load(shard)
        self._shards = list(saved.shards)
        named = {shard.name for shard in saved.shards}
        late = (path for path in self.folder.glob("records_*.safetensors") if shard_end(path) > saved.written)
        self._delete(path for path in late if path.name not in named)
        self._delete(self.folder.glob(f"{TEMPORARY}*"))

    def _check_complete(self, shards: tuple[Shard, ...]) -> None:
        reached = self.oldest
        for shard in shards:
            if shard.first > reached:
                break
            reached = shard.end
        if reached != self.written:
            raise ConfigError(f"store manifest: shards: records {reached} to {self.written} are in none")

    def _load(self, shard: Shard) -> None:
        path = self.folder / shard.name
        tensors = read_tensors(path, shard.sha256)
        number = torch.arange(max(shard.first, self.oldest), shard.end)
        for name, ring in self._ring.items():
            value = tensors.get(name)
            expected = (self.num_envs, shard.count, *ring.shape[2:])
            if value is None or value.dtype != ring.dtype or value.shape != expected:
                raise ConfigError(f"{path}: {name} is not {ring.dtype} {list(expected)}; was the config changed?")
            ring[:, number % self.length] = value[:, number - shard.first]

    def _delete(self, paths: Iterable[Path]) -> None:
        doomed = list(paths)
        for path in doomed:
            path.unlink(missing_ok=True)
        if doomed:
            sync_folder(self.folder)


def shard_end(path: Path) -> int:
    """Number of the first record after a shard, read off its file name; 0 where it is no shard's."""
    end = path.stem.rpartition("_")[2]
    return int(end) if end.isdecimal() else 0
