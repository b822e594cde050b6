"""Makes the pictures of docs/in-mlflow.md anew: `make pictures`, about two minutes; it needs a Chromium.

Two batches of examples/qa are answered by the offline model, an MLflow server shows them, and a headless browser looks.
"""

from __future__ import annotations

import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS.parent / "tests"))

from browser import new_page  # noqa: E402
from machine import ROOT, Machine, Tracked, tracked  # noqa: E402
from playwright.sync_api import Page  # noqa: E402
from servers import mlflow_server  # noqa: E402

MOST = 300_000
BARS = 18
_COLUMNS = ("params.`input_question`", "params.`output`", "metrics.`duration`", "metrics.`token_f1/v1`")
_MANY_RUNS = "document.querySelectorAll('.ag-row a').length > 12"
_OVERVIEW = "document.body.innerText.includes('Parameters (')"
_CHARTS = "document.querySelectorAll('.plotly .bars .point').length > 50"
_TWO_BATCHES = "document.querySelectorAll('.ag-row a').length >= 2"
_FIVE_CHARTS = "document.querySelectorAll('.plotly').length >= 3"
_END = "[...document.querySelectorAll('[role=table]')].map(table => table.getBoundingClientRect().bottom).sort().pop()"


def main() -> None:
    """Run a batch and look at it from four sides, then another one and look at both."""
    with TemporaryDirectory(prefix="pictures", ignore_cleanup_errors=True) as name, new_page(1500, 900) as page:
        folder = Path(name)
        machine = Machine(folder / "machine")
        _run(machine)
        with mlflow_server(f"sqlite:///{machine.cwd / 'mlflow.db'}", folder) as uri:
            batch = tracked(uri, "qa_offline")
            _look_at_charts(page, uri, batch)  # before there are scores, each of which would have a chart of its own
            _type(machine, "evaluate", "qa_offline")
            _look(page, uri, batch)
            _run(machine, "qa_other_context", "context=Lake Baikal in Siberia is the deepest lake in the world.")
            _type(machine, "evaluate", "qa_other_context")
            _look_at_views(page, _runs(uri, batch))


def _run(machine: Machine, name: str = "qa_offline", context: str = "context=${data.context}") -> None:
    flow, data = ROOT / "examples" / "qa", machine.folder / "questions.jsonl"
    rows = (ROOT / "data" / "questions.jsonl").read_text("utf-8").splitlines()
    data.write_text("\n".join(row for row in rows if "\\u" not in row and row.isascii()), "utf-8")  # as any font can
    words = ["run", "--flow", str(flow), "--data", str(data), "--name", name]
    _type(machine, *words, "--column-mapping", "question=${data.question}", context)


def _type(machine: Machine, *words: str) -> None:
    done = machine.command("pf-mlflow", *words)
    assert done.returncode == 0, done.stderr


def _look_at_charts(page: Page, uri: str, batch: Tracked) -> None:
    page.goto(uri)
    _prefer(page, batch)
    _open(page, f"{_runs(uri, batch)}?compareRunsMode=CHART", _CHARTS)
    page.add_style_tag(content=".modebar{display:none}")
    _save(page, "child-runs.png")


def _look(page: Page, uri: str, batch: Tracked) -> None:
    page.set_viewport_size({"width": 1300, "height": 720})
    _open(page, _runs(uri, batch), _MANY_RUNS)
    _save(page, "runs-table.png")
    page.set_viewport_size({"width": 1300, "height": 1200})
    for name, run in (("child-run.png", batch.children[3]), ("parent-run.png", batch.parent)):
        _open(page, f"{_runs(uri, batch)}/{run.info.run_id}", _OVERVIEW)
        _save(page, name, height=int(page.evaluate(_END)) + 24)


def _look_at_views(page: Page, runs: str) -> None:
    page.set_viewport_size({"width": 1700, "height": 760})
    for name, address, ready in (
        ("batches.png", "pf_mlflow_batches", _TWO_BATCHES),
        ("compare.png", "pf_mlflow_batches&compareRunsMode=ARTIFACT", "document.body.innerText.includes('Group by:')"),
        ("charts.png", "pf_mlflow_charts&compareRunsMode=CHART", _FIVE_CHARTS),
    ):
        _open(page, f"{runs}?viewStateShareKey={address}", ready)
        _save(page, name)


def _runs(uri: str, batch: Tracked) -> str:
    return f"{uri}/#/experiments/{batch.parent.info.experiment_id}/runs"


def _open(page: Page, url: str, ready: str) -> None:
    """Load an address anew, though it may differ behind the `#` only, and wait for a JavaScript condition."""
    page.goto("about:blank")
    page.goto(url)
    page.wait_for_function(ready)


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
        page.evaluate("([key, value]) => localStorage.setItem(key, JSON.stringify(value))", [key, value])


def _save(page: Page, name: str, height: int | None = None) -> None:
    path = DOCS / name
    page.wait_for_timeout(2000)  # what moves stands still by then
    page.screenshot(path=path, clip={"x": 0, "y": 0, "width": 1300, "height": height} if height else None)
    print(f"{path.relative_to(ROOT)}  {path.stat().st_size:,} bytes")
    assert path.stat().st_size < MOST


if __name__ == "__main__":
    main()
