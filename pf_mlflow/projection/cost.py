"""What lines and judges cost, by the tokens that they took and the prices of their models."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from decimal import Decimal

from pf_mlflow.records.line import Span, Tokens
from pf_mlflow.records.score import Score
from pf_mlflow.tracking.prices import Prices
from pf_mlflow.tracking.run_payload import RunPayload

__all__ = ["COSTS", "add_cost", "dollars", "priced"]

COSTS = ("cost", "prompt_cost", "completion_cost")
"""Metrics of what a line, or a batch, cost."""


def add_cost(payload: RunPayload, calls: Iterable[Span], prefix: str, prices: Prices) -> None:
    """Add what LLM calls cost, by the tokens that were told of them; nothing if one's price is not known."""
    prompt = completion = 0.0
    told = [call for call in calls if call.tokens]
    for call in told:
        price = prices.of(call.model or str(call.inputs.get("model") or ""))
        parts = price.of(call.tokens) if price and call.tokens else None
        if parts is None:
            return
        prompt, completion = prompt + parts[0], completion + parts[1]
    if told:
        for name, value in zip(COSTS, (prompt + completion, prompt, completion), strict=True):
            payload.add_metric(f"{prefix}{name}", value)


def priced(scores: Iterable[Score], prices: Prices) -> tuple[Score, ...]:
    """Return scores with what the judges of them cost, where that is known."""
    return tuple(replace(score, cost=_cost(score, prices)) if score.is_judged else score for score in scores)


def dollars(value: float | None) -> str:
    """Return an amount as people read it: in cents from a dollar on, below it with three significant digits."""
    if value is None:
        return "–"
    return f"${value:,.2f}" if value >= 0.9995 else f"${Decimal(f'{value:.3g}'):f}"


def _cost(score: Score, prices: Prices) -> float | None:
    tokens = Tokens(score.prompt_tokens, score.completion_tokens, None, score.cached_prompt_tokens)
    parts = (price := prices.of(score.model)) and price.of(tokens)
    return sum(parts) if parts else None
