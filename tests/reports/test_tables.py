from __future__ import annotations

import io

import pytest
from rich.console import Console
from rich.table import Table

from pf_mlflow.delivery.sync import Synced
from pf_mlflow.projection.summary import BatchSummary, LineStats, Tally
from pf_mlflow.reports.tables import failures, seconds, slowest, synced, totals

LINES = [
    LineStats(0, True, 0.2, 1100, 700, 1800, "atom"),
    LineStats(1, False, 60.0, error="ValueError: boom!\nat line 3", label="boom"),
    LineStats(2, True, 2.0, 10, 8, 18, "fish"),
    LineStats(3, False, None),
]


def summarise(lines: list[LineStats], most_failed: int = 20) -> BatchSummary:
    tally = Tally(most_failed)
    for line in lines:
        tally.add(line)
    return tally.summary()


def shown(table: Table, width: int = 120) -> list[list[str]]:
    """Return the cells of a table as the terminal shows them, its title first if it has one."""
    file = io.StringIO()
    Console(file=file, width=width).print(table)
    rows = file.getvalue().splitlines()
    assert max(map(len, rows)) <= width
    title = [[rows.pop(0).strip()]] if table.title else []
    cells = [[cell.strip() for cell in row.replace("┃", "│").split("│")[1:-1]] for row in rows]
    return [*title, *(row for row in cells if row)]


def column(table: Table, number: int, width: int) -> str:
    """Return what a column says below its head, its folded cells joined."""
    head = 2 if table.title else 1
    return "".join(row[number] for row in shown(table, width)[head:])


def test_totals() -> None:
    assert shown(totals(summarise(LINES), "KILLED")) == [
        ["status", "KILLED"],
        ["lines completed / failed", "2 / 2"],
        ["tokens, prompt + completion = total", "1,110 + 708 = 1,818"],
        ["latency p50", "1.1 s"],
        ["latency p90", "1.82 s"],  # 0.2 + 0.9 * (2.0 - 0.2)
        ["latency p99", "1.98 s"],
    ]


def test_totals_of_nothing() -> None:
    assert [row[1:] for row in shown(totals(summarise([])))] == [["0 / 0"], ["– + – = –"], ["–"], ["–"], ["–"]]


def test_slowest() -> None:
    assert shown(slowest(summarise(LINES))) == [
        ["Slowest lines"],
        ["line", "latency", "tokens", "input"],
        ["2", "2 s", "18", "fish"],
        ["0", "200 ms", "1,800", "atom"],
    ]


@pytest.mark.parametrize(
    "most, rows",
    [
        (20, [["1", "ValueError: boom!", "boom"], ["3", "", ""]]),
        (1, [["1", "ValueError: boom!", "boom"], ["…", "and 1 more", ""]]),
        (0, [["…", "and 2 more", ""]]),
    ],
)
def test_failures(most: int, rows: list[list[str]]) -> None:
    assert shown(failures(summarise(LINES, most_failed=most))) == [["Failed lines"], ["line", "error", "input"], *rows]


@pytest.mark.parametrize("text", ["[bold]loud", "closed [/b] only", "[link=x]", '["a", "b"]', ":smile:", "a[0]", "\\["])
def test_what_users_wrote_is_shown_as_it_is(text: str) -> None:
    summary = summarise([LineStats(0, True, 1.0, label=text), LineStats(1, False, 1.0, error=text, label=text)])
    assert shown(slowest(summary))[2][3] == text
    assert shown(failures(summary))[2][1:] == [text, text]


@pytest.mark.parametrize(
    "one, rehearsed, expected",
    [
        (
            Synced("b1", "mended", "uri", "jokes", "p", 1200, 3, 2, 1, 0, "ended"),
            False,
            ["b1", "mended", "1,200", "3 made, 2 completed, 1 removed as twins, parent run ended"],
        ),
        (
            Synced("b1", "mended", "uri", "jokes", "p", 5, 3, parent="made"),
            True,
            ["b1", "to be mended", "5", "3 made, parent run made"],
        ),
        (Synced("b1", "in line", "uri", "jokes", "p", 5), True, ["b1", "in line", "5", "–"]),
        (Synced("b1", "failed", "uri", "jokes", "p", 5, refused=1), False, ["b1", "failed", "5", "1 refused"]),
        (Synced("", "running", "uri", "jokes"), False, ["single runs", "running", "–", "–"]),
        (Synced("[b]1", "in line", "uri", "jokes", "p", 1), False, ["[b]1", "in line", "1", "–"]),
    ],
)
def test_what_sync_found(one: Synced, rehearsed: bool, expected: list[str]) -> None:
    head = ["batch", "state", "lines", "to do" if rehearsed else "done"]
    assert shown(synced([one], rehearsed)) == [head, expected]


NAME = "customer_support_flow_variant_0_20261121_070810_678481"


@pytest.mark.parametrize("width", [60, 80, 120])
def test_where_there_is_little_room_nothing_is_cut(width: int) -> None:
    one = Synced(NAME, "mended", "uri", "jokes", "p", 12000, 38, 2, 1, 1, "updated")
    assert column(synced([one], True), 0, width) == NAME
    words = "38 made, 2 completed, 1 removed as twins, 1 refused, parent run updated"
    assert column(synced([one], True), 3, width).replace(" ", "") == words.replace(" ", "")
    error, label = "RateLimitError: " + "https://api.example/" + "x" * 200, "topic" * 12
    summary = summarise(
        [LineStats(10_000, True, 1.0, 1, 1, 2, label), LineStats(7, False, 1.0, label=label, error=error)]
    )
    assert column(slowest(summary), 3, width) == column(failures(summary), 2, width) == label
    assert column(failures(summary), 1, width).replace(" ", "") == error.replace(" ", "")
    assert column(slowest(summary), 0, width) == "10000"


@pytest.mark.parametrize(
    "value, expected",
    [
        (0.0, "0 ms"),
        (0.0012345, "1.23 ms"),
        (0.9994, "999 ms"),
        (0.9995, "1 s"),
        (1.5, "1.5 s"),
        (59.94, "59.9 s"),
        (999.4, "999 s"),
        (999.5, "1000 s"),
        (12345.6, "12346 s"),
        (None, "–"),
        (float("nan"), "–"),
        (float("inf"), "–"),
    ],
)
def test_seconds(value: float | None, expected: str) -> None:
    assert seconds(value) == expected
