"""Lines as promptflow's own executor leaves them in the spool, whatever else the process is doing."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import opentelemetry.sdk.trace
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from promptflow.executor import FlowExecutor

from pf_mlflow.records.line import COMPLETED, LineRecord
from pf_mlflow.settings import Settings
from pf_mlflow.sources.live import line_openings, live_source
from pf_mlflow.sources.live.line_openings import LineOpenings
from pf_mlflow.sources.live.live_source import LiveSource
from pf_mlflow.sources.live.span_processor import LineSpanProcessor

DAG = """
inputs: {topic: {type: string}}
outputs: {joke: {type: string, reference: "${joke.output}"}}
nodes:
- {name: joke, type: python, source: {type: code, path: joke.py}, inputs: {topic: "${inputs.topic}"}}
"""
JOKE = """
from promptflow.core import tool
from opentelemetry import trace

@tool
def joke(topic: str) -> str:
    with trace.get_tracer("a library").start_as_current_span("look up"):
        import sys
        sys.modules["test_span_processor_hooks"].during(topic)
    return f"a joke about {topic}"
"""


class Hooks:
    """What happens while a node runs."""

    during: Callable[[str], None] = staticmethod(lambda topic: None)


class App:
    """An application that has a flow executed, single executions logged."""

    def __init__(self, folder: Path, provider: TracerProvider) -> None:
        settings = Settings(spool_dir=folder / "spool", log_single_runs=True, MLFLOW_TRACKING_URI="http://nowhere")
        self.source = LiveSource(LineOpenings(), settings)
        self.processor = LineSpanProcessor(self.source)
        provider.add_span_processor(self.processor)
        self.flow = FlowExecutor.create(folder / "flow.dag.yaml", {}, raise_ex=True)

    def ask(self, topic: str) -> Any:
        return self.flow.exec_line({"topic": topic}).output

    def records(self) -> list[LineRecord]:
        batch = self.source.batch("")
        assert batch
        return [LineRecord.from_json(line.record or "") for line in self.source.spool.completed(batch.uid, limit=1000)]


@pytest.fixture(scope="module")
def provider() -> TracerProvider:
    if not isinstance(trace.get_tracer_provider(), TracerProvider):
        trace.set_tracer_provider(TracerProvider())
    found = trace.get_tracer_provider()
    assert isinstance(found, TracerProvider)
    return found


@pytest.fixture
def app(tmp_path: Path, provider: TracerProvider, monkeypatch: pytest.MonkeyPatch) -> Iterator[App]:
    for module in (line_openings, live_source):
        monkeypatch.setattr(module, "deliver_in_background", lambda spool, uid: None)
    monkeypatch.setitem(__import__("sys").modules, "test_span_processor_hooks", Hooks)
    monkeypatch.setattr(Hooks, "during", staticmethod(lambda topic: None))
    monkeypatch.setenv("PF_DISABLE_TRACING", "false")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "flow.dag.yaml").write_text(DAG)
    (tmp_path / "joke.py").write_text(JOKE)
    before = provider._active_span_processor._span_processors
    yield App(tmp_path, provider)
    provider._active_span_processor._span_processors = before


def test_a_flow_below_a_span_of_the_application_is_a_line_of_its_own(app: App) -> None:
    tracer = trace.get_tracer("the application")
    with tracer.start_as_current_span("request"):
        with tracer.start_as_current_span("step"):
            app.ask("tea")
        app.ask("milk")
    app.ask("rain")
    records = app.records()
    assert [record.outputs for record in records] == [{"joke": f"a joke about {t}"} for t in ("tea", "milk", "rain")]
    assert len({record.line_number for record in records}) == 3
    for record in records:
        assert record.status == COMPLETED and [span.name for span in record.spans[1:]] == ["joke", "look up"]
        assert list(record.node_spans()) == ["joke"] and record.spans[2].parent == record.spans[1].id


def test_what_goes_on_after_a_line_is_no_line(app: App) -> None:
    tracer = trace.get_tracer("a library")
    left: list[Any] = []

    def background(topic: str) -> None:
        import contextvars

        left.append((contextvars.copy_context(), trace.get_current_span()))

    Hooks.during = staticmethod(background)
    app.ask("tea")
    context, span = left[0]
    context.run(lambda: tracer.start_span("late", trace.set_span_in_context(span)).end())
    context.run(lambda: tracer.start_span("detached").end())
    assert [record.outputs for record in app.records()] == [{"joke": "a joke about tea"}]


def test_a_single_execution_keeps_its_number_however_many_run_at_once(app: App) -> None:
    count = 130
    numbers = [app.source.line(f"run {n}", None) for n in range(count)]
    again = [app.source.line(f"run {n}", None) for n in range(count)]
    assert [line and line.number for line in again] == [line and line.number for line in numbers] == [*range(count)]


def test_numbers_of_executions_that_are_over_are_forgotten(app: App) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(app.ask, map(str, range(40))))
    records = app.records()
    assert sorted(record.line_number for record in records) == [*range(40)] and app.source._single_numbers == {}


@pytest.mark.parametrize("jump", [3_456_000.0, -3600.0])
def test_a_clock_that_is_set_makes_no_line_longer_or_shorter(
    app: App, monkeypatch: pytest.MonkeyPatch, jump: float
) -> None:
    clock, clock_ns = time.time, time.time_ns

    def set_the_clock(topic: str) -> None:
        time.sleep(0.2)
        monkeypatch.setattr(time, "time", lambda: clock() + jump)
        monkeypatch.setattr(opentelemetry.sdk.trace, "time_ns", lambda: clock_ns() + int(jump * 1e9))

    Hooks.during = staticmethod(set_the_clock)
    before, began = time.monotonic(), clock()
    app.ask("tea")
    took = time.monotonic() - before
    (record,) = app.records()
    assert began <= record.start <= began + took
    for span in record.spans:
        assert span.end and 0.2 <= span.end - span.start <= took
    assert 0.2 <= record.end - record.start <= took
