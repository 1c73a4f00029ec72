"""The documentation is run: its Python, its configs and its commands."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from hjepa.cli import make_parser
from hjepa.config import load
from hjepa.config.yaml import parse

ROOT = Path(__file__).parent.parent
PAGES = [page for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))] if page.is_file()]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NOT_RUN = "<!-- not run in tests"
"""Stands before a block that takes too long; its command must still be one."""
RUN_TESTS = (
    "import runpy, sys\n"
    "names = runpy.run_path(sys.argv[1])\n"
    "[value() for name, value in names.items() if name.startswith('test_')]"
)


@dataclass(frozen=True)
class Block:
    """A fenced block, and the last paragraph before it."""

    language: str
    text: str
    before: str

    @property
    def runs(self):
        return NOT_RUN not in self.before

    def file(self, suffix):
        """The file that the paragraph before says this is, or one of any name."""
        named = re.findall(rf"`([\w.-]+{re.escape(suffix)})`", self.before)
        return named[0] if named else f"block{suffix}"

    @property
    def commands(self):
        joined = self.text.replace("\\\n", " ")
        lines = [line for line in joined.splitlines() if line.strip() and not line.startswith("#")]
        prompted = [line[2:] for line in lines if line.startswith("$ ")]
        return prompted or (lines if self.language in ("bash", "sh") else [])


def blocks(page):
    text = page.read_text()
    return [
        Block(found[1], found[2], "\n\n".join(text[: found.start()].rstrip().split("\n\n")[-1:]))
        for found in BLOCK.finditer(text)
    ]


@pytest.fixture
def workplace(tmp_path):
    """A folder that looks like a checkout from where the commands are started."""
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    return tmp_path


def execute(arguments, folder):
    """Run a command in a folder, and give back what it printed; AssertionError unless it succeeded."""
    paths = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "PATH": paths, "PYTHONPATH": str(folder)}
    result = subprocess.run(
        arguments, cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert result.returncode == 0, f"{shlex.join(map(str, arguments))}\n{result.stdout}\n{result.stderr}"
    return result.stdout


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_f3_every_block_of_the_documentation_runs(page, workplace):
    found = blocks(page)
    for block in found:
        if block.language == "yaml":
            (workplace / block.file(".yaml")).write_text(block.text)
        elif block.language == "python":
            (workplace / block.file(".py")).write_text(block.text)
    for block in found:
        if block.language == "python" and block.runs:
            file = workplace / block.file(".py")
            file.write_text(block.text)
            execute([sys.executable, "-c", RUN_TESTS, file], workplace)
        elif block.language == "yaml":
            file = workplace / block.file(".yaml")
            file.write_text(block.text)
            assert parse(block.text, block.file(".yaml"))
            if block.runs:
                load(file)
        elif block.language in ("console", "bash", "sh"):
            for command in block.commands:
                try_command(command, block.runs, workplace)


def try_command(command, runs, folder):
    """Run a command of the package; of one that is too long, check that it and its config exist."""
    words = shlex.split(command, comments=True)
    if words[0] == "make":
        targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert [word for word in words[1:] if "=" not in word and word not in targets] == []
    elif words[0] == "hjepa":
        make_parser().parse_args(words[1:])
        missing = [word for word in words if word.startswith("configs/") and not (folder / word.split("=")[0]).exists()]
        assert missing == []
        if runs:
            execute(words, folder)


def test_every_documented_command_of_the_package_is_known():
    commands = [command for page in PAGES for block in blocks(page) for command in block.commands]
    known = ("hjepa", "make", "git", "cd", "tensorboard", "python", "pip", "nvidia-smi")
    assert [command for command in commands if shlex.split(command)[0] not in known] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_to_files_lead_somewhere(page):
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_paths_that_are_named_exist(page):
    named = re.findall(r"`((?:hjepa|configs|tests|docs|experiments)/[\w/.-]+)`", page.read_text())
    invented = ("hjepa/modules/perception/tiny.py",)
    assert [path for path in named if path not in invented and not (ROOT / path).exists()] == []
