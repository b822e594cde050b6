"""`pf-mlflow show`: what it tells of a batch, whatever state the batch is in and whatever folder it is typed in."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from desk import Desk
from finished import EVALUATION_FLOW, home_with, joke_call, run_info
from machine import BIN
from servers import CountingProxy, free_port

LONG = "the service said no:\n" + "x" * 7000 + "\nlast words"
COMPLETED, FAILED = 28, 22
NAME = "a_flow_with_a_rather_long_name_variant_0_20261121_070810_678481"


def line(number: int) -> dict[str, Any]:
    """A line of the batch `jokes`: the first ones fail, the others take as many milliseconds as their number."""
    if number >= FAILED:
        return run_info(number, joke_call(end_time=100.25 + number / 1000), inputs={"topic": f"topic {number}"})
    message = LONG if number == 7 else f"no joke {number}, [bold]please"
    error = {"message": message, "code": "UserError", "debugInfo": {"type": "RateLimitError"}}
    failed = joke_call(error={"message": message, "type": "RateLimitError"}, output=None)
    return run_info(number, failed, status="Failed", error=error, output=None)


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory, fresh_store: Path) -> Desk:
    """A desk with a batch in each state."""
    desk = Desk(tmp_path_factory.mktemp("desk"))
    shutil.copy(fresh_store, desk.folder)
    desk.leave("jokes", map(line, range(FAILED + COMPLETED)))
    desk.leave("scores", dag=EVALUATION_FLOW, run="jokes")
    for name in ("open", "twice", "refused", "deleted", "orphan", NAME):
        desk.leave(name, 2)
    desk.leave("stopped", 2, status="Canceled")
    desk.leave("again", 1)
    desk.deliver()
    shutil.rmtree(desk.home / ".runs" / "again")
    desk.leave("again", 3, created_on="2026-11-22T00:00:00+00:00", start_time="2026-11-22T00:00:01+00:00")
    desk.deliver("again")
    desk.leave("missing", 2)
    _spoil(desk)
    return desk


def _spoil(desk: Desk) -> None:
    client = desk.client
    client.update_run(desk.runs("open")["1"].info.run_id, status="RUNNING")
    twin = desk.runs("twice")["1"]
    made = client.create_run(twin.info.experiment_id, 1, twin.data.tags)
    client.log_metric(made.info.run_id, "total_tokens", 7)
    client.set_terminated(made.info.run_id)
    client.set_tag(desk.runs("refused")["1"].info.run_id, "promptflow.not_logged", "MLflow answered 400: not this")
    for run in desk.runs("deleted").values():
        client.delete_run(run.info.run_id)
    client.delete_run(desk.runs("orphan")[""].info.run_id)


def cells(text: str) -> dict[str, str]:
    """Return the totals by their name."""
    return dict(re.findall(r"^│ (\S.*?) +│ +(\S.*?) │$", text.partition("Slowest")[0], re.MULTILINE))


def test_a_batch_in_numbers(desk: Desk) -> None:
    done = desk.type("show", "jokes")
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout.startswith("Batch jokes\n")
    first, last = FAILED, FAILED + COMPLETED - 1
    assert cells(done.stdout) == {
        "status": "FINISHED",
        "lines completed / failed": f"{COMPLETED} / {FAILED}",
        "tokens, prompt + completion = total": "550 + 350 = 900",  # 50 lines of 11 + 7
        "latency p50": f"{(first + last) / 2} ms",
        "latency p90": f"{first + 0.9 * (last - first):.3g} ms",
        "latency p99": f"{first + 0.99 * (last - first):.3g} ms",
    }
    slowest = re.findall(r"^│ (\d+) +│ ([\d.]+ ms) +│ 18 +│ (\w+) +│$", done.stdout, re.MULTILINE)
    assert slowest == [(str(number), f"{number} ms", "atom") for number in range(last, last - 5, -1)]
    failed = re.findall(r"^│ (\d+) +│ RateLimitError: no joke (\d+), \[bold\]please", done.stdout, re.MULTILINE)
    assert failed == [(str(number), str(number)) for number in range(20) if number != 7]
    assert "and 2 more" in done.stdout
    parent = desk.runs("jokes")[""].info.run_id
    assert f"MLflow:  {desk.uri}, experiment 'joke-flow', parent run {parent}\n" in done.stdout
    assert "Look at: pf-mlflow ui jokes\nErrors:  pf-mlflow show jokes --failed\n" in done.stdout


def test_the_same_as_json(desk: Desk) -> None:
    done = desk.type("show", "jokes", "--json")
    told = json.loads(done.stdout)
    parent = desk.runs("jokes")[""].info
    assert (told["batch"], told["state"], told["status"]) == ("jokes", "delivered", "FINISHED")
    assert (told["tracking_uri"], told["experiment"], told["link"]) == (desk.uri, "joke-flow", None)
    assert (told["experiment_id"], told["parent_run_id"]) == (parent.experiment_id, parent.run_id)
    counts = {kind: told[f"lines_{kind}"] for kind in ("total", "completed", "failed", "open", "waiting", "refused")}
    assert counts == {"total": 50, "completed": 28, "failed": 22, "open": 0, "waiting": 0, "refused": 0}
    assert told["tokens"]["total_tokens"] == 50 * 18
    assert set(told["durations"]) == {"mean", "p50", "p90", "p99"}
    assert [line["line_number"] for line in told["slowest"]] == [49, 48, 47, 46, 45]
    assert len(told["failed"]) == 20


def test_every_failed_line_with_its_whole_error(desk: Desk) -> None:
    done = desk.type("show", "jokes", "--failed")
    assert done.exit_code == 0 and LONG in done.stdout and "[cut:" not in done.stdout
    assert [int(number) for number in re.findall(r"^Line (\d+)  atom$", done.stdout, re.MULTILINE)] == [*range(FAILED)]
    assert f"\n{FAILED} lines failed.\n" in done.stdout and "latency" not in done.stdout
    told = json.loads(desk.type("show", "jokes", "--failed", "--json").stdout)
    runs = desk.runs("jokes")
    assert told["state"] == "delivered" and "slowest" not in told
    assert [(one["line_number"], one["run_id"], one["label"]) for one in told["failed"]] == [
        (number, runs[str(number)].info.run_id, "atom") for number in range(FAILED)
    ]
    assert {one["error_type"] for one in told["failed"]} == {"RateLimitError"}
    assert told["failed"][7]["error"] == f"RateLimitError: {LONG}"


@pytest.mark.parametrize(
    "name, state, status, lines, says",
    [
        ("stopped", "delivered", "KILLED", (2, 0), []),
        ("open", "unfinished", "FINISHED", (1, 0), ["does not have all of it yet (1 line on their way)", "sync open`"]),
        ("twice", "unfinished", "FINISHED", (2, 0), ["1 run there twice, and counted once; `pf-mlflow sync twice`"]),
        ("refused", "delivered", "FINISHED", (2, 0), ["refused the values of 1 line; `pf-mlflow sync refused`"]),
        ("orphan", "unfinished", None, (2, 0), ["does not have all of it yet", "`pf-mlflow sync orphan`"]),
        ("again", "delivered", "FINISHED", (3, 0), ["1 older batch of this name, too: this is the newest."]),
        ("missing", "missing", None, None, ["MLflow has nothing of it", "`pf-mlflow sync missing`"]),
        ("deleted", "deleted", None, None, ["Somebody deleted its runs in MLflow; `mlflow runs restore --run-id "]),
        ("scores", "evaluation", None, None, ["scores the lines of 'jokes'", "`pf-mlflow show jokes`"]),
    ],
)
def test_whatever_state_a_batch_is_in(
    desk: Desk, name: str, state: str, status: str | None, lines: tuple[int, int] | None, says: list[str]
) -> None:
    before = desk.runs(name)
    done = desk.type("show", name)
    assert done.exit_code == 0 and done.stdout.startswith(f"Batch {name}\n")
    assert cells(done.stdout).get("lines completed / failed") == (lines and "{} / {}".format(*lines))
    assert all(sentence in done.stderr for sentence in says) and bool(says) == bool(done.stderr), done.stderr
    if name not in ("twice", "refused"):  # completed lines are not looked at for the failed ones
        assert desk.type("show", name, "--failed").stderr == done.stderr
    told = json.loads(desk.type("show", name, "--json").stdout)
    assert (told["state"], told["status"]) == (state, status)
    assert {key: run.to_dictionary() for key, run in desk.runs(name).items()} == {
        key: run.to_dictionary() for key, run in before.items()
    }


OPEN = "import sys, time; file = open(sys.argv[1], 'a'); print('ready', flush=True); time.sleep(60)"


def test_a_batch_that_still_runs(desk: Desk) -> None:
    folder = desk.leave("going", 3)
    desk.deliver("going")
    runs = desk.runs("going")
    for key in ("", "2"):
        desk.client.update_run(runs[key].info.run_id, status="RUNNING")
    home_with(desk.home, {"output_path": str(folder)}, name="going", display_name="going", status="Running")
    words = [sys.executable, "-c", OPEN, str(folder / "logs.txt")]
    client = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    try:
        assert client.stdout and client.stdout.readline()
        done = desk.type("show", "going")
    finally:
        client.kill()
        client.communicate()
    assert cells(done.stdout)["status"] == "RUNNING"
    assert cells(done.stdout)["lines completed / failed"] == "2 / 0"
    assert "It still runs: these are the lines so far, and 1 line on their way." in done.stderr
    assert "`pf-mlflow sync going` brings it in line" in desk.type("show", "going").stderr


def test_lines_that_wait_in_the_spool(desk: Desk) -> None:
    desk.leave("late", 2)
    desk.deliver("late")
    uid = desk.batch("late").uid
    desk.spool.open_line(uid, 2, 100.0)
    desk.spool.set_trouble(uid, "MLflow cannot be reached.")
    done = desk.type("show", "late")
    assert "(1 line on their way); `pf-mlflow sync late`" in done.stderr and "MLflow cannot be reached." in done.stderr


def test_a_name_that_nobody_knows(desk: Desk) -> None:
    for name in ("nobody", "it's", '"it\'s"', ""):
        done = desk.type("show", name)
        assert (done.exit_code, done.stdout) == (1, "")
        assert done.stderr.startswith("Error: There is no batch ") and done.stderr.count("\n") == 1
        assert repr(name) in done.stderr and "pf run list" in done.stderr and desk.uri in done.stderr


def test_nothing_is_made(tmp_path: Path) -> None:
    desk = Desk(tmp_path / "empty")
    assert desk.type("show", "nobody").exit_code == 1
    assert {path.name for path in desk.folder.iterdir()} == {"home", "spool"}
    desk.leave("b1")
    assert "MLflow has nothing of it" in desk.type("show", "b1").stderr
    assert {path.name for path in desk.folder.iterdir()} == {"home", "spool", "joke-flow"}


@pytest.mark.parametrize("words", [["show"], ["show", "a", "b"], ["show", "jokes", "--fast"]])
def test_a_wrong_command_line(desk: Desk, words: list[str]) -> None:
    assert desk.type(*words).exit_code == 2


def test_a_batch_of_another_machine(desk: Desk, tmp_path: Path) -> None:
    other = Desk(tmp_path / "other")
    done = other.type("show", "again", MLFLOW_TRACKING_URI=desk.uri)
    assert cells(done.stdout)["lines completed / failed"] == "3 / 0" and "1 older batch of this name" in done.stderr
    told = json.loads(other.type("show", "jokes", "--json", MLFLOW_TRACKING_URI=desk.uri).stdout)
    assert (told["state"], told["is_ours"], told["experiment"]) == ("delivered", False, "joke-flow")


def test_a_batch_on_a_server(desk: Desk, server: str, proxy: CountingProxy, fresh_store: Path, tmp_path: Path) -> None:
    desk = Desk(tmp_path / "desk")
    desk.leave("served", map(line, range(FAILED - 1, FAILED + 1)))
    desk.deliver("served", MLFLOW_TRACKING_URI=proxy.uri)
    done = desk.type("show", "served")
    told = json.loads(desk.type("show", "served", "--json").stdout)
    link = f"{proxy.uri}/#/experiments/{told['experiment_id']}/runs/{told['parent_run_id']}"
    assert done.exit_code == 0 and told["link"] == link
    assert f"Look at: {link.rpartition('/')[0]}?viewStateShareKey=pf_mlflow_batches\n" in done.stdout
    failed = json.loads(desk.type("show", "served", "--failed", "--json").stdout)["failed"][0]
    assert failed["link"] == f"{proxy.uri}/#/experiments/{told['experiment_id']}/runs/{failed['run_id']}"
    for status in (401, 403, 500):
        proxy.answer = status
        done = desk.type("show", "served")
        assert (done.exit_code, done.stdout) == (1, "") and done.stderr.count("\n") == 1
        assert done.stderr.startswith(f"Error: MLflow at {proxy.uri} answered {status}"), done.stderr


@pytest.mark.parametrize("uri", ["http://127.0.0.1:{}", "postgresql+psycopg://ana:secret@127.0.0.1:{}/mlflow"])
@pytest.mark.parametrize("known", [True, False])
def test_a_store_out_of_reach(tmp_path: Path, uri: str, known: bool) -> None:
    desk = Desk(tmp_path / "desk")
    if known:
        desk.leave("b1")
    uri = uri.format(free_port())
    done = desk.type("show", "b1", MLFLOW_TRACKING_URI=uri)
    shown = uri.replace("secret", "***")
    assert (done.exit_code, done.stdout) == (1, "") and done.stderr.count("\n") == 1
    assert done.stderr.startswith(f"Error: MLflow at {shown} cannot be reached") and "secret" not in done.stderr


def test_a_password_that_is_kept_nowhere_is_asked_for(tmp_path: Path) -> None:
    desk = Desk(tmp_path / "desk")
    desk.leave("b1")
    uri = "postgresql+psycopg://ana:secret@127.0.0.1:9/mlflow"
    told = desk.type("sync", "b1", "--dry-run", MLFLOW_TRACKING_URI="sqlite:///gone.db")
    assert told.exit_code == 0
    batch = desk.batch("b1")
    desk.spool.add_batch(batch.from_json(json.dumps({**vars(batch), "tracking_uri": uri.replace("secret", "***")})))
    done = desk.type("show", "b1")
    assert done.exit_code == 1 and "set MLFLOW_TRACKING_URI to the whole address" in done.stderr
    assert "cannot be reached" in desk.type("show", "b1", MLFLOW_TRACKING_URI=uri).stderr


def command(desk: Desk, words: list[str], folder: Path, **env: str) -> subprocess.CompletedProcess[str]:
    own = {name: value for name, value in os.environ.items() if name != "COLUMNS"} | desk.env | env
    own.pop("COLUMNS")
    return subprocess.run(words, cwd=folder, env=own | {"PWD": str(folder)}, capture_output=True, text=True, timeout=60)


def test_what_is_printed_can_be_pasted_and_fits_80_columns(desk: Desk, tmp_path: Path) -> None:
    done = command(desk, [str(BIN / "pf-mlflow"), "show", NAME], tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"Batch {NAME}\n") and all(len(row) <= 80 for row in done.stdout.splitlines()[:-3])
    synced = desk.type("sync", NAME, "--dry-run", COLUMNS="80").stdout
    assert "".join(re.findall(r"^│ (\S+) +│ (?:in line| +) │", synced, re.MULTILINE)) == NAME
    typed = re.search(r"^Look at: (.*)$", done.stdout, re.MULTILINE)
    assert typed and typed[1].endswith(f"pf-mlflow ui {NAME}")
    pasted = command(desk, shlex.split(typed[1].replace(" ui ", " show ")) + ["--json"], tmp_path)
    assert json.loads(pasted.stdout)["batch"] == NAME
    beside = command(desk, ["bin/pf-mlflow", "show", "scores"], BIN.parent, PATH="/usr/bin")
    assert "`bin/pf-mlflow show jokes`" in beside.stderr
    on_path = command(desk, ["pf-mlflow", "show", "scores"], tmp_path, PATH=f"{BIN}:{os.environ['PATH']}")
    assert "`pf-mlflow show jokes`" in on_path.stderr


@pytest.mark.parametrize(("status", "is_told"), [("Running", True), ("Canceled", True), ("Completed", False)])
def test_an_evaluation_that_was_cut_off_is_told(desk: Desk, status: str, is_told: bool) -> None:
    desk.leave(f"scores_{status}", dag=EVALUATION_FLOW, run="stopped", status=status)
    desk.client.set_tag(desk.runs("stopped")[""].info.run_id, "promptflow.evaluation", f"scores_{status}")
    told = desk.type("show", "stopped").stderr
    assert (f"Its evaluation 'scores_{status}' was cut off; `" in told) is is_told
    assert ("evaluate stopped` scores all lines" in told) is is_told
