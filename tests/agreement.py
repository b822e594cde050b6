"""One flow's lines as MLflow shows them by whichever way they came there, and as promptflow itself keeps them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from machine import Machine, Tracked, tracked

from pf_mlflow.sources.promptflow.flow import read_flow

_OF_THE_WAY = {"run_display_name", "promptflow.run_id", "promptflow.batch_uid", "mlflow.parentRunId"}
_OF_THE_WAY |= {"mlflow.note.content", "promptflow.described"}  # it links to runs by their ids
_TIMES = re.compile(r"(.*\.|line_)?duration(/.*)?")


def run(machine: Machine, flow: Path, data: Path, name: str, *words: str) -> Tracked:
    """Execute the lines by `pf-mlflow run`, threads if nothing else is said."""
    command = ["pf-mlflow", "run", "--flow", str(flow), "--data", str(data), "--name", name, "--json"]
    done = machine.command(*command, *_mapping(flow, data), *words)
    assert done.returncode in (0, 3), done.stdout + done.stderr
    shown = tracked(_store(machine), name)
    told, counted = json.loads(done.stdout), shown.parent.data.metrics["lines_failed"]
    assert (told["lines_failed"], done.returncode) == (counted, 3 if counted or told["failure"] else 0), done.stderr
    return shown


def plain(machine: Machine, flow: Path, data: Path, name: str, **env: str) -> Tracked:
    """Execute the lines by `pf run create`, whose flow's nodes tell of them."""
    words = ["run", "create", "--flow", str(flow), "--data", str(data), "--name", name]
    machine.command("pf", *words, *_mapping(flow, data), **env)
    return tracked(_store(machine), name, 45)


def make_tell(machine: Machine, flow: Path) -> None:
    """Have a flow tell of its lines also under `pf`: a DAG by its nodes, a flex flow by its module."""
    if read_flow(flow).is_dag:
        done = machine.command("pf-mlflow", "init", str(flow), "--yes")
        assert done.returncode == 0, done.stdout + done.stderr
    else:
        module = flow / f"{str(read_flow(flow).definition['entry']).partition(':')[0]}.py"
        module.write_text(f"import pf_mlflow\n\npf_mlflow.attach()\n{module.read_text('utf-8')}", "utf-8")


def sync(machine: Machine, name: str) -> Tracked:
    """Bring a finished batch into a store that knows nothing of it, by a spool that knows nothing of it."""
    other = machine.folder / f"sync_{name}"
    store = f"sqlite:///{other / 'mlflow.db'}"
    env = {"PF_MLFLOW_SPOOL_DIR": str(other), "MLFLOW_TRACKING_URI": store}
    done = machine.command("pf-mlflow", "sync", name, "--json", **env)
    assert done.returncode == 0, done.stdout + done.stderr
    return tracked(store, name)


def _store(machine: Machine) -> str:
    return f"sqlite:///{machine.cwd / 'mlflow.db'}"


def _mapping(flow: Path, data: Path) -> list[str]:
    columns = json.loads(data.read_text("utf-8").splitlines()[0])
    inputs = read_flow(flow).inputs
    columns = [name for name in columns if inputs is None or name in inputs]
    return [word for name in columns for word in ("--column-mapping", f"{name}=${{data.{name}}}")]


def without_times(batch: Tracked) -> dict[str, Any]:
    """All that tells of lines and batch but times, ids and the names that the way gave them."""

    def told(run: Any) -> dict[str, Any]:
        metrics = {key: value for key, value in run.data.metrics.items() if not _TIMES.fullmatch(key)}
        texts = {key: value for key, value in {**run.data.params, **run.data.tags}.items() if key not in _OF_THE_WAY}
        for key in [key for key, value in texts.items() if "data:image/" in value[:20]]:
            del texts[key]  # an input that promptflow keeps as a file
        return {"status": run.info.status, **metrics, **texts}

    parent = told(batch.parent)
    del parent["mlflow.runName"]
    return {"parent": parent, **{number: told(run) for number, run in sorted(batch.children.items())}}


def the_same(one: Tracked, other: Tracked) -> None:
    """Both say the same of lines and batch, times aside."""
    mine, theirs = without_times(one), without_times(other)
    for values in (mine, theirs):
        values["parent"].pop("flow_hash", None)  # a flow's nodes are files of it
    for key in sorted(mine.keys() | theirs.keys(), key=str):
        assert mine.get(key) == theirs.get(key), f"{key}: {mine.get(key)} is not {theirs.get(key)}"


def kept(machine: Machine, name: str) -> dict[int, dict[str, Any]]:
    """What promptflow keeps of each line: its run info."""
    folder = machine.folder / "promptflow" / ".runs" / name / "flow_artifacts"
    lines = (json.loads(path.read_text("utf-8")) for path in folder.glob("*.jsonl"))
    return {line["line_number"]: line["run_info"] for line in lines}


def as_promptflow_has_it(machine: Machine, name: str, shown: Tracked) -> None:
    """MLflow says of each line and of all what promptflow says."""
    lines = kept(machine, name)
    finished = {number: run.info.status == "FINISHED" for number, run in shown.children.items()}
    assert finished == {number: info["status"] == "Completed" for number, info in lines.items()}
    outputs = {one.pop("line_number"): one for one in machine.outputs(name)}
    assert outputs.keys() == {number for number, is_finished in finished.items() if is_finished}
