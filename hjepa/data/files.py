"""Files that survive a crash, or are noticed when they do not: atomic writes, checksums, bounded reads."""

import hashlib
import json
import os
import re
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from hjepa.config import ConfigError

TEMPORARY = ".tmp-"
"""Prefix of names that are not finished; whoever owns the folder may delete them."""
HEADER_LIMIT = 16 * 2**20
"""Bytes of a safetensors header, or of a JSON file, beyond which it is refused."""
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]{0,120}")
"""A plain file name: no folder, no leading dot."""


def checksum(content: bytes) -> str:
    """SHA-256 in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def tensor_bytes(tensors: dict[str, Tensor]) -> bytes:
    """The safetensors file that holds `tensors`, whatever their device and memory layout."""
    # One tensor object may appear twice (tied weights), which safetensors refuses: hence the copies.
    return safetensors.torch.save(
        {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}
    )


def json_bytes(value: Any) -> bytes:
    """UTF-8 JSON; raises ValueError for nan and infinity, which JSON does not have."""
    return json.dumps(value, indent=1, sort_keys=True, allow_nan=False).encode()


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_durable(path: Path, content: bytes) -> None:
    """Write a file and force it to the disk. Not atomic: use it on a temporary name."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def write_atomic(path: Path, content: bytes) -> None:
    """Write a file so that, whenever the process dies, `path` holds the old content or the new."""
    # In the same folder, since a rename is atomic only within a file system.
    temporary = path.with_name(f"{TEMPORARY}{path.name}")
    write_durable(temporary, content)
    temporary.replace(path)
    sync_folder(path.parent)


def plain_name(name: object) -> str:
    """`name`, if it is a plain file name; else ConfigError (a manifest may come from anyone)."""
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise ConfigError(f"not a plain file name in a manifest (got {name!r})")
    return name


def read_checked(path: Path, sha256: str) -> bytes:
    """A file's content. Raises ConfigError, naming the file, where it is missing or not what was written."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from error
    if checksum(content) != sha256:
        raise ConfigError(f"{path}: damaged (its checksum is not the one written down)")
    return content


def read_tensors(path: Path, sha256: str) -> dict[str, Tensor]:
    """Tensors of a safetensors file. Raises ConfigError, naming the file, where it is missing or damaged."""
    content = read_checked(path, sha256)
    if int.from_bytes(content[:8], "little") > HEADER_LIMIT:
        raise ConfigError(f"{path}: header larger than {HEADER_LIMIT} bytes")
    try:
        return safetensors.torch.load(content)
    except SafetensorError as error:
        raise ConfigError(f"{path}: not a safetensors file ({error})") from error


def read_json(path: Path) -> Any:
    """A JSON file's value. Raises ConfigError, naming the file, where it is missing, too large or no JSON."""
    try:
        with path.open("rb") as file:
            content = file.read(HEADER_LIMIT + 1)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from error
    if len(content) > HEADER_LIMIT:
        raise ConfigError(f"{path}: larger than {HEADER_LIMIT} bytes")
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: damaged (not JSON)") from error
