"""What docs/judges.md says is what the code does."""

from __future__ import annotations

import re
from pathlib import Path

import yaml
from judge_server import JudgeServer
from judged import MODEL, openai
from machine import ROOT

from pf_mlflow.projection.score_payload import add_scores, score_keys
from pf_mlflow.scoring import LineFields, score_line
from pf_mlflow.scoring.judges.builtin import JUDGES, ORDER
from pf_mlflow.scoring.sums import ScoreSums
from pf_mlflow.settings.judges import JudgeSettings
from pf_mlflow.tracking.run_payload import RunPayload

PAGE = (ROOT / "docs" / "judges.md").read_text("utf-8")
FULL = LineFields.of("It is Paris.", "Capital of France?", "Paris", ["one", "two"])


def test_the_table_names_the_judges() -> None:
    rows = re.findall(r"^\| `([a-z_]+)` \| ((?:`\w+` ?)+) \| ([^|]+) \|", PAGE, re.MULTILINE)
    told = {name: (tuple(re.findall(r"\w+", needs)), verdict.strip()) for name, needs, verdict in rows}
    values = {("yes", "no"): "yes, no", (1, 2, 3, 4, 5): "1 to 5"}
    assert told == {judge.name: (judge.needs, values[judge.values]) for judge in JUDGES.values()}


def test_the_order_is_that_of_the_page() -> None:
    (order,) = re.findall(r"order: ([^.]*), your own\.", PAGE)
    assert tuple(re.findall(r"`(\w+)`", order)) == ORDER


def test_the_settings_are_those_of_the_page() -> None:
    rows = re.findall(r"^\| `(PF_MLFLOW_JUDGE_\w+)` \| (.*?) ?\| (.*) \|$", PAGE, re.MULTILINE)
    fields = JudgeSettings.model_fields
    expected = {
        f"PF_MLFLOW_JUDGE_{name.upper()}": (
            f"`{str(field.default).lower()}`" if field.default != "" else "",
            field.description,
        )
        for name, field in fields.items()
    }
    assert {name: (default, text) for name, default, text in rows} == expected


def test_the_judges_of_your_own_and_what_mlflow_shows_of_them(judges: JudgeServer, tmp_path: Path) -> None:
    files = re.findall(r"```yaml\n# ([\w.]+)\n(.*?)```", PAGE, re.DOTALL)
    for name, text in files:
        (tmp_path / name).write_text(text)
    assert [name for name, _ in files] == ["polite.yaml", "tone.yaml"]
    metrics = [*(name for name, _ in files), *JUDGES]
    judges.directive = lambda asked: str(asked.result["enum"][0])  # type: ignore[method-assign]
    scores = score_line(FULL, metrics, [tmp_path], judge_model=MODEL, connection=openai(judges))
    payload = RunPayload("", 0, 0)
    add_scores(payload, scores)
    assert payload.metrics["tone/v1"] == 1 and payload.tags["response/overall_assessment/root_cause"] == "tone"
    names = {*ScoreSums.of([scores]).metrics(), *score_keys(payload)}
    for row in re.findall(r"^\| (?:child|parent) run.*? \| (`.*?`) \|", PAGE, re.MULTILINE):
        first, *others = re.findall(r"`([^`]+)`", row)
        for name in [first, *(f"{first.rpartition('/')[0]}{other}" for other in others)]:
            pattern = re.escape(name).replace("<judge>", r"[\w]+").replace("<word>", r"[\w ]+")
            optional = name.endswith(("/error", "/cached", "/cost", "<word>"))
            assert optional or any(re.fullmatch(pattern, one) for one in names), name


def test_the_python_block_runs() -> None:
    (block,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    exec(block, {})


def test_the_flow_takes_what_the_commands_give() -> None:
    flow = yaml.safe_load((ROOT / "eval_flow" / "flow.dag.yaml").read_text("utf-8"))
    score = next(node for node in flow["nodes"] if node["name"] == "score")
    assert flow["inputs"]["judge_model"]["default"] == "" and score["inputs"]["connection"] == ""
    assert "score.connection=" in PAGE and "judge_model=" in PAGE
