"""The texts that were written before a look at the rules: what is missed is no more than the docs tell."""

from __future__ import annotations

import pytest

from benchmarks.unseen import missed, touched


@pytest.mark.parametrize(("name", "most"), [("", 4), ("_2", 8), ("_3", 10)])
def test_few_unseen_secrets_are_missed_and_no_ordinary_text_is_touched(name: str, most: int) -> None:
    assert touched(f"ordinary{name}") == []
    assert len(missed(f"secrets{name}")) <= most
