"""The labelled set of secrets and ordinary texts: what masking misses is no more than the docs tell."""

from __future__ import annotations

from benchmarks.masking import wrong
from benchmarks.secret_set import halves


def test_few_secrets_are_missed_and_no_ordinary_text_is_touched() -> None:
    found = {half: wrong(rows)[0] for half, rows in halves().items()}
    assert not [row["text"] for rows in found.values() for row in rows if row["kind"] == "ordinary"]
    assert [len(found[half]) for half in ("seen", "unseen")] == [0, 4]
