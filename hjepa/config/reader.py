"""Reads the `Config` of an implementation from its file without importing torch.

Only a file's imports from a short list of light modules and its nested `Config` classes are compiled; the
outer classes lose their bases and everything else. What importlib then runs is real pydantic.
"""

import ast
import builtins
import linecache
import sys
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import CodeType, ModuleType

LIGHT = ("typing", "collections.abc", "enum", "math", "pydantic", "hjepa.config")
"""Modules whose imports are kept."""


class NeedsImportError(Exception):
    """The config uses names that only importing the whole file defines."""


class ConfigReader(SourceFileLoader):
    """Loads a module that is reduced to its nested `Config` classes."""

    def get_code(self, fullname: str) -> CodeType:
        """Compile anew: the byte code kept beside a source file is that of the whole module."""
        return self.source_to_code(self.get_data(self.path), self.path)

    def source_to_code(self, data: bytes, path: str) -> CodeType:  # type: ignore[override]
        """Raises SyntaxError as an import would, and NeedsImportError.

        The code goes by another file name than the whole module's: `inspect`, by which pydantic finds the docstrings of
        fields, takes two modules of one file for the same.
        """
        name = reduced_name(path)
        lines = data.decode().splitlines(keepends=True)
        linecache.cache[name] = (len(data), None, lines, name)
        return compile(reduced(ast.parse(data, path)), name, "exec", dont_inherit=True)


def reduced_name(path: str | Path) -> str:
    """The file name under which a reduced module's code is known."""
    return f"{path}#config"


def read(path: Path, name: str) -> ModuleType:
    """The reduced module of a file, registered as `name` so that pydantic finds the docstrings of its fields.

    Raises NeedsImportError, and whatever the remaining code raises.
    """
    if name in sys.modules:
        return sys.modules[name]
    spec = spec_from_file_location(name, path, loader=ConfigReader(name, str(path)))
    if spec is None or spec.loader is None:
        raise ImportError(f"cannot read {path}")
    module = module_from_spec(spec)
    module.__file__ = reduced_name(path)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def reduced(tree: ast.Module) -> ast.Module:
    """Keep light imports, docstrings, and public classes with nothing but their docstring and `Config`."""
    imports = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom) and is_light(node)]
    classes = [outline(node) for node in tree.body if isinstance(node, ast.ClassDef)]
    kept = [node for node in classes if node is not None]
    known = {(alias.asname or alias.name).split(".")[0] for node in imports for alias in node.names}
    for node in kept:
        missing = unknown_names(node, known)
        if missing:
            raise NeedsImportError(", ".join(sorted(missing)))
    return ast.Module([*imports, *kept], [])


def is_light(node: ast.Import | ast.ImportFrom) -> bool:
    """Whether a statement imports from light modules only."""
    if isinstance(node, ast.ImportFrom):
        return node.level == 0 and node.module in LIGHT
    return all(alias.name in LIGHT for alias in node.names)


def outline(node: ast.ClassDef) -> ast.ClassDef | None:
    """A class without bases, decorators and methods; None where it has no nested `Config`."""
    body: list[ast.stmt] = [part for part in node.body if isinstance(part, ast.ClassDef) and part.name == "Config"]
    if not body:
        return None
    docstring = node.body[0]
    if ast.get_docstring(node) is not None and docstring is not body[0]:
        body.insert(0, docstring)
    outlined = ast.ClassDef(node.name, [], [], body, [])
    return ast.copy_location(outlined, node)


def unknown_names(node: ast.ClassDef, known: set[str]) -> set[str]:
    """Names that a class reads and that neither it, the light imports nor Python define."""
    names = [part for part in ast.walk(node) if isinstance(part, ast.Name)]
    used = {part.id for part in names if isinstance(part.ctx, ast.Load)}
    bound = {part.id for part in names if not isinstance(part.ctx, ast.Load)}
    for part in ast.walk(node):
        if isinstance(part, ast.arg):
            bound.add(part.arg)
        elif isinstance(part, ast.ClassDef | ast.FunctionDef):
            bound.add(part.name)
    return used - bound - known - set(dir(builtins))
