from __future__ import annotations

import inspect
import json
from collections.abc import Iterable

import numpy
import pytest
from builders import line_record, llm_node, span
from hypothesis import given
from hypothesis import strategies as st
from promptflow.tools.aoai import AzureOpenAI
from promptflow.tools.openai import OpenAI

from pf_mlflow.projection.line_payload import line_payload
from pf_mlflow.projection.score_payload import add_scores
from pf_mlflow.projection.summary import BatchSummary, LineStats, Tally
from pf_mlflow.records.line import FAILED, LineRecord
from pf_mlflow.records.score import Score
from pf_mlflow.records.statistics import percentile
from pf_mlflow.tracking.run_payload import RunPayload

durations = st.lists(st.floats(0, 1e6), min_size=1, max_size=200)


@given(durations, st.floats(0, 100))
def test_percentile_is_numpy_s(values: list[float], percent: float) -> None:
    assert percentile(sorted(values), percent) == pytest.approx(numpy.percentile(values, percent), rel=1e-9, abs=1e-9)


@pytest.mark.parametrize(
    "values, percent, expected",
    [
        ([3.0], 99, 3.0),
        ([1.0, 2.0], 50, (1.0 + 2.0) / 2),
        ([1.0, 2.0, 10.0], 50, 2.0),
        ([0.0, 10.0], 90, 0.9 * 10.0),
        ([1.0, 2.0, 3.0, 4.0, 5.0], 100, 5.0),
        ([1.0, 2.0, 3.0, 4.0, 5.0], 0, 1.0),
    ],
)
def test_percentile(values: list[float], percent: float, expected: float) -> None:
    assert percentile(values, percent) == expected


LINES = [
    LineStats(0, True, 1.0, 11, 7, 18, "atom"),
    LineStats(1, False, 60.0, 5, None, 5, "boom", "ValueError: boom!"),
    LineStats(2, True, 3.0, 10, 8, 18, "fish"),
    LineStats(3, True, None, label="bird"),
    LineStats(4, False, None, error="InputTypeError: no"),
]


def summarise(lines: Iterable[LineStats], most_failed: int = 20) -> BatchSummary:
    tally = Tally(most_failed)
    for line in lines:
        tally.add(line)
    return tally.summary()


def test_a_batch_in_numbers() -> None:
    summary = summarise(LINES)
    assert summary.metrics() == {
        "lines_total": 3 + 2,
        "lines_completed": 3,
        "lines_failed": 2,
        "prompt_tokens": 11 + 5 + 10,
        "completion_tokens": 7 + 8,
        "total_tokens": 18 + 5 + 18,
        "duration/mean": (1.0 + 3.0) / 2,  # of completed lines, where known
        "duration/p50": (1.0 + 3.0) / 2,
        "duration/p90": 1.0 + 0.9 * (3.0 - 1.0),
        "duration/p99": pytest.approx(1.0 + 0.99 * (3.0 - 1.0)),
    }
    assert [line.line_number for line in summary.slowest] == [2, 0]
    assert [line.line_number for line in summary.failed] == [1, 4]


@pytest.mark.parametrize(
    "lines, expected",
    [
        ([], {"lines_total": 0.0, "lines_completed": 0.0, "lines_failed": 0.0}),
        ([LINES[4]], {"lines_total": 1.0, "lines_completed": 0.0, "lines_failed": 1.0}),
        ([LINES[3]], {"lines_total": 1.0, "lines_completed": 1.0, "lines_failed": 0.0}),
    ],
    ids=["no lines", "all failed", "nothing known"],
)
def test_what_is_unknown_is_absent_not_zero(lines: list[LineStats], expected: dict[str, float]) -> None:
    assert summarise(lines).metrics() == expected


def test_only_the_first_failed_and_the_five_slowest_lines_are_named() -> None:
    lines = [LineStats(n, n % 2 == 0, float(n)) for n in range(100)]
    summary = summarise(lines, most_failed=3)
    assert summary.lines_failed == 100 / 2
    assert [line.line_number for line in summary.failed] == [1, 3, 5]
    assert [line.line_number for line in summary.slowest] == [98, 96, 94, 92, 90]


def test_a_line_of_unknown_length_is_not_among_the_slowest() -> None:
    assert [line.line_number for line in summarise(LINES).slowest] == [2, 0]


@pytest.mark.parametrize(
    ("status", "completed"), [("FINISHED", True), ("FAILED", False), ("KILLED", False), ("RUNNING", False)]
)
def test_a_line_has_completed_whose_run_is_finished(status: str, completed: bool) -> None:
    assert LineStats.of(1, RunPayload(status, 0, 0)).completed is completed


@given(st.permutations([*LINES, *(LineStats(n, n % 3 > 0, n / 7, n, None, n) for n in range(10, 40))]))
def test_the_order_of_the_lines_does_not_matter(lines: list[LineStats]) -> None:
    assert summarise(lines, most_failed=5) == summarise(sorted(lines, key=lambda line: line.line_number), most_failed=5)


@pytest.mark.parametrize("lines", [[], LINES])
def test_a_summary_comes_back_from_its_json(lines: list[LineStats]) -> None:
    assert BatchSummary.from_json(summarise(lines).to_json()) == summarise(lines)


def test_a_summary_of_another_version_is_read() -> None:
    summary = json.loads(summarise(LINES).to_json()) | {"of_another_version": 1}
    for line in (*summary["slowest"], *summary["failed"]):
        line |= {"of_another_version": 1}
        del line["verdicts"]
    assert BatchSummary.from_json(json.dumps(summary)) == summarise(LINES)


def test_json_tells_of_a_line_what_formulas_and_judges_gave() -> None:
    costs = {"seconds": 0.5, "prompt_tokens": 31, "completion_tokens": 5}
    scores = [
        Score("token_f1", 0.5),
        Score("tone", "dry"),
        Score("bleu", error="no ground truth"),
        Score("safety", "yes", model="m", **costs),
        Score("similarity", 4, model="m", cached=True, **costs),
        Score("correctness", error="HTTP 500", model="m"),
        Score("overall", "pass", model="m"),
        Score("root_cause", "none", model="m"),
    ]
    payload = RunPayload("FINISHED", 0, 0)
    add_scores(payload, scores)
    tally = Tally(worst_by="token_f1")
    tally.add_run(0, payload)
    (line,) = json.loads(tally.summary().to_json())["worst"]
    assert line["scores"] == {"token_f1": 0.5, "similarity": 4.0}
    assert line["other_scores"] == len(["tone", "safety"])
    assert line["failed_scores"] == ["bleu"]
    assert line["verdicts"] == {
        "ratings": {"safety": "yes"},
        "numeric": 1,
        "judges": ["safety", "similarity", "correctness"],
        "errors": ["correctness"],
        "overall": "pass",
        "tokens": {"prompt_tokens": 2 * 31.0, "completion_tokens": 2 * 5.0},
        "seconds": 2 * 0.5,
        "cached": 1,
    }
    assert BatchSummary.from_json(tally.summary().to_json()) == tally.summary()


@pytest.mark.parametrize(
    "record, expected",
    [
        (line_record(), LineStats(7, True, 102.0 - 100.5, 11, 7, 18, "atom", model="fake-1")),
        (  # several nodes: the time in which one of them ran
            line_record(*llm_node("joke"), *llm_node("rate")),
            LineStats(7, True, 102.0 - 100.5, 11 + 11, 7 + 7, 18 + 18, "atom", model="fake-1"),
        ),
        (
            line_record(span("py", node="py"), status=FAILED, error_type="E", error="x" * 1000),
            LineStats(7, False, 2.5, label="atom", error="E: " + "x" * (300 - 3)),
        ),
        (line_record(inputs={}, outputs={}, spans=()), LineStats(7, True, 2.5)),
    ],
)
def test_the_numbers_of_a_line(record: LineRecord, expected: LineStats) -> None:
    assert LineStats.of(7, line_payload(record, "nightly")) == expected


@pytest.mark.parametrize(
    "names, expected",
    [
        (["run_display_name", "input_topic", "input_style", "output"], "input_topic"),
        (["input_model", "input_temperature", "input_topic"], "input_topic"),
        (["joke.input_max_tokens", "joke.input_topic", "rate.input_joke"], "joke.input_topic"),
        (["input_car_model"], "input_car_model"),
        (["joke.input_model", "joke.output"], ""),
        ([], ""),
    ],
)
def test_a_line_is_labelled_by_its_first_input_that_is_no_model_setting(names: list[str], expected: str) -> None:
    payload = RunPayload("FINISHED", 0, 0, params={name: name for name in names})
    assert LineStats.of(0, payload).label == expected


@pytest.mark.parametrize("tool", [OpenAI.chat, AzureOpenAI.chat])
def test_no_setting_of_promptflow_s_chat_tools_is_a_label(tool: object) -> None:
    settings = inspect.signature(tool).parameters.keys() - {"self", "prompt", "kwargs"}  # type: ignore[arg-type]
    labels = {LineStats.of(0, RunPayload("FINISHED", 0, 0, params={f"input_{name}": name})).label for name in settings}
    assert labels == {""}


def test_a_label_is_short() -> None:
    payload = RunPayload("FINISHED", 0, 0, params={"input_topic": "x" * 1000})
    assert LineStats.of(0, payload).label == "x" * 60
