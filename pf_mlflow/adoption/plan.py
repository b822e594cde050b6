"""Plans what a flow's folder needs for child runs: nodes, YAML, requirements, ignore entries; for a cloud a copy."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from pf_mlflow.__version__ import __version__
from pf_mlflow.adoption.changes import FolderChange, is_inside, read_text
from pf_mlflow.adoption.manifest import EditedFile, Manifest, digest
from pf_mlflow.adoption.requirements import IN_NO_INDEX, conflicts, is_own, missing, own_requirement
from pf_mlflow.adoption.target import check_flow, flow_folder
from pf_mlflow.adoption.vendor import COPY, FIND_COPY, node_file, vendored_package
from pf_mlflow.adoption.wiring import CALLS, Wiring, find_in_flow, included, our_nodes
from pf_mlflow.adoption.yaml_edit import Edit, appended_lines, applied
from pf_mlflow.errors import BadInput
from pf_mlflow.sources.promptflow.flow import node_names, read_dag
from pf_mlflow.sources.promptflow.flow_files import flow_files

__all__ = ["Plan", "init_plan"]

_IGNORED = (".venv", "mlflow.db", "mlflow.db-*", "mlartifacts", "mlruns")
"""What promptflow would otherwise copy at every run."""


@dataclass
class Plan:
    """What will be done to a flow's folder, and what its author should know."""

    change: FolderChange
    notes: list[str] = field(default_factory=list)


def init_plan(path: Path, record: Sequence[str] = (), vendor: bool = False) -> Plan:
    """Return what a flow's folder lacks.

    Args:
        path: The folder.
        record: Nodes to record; none: every node that calls an LLM.
        vendor: Whether the flow is to carry a copy of this package; one that does so already goes on doing so.

    Raises:
        BadInput: no flow that can be edited safely, or a node that it does not have.
    """
    folder = flow_folder(path)
    dag = read_dag(folder)
    check_flow(folder, dag, record)
    return _Planning(folder, dag, record, vendor).plan()


class _Planning:
    def __init__(self, folder: Path, dag: Mapping[str, Any], record: Sequence[str], vendor: bool) -> None:
        self._folder, self._dag, self._record = folder, dag, record
        self._included = included(dag, folder)
        self._manifest = Manifest.in_folder(folder) or Manifest(__version__)
        self._present = self._put_before() | our_nodes(dag, folder)
        self._plan = Plan(FolderChange(folder))
        self._old_copy = [path for path in self._manifest.files if path.startswith("pf_mlflow/")]
        changed = [path for path in self._manifest.changed_since(folder) if path in self._old_copy]
        by_hand = not self._old_copy and find_in_flow(dag, folder, "pf_mlflow/__init__.py")
        self._carries = vendor or self._manifest.has_copy or bool(by_hand)
        self._zipped = self._carries and not by_hand and not changed
        self._plan.notes += [_left(folder / path) for path in changed]
        if vendor and by_hand:
            self._plan.notes.append(f"{by_hand.parent} was there already and is left as it is.")

    def plan(self) -> Plan:
        self._put_copy()
        self._put_nodes()
        requirements = self._put_requirements()
        self._edit_flow(requirements)
        self._put_ignore_entries()
        if self._plan.change.files:
            self._manifest.version = __version__
            self._plan.change.put(Manifest.NAME, self._manifest.to_bytes())
        return self._plan

    def _put_before(self) -> dict[str, str]:
        """Return the nodes of ours that are there, by the files that were put here, even if such a file is gone."""
        sources = {str((node.get("source") or {}).get("path")): str(node["name"]) for node in self._dag["nodes"]}
        return {Path(path).stem: name for path, name in sources.items() if path in self._manifest.files}

    # Whole files

    def _put_copy(self) -> None:
        """Put the package in as a zip, in the place of the many files that earlier versions put there."""
        if not self._zipped:
            return
        for path in self._old_copy:
            self._put(path, None)
        self._put(COPY, vendored_package())
        gone = [name for name in self._manifest.folders if name.partition("/")[0] == "pf_mlflow"]
        self._manifest.folders = [name for name in self._manifest.folders if name not in gone]
        self._plan.change.emptied = tuple(gone)

    def _put_nodes(self) -> None:
        self._nodes_in = self._nodes_folder()
        others = []
        for name in CALLS:
            path = f"{self._nodes_in}/{name}.py"
            if name not in self._present or path in self._manifest.files:
                self._put(path, node_file(name, self._zipped))
            else:
                others.append(self._present[name])
        if others and self._zipped:
            told = f"The files of {', '.join(others)} are not of `pf-mlflow init`: write `{FIND_COPY}` into them, above"
            self._plan.notes.append(f"{told} their import of pf_mlflow.")

    def _nodes_folder(self) -> str:
        """Return the first folder in which no file of the author's is in the way."""
        for name in ("nodes", "mlflow_nodes", "pf_mlflow_nodes"):
            clash = any(self._is_other(f"{name}/{node}.py", node) for node in CALLS)
            full = self._folder / name
            if not clash and name not in self._included and not full.is_file() and is_inside(self._folder, full):
                return name
        raise BadInput(f"{self._folder} has folders nodes, mlflow_nodes and pf_mlflow_nodes; rename one of them.")

    def _is_other(self, path: str, node: str) -> bool:
        full = self._folder / path
        ours = (node_file(node, vendored) for vendored in (False, True))
        return full.is_file() and path not in self._manifest.files and full.read_bytes() not in ours

    def _put(self, path: str, content: bytes | None) -> None:
        full, files = self._folder / path, self._manifest.files
        if full.is_file() and path not in files:
            return
        if full.is_file() and not self._manifest.is_untouched(self._folder, path):
            self._plan.notes.append(_left(full))
            return
        self._plan.change.put(path, content)
        if content is None:
            del files[path]
            return
        files[path] = digest(content)
        parents = [parent.as_posix() for parent in Path(path).parents if parent.as_posix() != "."]
        new = [name for name in parents if not (self._folder / name).exists() and name not in self._manifest.folders]
        self._manifest.folders += new

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
            self._manifest.edited.append(EditedFile(path, edits, created))

    def _append(self, path: str, lines: Sequence[str], *instead: Edit) -> None:
        full = self._folder / path
        if not is_inside(self._folder, full):
            if lines:
                self._plan.notes.append(f"{full} is {full.resolve()}; add there what is missing: {_said(lines)}.")
            return
        text, edits = applied(read_text(full) if full.is_file() else "", instead)
        if lines:
            text, appended = applied(text, [appended_lines(text, lines)])
            edits += appended
        self._edited(path, text, edits, created=not full.exists())

    def _put_requirements(self) -> str | None:
        """Add the missing requirements; return the file's name if the flow should name it."""
        environment = self._dag.get("environment") or {}
        name = str(environment.get("python_requirements_txt") or "requirements.txt")
        cloud = [line for line in _lines(flow_files() / "requirements.txt") if not line.startswith("#")]
        wanted = cloud if self._carries else [own_requirement()]
        there = _lines(self._included.get(name, self._folder / name))
        instead = [] if wanted != cloud else self._own_line(name)
        lacking = missing(wanted, [line for line in there if line not in {edit.removed.strip() for edit in instead}])
        if name in self._included:
            if lacking:
                self._plan.notes.append(f"{self._included[name]} lacks what child runs need: {_said(lacking)}.")
            return None
        self._append(name, lacking, *instead)
        self._plan.notes += [f"{name} {note}" for note in conflicts(cloud, there)]
        if any("file:" in line for line in lacking):
            self._plan.notes.append(f"{_said(lacking)} in {name} is found on this machine only: {IN_NO_INDEX}")
        return None if environment else name

    def _own_line(self, path: str) -> list[Edit]:
        """Return the edit that takes out the line of this package that was put in before, if it is there as it was."""
        text = read_text(self._folder / path) if (self._folder / path).is_file() else ""
        before = [edit.added for one in self._manifest.edited if one.path == path for edit in one.edits]
        return [Edit(text.index(own), own, "") for own in before if is_own(own) and text.count(own) == 1]

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


def _left(path: Path) -> str:
    return f"{path} was changed since it was put there and is left as it is."


def _said(lines: Iterable[str]) -> str:
    return ", ".join(f"`{line}`" for line in lines)
