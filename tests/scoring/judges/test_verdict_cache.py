"""Verdicts that were given before."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest
from judge_server import KEY, JudgeServer
from judged import MODEL, azure, judged, line, openai

from pf_mlflow.records.score import Score
from pf_mlflow.scoring import score_line

SET = {
    "content": ("PF_MLFLOW_CONTENT", "none"),
    "headers": ("PF_MLFLOW_JUDGE_HEADERS", '{"X-Route": "another-model"}'),
}


def test_a_second_time_none_is_asked_and_it_is_said(judges: JudgeServer) -> None:
    first = judged(openai(judges), line(context=["a", "b"]))
    count = len(judges.asked)
    again = judged(openai(judges), line(context=["a", "b"]))
    assert len(judges.asked) == count == 5
    for name, score in again.items():
        assert (score.value, score.rationale) == (first[name].value, first[name].rationale)
        if name not in ("overall", "chunk_precision"):
            assert score.cached and score.prompt_tokens is None and first[name].cached is None


def test_one_new_chunk_costs_one_request(judges: JudgeServer) -> None:
    judged(openai(judges), line(context=["a", "b"]), "chunk_relevance")
    score = judged(openai(judges), line(context=["a", "b", "c"]), "chunk_relevance")["chunk_relevance"]
    assert len(judges.asked) == 3 and score.cached is None and score.prompt_tokens == 31


@pytest.mark.parametrize(
    ("change", "asked_again"),
    [
        ("nothing", False),
        ("key", False),
        ("ground_truth", False),
        ("answer", True),
        ("question", True),
        ("judge", True),
        ("model", True),
        ("endpoint", True),
        ("azure", True),
        ("content", True),
        ("headers", True),
    ],
)
def test_whatever_a_verdict_depends_on_asks_anew(
    judges: JudgeServer,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    change: str,
    asked_again: bool,
) -> None:
    path = tmp_path / "own.yaml"
    path.write_text("name: own\nguidelines: Be brief.")
    judged(openai(judges), line(), str(path))
    fields, model, connection = line(), MODEL, openai(judges)
    match change:
        case "key":
            connection = openai(judges, api_key="sk-another-0123456789")
        case "ground_truth":
            fields = line(ground_truth="unseen by this judge")
        case "answer":
            fields = line("Rome")
        case "question":
            fields = line(question="Another?")
        case "judge":
            path = tmp_path / "changed.yaml"
            path.write_text("name: own\nguidelines: Be very brief.")
        case "model":
            model = "gpt-other"
        case "endpoint":
            connection = openai(judges, base_url=f"{judges.root}/v2")
        case "azure":
            connection = azure(judges)
        case "headers" | "content":
            monkeypatch.setenv(*SET[change])
    scores = score_line(fields, [str(path)], judge_model=model, connection=connection)
    assert (len(judges.asked) == 2) is asked_again and scores[0].value == "yes"


@pytest.mark.parametrize("do", ["prose", "maybe", "400", "hang"])
def test_an_error_is_asked_again_and_nothing_else(
    judges: JudgeServer,
    monkeypatch: pytest.MonkeyPatch,
    do: str,
) -> None:
    monkeypatch.setenv("PF_MLFLOW_JUDGE_TIMEOUT", "0.5")
    fields = line(f"[[safety:{do}]]", ground_truth="t")
    first = judged(openai(judges), fields)
    assert first["safety"].error and len(judges.asked) == 4
    monkeypatch.setattr(judges, "directive", lambda asked: "yes")
    again = judged(openai(judges), fields)
    assert [asked.judge for asked in judges.asked[4:]] == ["safety"]
    assert (again["safety"].value, again["safety"].cached) == ("yes", None)
    assert all(again[name].cached for name in ("context_sufficiency", "groundedness", "correctness"))


def test_it_can_be_switched_off(judges: JudgeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PF_MLFLOW_JUDGE_CACHE", "false")
    for _ in range(2):
        assert judged(openai(judges), line(), "safety")["safety"].cached is None
    assert len(judges.asked) == 2


@pytest.mark.parametrize("content", ["all", "none"])
def test_its_file_holds_no_text_but_the_rationale(
    judges: JudgeServer,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    content: str,
) -> None:
    monkeypatch.setenv("PF_MLFLOW_CONTENT", content)
    judged(openai(judges), line("the-answer [[no]]", context="the-context"), "safety", "groundedness")
    folder = tmp_path / "spool"
    data = b"".join(path.read_bytes() for path in folder.glob("verdicts.db*"))
    assert b'"no"' in data and (b"told no" in data) is (content == "all")
    for secret in (b"the-answer", b"the-context", b"Capital", KEY.encode()):
        assert secret not in data
    assert (folder / "verdicts.db").stat().st_mode & 0o077 == 0


def test_old_verdicts_go(judges: JudgeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    judged(openai(judges), line(), "safety")
    with sqlite3.connect(tmp_path / "spool" / "verdicts.db") as db:
        db.execute("UPDATE verdict SET kept = kept - 91 * 86400")
    monkeypatch.setenv("PF_MLFLOW_JUDGE_RETRIES", "2")  # another panel, as in a new process
    judged(openai(judges), line("Rome"), "safety")
    with sqlite3.connect(tmp_path / "spool" / "verdicts.db") as db:
        assert db.execute("SELECT count(*) FROM verdict").fetchone() == (1,)


def test_trouble_with_its_file_only_warns(judges: JudgeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "spool").mkdir()
    (tmp_path / "spool" / "verdicts.db").write_text(
        "no database at all, but a text that is long enough to be read" * 20
    )
    said: list[Any] = []
    monkeypatch.setattr("pf_mlflow.scoring.judges.verdict_cache.warn_once", said.append)
    score: Score = judged(openai(judges), line(), "safety")["safety"]
    assert score.value == "yes" and said and "verdicts.db" in said[0]
