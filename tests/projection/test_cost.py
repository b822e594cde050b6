"""What lines, their nodes, judges and batches cost, as their runs show it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from builders import line_record, llm_node
from desk import Desk
from finished import USAGE, joke_call, llm_call, run_info

from pf_mlflow.projection.cost import dollars, priced
from pf_mlflow.projection.line_payload import line_payload
from pf_mlflow.records.line import Tokens
from pf_mlflow.records.score import Score
from pf_mlflow.tracking.prices import Prices

MINI, LARGE = "gpt-4o-mini-2024-07-18", "gpt-4o-2024-11-20"


@pytest.fixture
def prices(tmp_path: Path) -> Prices:
    path = tmp_path / "prices.yaml"
    path.write_text(
        f"{MINI}: {{prompt: 0.15, completion: 0.6, cached: 0.075}}\n{LARGE}: {{prompt: 2.5, completion: 10}}"
    )
    return Prices(str(path))


def call_of(node: str, model: str | None, tokens: Tokens | None) -> Iterator[object]:
    top, call = llm_node(node)
    yield top
    yield type(call)(**{**vars(call), "model": model, "tokens": tokens})


def costs(prices: Prices, *nodes: tuple[str, str | None, Tokens | None]) -> dict[str, float]:
    spans = [part for node in nodes for part in call_of(*node)]
    metrics = line_payload(line_record(*spans), "b1", prices=prices).metrics  # type: ignore[arg-type]
    return {key: value for key, value in metrics.items() if "cost" in key}


def test_a_line_costs_what_its_node_does_cached_tokens_less(prices: Prices) -> None:
    prompt, completion = (900 * 0.15 + 100 * 0.075) / 1e6, 50 * 0.6 / 1e6
    expected = {"cost": prompt + completion, "prompt_cost": prompt, "completion_cost": completion}
    assert costs(prices, ("joke", MINI, Tokens(1000, 50, 1050, 100))) == pytest.approx(expected)


def test_several_nodes_cost_their_sum(prices: Prices) -> None:
    mini, large = 1000 * 0.15 / 1e6 + 50 * 0.6 / 1e6, 200 * 2.5 / 1e6 + 20 * 10 / 1e6
    shown = costs(prices, ("rewrite", MINI, Tokens(1000, 50, 1050)), ("answer", LARGE, Tokens(200, 20, 220)))
    assert (shown["rewrite.cost"], shown["answer.cost"]) == (pytest.approx(mini), pytest.approx(large))
    assert shown["cost"] == pytest.approx(mini + large)


def test_part_of_a_line_is_not_told_for_the_whole(prices: Prices) -> None:
    shown = costs(prices, ("rewrite", MINI, Tokens(1000, 50, 1050)), ("answer", "fake-1", Tokens(200, 20, 220)))
    assert sorted(shown) == ["rewrite.completion_cost", "rewrite.cost", "rewrite.prompt_cost"]


@pytest.mark.parametrize("model, tokens", [("fake-1", Tokens(11, 7, 18)), (MINI, None), (MINI, Tokens(11, None, 11))])
def test_what_is_unknown_is_absent_not_zero(prices: Prices, model: str, tokens: Tokens | None) -> None:
    assert costs(prices, ("joke", model, tokens)) == {}


@pytest.mark.parametrize(
    "value, shown",
    [(None, "–"), (0.0, "$0"), (0.00001234, "$0.0000123"), (0.5, "$0.5"), (0.9999, "$1.00"), (1234.567, "$1,234.57")],
)
def test_an_amount(value: float | None, shown: str) -> None:
    assert dollars(value) == shown


def test_a_judge_s_cost_is_its_own(prices: Prices) -> None:
    asked = Score("safety", "yes", model=MINI, prompt_tokens=1000, completion_tokens=10, cached_prompt_tokens=500)
    scores = [asked, Score("safety", "yes", model=MINI, cached=True), Score("token_f1", 0.5)]
    found = [score.cost for score in priced(scores, prices)]
    assert found == [pytest.approx((500 * 0.15 + 500 * 0.075 + 10 * 0.6) / 1e6), None, None]


def test_a_batch_s_cost_is_its_lines_sum_and_what_has_no_price_is_said_once(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    details = {**USAGE, "prompt_tokens_details": {"cached_tokens": 4}}
    models = [MINI, MINI, "fake-1", "fake-1"]
    calls = [llm_call(output={"model": model, "usage": details}) for model in models]
    infos = [run_info(n, joke_call(children=[one])) for n, one in enumerate(calls)]
    desk.leave("b1", infos)
    desk.deliver("b1")
    runs = desk.runs("b1")
    line = ((11 - 4) * 0.15 + 4 * 0.075 + 7 * 0.6) / 1e6
    assert [runs[number].data.metrics.get("cost") for number in "0123"] == [pytest.approx(line)] * 2 + [None] * 2
    assert runs[""].data.metrics["cost"] == pytest.approx(2 * line)
    shown = desk.type("show", "b1").output
    assert shown.count("No price is known of fake-1; PF_MLFLOW_PRICES takes your own.") == 1
    assert "$0.0000027 + $0.0000084 = $0.0000111" in shown


def test_prices_of_one_s_own_hold_by_a_setting(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    (tmp_path / "prices.yaml").write_text("fake-1: {prompt: 1000000, completion: 0}")
    desk.leave("b1", [run_info(n, joke_call()) for n in range(2)])
    desk.deliver("b1", PF_MLFLOW_PRICES="prices.yaml")
    assert desk.runs("b1")[""].data.metrics["cost"] == 2 * 11
    assert "$22.00 + $0 = $22.00" in desk.type("show", "b1").output
