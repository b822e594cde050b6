"""What tokens of language models cost: a user's own prices first, then MLflow's list as it is installed."""

from __future__ import annotations

import logging
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from pf_mlflow.errors import BadInput
from pf_mlflow.records.line import Tokens

__all__ = ["Price", "Prices", "read_prices"]

_MAKERS = ("openai", "azure", "anthropic", "gemini", "mistral", "deepseek", "xai", "cohere_chat")
"""Whose prices are looked at, in this order: who only hosts models of others asks another price than the next host."""
_MILLION = 1_000_000
_LIST = "MLFLOW_MODEL_CATALOG_URI"
"""Variable of an address that MLflow would fetch its list from; empty, it takes the installed one."""
_DATED = re.compile(r"-\d{4}-\d{2}-\d{2}$")
_FIELDS = ("prompt", "completion", "cached")

log = logging.getLogger(__name__)

_list_lock = threading.Lock()


@dataclass(frozen=True)
class Price:
    """What a million tokens of a model cost; `cached`: prompt tokens that the server had from an earlier request."""

    prompt: float
    completion: float
    cached: float

    def of(self, tokens: Tokens) -> tuple[float, float] | None:
        """Return what prompt and completion cost, `None` unless both counts are known."""
        if tokens.prompt is None or tokens.completion is None:
            return None
        cached = min(tokens.cached or 0, tokens.prompt)
        prompt = (tokens.prompt - cached) * self.prompt + cached * self.cached
        return prompt / _MILLION, tokens.completion * self.completion / _MILLION


class Prices:
    """The prices that hold for a batch. Safe for threads; nothing is fetched.

    Args:
        path: A file with own prices, which `read_prices` reads; one that cannot be used is told in the log.
    """

    def __init__(self, path: str = "") -> None:
        self._known: dict[str, Price | None] = {}
        try:
            self._own = read_prices(Path(path)) if path else {}
        except BadInput as error:
            log.warning("%s", error)
            self._own = {}

    def of(self, model: str | None) -> Price | None:
        """Return the price of a model as its answers name it, `None` if it is not known."""
        if not model:
            return None
        if model not in self._known:
            self._known[model] = self._own.get(model) or self._own.get(_DATED.sub("", model)) or _listed(model)
        return self._known[model]


def read_prices(path: Path) -> dict[str, Price]:
    """Return the prices of a YAML file by model.

    Raises:
        BadInput: naming what in it cannot be used.
    """
    try:
        read = yaml.load(path.read_bytes(), getattr(yaml, "CSafeLoader", yaml.SafeLoader)) or {}
    except OSError as error:
        raise BadInput(
            f"The prices in {str(path)!r} cannot be read: {error.strerror}; PF_MLFLOW_PRICES names the file."
        ) from error
    except yaml.YAMLError as error:
        raise BadInput(f"The prices in {str(path)!r} are no YAML: {' '.join(str(error).split())}.") from error
    if not isinstance(read, dict):
        raise BadInput(f"{path} holds no prices by model; write `MODEL: {{prompt: 0.15, completion: 0.6}}`.")
    return {str(model): _price(path, model, given) for model, given in read.items()}


def _price(path: Path, model: object, given: Any) -> Price:
    ok = isinstance(given, dict) and {"prompt", "completion"} <= given.keys() <= set(_FIELDS)
    if not ok or not all(_is_price(value) for value in given.values()):
        raise BadInput(
            f"{path}: the price of {model!r} is {given!r}; write `{{prompt: 0.15, completion: 0.6}}`, numbers for a "
            "million tokens, and `cached` for those of a prompt that the server kept."
        )
    prompt, completion = float(given["prompt"]), float(given["completion"])
    return Price(prompt, completion, float(given.get("cached", prompt)))


def _is_price(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < float("inf")


def _listed(model: str) -> Price | None:
    """Return the price of a model in MLflow's list, by the first maker that asks one for it."""
    try:
        from mlflow.utils.providers import cost_per_token
    except ImportError:  # an MLflow without a list
        return None
    with _no_network():
        for maker in _MAKERS:
            try:
                cost = cost_per_token(model, _MILLION, _MILLION, maker)
                kept = cost_per_token(model, _MILLION, 0, maker, cache_read_input_tokens=_MILLION)
            except TypeError:  # an MLflow whose list is another
                return None
            if cost and kept and any(cost):
                return Price(cost[0], cost[1], kept[0])
    return None


@contextmanager
def _no_network() -> Iterator[None]:
    with _list_lock:
        before = os.environ.get(_LIST)
        os.environ[_LIST] = ""
        try:
            yield
        finally:
            del os.environ[_LIST]
            if before is not None:
                os.environ[_LIST] = before
