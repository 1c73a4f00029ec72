"""What every slot promises: a closed config, float32, replay under a seed, saved state, independent rows."""

import ast
import copy
import inspect
import itertools
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from pydantic import BaseModel
from torch import Tensor

from hjepa.config import ModuleConfig
from hjepa.config.registry import MODULES, SLOTS, is_plugin
from hjepa.conformance.cases import ROWS, Bench, Sample
from hjepa.conformance.core import UntestableError, promised_by, require, require_close
from hjepa.conformance.probes import PROBES, Outputs
from hjepa.interfaces import Module

BATCH_STATISTIC = ("objective",)
"""Slots whose output is one number for the batch."""

EVALUATION_ONLY = ("action_encoder",)
"""Slots that may keep statistics of the batch while they train."""


def outputs(bench: Bench, module: Module, sample: Sample, seed: int = 0) -> Outputs:
    """The slot's outputs under a seed, torch's generator left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return {name: value.detach() for name, value in PROBES[bench.slot](bench, module, sample).items()}


@contextmanager
def evaluating(module: Module) -> Iterator[Module]:
    """The module in evaluation mode."""
    before = module.training
    module.eval()
    yield module
    module.train(before)


# ------------------------------------------------------------------- config
@promised_by(*SLOTS)
def config_is_closed(bench: Bench) -> None:
    """Configs are frozen, refuse unknown fields, and explain every field."""
    settings = bench.cls.Config.model_config
    require(settings.get("extra") == "forbid", "Config must refuse unknown fields (extra='forbid')")
    require(settings.get("frozen"), "Config must be frozen")
    require(settings.get("strict"), "Config must be strict: no silent conversions")
    explained = field_docstrings(bench.cls.Config)
    for name, field in bench.cls.Config.model_fields.items():
        known = name == "kind" or field.description or name in explained
        require(known, f"Config.{name} has no docstring under it")


def field_docstrings(config: type[ModuleConfig]) -> set[str]:
    """Fields with a docstring in the source; pydantic misses them once the registry has read the file."""
    try:
        (tree,) = ast.parse(textwrap.dedent(inspect.getsource(config))).body
    except (OSError, TypeError, SyntaxError):
        return set()
    assert isinstance(tree, ast.ClassDef)
    found = set()
    for field, text in itertools.pairwise(tree.body):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(text, ast.Expr):
            found.add(field.target.id)
    return found


@promised_by(*SLOTS)
def config_names_its_kind(bench: Bench) -> None:
    """`kind` has a default; in the tree it is the file's name."""
    kind = bench.cls.Config.model_fields["kind"].default
    require(isinstance(kind, str), "Config.kind needs a default: kind: Literal['name'] = 'name'")
    folder, _, stem = bench.cls.__module__.rpartition(".")
    if folder == f"hjepa.modules.{bench.slot}":
        require(kind == stem, f"Config.kind is {kind!r}, but its file is {MODULES.name}/{bench.slot}/{stem}.py")
    else:
        require(is_plugin(kind) or kind.isidentifier(), f"Config.kind {kind!r} is not a name")


@promised_by(*SLOTS)
def config_survives_json(bench: Bench) -> None:
    """A config written to a run folder and read back is the same."""
    text = bench.config.model_dump_json()
    require(isinstance(bench.config, BaseModel) and isinstance(bench.config, ModuleConfig), "not a ModuleConfig")
    again = type(bench.config).model_validate_json(text)
    require(again == bench.config, f"read back from JSON it differs: {text[:80]}")


# ------------------------------------------------------------------- numbers
@promised_by(*SLOTS)
def outputs_are_finite_float32(bench: Bench) -> None:
    """Floats are float32, on the device of the input, and finite (an energy may be +inf)."""
    sample = bench.sample()
    for name, value in outputs(bench, bench.module, sample).items():
        require(isinstance(value, Tensor), f"{name} is a {type(value).__name__}, not a tensor")
        if value.is_floating_point():
            require(value.dtype == torch.float32, f"{name} is {value.dtype}, not float32")
        allowed = value.isinf() if name in ("first_energies", "support") else torch.zeros_like(value).bool()
        require((value.isfinite() | allowed).all(), f"{name} is not finite")
        require(value.device == sample.reward.device, f"{name} is on {value.device}")
        require(len(value) == ROWS, f"{name} has {len(value)} rows for a batch of {ROWS}")


@promised_by(*SLOTS)
def replays_under_a_seed(bench: Bench) -> None:
    """Equal inputs under an equal torch seed give equal outputs, bit for bit, call after call."""
    sample = bench.sample()
    with evaluating(bench.module) as module:
        first, second = (outputs(bench, module, sample) for _ in range(2))
    for name, value in first.items():
        same = torch.equal(torch.nan_to_num(value), torch.nan_to_num(second[name]))
        require(same, f"{name} differs between two calls under one torch seed")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        PROBES[bench.slot](bench, bench.module, sample)
        require(torch.initial_seed() == 5, "it reseeds torch's global generator")


@promised_by(*(slot for slot in SLOTS if slot not in BATCH_STATISTIC))
def rows_are_independent(bench: Bench) -> None:
    """What a row gets does not depend on the other rows of the batch."""
    sample, other = bench.sample(0), bench.sample(1)
    first = torch.arange(ROWS) == 0
    mixed = merge(first, sample, other)
    for training in (False,) if bench.slot in EVALUATION_ONLY else (False, True):
        module = copy.deepcopy(bench.module).train(training)
        left, right = outputs(bench, module, sample), outputs(bench, copy.deepcopy(module), mixed)
        for name in left.keys() - {"lifetime"}:
            mode = "training" if training else "evaluation"
            require_close(f"row 0 of {name} with other rows around it ({mode})", left[name][0], right[name][0])


def merge(first: Tensor, left: Sample, right: Sample) -> Sample:
    """Rows of `left` where `first`, of `right` elsewhere."""
    pairs = iter(right.tensors())

    def choose(value: Tensor) -> Tensor:
        return torch.where(first.view(-1, *([1] * (value.dim() - 1))), value, next(pairs))

    return left.map(choose)


# ------------------------------------------------------------------- state
@promised_by(*SLOTS)
def state_dict_holds_everything(bench: Bench) -> None:
    """A module that was used, saved and loaded into a new one goes on as if nothing had happened."""
    sample, module = bench.sample(), bench.module
    module.train()
    for seed in range(2):
        outputs(bench, module, bench.sample(seed), seed)
    saved = {name: value.clone() for name, value in module.state_dict().items()}
    fresh = bench.build()
    require(fresh.state_dict().keys() == saved.keys(), "a fresh module has other keys in its state_dict")
    fresh.load_state_dict(saved)
    with evaluating(module), evaluating(fresh):
        left, right = outputs(bench, module, sample), outputs(bench, fresh, sample)
    for name, value in left.items():
        require_close(f"{name} after loading its state_dict", right[name], value, 1e-6)


@promised_by(*SLOTS)
def deep_copies(bench: Bench) -> None:
    """A deep copy (the moving averages are) behaves the same and shares no tensor."""
    sample = bench.sample()
    module = copy.deepcopy(bench.module)
    shared = {value.data_ptr() for value in bench.module.state_dict().values() if value.numel()}
    for name, value in module.state_dict().items():
        require(not value.numel() or value.data_ptr() not in shared, f"{name} is shared with the copy")
    with evaluating(module), evaluating(bench.module):
        left, right = outputs(bench, bench.module, sample), outputs(bench, module, sample)
    for name, value in left.items():
        require_close(f"{name} of a deep copy", right[name], value, 1e-6)


@promised_by(*(slot for slot in SLOTS if slot not in ("planner", "actor", "drive", "intrinsic_cost")))
def moves_to_the_gpu(bench: Bench) -> None:
    """On CUDA (where there is one) everything it creates is made on the device of its inputs."""
    if not torch.cuda.is_available():
        raise UntestableError("no GPU here")
    device = torch.device("cuda")
    moved = copy.deepcopy(bench.module).to(device)
    for name, value in outputs(bench, moved, bench.sample().to(device)).items():
        require(value.device.type == "cuda", f"{name} is on {value.device}")
