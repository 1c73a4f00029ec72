"""Kinds found in the tree, in a user's file and in installed packages; read without torch."""

import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import get_args

import pytest

from hjepa.config import ConfigError, dump, load, load_run, registry, trusting_plugins

PLUGIN = '''"""A module of the user's."""

from typing import ClassVar, Literal

import torch
from pydantic import Field

from hjepa.config import ModuleConfig
from hjepa.interfaces import Encoder
from hjepa.types import LevelSpec

raise_if_imported = torch.zeros(1)


class TinyEncoder(Encoder):
    """The first values of the lower state."""

    class Config(ModuleConfig):
        slot: ClassVar[str] = "encoder"
        kind: Literal["tiny"] = "tiny"
        width: int = Field(64, gt=0)
        """Channels of the only layer."""

    def __init__(self, config: Config, spec: LevelSpec) -> None:
        super().__init__()
        self.dim = spec.dim

    def forward(self, lower_state: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        return lower_state[..., : self.dim]


class NotAnEncoder:
    class Config(ModuleConfig):
        slot: ClassVar[str] = "encoder"
        kind: Literal["not"] = "not"
'''
RUN = "world_model: {encoder: {kind: 'my_encoder.py:TinyEncoder', width: 3}}\n"


@pytest.fixture
def plugin(tmp_path: Path) -> Path:
    path = tmp_path / "my_encoder.py"
    path.write_text(PLUGIN)
    return path


def all_kinds() -> list[tuple[str, str]]:
    return [(slot, kind) for slot in registry.SLOTS for kind in registry.kinds(slot)]


@pytest.mark.parametrize(("slot", "kind"), all_kinds())
def test_r01_every_file_of_the_tree_is_a_kind_of_its_slot(slot: str, kind: str) -> None:
    config = registry.config_class(slot, kind)
    assert config.slot == slot
    assert get_args(config.model_fields["kind"].annotation) == (kind,)
    assert config().kind == kind
    assert registry.describe(slot, kind)
    for name, field in config.model_fields.items():
        assert name == "kind" or field.description, f"{slot}.{kind}.{name} has no docstring"


@pytest.mark.parametrize(("slot", "kind"), all_kinds())
def test_r01_the_config_read_without_torch_is_that_of_the_class(slot: str, kind: str) -> None:
    real, read = registry.load_class(slot, kind).Config, registry.config_class(slot, kind)
    assert list(real.model_fields) == list(read.model_fields)
    assert real().model_dump_json() == read().model_dump_json()
    assert real.model_construct(**dict(read())).model_dump_json() == read().model_dump_json()


def test_reading_every_config_imports_no_torch() -> None:
    code = (
        "import sys; from hjepa.config import registry\n"
        "for slot in registry.SLOTS:\n"
        "    for kind in registry.kinds(slot): registry.config_class(slot, kind)()\n"
        "assert 'torch' not in sys.modules and 'hjepa.interfaces' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_r01_a_user_s_file_is_found_beside_the_config(plugin: Path) -> None:
    run = plugin.with_name("run.yaml")
    run.write_text(RUN)
    encoder = load(run).world_model.encoder  # type: ignore[attr-defined]
    assert encoder.width == 3
    assert encoder.kind == f"{plugin}:TinyEncoder"
    assert registry.load_class("encoder", encoder.kind).__name__ == "TinyEncoder"
    assert registry.describe("encoder", encoder.kind) == "The first values of the lower state."


def test_on_the_command_line_a_user_s_file_is_found_from_the_working_directory(
    plugin: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = plugin.parent / "elsewhere" / "run.yaml"
    run.parent.mkdir()
    run.write_text("")
    monkeypatch.chdir(plugin.parent)
    config = load(run, ["world_model.encoder.kind=my_encoder.py:TinyEncoder", "world_model.encoder.width=5"])
    assert config.world_model.encoder.width == 5  # type: ignore[attr-defined]


def test_a_run_folder_s_plugin_is_used_only_when_trusted(plugin: Path) -> None:
    run = plugin.with_name("run.yaml")
    run.write_text(RUN)
    made = plugin.with_name("made")
    made.mkdir()
    (made / "config.yaml").write_text(dump(load(run)))
    with pytest.raises(ConfigError, match="--trust-plugins"):
        load_run(made)
    assert load_run(made, trust_plugins=True) == load(run)
    with trusting_plugins(True):
        assert load_run(made) == load(run)
    with pytest.raises(ConfigError, match="--trust-plugins"):
        load_run(made)


def test_a_run_folder_s_plugin_is_not_even_opened(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(
        "levels: [{planner: {kind: '/nowhere/at_all.py:Evil'}}]\nunknown: {kind: 'x.py:Y'}\n"
    )
    with pytest.raises(ConfigError, match="names a plug-in, which is code"):
        load_run(tmp_path)


def test_reading_a_config_runs_none_of_a_file_s_own_code(tmp_path: Path) -> None:
    path = tmp_path / "loud.py"
    path.write_text(PLUGIN.replace("raise_if_imported = torch.zeros(1)", "raise SystemError('imported')"))
    assert registry.config_class("encoder", f"{path}:TinyEncoder")().kind == f"{path}:TinyEncoder"
    with pytest.raises(ConfigError, match="SystemError: imported"):
        registry.load_class("encoder", f"{path}:TinyEncoder")


def test_a_config_that_needs_the_whole_file_is_imported(tmp_path: Path) -> None:
    path = tmp_path / "constant.py"
    path.write_text(PLUGIN.replace("raise_if_imported", "WIDTH = 7\nraise_if").replace("Field(64,", "Field(WIDTH,"))
    assert getattr(registry.config_class("encoder", f"{path}:TinyEncoder")(), "width") == 7  # noqa: B009


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("{folder}/my_encoder.py:Missing", "no nested Config"),
        ("{folder}/missing.py:TinyEncoder", "there is no file"),
        ("{folder}/my_encoder.txt:TinyEncoder", "a plug-in is named file.py:Class"),
        ("{folder}/my_encoder.py:Tiny Encoder", "a plug-in is named file.py:Class"),
        ("{folder}/broken.py:TinyEncoder", "broken.py"),
        ("../encoder/mlp", "no encoder of this name"),
        ("os", "no encoder of this name"),
    ],
)
def test_kinds_that_are_none_are_told(plugin: Path, kind: str, told: str) -> None:
    plugin.with_name("broken.py").write_text("class (")
    with pytest.raises(ConfigError, match=told):
        registry.config_class("encoder", kind.format(folder=plugin.parent))


def test_a_class_must_belong_to_its_slot(plugin: Path) -> None:
    with pytest.raises(ConfigError, match="NotAnEncoder is not a Encoder"):
        registry.load_class("encoder", f"{plugin}:NotAnEncoder")
    with pytest.raises(ConfigError, match="belongs to slot encoder, not critic"):
        registry.config_class("critic", f"{plugin}:TinyEncoder")


def test_r01_a_file_dropped_into_the_tree_is_a_kind(plugin: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = plugin.parent / "modules" / "encoder"
    folder.mkdir(parents=True)
    (folder / "tiny.py").write_text(PLUGIN)
    monkeypatch.setattr(registry, "MODULES", folder.parent)
    assert registry.kinds("encoder") == ["tiny"]
    assert registry.config_class("encoder", "tiny")().kind == "tiny"


def test_an_installed_package_adds_a_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    name = registry.load_class("encoder", "mlp").__name__
    point = EntryPoint("theirs", f"hjepa.modules.encoder.mlp:{name}", "hjepa.encoder")
    monkeypatch.setattr(registry, "_entry_points", lambda slot: {"theirs": point} if slot == "encoder" else {})
    assert "theirs" in registry.kinds("encoder")
    assert registry.config_class("encoder", "theirs")().kind == "theirs"
    assert registry.load_class("encoder", "theirs").__name__ == name
