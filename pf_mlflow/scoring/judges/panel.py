"""Asks the judges of a line, many at once, and never lets a line fail by it."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

from pf_mlflow.logs import warn_once
from pf_mlflow.records.score import NO, YES, Score
from pf_mlflow.scoring.judges.builtin import CHUNK_PRECISION, JUDGES
from pf_mlflow.scoring.judges.client import JudgeClient, NoReply
from pf_mlflow.scoring.judges.endpoint import SKIPPED, endpoint_of, is_offline
from pf_mlflow.scoring.judges.judge import Judge, Question
from pf_mlflow.scoring.judges.overall import overall
from pf_mlflow.scoring.judges.reply import NoVerdict, read_verdict
from pf_mlflow.scoring.judges.verdict_cache import VerdictCache
from pf_mlflow.scoring.line_fields import LineFields
from pf_mlflow.scoring.metric import sentence
from pf_mlflow.settings import read_settings
from pf_mlflow.settings.judges import JudgeSettings, read_judge_settings

__all__ = ["Panel", "panel_of", "verdicts"]

_LINE_SECONDS = 600
"""How long promptflow lets a line take unless `PF_LINE_TIMEOUT_SEC` says otherwise."""
_TOKENS = ("prompt_tokens", "completion_tokens", "cached_prompt_tokens")


def verdicts(fields: LineFields, judges: Sequence[Judge], model: str, connection: Any) -> list[Score]:
    """Return the verdicts of judges on a line, then what they say together; none of the offline model.

    Raises:
        BadInput: the connection or a setting cannot be used.
    """
    if is_offline(connection, model):
        warn_once(SKIPPED)
        return []
    return panel_of(connection, model).scores(fields, judges)


class Panel:
    """The judges of one model. Safe for threads.

    Args:
        client: Asks the model.
        pool: Bounds how many requests go on at once, over all lines of the process.
        cache: The verdicts given before; `None` asks always.
        seconds: How long the judges of one line may take together, so that its time is never up by them.
    """

    def __init__(
        self, client: JudgeClient, pool: ThreadPoolExecutor, cache: VerdictCache | None, seconds: float
    ) -> None:
        self._client = client
        self._pool = pool
        self._cache = cache
        self._seconds = seconds

    def scores(self, fields: LineFields, judges: Sequence[Judge]) -> list[Score]:
        """Return the verdicts on a line, then what they say together."""
        futures = {judge: self._submit(judge, fields) for judge in judges}
        wait([future for of_judge in futures.values() for future in of_judge], self._seconds)
        scores = {judge: self._joined(judge, fields, of_judge) for judge, of_judge in futures.items()}
        precision = [_precision(of_judge) for judge, of_judge in futures.items() if judge is JUDGES["chunk_relevance"]]
        return [*scores.values(), *(one for one in precision if one), *overall(scores.items())]

    def _submit(self, judge: Judge, fields: LineFields) -> list[Future[Score]]:
        if judge.why_not(fields):
            return []
        return [self._pool.submit(self._verdict, judge, question) for question in judge.questions(fields)]

    def _joined(self, judge: Judge, fields: LineFields, futures: Sequence[Future[Score]]) -> Score:
        if reason := judge.why_not(fields):
            return Score(judge.name, error=reason, model=self._model)
        scores = [self._result(judge, future) for future in futures]
        return _of_chunks(judge, scores) if judge.per_chunk else scores[0]

    def _result(self, judge: Judge, future: Future[Score]) -> Score:
        if future.cancel() or not future.done():
            reason = f"no verdict within {self._seconds:.0f} s, the most that a line's judges may take"
            return Score(judge.name, error=reason, model=self._model)
        return future.result()

    def _verdict(self, judge: Judge, question: Question) -> Score:
        """Ask a judge one question; whatever goes wrong is the error of its score."""
        started = time.monotonic()
        try:
            verdict = self._ask(judge, question)
        except Exception as error:  # noqa: BLE001 - a judge's trouble is its own, never the line's
            verdict = {"error": self._client.endpoint.masked(sentence(error))}
        return Score(judge.name, model=self._model, seconds=time.monotonic() - started, **verdict)

    def _ask(self, judge: Judge, question: Question) -> dict[str, Any]:
        """Return a verdict, kept or new, or the error that came in its place, as fields of a score."""
        key = self._cache and self._cache.key(judge, self._client.endpoint, question)
        if self._cache and key and (kept := self._cache.get(key)):
            return {"value": kept.value, "rationale": kept.rationale, "cached": True}
        try:
            reply = self._client.ask(question)
        except NoReply as error:
            return {"error": str(error)}
        tokens = {kind: getattr(reply, kind) for kind in _TOKENS}
        if reply.unfinished:
            return {"error": reply.unfinished, **tokens}
        try:
            verdict = read_verdict(reply.text, judge.values)
        except NoVerdict as error:
            return {"error": self._client.endpoint.masked(str(error)), **tokens}
        if self._cache and key:
            self._cache.keep(key, verdict)
        return {"value": verdict.value, "rationale": verdict.rationale, **tokens}

    @property
    def _model(self) -> str:
        return self._client.endpoint.model


def _of_chunks(judge: Judge, scores: Sequence[Score]) -> Score:
    """Return the verdict on all chunks: `yes` if one is; each one's own stands in the rationale."""
    errors = [f"chunk {number}: {score.error}" for number, score in enumerate(scores, 1) if score.error is not None]
    lines = (f"{n}. {s.value}{f': {s.rationale}' if s.rationale else ''}" for n, s in enumerate(scores, 1))
    return Score(
        judge.name,
        None if errors else YES if any(score.value == YES for score in scores) else NO,
        None if errors else "\n".join(lines),
        "; ".join(errors) or None,
        scores[0].model,
        sum(score.seconds or 0.0 for score in scores),
        cached=all(score.cached for score in scores) or None,
        **{kind: _sum(getattr(score, kind) for score in scores) for kind in _TOKENS},
    )


def _precision(futures: Sequence[Future[Score]]) -> Score | None:
    """Return the share of chunks that are relevant; `None` where one has no verdict."""
    scores = [future.result() for future in futures if future.done() and not future.cancelled()]
    if not scores or len(scores) < len(futures) or any(score.error is not None for score in scores):
        return None
    return Score(CHUNK_PRECISION, sum(score.value == YES for score in scores) / len(scores))


def _sum(counts: Any) -> int | None:
    known = [count for count in counts if count is not None]
    return sum(known) if known else None


_lock = threading.Lock()
_pools: dict[tuple[int, int], ThreadPoolExecutor] = {}
_panels: dict[tuple[Any, ...], Panel] = {}


def panel_of(connection: Any, model: str) -> Panel:
    """Return the judges that a connection and a model are: of one process always the same.

    Raises:
        BadInput: the connection or a setting cannot be used.
    """
    judge_settings, settings = read_judge_settings(), read_settings()
    endpoint = endpoint_of(connection, model, judge_settings)
    secret = getattr(connection, "api_key", None) or connection.name
    key = (os.getpid(), endpoint, secret, judge_settings, settings.spool_dir, settings.content)
    with _lock:
        if key not in _panels:
            cache = VerdictCache(settings.spool_dir, settings.content) if judge_settings.cache else None
            _panels[key] = Panel(JudgeClient(endpoint, judge_settings), _pool(judge_settings), cache, _line_seconds())
        return _panels[key]


def _pool(settings: JudgeSettings) -> ThreadPoolExecutor:
    """Return the threads of this process that requests are sent by; a fork has none of its parent's."""
    key = (os.getpid(), settings.requests)
    if key not in _pools:
        _pools[key] = ThreadPoolExecutor(settings.requests, thread_name_prefix="pf-mlflow-judge")
    return _pools[key]


def _line_seconds() -> float:
    """Return four fifths of the time that promptflow lets a line take."""
    timeout = os.environ.get("PF_LINE_TIMEOUT_SEC", "")
    return 0.8 * (int(timeout) if timeout.isdecimal() and int(timeout) else _LINE_SECONDS)
