"""The keys of services are masked by their formats: what is missed is no more than the docs tell."""

from __future__ import annotations

from benchmarks.service_keys import missed


def test_only_a_short_key_without_digits_is_missed() -> None:
    assert [text[:11] for seed in (1, 2, 3) for text in missed(seed)] == ["Fireworks a"]
