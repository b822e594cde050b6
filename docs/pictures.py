"""Makes the pictures of docs/in-mlflow.md anew: `make pictures`, about a minute; it needs a Chromium.

A batch of examples/qa is answered by the offline model, an MLflow server shows it, and a headless browser looks at it.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS.parent / "tests"))

from browser import Page, browser  # noqa: E402
from machine import ROOT, Machine, Tracked, tracked  # noqa: E402
from servers import mlflow_server  # noqa: E402

MOST = 300_000
BARS = 18
_COLUMNS = ("params.`input_question`", "params.`output`", "metrics.`duration`", "metrics.`token_f1/v1`")
_MANY_RUNS = "document.querySelectorAll('.ag-row a').length > 12"
_OVERVIEW = "document.body.innerText.includes('Parameters (')"
_CHARTS = "document.querySelectorAll('.plotly .bars .point').length > 50"
_END = "[...document.querySelectorAll('[role=table]')].map(table => table.getBoundingClientRect().bottom).sort().pop()"


def main() -> None:
    """Run the batch, and look at it from four sides."""
    folder = Path(tempfile.mkdtemp(prefix="pictures"))
    machine = Machine(folder / "machine")
    _run(machine)
    with mlflow_server(f"sqlite:///{machine.cwd / 'mlflow.db'}", folder) as uri, browser() as page:
        batch = tracked(uri, "qa_offline")
        _look_at_charts(page, uri, batch)  # before there are scores, each of which would have a chart of its own
        done = machine.command("pf-mlflow", "evaluate", "qa_offline")
        assert done.returncode == 0, done.stderr
        _look(page, uri, batch)
    shutil.rmtree(folder, ignore_errors=True)


def _run(machine: Machine) -> None:
    flow, data = ROOT / "examples" / "qa", ROOT / "data" / "questions.jsonl"
    words = ["run", "--flow", str(flow), "--data", str(data), "--name", "qa_offline"]
    for column in ("question", "context"):
        words += ["--column-mapping", f"{column}=${{data.{column}}}"]
    done = machine.command("pf-mlflow", *words)
    assert done.returncode == 0, done.stderr


def _look_at_charts(page: Page, uri: str, batch: Tracked) -> None:
    runs = f"{uri}/#/experiments/{batch.parent.info.experiment_id}/runs"
    page.open(uri, 1300, 720)
    _prefer(page, batch)
    page.open(f"{runs}?compareRunsMode=CHART", 1500, 900)
    page.until(_CHARTS)
    page.run(
        "document.head.append(Object.assign(document.createElement('style'), {textContent: '.modebar{display:none}'}))"
    )
    _save(page, "child-runs.png")


def _look(page: Page, uri: str, batch: Tracked) -> None:
    parent, child = batch.parent.info, batch.children[3].info
    runs = f"{uri}/#/experiments/{parent.experiment_id}/runs"
    page.open(runs, 1300, 720)
    page.until(_MANY_RUNS)
    _save(page, "runs-table.png")
    for name, run_id in (("child-run.png", child.run_id), ("parent-run.png", parent.run_id)):
        page.open(f"{runs}/{run_id}", 1300, 1200)
        page.until(_OVERVIEW)
        _save(page, name, height=int(page.until(_END)) + 24)


def _prefer(page: Page, batch: Tracked) -> None:
    """Say what a user would click: training runs, unfolded, the columns worth seeing, bars for some lines only."""
    parent = batch.parent.info
    hidden = [parent.run_id, *(child.info.run_id for number, child in batch.children.items() if number >= BARS)]
    state: dict[str, Any] = {
        "selectedColumns": _COLUMNS,
        "columnWidths": {column: 190 for column in _COLUMNS[:2]},
        "runsExpanded": {parent.run_id: True},
        "runsHiddenMode": "CUSTOM",
        "runsVisibilityMap": dict.fromkeys(hidden, False),
        "orderByKey": "attributes.start_time",
        "orderByAsc": True,
    }
    for key, value in {
        "mlflow.workflowType_v1": "machine_learning",
        "mlflow.assistant.fab.autoOpenedOnFirstLoad_v1": True,
        f'MLflowLocalStorage-1.1-ExperimentPage-["{parent.experiment_id}"]-ReactComponentState': state,
    }.items():
        page.run(f"localStorage.setItem({json.dumps(key)}, {json.dumps(json.dumps(value))})")


def _save(page: Page, name: str, height: int = 0) -> None:
    path = DOCS / name
    page.rest()
    page.save(path, width=1300 if height else 0, height=height)
    print(f"{path.relative_to(ROOT)}  {path.stat().st_size:,} bytes")
    assert path.stat().st_size < MOST


if __name__ == "__main__":
    main()
