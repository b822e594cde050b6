"""What the pages of variants, models and Python tell to write works as it stands."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import pytest
import yaml
from machine import ROOT, Machine, tracked
from promptflow._sdk._load_functions import load_connection

from pf_mlflow.tracking.prices import Price, Prices

FLOW = """
inputs:
  question: {type: string}
outputs:
  answer: {type: string, reference: "${answer.output}"}
"""


def snippets(page: str, language: str) -> list[str]:
    text = (ROOT / "docs" / page).read_text("utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("text, kind", zip(snippets("models.md", "yaml"), ["OpenAI", "AzureOpenAI"], strict=True))
def test_a_connections_file_is_one(text: str, kind: str, tmp_path: Path) -> None:
    (tmp_path / "connection.yaml").write_text(text)
    connection = load_connection(tmp_path / "connection.yaml", params_override=[{"api_key": "a-key"}])
    assert (connection.name, connection.type) == ("open_ai_connection", kind)


def test_prices_of_ones_own_are_read(tmp_path: Path) -> None:
    (own,) = snippets("in-mlflow.md", "yaml")
    (tmp_path / "prices.yaml").write_text(own)
    prices = Prices(str(tmp_path / "prices.yaml"))
    assert prices.of("my-own-model") == Price(0.10, 0.10, 0.10)
    assert prices.of("gpt-4o-mini") == Price(0.15, 0.60, 0.075)


def test_a_program_reads_what_doctor_prints(machine: Machine, tmp_path: Path) -> None:
    (program,) = snippets("json.md", "python")
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = machine.command("python", "-c", program, cwd=tmp_path, PATH=path)
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"(ok|warning|error) \[.*\]\n", done.stdout)


@pytest.mark.slow
def test_variants_are_run_from_python_and_by_the_command_and_compared(machine: Machine, tmp_path: Path) -> None:
    flow = tmp_path / "my_flow"
    flow.mkdir()
    (declared,) = snippets("compare.md", "yaml")
    (flow / "flow.dag.yaml").write_text(FLOW + declared)
    for name in yaml.safe_load(declared)["node_variants"]["answer"]["variants"]:
        (flow / f"{name}.jinja2").write_text(f"user:\n{name} {{{{question}}}}\n")
    (tmp_path / "data.jsonl").write_text('{"question": "one"}\n{"question": "two"}\n')
    (script,), (sums,) = snippets("python.md", "python"), snippets("compare.md", "python")
    done = machine.command("python", "-c", script, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    command = ["pf-mlflow", "run", "--flow", "my_flow", "--data", "data.jsonl", "--variant", "${answer.long}"]
    done = machine.command(*command, "--name", "long", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert sorted(tracked(f"sqlite:///{tmp_path / 'mlflow.db'}", "long").children) == [0, 1]
    wide = "import pandas\npandas.set_option('display.width', 300, 'display.max_columns', 20)\n"
    done = machine.command("python", "-c", wide + sums, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "${answer.long}" in done.stdout and "metrics.total_tokens" in done.stdout
