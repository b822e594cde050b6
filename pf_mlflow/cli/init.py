"""`pf-mlflow init`."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
from rich.markup import escape

from pf_mlflow.adoption.changes import FolderChange
from pf_mlflow.adoption.manifest import Manifest, removal
from pf_mlflow.adoption.plan import init_plan
from pf_mlflow.adoption.target import flow_folder
from pf_mlflow.cli.output import one_sentence, out, warn
from pf_mlflow.cli.parameters import NamedPath
from pf_mlflow.errors import BadInput
from pf_mlflow.sources.promptflow.flow import read_dag

__all__ = ["init"]

_COLORS = {"+": "green", "-": "red", "@": "cyan", "n": "green", "g": "red"}


@click.command()
@click.argument("flow_dir", type=NamedPath())
@click.option(
    "--node",
    "nodes",
    multiple=True,
    metavar="NAME",
    help="A node to record; several times. Default: all with an LLM.",
)
@click.option("--vendor", is_flag=True, help="Also put in what a cloud needs that sees nothing but the flow's folder.")
@click.option("--dry-run", is_flag=True, help="Only show what would be changed.")
@click.option("--yes", "-y", is_flag=True, help="Change it without asking.")
@click.option("--remove", is_flag=True, help="Take out again, byte for byte, what was put in.")
def init(flow_dir: Path, nodes: tuple[str, ...], vendor: bool, dry_run: bool, yes: bool, remove: bool) -> None:
    """Give an existing flow child runs: its batches show each line in MLflow from then on.

    Adds three nodes and their files (comments, order and style of flow.dag.yaml stay), switches promptflow's tracing
    on, and adds a line of requirements and ignore entries. Shows all of it and asks first. A second time it changes
    nothing but what a newer version of this package brings.

    --vendor is for clouds, which cannot install this package: it is in no package index. It adds pf_mlflow.zip, what
    of this package runs in a flow, and the requirements of a cloud's image. From then on the flow keeps them.

    Exit code: 0 done or nothing to do, 1 cannot be done safely or was declined, 2 wrong command line.

    Example: pf-mlflow init my_flow
    """
    if remove and (nodes or vendor):
        raise click.UsageError("--node and --vendor say what to put in; they do not go with --remove.")
    with one_sentence():
        folder = flow_folder(flow_dir)
        plan = None if remove else init_plan(folder, nodes, vendor)
        change = plan.change if plan else removal(folder)
        for note in plan.notes if plan else ():
            warn(note)
        if not change.files:
            out.print(f"Nothing to do: {escape(str(folder))} has all that child runs need.")
            return
        _show(change)
        if dry_run:
            return
        if not yes and not _agreed(folder):
            raise BadInput("Nothing was changed: say `y` when asked, or call it with --yes.")
        change.make()
        out.print(f"Taken out of {escape(str(folder))}." if remove else _next(folder))


def _show(change: FolderChange) -> None:
    for line in change.lines(unsaid=[Manifest.NAME]):
        color = _COLORS.get(line[:1])
        out.print(f"[{color}]{escape(line)}[/{color}]" if color else escape(line))


def _agreed(folder: Path) -> bool:
    try:
        return click.confirm(f"Change {folder} so?")
    except click.Abort:  # nobody there to ask
        return False


def _next(folder: Path) -> str:
    inputs = read_dag(folder).get("inputs") or {}
    data = _data_for(folder, inputs)
    words = ["pf", "run", "create", "--flow", str(folder), "--data", str(data) if data else "YOUR_DATA.jsonl"]
    if inputs:
        words += ["--column-mapping", *(f"{name}=${{data.{name}}}" for name in inputs)]
    return f"Done. Now a batch makes child runs:\n  {escape(shlex.join(words))}\nand `pf-mlflow ui` shows them."


def _data_for(folder: Path, inputs: Mapping[str, Any]) -> Path | None:
    """Return a data file in the flow's folder whose first line has all inputs."""
    for path in sorted(folder.glob("**/*.jsonl")):
        try:
            with path.open(encoding="utf-8") as lines:
                if set(inputs) <= set(json.loads(next(lines))):
                    return path
        except (OSError, ValueError, StopIteration, TypeError):  # no data of this flow
            continue
    return None
