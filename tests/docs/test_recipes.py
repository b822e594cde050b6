"""Every snippet that searches and every filter of the docs, on stores of one and of several recorded nodes, evaluated and not."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlflow
import pytest
from builders import batch, line_record, llm_node
from machine import ROOT
from mlflow import MlflowClient

from pf_mlflow.projection.batch_runs import BatchWriter
from pf_mlflow.projection.evaluation_runs import ScoreWriter
from pf_mlflow.records.line import FAILED, Span, Tokens
from pf_mlflow.records.score import Score
from pf_mlflow.sources.promptflow.local_source import LocalSource
from pf_mlflow.tracking.writer import StoreWriter

NODES = [("joke",), ("rewrite", "answer")]
MODEL = "gpt-4o-mini-2024-07-18"
LINES = 3
FILTERS = {  # of three lines in each of two batches, the last of each failed
    "tags.`promptflow.run_id` = 'before'": LINES + 1,
    "attributes.status = 'FAILED' AND tags.`promptflow.line_number` != ''": 1 + 1,
    "tags.`promptflow.error_type` = 'RateLimitError'": 1 + 1,
    "metrics.duration > 2": 2 * LINES,
    "metrics.total_tokens > 1000": 2 * LINES + 2,  # the parents' sums too
    "metrics.cost > 0.01": 2 * LINES + 2,
    "params.input_topic LIKE '%coffee%'": 2 * LINES,
    f"tags.response_model = '{MODEL}'": 2 * LINES,
    "tags.`promptflow.kind` = 'batch'": 2,
}
JUDGED = "tags.`response/llm_judged/correctness/rating` = 'no'"


def write(store: StoreWriter, name: str, nodes: tuple[str, ...]) -> None:
    """Write a batch of dear and slow lines, of which the last one failed."""
    writer = BatchWriter(store, LocalSource(batch(uid=name, name=name, client_pid=0, promptflow_home=None)))
    writer.read_existing()
    writer.open_parent()
    for n in range(LINES):
        status = {"status": FAILED, "error": "no", "error_type": "RateLimitError"} if n == LINES - 1 else {}
        spans = [part for node in nodes for part in dear(node)]
        record = line_record(*spans, batch_uid=name, line_number=n, inputs={"topic": "black coffee"}, **status)
        writer.note(writer.write(n, record.start, record))
    writer.close_parent()


def dear(node: str) -> list[Span]:
    top, call = llm_node(node, end=104.0, inputs={"topic": "black coffee"})
    return [top, replace(call, model=MODEL, tokens=Tokens(100_000, 1000, 101_000))]


def evaluate(store: StoreWriter, base: str) -> None:
    own = batch(uid=f"{base}_scores", name=f"{base}_scores", base_uid=base, base_name=base, promptflow_home=None)
    writer = ScoreWriter(store, LocalSource(own))
    writer.read_existing()
    writer.open_parent()
    for n in range(LINES - 1):
        record = line_record(
            batch_uid=own.uid, line_number=n, scores=(Score("token_f1", 0.5), Score("correctness", "no", model="m"))
        )
        writer.note(writer.write(n, 0.0, record))
    writer.close_parent()


@pytest.fixture(scope="module", params=[(n, e) for n in NODES for e in (False, True)], ids=str)
def folder(request: pytest.FixtureRequest, fresh_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    nodes, is_evaluated = request.param
    folder = tmp_path_factory.mktemp("recipes")
    shutil.copy(fresh_store, folder)
    store = StoreWriter(f"sqlite:///{folder}/mlflow.db", "joke-flow", folder)
    store.open_experiment()
    for name in ("before", "after"):
        write(store, name, nodes)
        if is_evaluated:
            evaluate(store, name)
    return folder


def snippets(page: str) -> list[str]:
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / page).read_text("utf-8"), re.DOTALL | re.MULTILINE)
    return [block for block in blocks if "search" in block]


@pytest.mark.parametrize("page", ["docs/look.md", "docs/compare.md", "docs/recipes.md"])
def test_snippets_run_as_they_stand(folder: Path, page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before, known = mlflow.get_tracking_uri(), dict[str, Any]()
    monkeypatch.chdir(folder)
    try:
        exec("\n".join(snippets(page)), known)
    finally:
        mlflow.set_tracking_uri(before)
    if page == "docs/compare.md":
        assert len(known["batches"]) == 2
    elif page == "docs/look.md":
        shown = known["lines"].filter(known["shown"])
        assert len(shown) == 2 * LINES and {"params.input_topic", "metrics.duration"} <= set(shown.columns)
    else:
        assert (folder / "lines.csv").read_text("utf-8").count("black coffee") == 2 * LINES
        assert list(known["costliest"]["metrics.cost"]) == sorted(known["costliest"]["metrics.cost"], reverse=True)


def told_filters() -> set[str]:
    """What the docs give as filters."""
    look = (ROOT / "docs" / "look.md").read_text("utf-8")
    table = look.partition("| lines | filter |")[2].partition("\n\n")[0]
    rows = re.findall(r"\| (`+)(.+?)\1 \|$", table, re.MULTILINE)
    pages = [path.read_text("utf-8") for path in (ROOT / "docs").glob("*.md")]
    return {one for _, one in rows} | {one for page in pages for one in re.findall(r"``(tags\..+?)``", page)}


def test_every_filter_finds_what_it_says(folder: Path) -> None:
    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    experiments = [one.experiment_id for one in client.search_experiments()]
    told = {one.replace("my_batch", "before") for one in told_filters()}
    is_scored = any("lines_evaluated" in run.data.metrics for run in client.search_runs(experiments))
    expected = FILTERS | {JUDGED: 2 * (LINES - 1) if is_scored else 0}
    assert told == set(expected)
    assert {where: len(client.search_runs(experiments, where)) for where in told} == expected
