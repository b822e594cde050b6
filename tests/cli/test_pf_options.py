"""The command line takes what `pf run create` takes, and names what it does not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner
from machine import FLOWS, ROOT, Machine

from pf_mlflow.cli import main
from pf_mlflow.cli.parameters import Pairs
from pf_mlflow.cli.pf_options import PfCommand, with_file

EMPTY: dict[str, Any] = dict.fromkeys(("flow", "data", "base", "name", "variant")) | dict.fromkeys(
    ("column_mapping", "connections", "environment_variables"), ()
)


@pytest.mark.parametrize(
    ("words", "pairs", "batch"),
    [
        (["-m", "a=1", "b=2", "c=${data.c}"], [("a", "1"), ("b", "2"), ("c", "${data.c}")], None),
        (["-m", "a=1", "-m", "b=2", "mine"], [("a", "1"), ("b", "2")], "mine"),
        (["mine", "-m", "a=1", "b=x=y"], [("a", "1"), ("b", "x=y")], "mine"),
        (["--flag", "x", "-m", "a=1"], [("a", "1")], "x"),
    ],
)
def test_several_pairs_go_behind_one_option(words: list[str], pairs: list[tuple[str, str]], batch: str | None) -> None:
    options = [click.Option(["-m"], type=Pairs(), multiple=True), click.Option(["--flag"], is_flag=True)]
    seen: dict[str, Any] = {}
    command = PfCommand(
        "c", params=[*options, click.Argument(["batch"], required=False)], callback=lambda **o: seen.update(o)
    )
    assert CliRunner().invoke(command, words).exit_code == 0
    assert (list(seen["m"]), seen["batch"]) == (pairs, batch)


def test_a_file_says_what_the_command_line_does_not(tmp_path: Path) -> None:
    file = tmp_path / "run.yml"
    file.write_text(
        "$schema: x\nflow: .\ndata: rows.jsonl\nrun: base\nname: filed\ncolumn_mapping: {a: '${data.a}', b: 5}\n"
        "connections: {joke: {connection: mine}}\n"
    )
    said = EMPTY | {"name": "said", "column_mapping": (("a", "said"),)}
    options = with_file(said, file, (("variant", "${joke.v1}"), ("environment_variables.X", "1")))
    assert options == {
        "flow": tmp_path / ".",
        "data": tmp_path / "rows.jsonl",
        "base": "base",
        "name": "said",
        "variant": "${joke.v1}",
        "column_mapping": (("a", "${data.a}"), ("b", 5), ("a", "said")),
        "connections": (("joke.connection", "mine"),),
        "environment_variables": (("X", "1"),),
    }


@pytest.mark.parametrize(
    ("text", "code", "says"),
    [
        ("flow: .\nflwo: x\n", 2, "There is no key 'flwo' of a run"),
        ("flow: [", 2, "is no valid YAML"),
        ("text", 2, "has no settings by name"),
        ("flow: .\ncolumn_mapping: x\n", 2, "'column_mapping' has no values by name"),
        (
            "flow: .\nconnections: {joke: mine}\n",
            2,
            "'connections' has no values by name, as `joke: {connection: NAME}`",
        ),
        (None, 2, "cannot be read: No such file"),
        ("flow: nowhere\ndata: x\ndescription: mine\n", 1, "write --tags description='…' instead."),
    ],
)
def test_what_a_file_cannot_say(machine: Machine, tmp_path: Path, text: str | None, code: int, says: str) -> None:
    if text:
        (tmp_path / "run.yml").write_text(text)
    done = machine.type("run", "--file", str(tmp_path / "run.yml"))
    assert done.exit_code == code and says in " ".join(done.stderr.split()), done.output


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--flow", ".", "--data", ""], "Invalid value for '--data': it is empty; name a file or a folder"),
        (["--flow", "", "--data", "x.jsonl"], "Invalid value for '--flow': it is empty"),
        (["create", "--flow", "."], "'create' has no option before it: leave `create` out."),
        (["my_flow", "data.jsonl"], "'my_flow' has no option before it: say --flow before a flow"),
        (["--file", "empty.yml"], "'data' is empty; name a file"),
    ],
)
def test_what_would_be_another_batch(machine: Machine, words: list[str], says: str) -> None:
    """An empty path is the folder here, with all data in it."""
    (machine.cwd / "empty.yml").write_text("flow: .\ndata: ''\n")
    done = machine.type("run", *words)
    assert done.exit_code == 2 and says in " ".join(done.stderr.split())


def test_set_below_a_value(machine: Machine, tmp_path: Path) -> None:
    (tmp_path / "run.yml").write_text("flow: .\nname: mine\n")
    done = machine.type("run", "-f", str(tmp_path / "run.yml"), "-s", "--set", "name.x=1")
    assert done.exit_code == 2 and "'name' has no values by name" in " ".join(done.stderr.split())


def test_variables_are_texts(tmp_path: Path) -> None:
    (tmp_path / "run.yml").write_text("environment_variables: {A: 1, B: true}\n")
    assert with_file(EMPTY, tmp_path / "run.yml", ())["environment_variables"] == (("A", "1"), ("B", "True"))


def test_a_batch_by_promptflows_words(machine: Machine) -> None:
    (machine.cwd / "worded.jsonl").write_text('{"theme": "tea"}\n')
    flow = FLOWS / "bare"
    (machine.cwd / "worded.yml").write_text(
        f"flow: {flow}\ndata: worded.jsonl\ncolumn_mapping:\n  topic: ${{data.theme}}\n"
    )
    words = ["--file", "worded.yml", "--stream", "-n", "worded", "--set", "display_name=Worded"]
    variables = ["--environment-variables", "MLFLOW_EXPERIMENT_NAME=by words", "OTHER=1"]
    done = machine.command("pf-mlflow", "run", *words, *variables)
    assert done.returncode == 0, done.stderr
    assert "experiment 'by words'" in done.stdout and "Mapped by name" not in done.stdout
    assert machine.outputs("worded")[0]["answer"].upper() == "A JOKE ABOUT TEA"


def test_the_package_is_a_command_too() -> None:
    done = subprocess.run([sys.executable, "-m", "pf_mlflow", "--version"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.startswith("pf-mlflow, version ")
    assert CliRunner().invoke(main, ["run", "-h"]).exit_code == 0
