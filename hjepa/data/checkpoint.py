"""Checkpoints that are whole or not there: safetensors and JSON with a manifest of checksums. No pickle.

A checkpoint is written to a temporary folder beside its place, forced to the disk, and renamed; older ones
are deleted only after that. So a process may die at any moment and the last good checkpoint is still there.
Damage that happens later is noticed when loading, and the one before is used.

    step_00001234/  agent.safetensors …  state.json  manifest.json
"""

import json
import re
import shutil
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field, ValidationError
from torch import Tensor
from torch.optim import Optimizer

from hjepa.config import ConfigError, ConfigModel
from hjepa.data.files import (
    TEMPORARY,
    checksum,
    json_bytes,
    plain_name,
    read_checked,
    read_json,
    read_tensors,
    sync_folder,
    tensor_bytes,
    write_durable,
)

MANIFEST, STATE, SUFFIX = "manifest.json", "state.json", ".safetensors"
FOLDER = re.compile(r"step_(\d{8,})(?:-(\d+))?")

Tensors = dict[str, dict[str, Tensor]]
"""Tensors by file name (without suffix) and by name within the file."""


class Contents(ConfigModel):
    """What the manifest says: the step, and the checksum of every other file."""

    format: Literal[1] = 1
    step: int = Field(ge=0)
    files: dict[str, str]


def save(folder: Path, step: int, tensors: Tensors, meta: dict[str, Any], keep: int) -> Path:
    """Write checkpoint `step` under `folder`, durably; keep it and the `keep` - 1 before it; return its path.

    Checkpoints of later steps are deleted too: they belong to a future that was given up when an earlier one
    was resumed. Raises TypeError (`meta` is no JSON) or ConfigError (a file name is not plain) before
    writing, and OSError where the disk refuses; what was there before is then untouched.
    """
    if keep < 1:
        raise ValueError(f"keep must be at least 1 (got {keep})")
    files = {STATE: json_bytes(meta)}
    files |= {plain_name(f"{name}{SUFFIX}"): tensor_bytes(group) for name, group in tensors.items()}
    folder.mkdir(parents=True, exist_ok=True)
    _delete(folder.glob(f"{TEMPORARY}*"))
    target = _free_place(folder, step)
    temporary = folder / f"{TEMPORARY}{target.name}"
    try:
        _write(temporary, step, files)
        temporary.rename(target)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    sync_folder(folder)
    _prune(folder, target, keep)
    return target


def load_latest(folder: Path) -> tuple[Tensors, dict[str, Any], list[str]]:
    """Tensors and meta of the newest good checkpoint under `folder`, and a line for each newer damaged one.

    Raises ConfigError where there is none.
    """
    skipped: list[str] = []
    for path in reversed(checkpoints(folder)):
        try:
            return *load(path), skipped
        except ConfigError as error:
            skipped.append(str(error))
    reasons = "; ".join(skipped) if skipped else "there is none"
    raise ConfigError(f"{folder}: no checkpoint that can be loaded ({reasons})")


def load(path: Path) -> tuple[Tensors, dict[str, Any]]:
    """Tensors and meta of the checkpoint at `path`.

    Raises ConfigError, naming the file, where anything is missing, damaged, or not in the manifest.
    """
    contents = _contents(path)
    expected = {MANIFEST, *contents.files}
    present = {entry.name for entry in path.iterdir()}
    for name in sorted(present - expected):
        raise ConfigError(f"{path / name}: not in the checkpoint's manifest")
    tensors = {
        name.removesuffix(SUFFIX): read_tensors(path / name, sha256)
        for name, sha256 in contents.files.items()
        if name != STATE
    }
    return tensors, _meta(path, contents)


def checkpoints(folder: Path) -> list[Path]:
    """Checkpoint folders under `folder`, oldest step first; whether they are good is not looked at."""
    if not folder.is_dir():
        return []
    return sorted((path for path in folder.iterdir() if FOLDER.fullmatch(path.name)), key=_order)


def kept_meta(folder: Path) -> list[dict[str, Any]]:
    """Meta of every checkpoint under `folder` whose meta can be read: what must not be deleted elsewhere."""
    metas = []
    for path in checkpoints(folder):
        try:
            metas.append(_meta(path, _contents(path)))
        except ConfigError:
            # A damaged checkpoint needs nothing; `load_latest` is where it is reported.
            continue
    return metas


def optimizer_tensors(optimizer: Optimizer) -> dict[str, Tensor]:
    """An optimizer's state as tensors `state.<parameter>.<name>`, and float settings `group.<group>.<name>`.

    Parameters are numbered as in `Optimizer.state_dict`.
    """
    saved = optimizer.state_dict()
    state = {
        f"state.{number}.{name}": torch.as_tensor(value)
        for number, values in saved["state"].items()
        for name, value in values.items()
    }
    settings = {
        f"group.{number}.{name}": torch.tensor(value, dtype=torch.float64)
        for number, group in enumerate(saved["param_groups"])
        for name, value in group.items()
        if _is_setting(value)
    }
    return state | settings


def restore_optimizer(optimizer: Optimizer, tensors: dict[str, Tensor]) -> None:
    """Give an optimizer over the same parameters the state that `optimizer_tensors` read.

    Raises ConfigError where the tensors are of other parameters.
    """
    saved = optimizer.state_dict()
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        kind, number, name = _split(key)
        if kind == "state" and number < len(parameters):
            if value.dim() > 0 and value.shape != parameters[number].shape:
                raise ConfigError(f"optimizer: {key} is {list(value.shape)}, not {list(parameters[number].shape)}")
            state.setdefault(number, {})[name] = value
        elif kind == "group" and number < len(saved["param_groups"]):
            number_or_pair = value.tolist()
            setting = tuple(number_or_pair) if isinstance(number_or_pair, list) else number_or_pair
            saved["param_groups"][number][name] = setting
        else:
            raise ConfigError(f"optimizer: no place for {key}; was the config changed?")
    optimizer.load_state_dict({"state": state, "param_groups": saved["param_groups"]})


# ---------------------------------------------------------------------------------------- parts
def _is_setting(value: object) -> bool:
    if isinstance(value, tuple):
        return all(isinstance(item, float) for item in value)
    return isinstance(value, float)


def _split(key: str) -> tuple[str, int, str]:
    kind, _, rest = key.partition(".")
    number, _, name = rest.partition(".")
    if not number.isdecimal() or not name:
        raise ConfigError(f"optimizer: not a name of its state (got {key!r})")
    return kind, int(number), name


def _order(path: Path) -> tuple[int, int]:
    match = FOLDER.fullmatch(path.name)
    assert match is not None
    return int(match[1]), int(match[2] or 0)


def _free_place(folder: Path, step: int) -> Path:
    """A step that was saved before (and found damaged, or resumed from before it) gets a second place."""
    place, attempt = folder / f"step_{step:08d}", 0
    while place.exists():
        attempt += 1
        place = folder / f"step_{step:08d}-{attempt}"
    return place


def _write(folder: Path, step: int, files: dict[str, bytes]) -> None:
    contents = Contents(step=step, files={name: checksum(content) for name, content in files.items()})
    body = contents.model_dump(mode="json")
    folder.mkdir()
    for name, content in files.items():
        write_durable(folder / name, content)
    manifest = {"contents": body, "sha256": checksum(json_bytes(body))}
    write_durable(folder / MANIFEST, json_bytes(manifest))
    sync_folder(folder)


def _contents(path: Path) -> Contents:
    """The manifest, checked: it holds its own checksum, so that a flipped bit in it is noticed too."""
    file = path / MANIFEST
    manifest = read_json(file)
    try:
        body = manifest["contents"]
        if manifest["sha256"] != checksum(json_bytes(body)) or file.read_bytes() != json_bytes(manifest):
            raise ConfigError(f"{file}: damaged (its checksum is not the one written down)")
        contents = Contents.model_validate_json(json.dumps(body))
    except (KeyError, TypeError, ValidationError) as error:
        raise ConfigError(f"{file}: damaged (not a checkpoint's manifest)") from error
    for name in contents.files:
        if plain_name(name) != STATE and not name.endswith(SUFFIX):
            raise ConfigError(f"{file}: names a file of an unknown kind (got {name!r})")
    if STATE not in contents.files:
        raise ConfigError(f"{file}: names no {STATE}")
    return contents


def _meta(path: Path, contents: Contents) -> dict[str, Any]:
    read_checked(path / STATE, contents.files[STATE])
    return read_json(path / STATE)


def _prune(folder: Path, newest: Path, keep: int) -> None:
    everything = checkpoints(folder)
    until_now = [path for path in everything if _order(path) <= _order(newest)]
    later = [path for path in everything if _order(path) > _order(newest)]
    for path in [*until_now[:-keep], *later]:
        # Renamed first, so that a half-deleted folder is never taken for a checkpoint.
        doomed = path.rename(folder / f"{TEMPORARY}old-{path.name}")
        shutil.rmtree(doomed)


def _delete(folders: Any) -> None:
    for folder in list(folders):
        shutil.rmtree(folder)
