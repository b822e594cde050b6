"""Plans what a flow's folder needs for child runs: nodes, package, YAML, requirements and ignore entries."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from pf_mlflow.__version__ import __version__
from pf_mlflow.adoption.changes import FolderChange, read_text
from pf_mlflow.adoption.manifest import Added, EditedFile, digest
from pf_mlflow.adoption.requirements import conflicts, missing
from pf_mlflow.adoption.text_edits import Edit, appended_lines, applied
from pf_mlflow.adoption.wiring import CALLS, Wiring, included, our_nodes
from pf_mlflow.errors import BadInput
from pf_mlflow.sources.promptflow.flow import node_names, read_dag
from pf_mlflow.sources.promptflow.flow_files import PACKAGE, flow_files

__all__ = ["Plan", "flow_folder", "init_plan"]

_IGNORED = (".venv", "mlflow.db", "mlflow.db-*", "mlartifacts", "mlruns")
"""What promptflow would otherwise copy at every run."""


@dataclass
class Plan:
    """What will be done to a flow's folder, and what its author should know."""

    change: FolderChange
    notes: list[str] = field(default_factory=list)


def flow_folder(path: Path) -> Path:
    """Return the folder of a DAG flow; raise `BadInput` for other kinds of flow, with what to do instead."""
    if path.is_file() and path.name == "flow.dag.yaml":
        path = path.parent
    if path.suffix == ".prompty" or _is_prompty_folder(path):
        raise BadInput(
            f"{str(path)!r} is a prompty, which has no nodes to add: run it as ever with "
            "`--environment-variables PF_DISABLE_TRACING=false`, then `pf-mlflow sync BATCH` makes its child runs."
        )
    if (path / "flow.flex.yaml").is_file() and not (path / "flow.dag.yaml").is_file():
        raise BadInput(
            f"{str(path)!r} is a flex flow, which has no nodes to add: put `import pf_mlflow; pf_mlflow.attach()` at "
            'the top of its entry\'s module and `PF_DISABLE_TRACING: "false"` under environment_variables in its '
            "flow.flex.yaml. Or change nothing, and `pf-mlflow sync BATCH` makes the child runs of a finished batch."
        )
    return path


def _is_prompty_folder(path: Path) -> bool:
    flows = ("flow.dag.yaml", "flow.flex.yaml")
    return path.is_dir() and any(path.glob("*.prompty")) and not any((path / name).is_file() for name in flows)


def init_plan(path: Path, record: Sequence[str] = ()) -> Plan:
    """Return what a flow's folder lacks.

    Args:
        path: The folder.
        record: Nodes to record; none: every node that calls an LLM.

    Raises:
        BadInput: no flow that can be edited safely, or a node that it does not have.
    """
    folder = flow_folder(path)
    dag = read_dag(folder)
    _check_place(folder)
    _check_names(dag, record)
    return _Planning(folder, dag, record).plan()


def _check_place(folder: Path) -> None:
    target = (folder / "flow.dag.yaml").resolve()
    if target.parent != folder.resolve():
        raise BadInput(f"{folder / 'flow.dag.yaml'} is a link to {target}: say `pf-mlflow init {target.parent}`.")


def _check_names(dag: Mapping[str, Any], record: Iterable[str]) -> None:
    names = [str(node["name"]) for node in dag["nodes"] if not node.get("aggregation")]
    if not names:
        raise BadInput("The flow has no node that is executed for each line.")
    if missing := [name for name in record if name not in names]:
        raise BadInput(f"The flow has no node {missing[0]!r} for --node; its nodes are {', '.join(names)}.")


class _Planning:
    def __init__(self, folder: Path, dag: Mapping[str, Any], record: Sequence[str]) -> None:
        self._folder, self._dag, self._record = folder, dag, record
        self._included = included(dag, folder)
        self._added = Added.in_folder(folder) or Added(__version__)
        self._present = self._put_before() | our_nodes(dag, folder)
        self._plan = Plan(FolderChange(folder))

    def plan(self) -> Plan:
        self._put_nodes()
        self._put_package()
        requirements = self._put_requirements()
        self._edit_flow(requirements)
        self._put_ignore_entries()
        if self._plan.change.files:
            self._added.version = __version__
            self._plan.change.put(Added.NAME, self._added.to_bytes())
        return self._plan

    def _put_before(self) -> dict[str, str]:
        """Return the nodes of ours that are there, by the files that were put here, even if such a file is gone."""
        sources = {str((node.get("source") or {}).get("path")): str(node["name"]) for node in self._dag["nodes"]}
        return {Path(path).stem: name for path, name in sources.items() if path in self._added.files}

    # Whole files

    def _put_nodes(self) -> None:
        source = flow_files() / "nodes"
        self._nodes_in = self._nodes_folder(source)
        for name in CALLS:
            path = f"{self._nodes_in}/{name}.py"
            if name not in self._present or path in self._added.files:
                self._put(path, (source / f"{name}.py").read_bytes())

    def _nodes_folder(self, source: Path) -> str:
        """Return the first folder in which no file of the author's is in the way."""
        for name in ("nodes", "mlflow_nodes", "pf_mlflow_nodes"):
            clash = any(self._is_other(f"{name}/{node}.py", source / f"{node}.py") for node in CALLS)
            if not clash and name not in self._included and not (self._folder / name).is_file():
                return name
        raise BadInput(f"{self._folder} has folders nodes, mlflow_nodes and pf_mlflow_nodes; rename one of them.")

    def _is_other(self, path: str, ours: Path) -> bool:
        full = self._folder / path
        return full.is_file() and path not in self._added.files and full.read_bytes() != ours.read_bytes()

    def _put_package(self) -> None:
        own = self._folder / "pf_mlflow"
        if "pf_mlflow" in self._included or own.is_symlink():
            return
        if own.exists() and not self._added.has_package:
            if own.resolve() != PACKAGE.resolve():
                self._plan.notes.append(f"{own} was there already and is left as it is.")
            return
        paths = (path for path in sorted(PACKAGE.rglob("*.py")) if "flow_files" not in path.parts)
        files = {f"pf_mlflow/{path.relative_to(PACKAGE).as_posix()}": path for path in paths}
        for name, path in files.items():
            self._put(name, path.read_bytes())
        for name in [name for name in self._added.files if name.startswith("pf_mlflow/") and name not in files]:
            self._put(name, None)

    def _put(self, path: str, content: bytes | None) -> None:
        full = self._folder / path
        if full.is_file() and path in self._added.files and not self._added.is_untouched(self._folder, path):
            self._plan.notes.append(f"{full} was changed since it was put there and is left as it is.")
            return
        if full.is_file() and path not in self._added.files:
            return
        self._plan.change.put(path, content)
        if content is None:
            del self._added.files[path]
            return
        self._added.files[path] = digest(content)
        parents = [parent.as_posix() for parent in Path(path).parents if parent.as_posix() != "."]
        new = [name for name in parents if not (self._folder / name).exists() and name not in self._added.folders]
        self._added.folders += new

    # Edits

    def _edit_flow(self, requirements: str | None) -> None:
        text = read_text(self._folder / "flow.dag.yaml")
        wiring = Wiring(text, self._dag, self._present, self._nodes_in, self._record, requirements)
        self._edited("flow.dag.yaml", *wiring.edited())
        if self._names_other_nodes():
            told = f"The nodes are there already: write record_nodes: {list(self._record)} as an input of"
            self._plan.notes.append(f"{told} {self._present['save_mlflow_tracking']} in flow.dag.yaml.")
        if wiring.silences_stream:
            told = f"`pf flow serve` will send the answer of {wiring.answer!r} whole: promptflow streams only what no"
            self._plan.notes.append(f"{told} other node takes.")

    def _names_other_nodes(self) -> bool:
        """Tell whether other nodes are to be recorded than a node that is there names, which is its author's now."""
        saves = [node for node in self._dag["nodes"] if str(node["name"]) == self._present.get("save_mlflow_tracking")]
        named = [node_names((node.get("inputs") or {}).get("record_nodes")) for node in saves]
        return bool(self._record and named) and tuple(self._record) not in named

    def _edited(self, path: str, text: str, edits: Sequence[Edit], created: bool = False) -> None:
        if edits:
            self._plan.change.put(path, text.encode())
            self._added.edited.append(EditedFile(path, edits, created))

    def _append(self, path: str, lines: Sequence[str]) -> None:
        full = self._folder / path
        if not lines:
            return
        if full.is_symlink() and not full.resolve().is_relative_to(self._folder.resolve()):
            self._plan.notes.append(f"{full} is a link to {full.resolve()}; add there what is missing: {_said(lines)}.")
            return
        text = read_text(full) if full.is_file() else ""
        self._edited(path, *applied(text, [appended_lines(text, lines)]), created=not full.exists())

    def _put_requirements(self) -> str | None:
        """Add the missing requirements; return the file's name if the flow should name it."""
        environment = self._dag.get("environment") or {}
        name = str(environment.get("python_requirements_txt") or "requirements.txt")
        wanted = [line for line in _lines(flow_files() / "requirements.txt") if not line.startswith("#")]
        if name in self._included:
            if lacking := missing(wanted, _lines(self._included[name])):
                self._plan.notes.append(f"{self._included[name]} lacks what a cloud needs: {_said(lacking)}.")
            return None
        there = _lines(self._folder / name)
        self._append(name, missing(wanted, there))
        self._plan.notes += [f"{name} {note}" for note in conflicts(wanted, there)]
        return None if self._dag.get("environment") else name

    def _put_ignore_entries(self) -> None:
        """Add to the ignore files that there are; with neither, git's serves promptflow as well."""
        there = [name for name in (".amlignore", ".gitignore") if (self._folder / name).exists()] or [".gitignore"]
        for name in there:
            known = _lines(self._folder / name)
            if name != there[0]:  # promptflow reads the first, and a `/` in a line of it keeps nothing out of its copy
                known = [line.strip("/") for line in known]
            self._append(name, [one for one in _IGNORED if not any(fnmatch(one, line) for line in known)])


def _lines(path: Path) -> list[str]:
    return [line.strip() for line in read_text(path).splitlines()] if path.is_file() else []


def _said(lines: Iterable[str]) -> str:
    return ", ".join(f"`{line}`" for line in lines)
