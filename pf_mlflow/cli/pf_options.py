"""Options as promptflow's `pf run create` takes them: several pairs behind one option, a run's YAML file, `--set`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click
import yaml

from pf_mlflow.cli.output import warn
from pf_mlflow.cli.parameters import NamedPath, Pairs
from pf_mlflow.sources.promptflow.flow import yaml_fault

__all__ = ["PfCommand", "pf_options", "with_file"]

_PATHS = ("flow", "data")
_PAIRS = ("column_mapping", "tags", "init", "connections", "environment_variables")
_TEXTS = ("name", "display_name", "variant", "resume_from", "run")
_SAY_INSTEAD = {
    "description": "--tags description='…'",
    "properties": "--tags NAME='…'",
    "environment": "the environment that this command is installed in",
    "runtime": "the environment that this command is installed in",
    "resources": "--concurrency",
    "identity": "a login of the environment, as of `az login`",
}
"""What is written instead of a key that is not taken over."""


class PfCommand(click.Command):
    """A command whose options of pairs take several behind one name, as `--column-mapping a=1 b=2`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Give each pair its option before the arguments are parsed."""
        takes_none = not any(isinstance(one, click.Argument) for one in self.params)
        if takes_none and args and not args[0].startswith("-"):
            hint = "leave `create` out" if args[0] == "create" else "say --flow before a flow, and --data before data"
            raise click.UsageError(f"{args[0]!r} has no option before it: {hint}.", ctx)
        names = {name for one in self.params if isinstance(one.type, Pairs) for name in one.opts}
        return super().parse_args(ctx, _one_each(args, names))


def _one_each(args: list[str], names: set[str]) -> list[str]:
    spread: list[str] = []
    option, pairs = "", 0
    for word in args:
        if word.startswith("-"):
            option, pairs = word if word in names else "", 0
        elif option:
            pairs += 1
            if pairs > 1 and "=" in word:
                spread.append(option)
            elif pairs > 1:
                option = ""
        spread.append(word)
    return spread


def pf_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options of promptflow's that need no word of their own."""
    for option in (
        click.option("--stream", "-s", is_flag=True, help="As `pf` takes it: lines are always told while they run."),
        click.option(
            "--set", "sets", type=Pairs(), multiple=True, metavar="KEY=VALUE", help="A value of --file instead."
        ),
        click.option("--file", "-f", type=NamedPath(), help="A run's YAML file, as `pf run create` takes it."),
        click.option(
            "--environment-variables", type=Pairs(), multiple=True, help="A variable of the batch's; several times."
        ),
    ):
        command = option(command)
    return command


def with_file(options: dict[str, Any], file: Path | None, sets: tuple[tuple[str, str], ...]) -> dict[str, Any]:
    """Return a command's options with what a run's file says where the command line says nothing.

    Raises:
        UsageError: the file cannot be read, or has a key that nobody knows.
    """
    spec = _read(file) if file else {}
    for path, value in sets:
        place = spec
        *above, last = path.split(".")
        for key in above:
            place = place.setdefault(key, {})
            if not isinstance(place, dict):
                raise click.UsageError(f"--set {path}={value} cannot be used: {key!r} has no values by name.")
        place[last] = value
    given = _options(spec, file.parent if file else Path(), options)
    return {name: given[name] if _is_unsaid(value) and name in given else value for name, value in options.items()} | {
        name: (*given[name], *options[name]) for name in _PAIRS if name in given and name in options
    }


def _is_unsaid(value: object) -> bool:
    return value is None or value == ()


def _read(file: Path) -> dict[str, Any]:
    try:
        found = yaml.safe_load(file.read_text("utf-8"))
    except OSError as error:
        raise click.UsageError(f"The file {str(file)!r} cannot be read: {error.strerror}.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise click.UsageError(f"{file} is no valid YAML, {yaml_fault(error)}; mend it there.") from error
    if not isinstance(found, dict):
        raise click.UsageError(f"{file} has no settings by name, as `flow: .` and `data: rows.jsonl`.")
    return {key: value for key, value in found.items() if key != "$schema" and value is not None}


def _options(spec: Mapping[str, Any], folder: Path, options: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in spec.items():
        name = "base" if key == "run" and "base" in options else "batch" if key == "run" else key
        if key in _SAY_INSTEAD:
            warn(f"{key!r} is not taken over; write {_SAY_INSTEAD[key]} instead.")
        elif key not in (*_PATHS, *_PAIRS, *_TEXTS):
            known = ", ".join(sorted((*_PATHS, *_PAIRS, *_TEXTS)))
            raise click.UsageError(f"There is no key {key!r} of a run; those there are: {known}.")
        elif name not in options:
            warn(f"{key!r} is not taken over: this command has no such option.")
        elif key in _PAIRS:
            found[name] = _pairs(key, value)
        else:
            found[name] = _path(key, folder, str(value)) if key in _PATHS else str(value)
    return found


def _path(key: str, folder: Path, value: str) -> Path:
    if not value.strip():
        raise click.UsageError(f"{key!r} is empty; name a file or a folder, or leave it out.")
    return folder / value


def _pairs(key: str, value: Any) -> tuple[tuple[str, Any], ...]:
    by_node = value.values() if key == "connections" and isinstance(value, dict) else ()
    if not all(isinstance(one, dict) for one in (value, *by_node)):
        meant = "joke: {connection: NAME}" if key == "connections" else "name: value"
        raise click.UsageError(f"{key!r} has no values by name, as `{meant}`, only {value!r}.")
    if key == "connections":
        return tuple((f"{node}.{name}", one) for node, more in value.items() for name, one in more.items())
    if key == "environment_variables":
        return tuple((str(name), str(one)) for name, one in value.items())
    return tuple((str(name), one) for name, one in value.items())
