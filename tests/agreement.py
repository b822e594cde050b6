"""One flow's lines as MLflow shows them by whichever way they came there, and as promptflow itself keeps them."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

from machine import Machine, Tracked, tracked

from pf_mlflow.records.keys import readable
from pf_mlflow.records.masking import MASK
from pf_mlflow.sources.promptflow.flow import read_flow
from pf_mlflow.tracking.run_payload import LAST_OUTPUT

_OF_THE_WAY = {"run_display_name", "promptflow.run_id", "promptflow.batch_uid", "mlflow.parentRunId"}
_DESCRIBED = "promptflow.described"
_OF_THE_WAY |= {"mlflow.note.content", _DESCRIBED}  # it links to runs by their ids
_BEGINNING = 400
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
    until = time.monotonic() + 45
    while True:
        shown = tracked(_store(machine), name, 45)
        if _DESCRIBED in shown.parent.data.tags or not shown.children or time.monotonic() > until:
            return shown
        time.sleep(0.2)  # delivery goes on for a moment: the table of the lines and the batch's page come last


def make_tell(machine: Machine, flow: Path) -> None:
    """Have a flow tell of its lines also under `pf`: a DAG by its nodes, a flex flow by its module."""
    if read_flow(flow).is_dag:
        done = machine.command("pf-mlflow", "init", str(flow), "--yes")
        assert done.returncode == 0, done.stdout + done.stderr
    else:
        module = flow / f"{str(read_flow(flow).definition['entry']).partition(':')[0].replace('.', '/')}.py"
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


def the_same_by_pf(shown: Tracked, told: Tracked) -> None:
    """The same for lines that `pf` ran: it may break off at its end over a line whose inputs were of a wrong type."""
    types = shown.column("tags", "promptflow.error_type")
    if "InputTypeError" in types and told.parent.info.status == "KILLED":
        shown = Tracked(told.parent, shown.children)
    the_same(shown, told)


def kept(machine: Machine, name: str) -> dict[int, dict[str, Any]]:
    """What promptflow keeps of each line: its run info."""
    lines = _lines_of(machine, name, "flow_artifacts")
    return {line["line_number"]: line["run_info"] for line in lines}


def _lines_of(machine: Machine, name: str, artifacts: str) -> list[dict[str, Any]]:
    folder = machine.folder / "promptflow" / ".runs" / name / artifacts
    return [json.loads(path.read_text("utf-8")) for path in folder.rglob("*.jsonl")]


def as_promptflow_has_it(machine: Machine, name: str, shown: Tracked) -> None:
    """MLflow says of each line and of all what promptflow says."""
    lines = kept(machine, name)
    finished = {number: run.info.status == "FINISHED" for number, run in shown.children.items()}
    assert finished == {number: info["status"] == "Completed" for number, info in lines.items()}
    outputs = {one.pop("line_number"): one for one in machine.outputs(name)}
    assert outputs.keys() == {number for number, is_finished in finished.items() if is_finished}
    of_nodes = [one["run_info"] for one in _lines_of(machine, name, "node_artifacts")]
    for number, run in shown.children.items():
        told = [*outputs.get(number, {}).values(), *(one["output"] for one in of_nodes if one["index"] == number)]
        _has_its_output(number, run, told)
        _has_its_error(number, run, lines[number].get("error"))
        _has_its_tokens(number, run, lines[number].get("system_metrics") or {})
    sums = {"lines_total": len(lines), "lines_completed": len(outputs), "lines_failed": len(lines) - len(outputs)}
    assert sums == {key: shown.parent.data.metrics[key] for key in sums}
    tokens = sum(run.data.metrics.get("total_tokens", 0) for run in shown.children.values())
    assert shown.parent.data.metrics.get("total_tokens", 0) == tokens


def _has_its_output(number: int, run: Any, told: list[Any]) -> None:
    """What a completed line shows as an output is one of the flow's or of a node's; pictures are named otherwise."""
    texts = {readable(value)[:_BEGINNING] for value in told}
    shown = {key: text for key, text in run.data.params.items() if key == "output" or key.endswith(".output")}
    if last := run.data.tags.get(LAST_OUTPUT):
        shown["output"] = last
    for key, text in shown.items():
        is_told = text[:_BEGINNING] in texts or "Image(" in text
        assert is_told or run.info.status != "FINISHED", f"line {number}, {key}: {text} is none of {texts}"


def _has_its_error(number: int, run: Any, error: Any) -> None:
    """What a failed line shows as its error stands in what promptflow keeps, what is masked aside."""
    shown = run.data.tags.get("promptflow.error", "")
    assert bool(shown) == bool(error), f"line {number}: {shown}, {error}"
    kind, _, message = shown.partition(": ")
    kept_of_it = json.dumps(error, ensure_ascii=False)
    for part in [kind, *message[:_BEGINNING].split(MASK)]:
        assert json.dumps(part, ensure_ascii=False)[1:-1] in kept_of_it, f"line {number}: {part} is not in {error}"


def _has_its_tokens(number: int, run: Any, told: dict[str, Any]) -> None:
    """A line shows the tokens that promptflow has counted, where it could."""
    if total := told.get("total_tokens"):
        shown = run.data.metrics.get("total_tokens")
        assert shown == total, f"line {number}: {shown} tokens, {total} by promptflow"
