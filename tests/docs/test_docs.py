"""What README and docs say is what the code does."""

from __future__ import annotations

import re

import click
import pytest
import yaml
from machine import ROOT, Machine
from mlflow import MlflowClient
from pydantic_core import PydanticUndefined

from pf_mlflow.cli import main
from pf_mlflow.settings import Settings

README = (ROOT / "README.md").read_text("utf-8")


def page(name: str) -> str:
    return (ROOT / "docs" / name).read_text("utf-8")


def yaml_blocks(name: str) -> list[str]:
    return re.findall(r"^ *```yaml\n(.*?)^ *```", page(name), re.DOTALL | re.MULTILINE)


def test_the_settings_table_is_the_settings() -> None:
    rows = dict(re.findall(r"^\| `((?:PF_)?MLFLOW_\w+)` \| (.*) \|$", page("settings.md"), re.MULTILINE))
    expected = {}
    for name, field in Settings.model_fields.items():
        variable = str(field.validation_alias or f"PF_MLFLOW_{name.upper()}")
        told = field.default not in ("", PydanticUndefined)
        default = f"`{str(field.default).lower()}`" if told else ""
        expected[variable] = f"{default} | {field.description}".strip()
    assert {name: row.strip() for name, row in rows.items()} == expected


def test_the_yaml_to_copy_is_the_flows_own() -> None:
    told = yaml.safe_load(
        next(block for block in yaml_blocks("own-flow.md") if "initialize_mlflow" in block).replace("answer", "joke")
    )
    own = yaml.safe_load((ROOT / "flow.dag.yaml").read_text("utf-8"))
    assert told["environment_variables"] == own["environment_variables"]
    assert told["nodes"] == [node for node in own["nodes"] if node["type"] == "python"]


@pytest.mark.parametrize("command", list(main.commands.values()), ids=lambda command: command.name)
def test_every_command_has_help_with_an_example(command: click.Command) -> None:
    assert command.help and f"Example: pf-mlflow {command.name}" in command.help
    assert f"pf-mlflow {command.name}" in README
    assert all(parameter.help for parameter in command.params if isinstance(parameter, click.Option))


def test_make_targets_exist() -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    named = re.findall(r"`make ([\w-]+)`", README) + re.findall(r"^(?:\w+=\S+ )*make ([\w-]+)", README, re.MULTILINE)
    assert {"run", "test", "test-all", "ui"} <= set(named) <= targets


@pytest.mark.parametrize(
    "filter_string",
    re.findall(
        r"^\| [a-z][\w ,]* \| `+(.*?)`+ \|$",
        page("look.md"),
        re.MULTILINE,
    ),
)
def test_filters_are_taken_by_mlflow(filter_string: str, machine: Machine) -> None:
    client = MlflowClient(f"sqlite:///{machine.cwd / 'docs.db'}")
    client.search_runs(["0"], filter_string.strip())


def test_node_files_are_short() -> None:
    for path in (ROOT / "nodes").glob("*.py"):
        assert len(path.read_text("utf-8").splitlines()) <= 20


def test_the_table_of_faults_is_the_tests_of_faults() -> None:
    rows = (ROOT / "docs" / "reliability.md").read_text("utf-8")
    named = set(re.findall(r"`(test_\w+)`(?=[^|\n]*\|$)", rows, re.MULTILINE))
    everywhere = {path: path.read_text("utf-8") for path in (ROOT / "tests").rglob("test_*.py")}
    of_faults = (text for path, text in everywhere.items() if path.name.startswith("test_faults"))
    assert set(_tests_in("".join(of_faults))) <= named <= set(_tests_in("".join(everywhere.values())))


def _tests_in(source: str) -> list[str]:
    return re.findall(r"^def (test_\w+)", source, re.MULTILINE)
