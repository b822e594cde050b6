"""A line that a worker of promptflow's own pool executes is over when the pool has its result."""

from __future__ import annotations

import contextvars
import queue
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from machine import FLOWS
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from promptflow.contracts.run_mode import RunMode
from promptflow.executor import _line_execution_process_pool as pool
from promptflow.executor.flow_executor import FlowExecutor
from promptflow.storage._queue_run_storage import QueueRunStorage
from promptflow.tracing._operation_context import OperationContext

from pf_mlflow.records.line import FAILED, LineRecord
from pf_mlflow.settings import Settings
from pf_mlflow.sources.live import api
from pf_mlflow.sources.promptflow.private_names import watch_workers
from pf_mlflow.spool.store import Spool


@pytest.fixture
def spool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Spool]:
    monkeypatch.setenv("PF_DISABLE_TRACING", "false")
    home = tmp_path / "home"
    home.mkdir()
    (home / "pf.yaml").write_text("telemetry:\n  enabled: 'false'\ntrace:\n  destination: none\n")
    monkeypatch.setenv("PF_HOME_DIRECTORY", str(home))
    monkeypatch.setattr(pool, "_exec_line", getattr(pool._exec_line, "__wrapped__", pool._exec_line))
    monkeypatch.setattr("pf_mlflow.sources.live.live_source.deliver_in_background", lambda spool, uid: None)
    monkeypatch.setattr(api, "attach", lambda: None)  # for which the flow's module asks
    monkeypatch.setattr("pf_mlflow.attach", lambda: None)
    monkeypatch.chdir(FLOWS / "plain_flex")
    before = api._processor.source
    api.use_settings(Settings(spool_dir=tmp_path / "spool", MLFLOW_TRACKING_URI="http://nowhere"))
    if not isinstance(trace.get_tracer_provider(), TracerProvider):
        trace.set_tracer_provider(TracerProvider())
    provider: Any = trace.get_tracer_provider()
    processors = provider._active_span_processor._span_processors
    provider._active_span_processor._span_processors = (api._processor,)
    watch_workers(api._executing)
    yield Spool(tmp_path / "spool")
    provider._active_span_processor._span_processors = processors
    api._processor.source = before


def execute(rows: list[dict[str, Any]]) -> None:
    contextvars.copy_context().run(execute_here, rows)


def execute_here(rows: list[dict[str, Any]]) -> None:
    OperationContext.set_instance(OperationContext(run_mode=RunMode.Batch.name))
    executor = FlowExecutor.create(
        Path("flow.flex.yaml"), {}, Path.cwd(), storage=QueueRunStorage(queue.Queue()), raise_ex=False
    )
    for number, row in enumerate(rows):
        pool._exec_line(executor, queue.Queue(), inputs=row, run_id="b1", index=number, line_timeout_sec=60)


def test_its_record_has_promptflows_last_word(spool: Spool) -> None:
    execute([{"kind": "text"}, {"kind": "date"}, {"kind": "traced stream"}, {"kind": "boom"}])
    watch_workers(api._executing)  # once more changes nothing
    (batch,) = spool.batches_named("b1")
    lines = [LineRecord.from_json(line.record) for line in spool.completed(batch.uid)]
    assert [line.line_number for line in lines] == list(range(4))
    assert [dict(line.outputs) for line in lines] == [{"output": "text"}, {}, {"output": "Hello"}, {}]
    errors = [None, "FlowOutputUnserializable", None, "IndexError"]
    assert [line.error_type for line in lines] == errors
    assert [line.inputs["kind"] for line in lines] == ["text", "date", "traced stream", "boom"]


def test_a_line_that_its_worker_does_not_outlive_is_as_its_spans_tell(spool: Spool) -> None:
    with pytest.raises(SystemExit):
        execute([{"kind": "exit"}])
    (batch,) = spool.batches_named("b1")
    (line,) = [LineRecord.from_json(line.record) for line in spool.completed(batch.uid)]
    assert (line.status, line.error_type, line.inputs["kind"]) == (FAILED, "SystemExit", "exit")
