"""What a notebook shows of a batch is a table that a screen reader can read, and nothing in it is taken for markup."""

from __future__ import annotations

from html.parser import HTMLParser

from machine import SECRET

from pf_mlflow.projection.cost import dollars
from pf_mlflow.projection.notebook import Shown, notebook_html
from pf_mlflow.projection.summary import BatchSummary, LineStats
from pf_mlflow.records.batch import Batch
from pf_mlflow.records.masking import Secrets
from pf_mlflow.reports.show import BatchReport
from pf_mlflow.running.result import RunResult

EVIL = "<script>alert('x')</script>"
FAILED = tuple(LineStats(n, False, None, label=EVIL, error=f"{EVIL} {SECRET} {500 * 'x'}\nmore") for n in range(7))
SCORES = {"f1/v1/mean": 0.51234, "f1/v1/count": 3.0, "f1/v1/error_count": 1.0, "lines_evaluated": 3.0}
SUMS = BatchSummary(
    10,
    3,
    7,
    {"total_tokens": 1234},
    {"p50": 0.5},
    (),
    FAILED,
    {**SCORES, "lines_not_evaluated": 7.0},
    costs={"cost": 0.5},
)
SHOWN = Shown(
    f"b{EVIL}", {"status": "Completed", "language model": None}, SUMS, [f"{EVIL} {SECRET}"], "https://m/#/1?a=1&b=2", {"Errors": "pf-mlflow show b --failed"}
)  # fmt: skip


class Reader(HTMLParser):
    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.open: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_a_batch_as_html() -> None:
    html = notebook_html(SHOWN, Secrets([SECRET]))
    read = Reader(html)
    assert read.open == [] and {tag for tag, _ in read.tags} <= {
        *("div", "table", "caption", "thead", "tbody", "tr", "th", "td", "p", "strong", "a", "code")
    }
    assert SECRET not in html and EVIL in "".join(read.texts)
    assert all(len(text) < 250 for text in read.texts)
    assert [attributes["href"] for tag, attributes in read.tags if tag == "a"] == ["https://m/#/1?a=1&b=2"]
    assert {attributes["scope"] for tag, attributes in read.tags if tag == "th"} == {"row", "col"}
    assert [f"Batch b{EVIL}", "Scores", "Failed lines"] == [
        text for text in read.texts if text.startswith(("Batch b", "Scores", "Failed")) and "in MLflow" not in text
    ]
    at = read.texts.index("f1")
    assert read.texts[at : at + 4] == ["f1", "0.5123", "3", "1"]
    assert (
        "3 / 7" in read.texts
        and "1,234" in read.texts
        and "0.5 s" in read.texts
        and dollars(0.5) in read.texts
        and "and 2 more" in read.texts
    )
    assert "pf-mlflow show b --failed" in read.texts and "language model" not in read.texts


def test_a_report_shows_itself() -> None:
    batch = Batch("uid", "b", "flow", "sqlite:///m.db", "jokes", "ana", 0, 0.0)
    texts = Reader(BatchReport(batch, "delivered", status="FINISHED", summary=SUMS)._repr_html_()).texts
    assert {"Batch b", "delivered", "FINISHED", "3 / 7", "Scores"} <= set(texts)


def test_a_result_shows_itself() -> None:
    batch = Batch("uid", "b", "flow", "sqlite:///m.db", "jokes", "ana", 0, 0.0)
    done = RunResult(name="b", status="Completed", batch=batch, parent_run_id="1", summary=SUMS, lines_failed=7)
    texts = Reader(done._repr_html_()).texts
    assert "sqlite:///m.db, experiment 'jokes'" in texts and "pf-mlflow ui b" in texts
    assert "pf-mlflow show b --failed" in texts and "Next" not in "".join(texts)
    waits = RunResult(name="b", status="Failed", failure="It broke.", delivered=False, link="javascript:alert(1)")
    html = waits._repr_html_()
    assert "It broke." in html and "pf-mlflow sync b" in html and "javascript" not in html and "<table>" in html
