from __future__ import annotations

import itertools

import pytest
from builders import line_record
from hypothesis import given
from hypothesis import strategies as st

from pf_mlflow.projection.existing_runs import ExistingRuns
from pf_mlflow.projection.line_payload import line_payload
from pf_mlflow.projection.summary import BatchSummary
from pf_mlflow.records.line import FAILED, INTERRUPTED
from pf_mlflow.tracking.known_run import KnownRun
from pf_mlflow.tracking.run_payload import NOT_LOGGED, RunPayload

DONE = line_payload(line_record(), "b1")
FELL = line_payload(line_record(status=FAILED, error_type="ValueError", error="boom"), "b1")
OPEN = RunPayload("RUNNING", 100_000, 0)
CUT_OFF = line_payload(line_record(status=FAILED, error_type=INTERRUPTED, error="the batch ended"), "b1")
REFUSED = RunPayload("FINISHED", 100_000, 102_500, tags={NOT_LOGGED: "answered 400"})
COMPLETE, INCOMPLETE = (DONE, FELL), (OPEN, CUT_OFF, REFUSED)


def child(run_id: str, number: int, values: RunPayload = DONE, parent: str = "p") -> KnownRun:
    return KnownRun(run_id, number, parent, values)


def parent(run_id: str = "p", status: str = "RUNNING") -> KnownRun:
    return KnownRun(run_id, None, None, RunPayload(status, 100_000, 0))


@pytest.mark.parametrize(
    "values, is_over, is_complete",
    [
        (DONE, True, True),
        (FELL, True, True),
        (OPEN, False, False),
        (CUT_OFF, True, False),
        (REFUSED, True, False),
        (RunPayload("KILLED", 0, 0), True, True),
    ],
)
def test_what_is_complete(values: RunPayload, is_over: bool, is_complete: bool) -> None:
    run = child("a", 7, values)
    assert (run.is_over, run.is_complete) == (is_over, is_complete)
    existing = ExistingRuns.of([run])
    assert (existing.complete, list(existing.incomplete)) == (({7: "a"}, []) if is_complete else ({}, [7]))
    assert existing.run_id(7) == "a" and existing.run_id(8) is None and existing.surplus == []


def test_a_batch_without_runs() -> None:
    existing = ExistingRuns.of([])
    assert (existing.parent, existing.complete, existing.incomplete, existing.surplus) == (None, {}, {}, [])
    assert existing.tally.summary().lines_total == 0


@pytest.mark.parametrize(
    "runs, named, stays",
    [
        ([DONE, DONE], None, 0),
        ([OPEN, OPEN], None, 0),
        ([OPEN, DONE], None, 1),
        ([CUT_OFF, FELL, DONE], None, 1),
        ([REFUSED, OPEN, DONE], None, 2),
        ([DONE, DONE], 1, 1),
        ([DONE, OPEN], 1, 1),  # it will be completed
        ([OPEN, DONE], 0, 0),
        ([OPEN, DONE, DONE, OPEN], 2, 2),
        ([OPEN, DONE], 5, 1),  # a run that was deleted meanwhile
    ],
)
def test_of_several_runs_of_a_line_one_stays(runs: list[RunPayload], named: int | None, stays: int) -> None:
    children = [child(f"run-{place}", 7, values) for place, values in enumerate(runs)]
    existing = ExistingRuns.of([*children, child("other", 8)], lambda: {} if named is None else {7: f"run-{named}"})
    assert existing.run_id(7) == f"run-{stays}"
    assert sorted(existing.surplus) == [f"run-{place}" for place in range(len(runs)) if place != stays]
    assert existing.run_id(8) == "other"


kinds = st.sampled_from([*COMPLETE, *INCOMPLETE])
lines = st.dictionaries(st.integers(0, 5), st.lists(kinds, min_size=1, max_size=4), max_size=5)


@given(lines, st.data())
def test_whatever_the_order_each_line_has_exactly_one_run(
    lines: dict[int, list[RunPayload]], data: st.DataObject
) -> None:
    ids = (f"r{n}" for n in itertools.count())
    children = [child(next(ids), number, values) for number, runs in lines.items() for values in runs]
    of_line = {number: [run for run in children if run.line_number == number] for number in lines}
    named = {n: data.draw(st.sampled_from(runs)).run_id for n, runs in of_line.items() if data.draw(st.booleans())}
    parents = [parent(f"p{n}") for n in range(data.draw(st.integers(0, 3)))]
    shuffled = data.draw(st.permutations([*children, *parents]))
    existing = ExistingRuns.of(shuffled, lambda: named)

    assert existing.complete.keys() | existing.incomplete.keys() == lines.keys()
    assert not existing.complete.keys() & existing.incomplete.keys()
    kept = {number: existing.run_id(number) for number in lines}
    everything = [run.run_id for run in shuffled]
    first = [existing.parent.run_id] if existing.parent else []
    assert sorted([*kept.values(), *first, *existing.surplus]) == sorted(everything)
    for number, runs in of_line.items():
        in_order = sorted(runs, key=lambda run: everything.index(run.run_id))
        complete = [run.run_id for run in in_order if run.is_complete]
        assert kept[number] == named.get(number, (complete or [in_order[0].run_id])[0])


@given(lines)
def test_without_surplus_the_sums_are_those_of_the_complete_runs(lines: dict[int, list[RunPayload]]) -> None:
    existing = ExistingRuns.of([parent(), *(child(f"r{number}", number, runs[0]) for number, runs in lines.items())])
    done = [runs[0] for runs in lines.values() if any(runs[0] is one for one in COMPLETE)]
    summary: BatchSummary = existing.tally.summary()
    assert (summary.lines_total, summary.lines_failed) == (len(done), sum(one is FELL for one in done))
    assert summary.tokens.get("total_tokens", 0) == 18 * len(done)


@pytest.mark.parametrize(
    "children, stays", [([], "a"), (["a"], "a"), (["b"], "b"), (["a", "b", "b"], "b"), (["a", "b"], "a")]
)
def test_of_several_parents_the_one_with_most_children_stays(children: list[str], stays: str) -> None:
    runs = [parent("a"), parent("b"), *(child(f"r{n}", n, parent=of) for n, of in enumerate(children))]
    existing = ExistingRuns.of(runs)
    assert existing.parent and existing.parent.run_id == stays
    assert existing.surplus == [run_id for run_id in ("a", "b") if run_id != stays]


def test_outputs_are_read_only_if_something_is_there_twice() -> None:
    asked = []
    named = lambda: asked.append(1) or {}  # noqa: E731
    ExistingRuns.of([parent(), child("a", 1), child("b", 2)], named)
    assert not asked
    ExistingRuns.of([parent(), child("a", 1), child("b", 1)], named)
    assert asked
