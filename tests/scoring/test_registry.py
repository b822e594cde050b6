from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pf_mlflow.errors import BadInput
from pf_mlflow.scoring import LineFields, Metric, Score, known_metrics, parse_metrics, register, registry, score_line


@pytest.mark.parametrize(
    "value, expected",
    [
        (None, None),
        ("", None),
        (" \n", None),
        (",", None),
        ([], None),
        ("[]", None),
        ([""], None),
        ("bleu", ("bleu",)),
        ("bleu,rougeL", ("bleu", "rougeL")),
        (" bleu ,\n rougeL\ttoken_f1 ", ("bleu", "rougeL", "token_f1")),
        ("bleu bleu", ("bleu",)),
        (["bleu", " rougeL "], ("bleu", "rougeL")),
        (("bleu",), ("bleu",)),
        ('["my metric.py", "bleu"]', ("my metric.py", "bleu")),
        ("metrics/polite.py:polite, bleu", ("metrics/polite.py:polite", "bleu")),
        ("[bleu]", "metrics='[bleu]' cannot be used: it begins as a JSON list but is none: "),
        ("[1]", "metrics='[1]' cannot be used: each metric must be a text."),
        (["bleu", None], "metrics=['bleu', None] cannot be used: each metric must be a text."),
        (3, "metrics=3 cannot be used: write a list of metrics."),
        ({"bleu": 1}, "metrics={'bleu': 1} cannot be used: write a list of metrics."),
        ("[" * 100_000, "metrics='[["),
    ],
)
def test_parse_metrics(value: Any, expected: tuple[str, ...] | None | str) -> None:
    if not isinstance(expected, str):
        assert parse_metrics(value) == expected
        return
    with pytest.raises(BadInput) as raised:
        parse_metrics(value)
    assert str(raised.value).startswith(expected)


@pytest.mark.parametrize(
    "name, said",
    [
        ("rougel", "There is no metric 'rougel'; did you mean rougeL? Known are exact_match, "),
        ("exactmatch", "There is no metric 'exactmatch'; did you mean exact_match? Known are exact_match, "),
        ("BLEU", "There is no metric 'BLEU'; did you mean bleu? Known are exact_match, "),
        ("relevance", "There is no metric 'relevance'; did you mean chunk_relevance? Known are exact_match, "),
        ("quality", "There is no metric 'quality'. Known are exact_match, token_f1, "),
    ],
)
def test_an_unknown_metric(name: str, said: str) -> None:
    with pytest.raises(BadInput) as raised:
        score_line(LineFields.of("x"), [name])
    assert str(raised.value).startswith(said)


def test_metrics_come_in_the_order_in_which_they_are_named(tmp_path: Path) -> None:
    (tmp_path / "polite.py").write_text("def polite(answer): return 'please' in answer\n", "utf-8")
    line = LineFields.of("please", ground_truth="please")
    scores = score_line(line, "answer_length, polite.py, exact_match", [tmp_path])
    assert scores == [Score("answer_length", 1.0), Score("polite", True), Score("exact_match", 1.0)]


@pytest.fixture
def own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_known", dict(registry._known))


def test_other_modules_add_metrics(own_registry: None) -> None:
    register(Metric("relevance", ("question",), lambda fields: 5.0))
    register(Metric("costly", (), lambda fields: 1.0, by_default=False))
    line = LineFields.of("x", "y?")
    assert [metric.name for metric in known_metrics()][-2:] == ["relevance", "costly"]
    assert score_line(line)[-1] == Score("relevance", 5.0)
    assert score_line(line, "costly") == [Score("costly", 1.0)]
    assert "relevance" not in [score.name for score in score_line(LineFields.of("x"))]
