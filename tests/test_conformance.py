"""Every implementation keeps the promises of its slot, in the tree and outside it."""

import pytest

from hjepa.config.registry import SLOTS, kinds, load_class
from hjepa.conformance.core import PROMISES
from hjepa.testing import CheckResult, check, conformance

IN_TREE = [(slot, kind) for slot in SLOTS for kind in kinds(slot)]

ENCODER = '''
"""A module outside the tree."""

from typing import ClassVar, Literal

from torch import nn

from hjepa.config import ModuleConfig
from hjepa.interfaces import Encoder


class Linear(Encoder):
    """One linear layer."""

    class Config(ModuleConfig):
        slot: ClassVar[str] = "encoder"
        kind: Literal["linear"] = "linear"

    def __init__(self, config, spec):
        super().__init__()
        self.layer = nn.Linear(spec.lower_dim, spec.dim)

    def forward(self, lower_state, tokens):
        return self.layer(lower_state)
'''


@pytest.mark.parametrize(("slot", "kind"), IN_TREE)
def test_r1_every_module_keeps_its_promises(slot, kind):
    failed = [str(result) for result in conformance(load_class(slot, kind)) if not result.passed]
    assert failed == []


def test_every_slot_has_promises_of_its_own():
    assert set(PROMISES) == set(SLOTS)
    common = set.intersection(*(set(promises) for promises in PROMISES.values()))
    assert all(len(set(promises) - common) >= 2 for promises in PROMISES.values())


def test_check_passes_a_module_outside_the_tree(tmp_path, capsys):
    file = tmp_path / "my_encoder.py"
    file.write_text(ENCODER)
    assert check(f"{file}:Linear") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "ok      builds"
    assert lines[-1].endswith(", 0 failed")
    assert len(lines) == len(PROMISES["encoder"]) + 2


def test_check_names_what_failed(tmp_path, capsys):
    file = tmp_path / "leaky.py"
    file.write_text(ENCODER.replace("self.layer(lower_state)", "self.layer(lower_state - lower_state.mean(0))"))
    assert check(f"{file}:Linear") == 1
    failed = [line for line in capsys.readouterr().out.splitlines() if line.startswith("FAILED")]
    assert any(line.startswith("FAILED  rows_are_independent: ") for line in failed)


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("nowhere.py:Linear", "there is no file"),
        ("my_encoder:Linear", "file.py:Class"),
        ("{file}:Quadratic", "Quadratic"),
        ("{broken}:Linear", "SyntaxError"),
    ],
)
def test_check_says_in_one_line_what_cannot_be_loaded(tmp_path, capsys, target, reason):
    file, broken = tmp_path / "my_encoder.py", tmp_path / "broken.py"
    file.write_text(ENCODER)
    broken.write_text("class Linear(:\n")
    assert check(target.format(file=file, broken=broken)) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert reason.lower() in captured.err.lower() or "invalid syntax" in captured.err


def test_a_module_that_cannot_be_built_fails_at_building():
    class Refuses(load_class("encoder", "mlp")):
        def __init__(self, config, spec):
            raise ValueError("never")

    assert conformance(Refuses) == [CheckResult("builds", False, "it refuses every spec: never")]
