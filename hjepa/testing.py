"""Conformance: does a module keep the promises of its slot? Run it with `hjepa check FILE.py:Class`.

In a test of your own::

    from hjepa.testing import conformance

    def test_my_encoder():
        assert [result for result in conformance(TinyEncoder) if not result.passed] == []
"""

import sys

import torch

from hjepa.config import ModuleConfig, UserError
from hjepa.config.registry import SLOTS, config_class, load_class, plugin
from hjepa.conformance import acting, general, judging, modelling, perceiving, remembering
from hjepa.conformance.cases import Bench, Case, build, cases
from hjepa.conformance.core import PROMISES, BrokenPromiseError, CheckResult, Promise, UntestableError
from hjepa.interfaces import Module

__all__ = ["CheckResult", "check", "conformance"]

SUITES = (general, perceiving, modelling, judging, remembering, acting)
"""Importing these registers their checks."""


def check(target: str) -> int:
    """Check the class that `FILE.py:Class` names and print a line per check.

    Returns 0 if every check passed, 1 if one failed, and 2, after one line on standard error, if
    there is no such class.
    """
    try:
        cls, config = load(target)
    except UserError as error:
        print(f"{target}: {error}", file=sys.stderr)
        return 2
    results = conformance(cls, config)
    for result in results:
        print(result)
    failed = sum(not result.passed for result in results)
    skipped = sum(result.skipped for result in results)
    print(f"{target} ({config.slot}): {len(results) - failed - skipped} passed, {skipped} skipped, {failed} failed")
    return 1 if failed else 0


def load(target: str) -> tuple[type[Module], ModuleConfig]:
    """The class of `FILE.py:Class`, and its default config. Raises UserError where there is none."""
    path, name = plugin(target)
    slot = slot_of(target)
    cls = load_class(slot, target)
    config = config_class(slot, target)
    try:
        return cls, defaults(config)
    except ValueError as error:
        raise UserError(f"the defaults of {name}.Config in {path.name} are not valid: {one_line(error)}") from error


def defaults(config: type[ModuleConfig]) -> ModuleConfig:
    """A config with every field at its default. ValueError where one has none."""
    return config.model_validate({})


def slot_of(target: str) -> str:
    """The slot that a class says it is for. Raises UserError where it names none."""
    errors = []
    for slot in SLOTS:
        try:
            config_class(slot, target)
        except UserError as error:
            errors.append(str(error))
        else:
            return slot
    raise UserError(errors[0])


def conformance(cls: type[Module], config: ModuleConfig | None = None) -> list[CheckResult]:
    """Put an implementation to every check of its slot, with `config` or its defaults.

    Each check gets a module of its own for each of several small specs, built under a fixed seed. A
    spec that the constructor refuses by ValueError is passed over, but it must take one at least.
    """
    config = defaults(cls.Config) if config is None else config
    benches, refusals = [], []
    for case in cases(config.slot, config):
        try:
            prepare(cls, config, case)
        except ValueError as error:
            refusals.append(one_line(error))
        except Exception as error:  # whatever a module does when it is built is a finding
            return [CheckResult("builds", False, f"{type(error).__name__}: {one_line(error)} ({case})")]
        else:
            benches.append(case)
    if not benches:
        return [CheckResult("builds", False, f"it refuses every spec: {refusals[0]}")]
    built = CheckResult("builds", True, "")
    return [built] + [run(promise, cls, config, benches) for promise in PROMISES[config.slot]]


def prepare(cls: type[Module], config: ModuleConfig, case: Case) -> Bench:
    """A bench with a module built under a fixed seed."""

    def fresh(seed: int) -> Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return build(config.slot, cls, config, case)

    return Bench(config.slot, cls, config, case, fresh(0), lambda: fresh(1))


def run(promise: Promise, cls: type[Module], config: ModuleConfig, benches: list[Case]) -> CheckResult:
    """One check over all cases; the first failure is the result."""
    for case in benches:
        try:
            promise(prepare(cls, config, case))
        except BrokenPromiseError as broken:
            return CheckResult(promise.__name__, False, f"{broken} ({case})")
        except UntestableError as missing:
            return CheckResult(promise.__name__, True, str(missing))
        except Exception as error:  # a crash is a failure of the check it happens in
            reason = f"{type(error).__name__}: {one_line(error)} ({case})"
            return CheckResult(promise.__name__, False, reason)
    return CheckResult(promise.__name__, True, "")


def one_line(error: Exception) -> str:
    """The message of an exception without line breaks."""
    return " ".join(str(error).split())[:300]
