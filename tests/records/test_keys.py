"""Names as keys that MLflow takes: as they are while they can be."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pf_mlflow.records.keys import distinct_key, valid_key


@pytest.mark.parametrize("make", [valid_key, distinct_key])
def test_a_name_stays_until_it_is_too_long(make: Callable[[str], str]) -> None:
    assert make("a" * 240) == "a" * 240
    assert len({make("a" * 241), make("a" * 240 + "b")}) == 2
    assert {len(make("a" * 241)), len(make("a" * 1000))} == {240}


@pytest.mark.parametrize("name", ["", " ", "."])
def test_a_name_of_nothing_is_a_key(name: str) -> None:
    assert valid_key(name) == "_"
