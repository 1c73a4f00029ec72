"""The `hjepa` command. Exit status: 0 done, 2 the user's mistake (told in one line each), 1 anything else."""

import argparse
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn, TypeAlias

from hjepa.config.core import ConfigError, UserError

INTERRUPTED = 130

Handler = Callable[[argparse.Namespace], int]


class Parser(argparse.ArgumentParser):
    """Raises ConfigError where argparse would print its usage and leave."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message}; see `{self.prog} --help`")


Commands: TypeAlias = "argparse._SubParsersAction[Parser]"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit status."""
    try:
        arguments = make_parser().parse_args(argv)
        from hjepa.config import trusting_plugins

        with trusting_plugins(getattr(arguments, "trust_plugins", False)):
            return arguments.handler(arguments)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else 0
    except Exception:
        traceback.print_exc()
        return 1


def train(arguments: argparse.Namespace) -> int:
    """Train a config into a new run folder, or go on with a run."""
    if arguments.resume is not None:
        if arguments.config is not None:
            raise ConfigError(f"--resume: takes no config or overrides (got {arguments.config!r})")
        existing(arguments.resume, "config.yaml")
        from hjepa.train.run import resume

        return resume(arguments.resume)
    if arguments.config is None:
        raise ConfigError("train: name a config, as in `hjepa train configs/doorkey_8x8.yaml`")
    from hjepa.config import load
    from hjepa.preflight import check

    config = load(arguments.config, arguments.overrides)
    run_dir = check(config)
    from hjepa.train.run import train as start

    return start(config, run_dir)


def evaluate(arguments: argparse.Namespace) -> int:
    """Held-out episodes of a run or a checkpoint."""
    existing(arguments.run)
    if arguments.env is not None:
        from hjepa.preflight import check_env

        check_env(arguments.env)
    from hjepa.eval.command import evaluate as play

    return play(
        arguments.run,
        arguments.env,
        arguments.episodes,
        arguments.seed,
        arguments.mode,
        arguments.levels,
        arguments.json,
    )


def watch(arguments: argparse.Namespace) -> int:
    """Episodes as GIFs with their subgoals."""
    existing(arguments.run)
    from hjepa.eval.watch import watch as record

    return record(arguments.run, arguments.out, arguments.episodes, arguments.seed)


def compare(arguments: argparse.Namespace) -> int:
    """Runs side by side."""
    for run in arguments.runs:
        existing(run)
    from hjepa.eval.compare import compare as tabulate

    return tabulate(arguments.runs, arguments.json)


def diagnose(arguments: argparse.Namespace) -> int:
    """Which level is at fault."""
    existing(arguments.run)
    from hjepa.eval.diagnose import diagnose as examine

    return examine(arguments.run, arguments.episodes, arguments.seed, arguments.json)


def export(arguments: argparse.Namespace) -> int:
    """What playing needs of a run, as a small run folder."""
    existing(arguments.run, "config.yaml")
    from hjepa.eval.export import export as write

    return write(arguments.run, arguments.target)


def list_kinds(arguments: argparse.Namespace) -> int:
    """Implementations of one slot, or of all, with what they are."""
    from hjepa.config import registry

    if arguments.slot is not None and arguments.slot not in registry.SLOTS:
        raise ConfigError(f"list: no slot of this name (got {arguments.slot!r}); there are {', '.join(registry.SLOTS)}")
    for slot in [arguments.slot] if arguments.slot else registry.SLOTS:
        print(slot)
        for kind in registry.kinds(slot):
            print(f"  {kind:<14} {registry.describe(slot, kind)}")
    return 0


def check(arguments: argparse.Namespace) -> int:
    """The conformance suite on a user's module."""
    from hjepa.config import registry

    registry.plugin(arguments.target)
    from hjepa.testing import check as conform

    return conform(arguments.target)


def schema(arguments: argparse.Namespace) -> int:
    """The JSON schema of config files."""
    from hjepa.config.json_schema import schema_text

    print(schema_text(), end="")
    return 0


def sweep(arguments: argparse.Namespace) -> int:
    """Many runs from one config."""
    from hjepa.config.sweep import sweep as run_all

    return run_all(arguments.file, arguments.jobs, arguments.overrides)


def mode(text: str) -> int | str:
    """An acting mode from the command line."""
    return int(text) if text in ("1", "2") else text


def existing(path: Path, inside: str = "") -> None:
    """ConfigError unless the path, and the file inside it, is there."""
    try:
        there = (path / inside).exists()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from error
    if not there:
        raise ConfigError(f"{path}: no such run folder" + (f" (it has no {inside})" if path.exists() else ""))


def make_parser() -> Parser:
    """Every command and its arguments."""
    parser = Parser(prog="hjepa", description="Train and examine hierarchical H-JEPA agents.", allow_abbrev=False)
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=Parser)
    add_training(commands)
    add_examining(commands)
    add_tools(commands)
    return parser


def add_training(commands: Commands) -> None:
    """`train` and `sweep`."""
    command = add(commands, "train", train, "train a config into a new run folder, or go on with a run")
    command.add_argument("config", nargs="?", type=Path, help="a YAML file")
    command.add_argument("overrides", nargs="*", metavar="key=value", help="as in levels.1.stride=16")
    command.add_argument("--resume", type=Path, metavar="RUN", help="go on with this run folder")
    trust(command)

    command = add(commands, "sweep", sweep, "train every combination of a sweep file that is not done yet")
    command.add_argument("file", type=Path, metavar="SWEEP.yaml")
    command.add_argument(
        "overrides", nargs="*", metavar="key=value", help="for every run, over the sweep's own settings"
    )
    command.add_argument("--jobs", type=int, default=1, metavar="N", help="runs at a time (default %(default)s)")


def add_examining(commands: Commands) -> None:
    """What is done with runs: `eval`, `watch`, `compare`, `export` and `diagnose`."""
    command = add(commands, "eval", evaluate, "play held-out episodes")
    command.add_argument("run", type=Path, metavar="RUN|CHECKPOINT")
    command.add_argument("--env", metavar="ID", help="another environment than the run's")
    play_arguments(command, episodes=100)
    command.add_argument(
        "--mode", choices=(1, 2, "auto"), type=mode, default=2, help="1 reacts, 2 plans (default %(default)s)"
    )
    command.add_argument("--levels", type=int, help="act with the lowest levels only")
    command.add_argument("--json", action="store_true", help="one JSON object as the last line")

    command = add(commands, "watch", watch, "record episodes as GIFs with the subgoals drawn on them")
    command.add_argument("run", type=Path, metavar="RUN")
    command.add_argument("--out", type=Path, metavar="FILE.gif", help="default: RUN/watch/episode.gif")
    play_arguments(command, episodes=1)

    command = add(commands, "compare", compare, "compare runs: table, intervals, paired test")
    command.add_argument("runs", type=Path, nargs="+", metavar="RUN")
    command.add_argument("--json", action="store_true", help="one JSON object as the last line")
    trust(command)

    command = add(commands, "export", export, "write what playing needs of a run to a new, small run folder")
    command.add_argument("run", type=Path, metavar="RUN")
    command.add_argument("target", type=Path, metavar="FOLDER")
    trust(command)

    command = add(commands, "diagnose", diagnose, "tell which level of a run is at fault")
    command.add_argument("run", type=Path, metavar="RUN")
    play_arguments(command, episodes=20)
    command.add_argument("--json", action="store_true", help="one JSON object as the last line")


def add_tools(commands: Commands) -> None:
    """What tells of the package: `list`, `check` and `schema`."""
    command = add(commands, "list", list_kinds, "list the implementations of a slot, or of every slot")
    command.add_argument("slot", nargs="?", metavar="SLOT")

    command = add(commands, "check", check, "run the conformance suite on a module of your own")
    command.add_argument("target", metavar="FILE.py:Class")

    add(commands, "schema", schema, "print the JSON schema of config files")


def add(commands: Commands, name: str, handler: Handler, text: str) -> Parser:
    """A command that is handled by `handler`."""
    command = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".", allow_abbrev=False)
    command.set_defaults(handler=handler)
    return command


def play_arguments(command: Parser, episodes: int) -> None:
    """What every command that plays held-out episodes takes."""
    command.add_argument("--episodes", type=int, default=episodes, help="held-out episodes (default %(default)s)")
    command.add_argument("--seed", type=int, default=0, help="which held-out layouts (default %(default)s)")
    trust(command)


def trust(command: Parser) -> None:
    """Run folders may come from anyone, so that code they name is run only when asked for."""
    command.add_argument("--trust-plugins", action="store_true", help="run the plug-in files that a run folder names")
