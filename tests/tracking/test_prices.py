"""What models cost: own prices, then those that MLflow is installed with, and never the network."""

from __future__ import annotations

import json
import os
from pathlib import Path

import mlflow
import pytest

from pf_mlflow.errors import BadInput
from pf_mlflow.records.line import Tokens
from pf_mlflow.tracking.prices import Price, Prices, read_prices

MINI = "gpt-4o-mini-2024-07-18"


@pytest.mark.parametrize(
    "maker, model",
    [("openai", MINI), ("openai", "gpt-4o"), ("azure", "gpt-35-turbo"), ("anthropic", "claude-opus-4-1")],
)
def test_a_model_costs_what_its_maker_asks(maker: str, model: str) -> None:
    price = Prices().of(model)
    path = Path(mlflow.__file__).parent / "utils" / "model_catalog" / f"{maker}.json"
    told = json.loads(path.read_text("utf-8"))["models"][model]["pricing"]
    told.setdefault("cache_read_per_million_tokens", told["input_per_million_tokens"])
    kinds = ("input", "output", "cache_read")
    assert price and price == Price(*(pytest.approx(told[f"{kind}_per_million_tokens"]) for kind in kinds))


@pytest.mark.parametrize(
    "model", ["", None, "fake-1", "llama-3.1-70b-instruct", "Phi-4", "offline-model (no real LLM)"]
)
def test_what_nobody_or_everybody_prices_has_no_price(model: str | None) -> None:
    assert Prices().of(model) is None


def test_nothing_is_fetched_and_the_variable_stays(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "openai.json").write_text(
        json.dumps({"models": {"fake-1": {"mode": "chat", "pricing": {"input_per_million_tokens": 1.0}}}})
    )
    monkeypatch.setenv("MLFLOW_MODEL_CATALOG_URI", tmp_path.as_uri())
    assert Prices().of("fake-1") is None and Prices().of(MINI)
    assert os.environ["MLFLOW_MODEL_CATALOG_URI"] == tmp_path.as_uri()
    monkeypatch.delenv("MLFLOW_MODEL_CATALOG_URI")
    assert Prices().of(MINI) and "MLFLOW_MODEL_CATALOG_URI" not in os.environ


@pytest.mark.parametrize(
    "tokens, expected",
    [
        (Tokens(100, 10, 110), (100 * 2.0 / 1e6, 10 * 8.0 / 1e6)),
        (Tokens(100, 10, 110, 40), ((60 * 2.0 + 40 * 0.5) / 1e6, 10 * 8.0 / 1e6)),
        (Tokens(100, 10, 110, 400), (100 * 0.5 / 1e6, 10 * 8.0 / 1e6)),
        (Tokens(100, None, 100), None),
        (Tokens(None, 10, 10), None),
    ],
    ids=["all", "some cached", "more cached than there are", "no completion", "no prompt"],
)
def test_tokens_cost_their_share_of_a_million(tokens: Tokens, expected: tuple[float, float] | None) -> None:
    assert Price(2.0, 8.0, 0.5).of(tokens) == (expected and pytest.approx(expected))


def test_own_prices_come_first(tmp_path: Path) -> None:
    path = tmp_path / "prices.yaml"
    path.write_text("gpt-4o-mini: {prompt: 1, completion: 2}\nfake-1:\n  prompt: 3\n  completion: 4\n  cached: 0.5\n")
    prices = Prices(str(path))
    assert prices.of(MINI) == prices.of("gpt-4o-mini") == Price(1, 2, 1)
    assert prices.of("fake-1") == Price(3, 4, 0.5)
    assert prices.of("gpt-4o") == Prices().of("gpt-4o")


@pytest.mark.parametrize(
    "text, told",
    [
        (None, "cannot be read: No such file or directory; PF_MLFLOW_PRICES names the file."),
        ("a: [", "are no YAML"),
        ("- a", "holds no prices by model"),
        ("m: 3", "the price of 'm' is 3; write `{prompt: 0.15, completion: 0.6}`"),
        ("m: {prompt: 1}", "the price of 'm'"),
        ("m: {prompt: 1, completion: -1}", "the price of 'm'"),
        ("m: {prompt: 1, completion: .nan}", "the price of 'm'"),
        ("m: {prompt: 1, completion: yes}", "the price of 'm'"),
        ("m: {prompt: 1, completion: 1, output: 2}", "the price of 'm'"),
    ],
)
def test_prices_that_cannot_be_used_are_one_sentence(
    tmp_path: Path, text: str | None, told: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "prices.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(BadInput) as error:
        read_prices(path)
    assert told in str(error.value) and str(path) in str(error.value) and "\n" not in str(error.value)
    assert Prices(str(path)).of(MINI) == Prices().of(MINI) and told in caplog.text


def test_an_empty_file_has_no_prices(tmp_path: Path) -> None:
    path = tmp_path / "prices.yaml"
    path.write_text("# none yet\n")
    assert read_prices(path) == {}
