"""What became of a batch as a notebook shows it: tables and links in HTML, without script or style sheet."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape

from pf_mlflow.projection.cost import dollars
from pf_mlflow.projection.summary import BatchSummary
from pf_mlflow.records.masking import Secrets
from pf_mlflow.scoring.sums import VERSION

__all__ = ["Shown", "notebook_html"]

_LONGEST = 200
"""Characters of a value that are shown at the most."""
_EVALUATED = ("evaluated", "not_evaluated")
_FAILED = 5
"""Failed lines that are shown at the most."""
_CELL = 'style="text-align: left; vertical-align: top; overflow-wrap: anywhere"'


@dataclass(frozen=True)
class Shown:
    """What is shown of a batch; every text may hold anything."""

    name: str
    facts: Mapping[str, object]
    """What there is to know besides its sums, by label; `None` is left out."""
    summary: BatchSummary | None = None
    notes: Sequence[str] = ()
    """What went wrong, a sentence each."""
    link: str | None = None
    """Address of its page."""
    commands: Mapping[str, str] = field(default_factory=dict)
    """What to type now, by label."""


def notebook_html(shown: Shown, secrets: Secrets) -> str:
    """Return a batch as HTML: escaped, known secrets masked, long values cut."""
    page = _Page(secrets)
    parts = [page.table(f"Batch {shown.name}", (), _facts(shown))]
    if shown.summary:
        parts.append(page.table("Scores", ("metric", "mean", "lines", "errors"), _scores(shown.summary)))
        parts.append(page.table("Failed lines", ("line", "error", "input"), _failed(shown.summary)))
    parts += [f"<p><strong>Warning:</strong> {page.text(note)}</p>" for note in shown.notes if note]
    if shown.link and shown.link.startswith(("http://", "https://")):
        parts.append(f'<p><a href="{page.text(shown.link, cut=False)}">Batch {page.text(shown.name)} in MLflow</a></p>')
    commands = shown.commands.items()
    parts += [f"<p>{page.text(label)}: <code>{page.text(typed, cut=False)}</code></p>" for label, typed in commands]
    return f"<div>{''.join(parts)}</div>"


class _Page:
    def __init__(self, secrets: Secrets) -> None:
        self._secrets = secrets

    def text(self, value: object, cut: bool = True) -> str:
        plain = self._secrets.masked(str(value))
        return escape(f"{plain[:_LONGEST]}…" if cut and len(plain) > _LONGEST else plain)

    def table(self, caption: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
        """Return a table whose rows begin with what they are about; nothing if there are none."""
        body = "".join(f"<tr>{self._cells(row)}</tr>" for row in rows)
        head = "".join(f'<th scope="col" {_CELL}>{self.text(name)}</th>' for name in columns)
        head = f"<thead><tr>{head}</tr></thead>" if columns else ""
        return f"<table><caption>{self.text(caption)}</caption>{head}<tbody>{body}</tbody></table>" if body else ""

    def _cells(self, row: Sequence[object]) -> str:
        first, *others = map(self.text, row)
        return f'<th scope="row" {_CELL}>{first}</th>' + "".join(f"<td {_CELL}>{one}</td>" for one in others)


def _facts(shown: Shown) -> Iterator[tuple[str, object]]:
    yield from ((label, value) for label, value in shown.facts.items() if value is not None)
    if not (sums := shown.summary):
        return
    yield "lines completed / failed", f"{sums.lines_completed:,} / {sums.lines_failed:,}"
    if "total_tokens" in sums.tokens:
        yield "tokens", f"{sums.tokens['total_tokens']:,}"
    if "cost" in sums.costs:
        yield "cost", dollars(sums.costs["cost"])
    if "lines_evaluated" in sums.scores:
        yield "lines evaluated / not evaluated", " / ".join(f"{sums.scores[f'lines_{k}']:,.0f}" for k in _EVALUATED)
    for name in ("p50", "p90"):
        if math.isfinite(value := sums.durations.get(name, math.nan)):
            yield f"latency {name}", f"{value:.3g} s"


def _scores(summary: BatchSummary) -> Iterator[tuple[object, ...]]:
    sums = summary.scores
    for key in (key for key in sums if key.endswith(f"{VERSION}/mean")):
        name = key.removesuffix("/mean")
        count, errors = (sums.get(f"{name}/{kind}", 0) for kind in ("count", "error_count"))
        yield name.removesuffix(VERSION), f"{sums[key]:.4g}", f"{count:,.0f}", f"{errors:,.0f}"
    if "overall/pass_rate" in sums:
        yield "overall, lines that pass", f"{sums['overall/pass_rate']:.0%}", "", ""


def _failed(summary: BatchSummary) -> Iterator[tuple[object, ...]]:
    for line in summary.failed[:_FAILED]:
        yield line.line_number, (line.error or "").partition("\n")[0], line.label
    if (more := summary.lines_failed - len(summary.failed[:_FAILED])) > 0:
        yield "…", f"and {more:,} more", ""
