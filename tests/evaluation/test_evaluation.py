"""The evaluation flow: every score on the child run of the very line it is of, their sums on the parent."""

from __future__ import annotations

import json
import math
import shutil
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import pytest
import yaml
from batches import until
from click.testing import Result
from machine import FLOWS, ROOT, Machine, Tracked, tracked
from mlflow import MlflowClient
from servers import CountingProxy, mlflow_server

from pf_mlflow.scoring.heuristics import HEURISTICS

LINES, FAILED = 12, {3, 7}
SCORED = sorted(set(range(LINES)) - FAILED)
WORDS = [f"word{number}" for number in range(LINES)]
QA, EVAL = ROOT / "examples" / "qa", ROOT / "eval_flow"
MAPPING = ("--column-mapping", "question=${data.question}", "--column-mapping", "context=${data.context}")
MATCHES = ["exact_match", "token_f1", "rouge1", "rouge2", "rougeL", "bleu"]


def rows(name: str) -> list[dict[str, str]]:
    """Lines of which each is answered with one word more, out of as many as there are lines: no two score alike."""
    return [
        {
            "question": f"[[status=400]] {name} {n}?"
            if n in FAILED
            else f"[[say={json.dumps(' '.join(WORDS[: n + 1]))}]] {name} {n}?",
            "context": " ".join(WORDS),
            "ground_truth": " ".join(WORDS),
        }
        for n in range(LINES)
    ]


def f1(n: int) -> float:
    precision, recall = 1.0, (n + 1) / LINES
    return 2 * precision * recall / (precision + recall)


def uri(machine: Machine) -> str:
    return f"sqlite:///{machine.folder / 'evaluated.db'}"


def base(machine: Machine, name: str, lines: list[dict[str, Any]], *more: str, **env: str) -> Path:
    data = machine.data(name, lines)
    words = ["--flow", str(QA), "--data", str(data), *MAPPING, "--name", name, *more]
    done = machine.command("pf-mlflow", "run", *words, **{"MLFLOW_TRACKING_URI": uri(machine), **env})
    assert done.returncode in (0, 3), done.stdout + done.stderr
    return data


def typed(machine: Machine, *words: str) -> Result:
    return machine.type(*words, MLFLOW_TRACKING_URI=uri(machine))


def evaluated(machine: Machine, *words: str, code: int = 3, **env: str) -> str:
    done = machine.command("pf-mlflow", "evaluate", *words, **{"MLFLOW_TRACKING_URI": uri(machine), **env})
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def scores(batch: Tracked, metric: str) -> dict[int, float]:
    """The scores that MLflow shows, by line; one that is no number any more is none."""
    found = {n: run.data.metrics.get(f"{metric}/v1", math.nan) for n, run in batch.children.items()}
    return {n: value for n, value in found.items() if value == value}


def results(machine: Machine, batch: Tracked) -> Any:
    run = batch.parent.info
    mlflow.set_tracking_uri(uri(machine))
    return MlflowClient(uri(machine)).load_table(run.experiment_id, "eval_results_table.json", [run.run_id])


def assert_sums(batch: Tracked, metric: str, values: list[float]) -> None:
    told, key = batch.parent.data.metrics, f"{metric}/v1"
    assert told[f"{key}/mean"] == pytest.approx(statistics.fmean(values), abs=1e-9)
    assert told[f"{key}/variance"] == pytest.approx(statistics.pvariance(values), abs=1e-9)
    assert told[f"{key}/p90"] == pytest.approx(statistics.quantiles(values, n=10, method="inclusive")[8], abs=1e-9)
    assert told[f"{key}/count"] == len(values)


@pytest.fixture(scope="module", autouse=True)
def tracking_uri_restored() -> Iterator[None]:
    before = mlflow.get_tracking_uri()
    yield
    mlflow.set_tracking_uri(before)


@pytest.fixture(scope="module")
def scored(machine: Machine) -> Tracked:
    """A batch of which two lines failed, scored by promptflow's own command."""
    data = base(machine, "ev_asked", rows("ev_asked"))
    words = ["--flow", str(EVAL), "--data", str(data), "--run", "ev_asked", "--name", "ev_scores_of_asked"]
    mapping = ["answer='${run.outputs.answer}'", "question='${data.question}'", "ground_truth='${data.ground_truth}'"]
    machine.pf("run", "create", *words, "--column-mapping", *mapping, MLFLOW_TRACKING_URI=uri(machine))
    return read(machine, "ev_asked", "ev_scores_of_asked")


def read(machine: Machine, name: str, evaluation: str) -> Tracked:
    def is_summed_up() -> bool:
        parent = tracked(uri(machine), name).parent
        by = parent.data.tags.get("promptflow.evaluation")
        return by == evaluation and "eval_results_table.json" in parent.data.tags.get("mlflow.loggedArtifacts", "")

    until(is_summed_up, f"{evaluation} is summed up", 30)
    return tracked(uri(machine), name)


def test_every_score_is_on_the_child_run_of_its_line(scored: Tracked) -> None:
    assert scores(scored, "token_f1") == {n: pytest.approx(f1(n), abs=1e-9) for n in SCORED}
    assert scores(scored, "exact_match") == {n: float(n == LINES - 1) for n in SCORED}
    assert scores(scored, "answer_length") == {n: n + 1 for n in SCORED}
    assert {run.data.tags.get("promptflow.evaluation") for n, run in scored.children.items() if n in SCORED} == {
        "ev_scores_of_asked"
    }
    child = scored.children[5]
    assert child.data.params["output"] == " ".join(WORDS[:6]) and child.data.metrics["total_tokens"] > 0


def test_the_parent_sums_them_up(machine: Machine, scored: Tracked) -> None:
    for metric in MATCHES:
        assert_sums(scored, metric, list(scores(scored, metric).values()))
    told = scored.parent.data.metrics
    assert told["exact_match/v1"] == 1 / len(SCORED)
    assert (told["lines_total"], told["lines_evaluated"], told["lines_not_evaluated"]) == (12, 12 - 2, 2)
    shown = json.loads(machine.pf("run", "show-metrics", "--name", "ev_scores_of_asked").stdout)
    ours = {key: value for key, value in told.items() if "/v1" in key or "evaluated" in key}
    assert shown == pytest.approx(ours, abs=1e-9)


def test_the_table_has_a_row_a_line_with_everything(machine: Machine, scored: Tracked) -> None:
    table = results(machine, scored)
    assert list(table["line_number"]) == list(range(LINES))
    assert [status == "FAILED" for status in table["status"]] == [n in FAILED for n in range(LINES)]
    row = table.iloc[5]
    child = scored.children[5].data
    assert row["run_id"] == scored.children[5].info.run_id and row["output"] == child.params["output"]
    assert row["input_question"] == child.params["input_question"] and row["total_tokens"] == 18
    assert row["expected"] == scored.children[5].data.tags["expected"] == rows("ev_asked")[5]["ground_truth"]
    assert [*table.columns[:4]] == ["line_number", "output", "input_question", "expected"]
    assert not [name for name in table.columns if "." in name]
    assert row["token_f1/v1"] == pytest.approx(f1(5)) and row["duration"] > 0
    assert "content" in table.iloc[3]["promptflow_error"] and math.isnan(table.iloc[3]["token_f1/v1"])


def test_show_has_the_scores_and_the_worst_lines_first(machine: Machine, scored: Tracked) -> None:
    shown = json.loads(typed(machine, "show", "ev_asked", "--worst", "token_f1", "--json").stdout)
    assert [line["line_number"] for line in shown["worst"]] == SCORED[:10]
    assert shown["scores"]["token_f1/v1/mean"] == pytest.approx(statistics.fmean(map(f1, SCORED)))
    text = typed(machine, "show", "ev_asked", "--worst", "bleu")
    assert "Worst lines by bleu" in text.stdout and "10 / 2" in text.stdout
    unknown = typed(machine, "show", "ev_asked", "--worst", "blue")
    assert (
        unknown.exit_code == 1 and "no line has a score 'blue'" in unknown.stderr.lower() and "bleu" in unknown.stderr
    )


def test_sync_leaves_scores_alone(machine: Machine, scored: Tracked) -> None:
    before = tracked(uri(machine), "ev_asked")
    synced = json.loads(typed(machine, "sync", "ev_asked", "ev_scores_of_asked", "--json").stdout)
    assert [one["state"] for one in synced["batches"]] == ["in line", "in line"], synced
    after = tracked(uri(machine), "ev_asked")
    assert after.parent.data.metrics == before.parent.data.metrics
    assert {n: run.data.metrics for n, run in after.children.items()} == {
        n: run.data.metrics for n, run in before.children.items()
    }


@pytest.fixture(scope="module")
def answered(machine: Machine) -> str:
    """A batch with scores of all metrics, which several tests evaluate anew, one after the other."""
    base(machine, "ev_answered", rows("ev_answered"), "--evaluate", str(EVAL))
    return "ev_answered"


def test_scores_that_never_left_for_mlflow_come_by_sync(machine: Machine, answered: str) -> None:
    evaluated(machine, answered, "--name", "ev_unseen", code=0, PF_MLFLOW_ENABLED="false")
    assert "ev_unseen" not in tracked(uri(machine), answered).parent.data.tags.values()
    done = typed(machine, "sync", "ev_unseen")
    assert done.exit_code == 0, done.output
    batch = read(machine, answered, "ev_unseen")
    assert scores(batch, "token_f1") == {n: pytest.approx(f1(n)) for n in SCORED}
    assert_sums(batch, "token_f1", list(map(f1, SCORED)))


def test_a_batch_that_was_not_tracked_is_brought_in_first(machine: Machine) -> None:
    base(machine, "ev_untracked", rows("ev_untracked"), PF_MLFLOW_ENABLED="false")
    evaluated(machine, "ev_untracked", "--name", "ev_scores_of_untracked")
    batch = read(machine, "ev_untracked", "ev_scores_of_untracked")
    assert scores(batch, "token_f1") == {n: pytest.approx(f1(n)) for n in SCORED}


def test_an_evaluation_that_scores_nothing_says_why_and_leaves_the_earlier_one(machine: Machine, answered: str) -> None:
    before = tracked(uri(machine), answered)
    flow = shutil.copytree(EVAL, machine.cwd / "broken_flow", dirs_exist_ok=True)
    includes = (flow / "flow.dag.yaml").read_text().replace("- ../", f"- {ROOT}/")
    (flow / "flow.dag.yaml").write_text(includes)
    (flow / "nodes" / "score.py").write_text(
        "from promptflow.core import tool\n\n\n@tool\ndef score(**given):\n    boom\n"
    )
    text = evaluated(machine, answered, "--flow", str(flow), "--name", "ev_bad")
    assert "10 lines could not be scored" in text and "'boom' is not defined" in text and "0 / 12" in text
    batch = tracked(uri(machine), answered)
    assert "ev_bad" not in batch.parent.data.tags.values()
    assert scores(batch, "token_f1") == scores(before, "token_f1")


def test_a_second_evaluation_takes_the_place_of_the_first(machine: Machine, answered: str) -> None:
    assert scores(tracked(uri(machine), answered), "rouge1")
    text = evaluated(machine, answered, "--name", "ev_second", "--metrics", "token_f1,answer_length")
    batch = read(machine, answered, "ev_second")
    assert "token_f1" in text and "rouge1" not in text
    assert scores(batch, "token_f1") == {n: pytest.approx(f1(n)) for n in SCORED}
    assert scores(batch, "rouge1") == {} and scores(batch, "exact_match") == {}
    told = {key: value for key, value in batch.parent.data.metrics.items() if value == value}
    assert {key.partition("/")[0] for key in told if "/v1" in key} == {"token_f1", "answer_length"}
    table = results(machine, batch)
    assert "rouge1/v1" not in table.columns and list(table["promptflow_evaluation"].dropna()) == ["ev_second"] * 10


def test_rows_of_other_lines_are_refused(machine: Machine, answered: str) -> None:
    lines = rows(answered)
    before = tracked(uri(machine), answered)
    turned = machine.data("ev_turned", [lines[1], lines[0], *lines[2:]])
    done = typed(machine, "evaluate", answered, "--data", str(turned))
    assert done.exit_code == 1
    assert "Row 0 of" in done.stderr and f"line 0 of '{answered}'" in done.stderr and "2 rows differ" in done.stderr
    assert scores(tracked(uri(machine), answered), "token_f1") == scores(before, "token_f1")
    words = ["--flow", str(EVAL), "--data", str(turned), "--run", answered, "--name", "ev_turned"]
    mapping = ["answer=${run.outputs.answer}", "ground_truth=${data.ground_truth}"]
    mapped = [word for pair in mapping for word in ("--column-mapping", pair)]
    machine.command("pf-mlflow", "run", *words, *mapped, MLFLOW_TRACKING_URI=uri(machine))
    batch = read(machine, answered, "ev_turned")
    rest = [n for n in SCORED if n > 1]
    assert scores(batch, "token_f1") == {n: pytest.approx(f1(n)) for n in rest}
    assert batch.parent.data.metrics["lines_not_evaluated"] == 2 + 2


@pytest.mark.slow
def test_a_resumed_batch_and_a_limited_one(machine: Machine) -> None:
    base(machine, "ev_part", rows("ev_whole"), "--limit", "5", "--evaluate", str(EVAL))
    part = tracked(uri(machine), "ev_part")
    assert scores(part, "token_f1") == {n: pytest.approx(f1(n)) for n in SCORED if n < 5}
    assert part.parent.data.metrics["lines_not_evaluated"] == 1
    words = ["--resume-from", "ev_part", "--name", "ev_rest", "--evaluate", str(EVAL)]
    done = machine.command("pf-mlflow", "run", *words, MLFLOW_TRACKING_URI=uri(machine))
    assert done.returncode == 3, done.stderr
    assert scores(tracked(uri(machine), "ev_rest"), "token_f1") == {n: pytest.approx(f1(n)) for n in SCORED}
    assert scores(tracked(uri(machine), "ev_part"), "token_f1").keys() == {n for n in SCORED if n < 5}


def test_a_batch_without_a_completed_line_has_a_clear_result(machine: Machine) -> None:
    data = machine.data("ev_none", [row for n, row in enumerate(rows("ev_none")) if n in FAILED])
    words = ["--flow", str(QA), "--data", str(data), *MAPPING, "--name", "ev_none", "--evaluate", str(EVAL)]
    done = machine.command("pf-mlflow", "run", *words, MLFLOW_TRACKING_URI=uri(machine))
    told = tracked(uri(machine), "ev_none").parent.data.metrics
    assert done.returncode == 3 and (told["lines_evaluated"], told["lines_not_evaluated"]) == (0, 2)
    assert "0 / 2" in done.stdout and not any("/v1" in key for key in told)


def test_answers_without_a_batch_get_runs_of_their_own(machine: Machine) -> None:
    answers = [
        {"question": f"q{n}", "answer": " ".join(WORDS[: n + 1]), "ground_truth": " ".join(WORDS)} for n in SCORED
    ]
    answers.append({"question": "nothing", "answer": None, "ground_truth": "word0"})
    answers.append({"question": "who knows?", "answer": "nobody"})  # promptflow makes the text "nan" of this truth
    data = machine.data("ev_answers", answers)
    evaluated(machine, "--data", str(data), "--name", "ev_finished", code=0)
    batch = tracked(uri(machine), "ev_finished")
    expected = {place: pytest.approx(f1(n)) for place, n in enumerate(SCORED)}
    assert scores(batch, "token_f1") == {**expected, len(SCORED): 0.0}
    assert_sums(batch, "token_f1", [*map(f1, SCORED), 0.0])
    assert batch.children[0].data.params["input_answer"] == WORDS[0]
    table = results(machine, batch)
    assert len(table) == len(SCORED) + 2


CUSTOM = """
def politeness(answer):
    if "word5" in answer:
        raise ValueError("rude")
    return "word2" in answer

def mood(question, answer):
    return "long" if len(answer) > 20 else "short"
"""


def test_metrics_of_ones_own(machine: Machine, answered: str) -> None:
    (machine.cwd / "own.py").write_text(CUSTOM)
    evaluated(machine, answered, "--name", "ev_by_own", "--metrics", "own.py:politeness,own.py:mood,token_f1")
    batch = read(machine, answered, "ev_by_own")
    polite, rude = [n for n in SCORED if n < 5], [n for n in SCORED if n >= 5]
    assert scores(batch, "politeness") == {n: float(n >= 2) for n in polite}
    errors = dict(enumerate(batch.column("tags", "politeness/v1/error")))
    assert errors == {n: "ValueError: rude" if n in rude else None for n in range(LINES)}
    moods = {n: None if n in FAILED else "long" if n > 2 else "short" for n in range(LINES)}
    assert dict(enumerate(batch.column("tags", "mood/v1"))) == moods
    assert batch.parent.data.metrics["politeness/v1/error_count"] == len(rude)
    assert batch.parent.data.metrics["politeness/v1/mean"] == 2 / 4
    assert scores(batch, "token_f1").keys() == set(SCORED)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["no-such-batch"], ["no batch 'no-such-batch'", "pf run list"]),
        ([], ["name a batch", "--data"]),
        (["ev_asked", "--metrics", "rogue1"], ["'rogue1'", "rouge1", "token_f1"]),
        (["ev_asked", "--metrics", "missing.py"], ["missing.py"]),
        (["--data", "ev_bare.jsonl"], ["no column 'answer'", "text", "--column-mapping answer="]),
        (["ev_asked", "--flow", "nowhere"], ["no flow at", "/nowhere'"]),
        (["ev_asked", "--flow", str(QA)], [str(QA), "saves no scores", "save_scores"]),
        (["ev_asked", "--flow", str(FLOWS / "flex")], ["/flex'", "saves no scores: it has no nodes that could"]),
        (
            ["ev_scores_of_asked"],
            ["'ev_scores_of_asked' scores the lines of 'ev_asked'", "`pf-mlflow evaluate ev_asked`"],
        ),
    ],
)
def test_bad_input_is_one_sentence(machine: Machine, scored: Tracked, words: list[str], says: list[str]) -> None:
    machine.data("ev_bare", [{"text": "no answer"}])
    done = typed(machine, "evaluate", *words)
    assert done.exit_code == 1, done.stdout
    assert len([line for line in done.stderr.splitlines() if line.startswith("Error:")]) == 1
    assert all(word in done.stderr for word in says) and "Traceback" not in done.stderr
    assert tracked(uri(machine), "ev_asked").parent.data.tags["promptflow.evaluation"] == "ev_scores_of_asked"


@pytest.mark.slow
def test_nothing_is_lost_while_mlflow_is_down(machine: Machine, proxy: CountingProxy) -> None:
    env = {"MLFLOW_TRACKING_URI": proxy.uri}
    base(machine, "ev_counted", rows("ev_counted"), **env)
    evaluated(machine, "ev_counted", "--name", "ev_counting", **env)
    batch = tracked(proxy.uri, "ev_counted")
    assert scores(batch, "token_f1") == {n: pytest.approx(f1(n)) for n in SCORED}
    proxy.answer = 503
    gave_up = {"PF_MLFLOW_GIVE_UP_AFTER": "1"}
    done = machine.command(
        "pf-mlflow", "evaluate", "ev_counted", "--name", "ev_later", "--metrics", "rougeL", **env, **gave_up
    )
    assert done.returncode == 4 and "wait in the spool" in done.stderr
    proxy.answer = None
    synced = machine.command("pf-mlflow", "sync", "ev_later", **env)
    assert synced.returncode == 0, synced.stdout + synced.stderr
    batch = tracked(proxy.uri, "ev_counted")
    assert scores(batch, "rougeL").keys() == set(SCORED) and scores(batch, "token_f1") == {}


def test_the_parents_page_shows_the_scores(machine: Machine, scored: Tracked, tmp_path: Path, page: Any) -> None:
    run = scored.parent.info
    with mlflow_server(uri(machine), tmp_path) as address:
        page.goto(f"{address}/#/experiments/{run.experiment_id}/runs/{run.run_id}")
        page.get_by_text("token_f1/v1/mean").first.wait_for()
        text = page.inner_text("body")
    assert "lines_not_evaluated" in text and "exact_match/v1" in text


def test_doctor_finds_the_flow_in_order(machine: Machine) -> None:
    done = machine.command("pf-mlflow", "doctor", str(EVAL))
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_run_file_names_what_there_is() -> None:
    told = yaml.safe_load((ROOT / "run_evaluation.yml").read_text("utf-8"))
    flow = yaml.safe_load((ROOT / told["flow"] / "flow.dag.yaml").read_text("utf-8"))
    assert set(told["column_mapping"]) == set(flow["inputs"]) - {"metrics", "judge_model"}
    row = json.loads((ROOT / told["data"]).read_text("utf-8").splitlines()[0])
    columns = [source for source in told["column_mapping"].values() if source.startswith("${data.")]
    assert columns and all(source[7:-1] in row for source in columns)


def test_the_flow_lacks_nothing_when_it_is_uploaded_alone() -> None:
    flow = yaml.safe_load((EVAL / "flow.dag.yaml").read_text("utf-8"))
    assert all((EVAL / path).exists() for path in flow["additional_includes"])
    assert "../pf_mlflow" in flow["additional_includes"]
    ours, base = ((folder / "requirements.txt").read_text().splitlines() for folder in (EVAL, ROOT))
    assert set(base[1:]) < set(ours)
    assert {line.partition(">")[0] for line in set(ours) - set(base)} >= {metric.package for metric in HEURISTICS} - {
        ""
    }
