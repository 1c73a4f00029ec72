"""The shape of the code: who imports whom, how long files are, what is banned, typed and explained."""

import ast
import inspect
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from hjepa.config.registry import SLOTS, kinds, load_class

ROOT = Path(__file__).parent.parent
PACKAGE = sorted((ROOT / "hjepa").rglob("*.py"))
SCRIPTS = sorted((ROOT / "experiments").rglob("*.py"))
MOST_LINES = 400
MODULES = [(slot, kind) for slot in SLOTS for kind in kinds(slot)]

ONLY_IN = {
    "lightning": {"train"},
    "tensorboard": {"log"},
    "torch.utils.tensorboard": {"log"},
    "gymnasium": {"envs", "data", "eval", "log", "preflight"},
    "minigrid": {"envs", "data", "eval", "log", "preflight"},
}
"""Packages that only some parts of hjepa may import."""

BANNED_IMPORTS = ("pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve", "yaml", "joblib")
BANNED_CALLS = ("eval", "exec", "torch.load", "yaml.load", "os.system", "numpy.load", "pandas.read_pickle")


@cache
def parse(path):
    return ast.parse(path.read_text(), str(path))


def name(path):
    return str(path.relative_to(ROOT))


def imports(path):
    """Dotted names of everything that a file imports, wherever in it."""
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def dotted(node):
    """The dotted name of a call's function, with the usual abbreviation of numpy spelled out."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return {"np": "numpy", "pd": "pandas"}.get(node.id, node.id) if isinstance(node, ast.Name) else ""


def within(module, package):
    return module == package or module.startswith(package + ".")


def test_imports_go_one_way(tmp_path):
    command = [Path(sys.executable).parent / "lint-imports", "--no-logo", "--cache-dir", tmp_path]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


def test_every_slot_is_in_the_contract_of_independence():
    contract = (ROOT / "pyproject.toml").read_text().partition('id = "slots"')[2]
    assert [slot for slot in SLOTS if f'"hjepa.modules.{slot}"' not in contract] == []


@pytest.mark.parametrize("package", ONLY_IN)
def test_some_packages_are_imported_in_one_place(package):
    astray = [
        name(path)
        for path in PACKAGE
        if path.relative_to(ROOT / "hjepa").parts[0].removesuffix(".py") not in ONLY_IN[package]
        and any(within(module, package) for module in imports(path))
    ]
    assert astray == []


def test_every_folder_of_code_is_a_package():
    # One without an __init__.py is neither installed nor seen by the contracts on imports.
    folders = {path.parent for path in PACKAGE}
    assert [name(folder) for folder in sorted(folders) if not (folder / "__init__.py").is_file()] == []


def test_no_file_is_too_long():
    lengths = {name(path): len(path.read_text().splitlines()) for path in PACKAGE + SCRIPTS}
    assert {path: length for path, length in lengths.items() if length > MOST_LINES} == {}


def test_c3_nothing_that_runs_code_from_data():
    found = []
    for path in PACKAGE + SCRIPTS:
        found += [(name(path), one) for one in imports(path) if one.split(".")[0] in BANNED_IMPORTS]
        for node in ast.walk(parse(path)):
            if isinstance(node, ast.Call):
                called = dotted(node.func)
                found += [(name(path), called)] * (called in BANNED_CALLS and not safe_load(node, called))
            if isinstance(node, ast.keyword) and node.arg == "allow_pickle":
                found += [(name(path), "allow_pickle")] * (getattr(node.value, "value", True) is not False)
    assert found == []


def safe_load(node, called):
    """Whether this is numpy.load with its pickles switched off in so many words."""
    words = {word.arg: getattr(word.value, "value", None) for word in node.keywords}
    return called == "numpy.load" and words.get("allow_pickle") is False


@pytest.mark.parametrize(("slot", "kind"), MODULES)
def test_a_module_file_holds_one_class_named_by_its_kind(slot, kind):
    path = ROOT / "hjepa" / "modules" / slot / f"{kind}.py"
    outer = [node for node in parse(path).body if isinstance(node, ast.ClassDef)]
    public = [node for node in outer if not node.name.startswith("_")]
    configured = [
        node for node in outer if any(isinstance(part, ast.ClassDef) and part.name == "Config" for part in node.body)
    ]
    assert len(configured) == 1
    assert configured[0] in public
    config = load_class(slot, kind).Config
    assert config.model_fields["kind"].default == kind
    assert config.slot == slot


def functions(path):
    """Public functions and methods of a file, with their names."""
    for node in parse(path).body:
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            yield node.name, node
        elif isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            for part in node.body:
                if isinstance(part, ast.FunctionDef) and (part.name == "__init__" or not part.name.startswith("_")):
                    yield f"{node.name}.{part.name}", part


def test_every_public_function_is_typed():
    untyped = []
    for path in PACKAGE:
        for where, node in functions(path):
            arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            bare = [one.arg for one in arguments if one.annotation is None and one.arg not in ("self", "cls")]
            if bare or node.returns is None:
                untyped.append(f"{name(path)}: {where}({', '.join(bare)})")
    assert untyped == []


def test_every_file_and_public_class_is_explained():
    silent = []
    for path in PACKAGE + SCRIPTS:
        if path.read_text().strip() and ast.get_docstring(parse(path)) is None:
            silent.append(name(path))
        for node in parse(path).body:
            public = isinstance(node, ast.ClassDef) and not node.name.startswith("_")
            if public and ast.get_docstring(node) is None:
                silent.append(f"{name(path)}: {node.name}")
    assert silent == []


def test_functions_are_short():
    lengths = [
        (node.end_lineno - node.lineno + 1, f"{name(path)}: {node.name}")
        for path in PACKAGE
        for node in ast.walk(parse(path))
        if isinstance(node, ast.FunctionDef)
    ]
    ordered = sorted(length for length, _ in lengths)
    assert ordered[len(ordered) // 2] <= 10
    assert ordered[int(len(ordered) * 0.95)] <= 40


def test_nothing_is_left_for_later():
    marks = ("TO" + "DO", "FIX" + "ME", "X" * 3 + " ", "HA" + "CK")
    left = [
        f"{name(path)}: {mark}"
        for path in [*PACKAGE, *SCRIPTS, *(ROOT / "tests").glob("*.py"), *(ROOT / "docs").glob("*.md")]
        for mark in marks
        if mark in path.read_text()
    ]
    left += [name(path) for path in PACKAGE if "raise NotImplementedError" in path.read_text()]
    assert left == []


def test_no_future_annotations():
    # They turn annotations into strings, which neither jaxtyping's checks nor pydantic can rely on.
    assert [name(path) for path in PACKAGE if "__future__" in path.read_text()] == []


def test_r1_every_slot_has_a_base_class_with_abstract_methods():
    interfaces = __import__("hjepa.interfaces", fromlist=["x"])
    for base in SLOTS.values():
        assert inspect.isabstract(getattr(interfaces, base)), base


def test_the_files_that_a_reader_expects():
    expected = ("LICENSE", "SECURITY.md", "Makefile", "constraints.txt", "README.md", ".ci/run")
    assert [file for file in expected if not (ROOT / file).is_file()] == []
