"""Which flows `pf-mlflow init` can give nodes to, and what is said of the others."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pf_mlflow.errors import BadInput
from pf_mlflow.sources.promptflow.flow import flex_file

__all__ = ["check_flow", "flow_folder"]


def flow_folder(path: Path) -> Path:
    """Return the folder of a DAG flow; raise `BadInput` for other kinds of flow, with what to do instead."""
    if path.is_file() and path.name == "flow.dag.yaml":
        path = path.parent
    if path.suffix == ".prompty" or _is_prompty_folder(path):
        raise BadInput(
            f"{str(path)!r} is a prompty, which has no nodes to add: run it as ever with "
            "`--environment-variables PF_DISABLE_TRACING=false`, then `pf-mlflow sync BATCH` makes its child runs."
        )
    dag = path / "flow.dag.yaml"
    if flex := flex_file(dag if dag.is_file() else path):
        raise BadInput(
            f"{str(path)!r} is a flex flow, which has no nodes to add: put `import pf_mlflow; pf_mlflow.attach()` at "
            'the top of its entry\'s module and `PF_DISABLE_TRACING: "false"` under environment_variables in its '
            f"{flex.name}. Or change nothing, and `pf-mlflow sync BATCH` makes the child runs of a finished batch."
        )
    return path


def _is_prompty_folder(path: Path) -> bool:
    flows = ("flow.dag.yaml", "flow.flex.yaml")
    return path.is_dir() and any(path.glob("*.prompty")) and not any((path / name).is_file() for name in flows)


def check_flow(folder: Path, dag: Mapping[str, Any], record: Iterable[str]) -> None:
    """Raise `BadInput` for a flow that is a link, that executes nothing for a line, or that lacks a node to record."""
    target = (folder / "flow.dag.yaml").resolve()
    if target.parent != folder.resolve():
        raise BadInput(f"{folder / 'flow.dag.yaml'} is a link to {target}: say `pf-mlflow init {target.parent}`.")
    if (language := str(dag.get("language", "python"))) != "python":
        raise BadInput(
            f"{folder / 'flow.dag.yaml'} is a flow in {language}, and the nodes that child runs need are Python. "
            "Change nothing, and `pf-mlflow sync BATCH` makes the child runs of a finished batch."
        )
    names = [str(node["name"]) for node in dag["nodes"] if not node.get("aggregation")]
    if not names:
        raise BadInput("The flow has no node that is executed for each line.")
    if missing := [name for name in record if name not in names]:
        raise BadInput(f"The flow has no node {missing[0]!r} for --node; its nodes are {', '.join(names)}.")
