"""Every command that README and docs tell to type is one that its program takes, and every snippet of Python runs."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest
from machine import ROOT
from mlflow.cli import cli as mlflow_cli
from promptflow._cli._pf.entry import get_parser_args

from pf_mlflow.cli import main

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "examples").glob("*/README.md"))]
TARGETS = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))


def typed(page: Path) -> list[str]:
    blocks = re.findall(r"^ *```(?:bash|console)\n(.*?)^ *```", page.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    return [line.strip() for block in blocks for line in block.splitlines() if line.strip()]


COMMANDS = sorted({line for page in PAGES for line in typed(page)})
INLINE = sorted({words for page in PAGES for words in re.findall(r"`(pf-mlflow [^`]+)`", page.read_text("utf-8"))})


def parse(group: click.Command, words: list[str]) -> None:
    """Take a command line apart as the program does, without doing anything."""
    context = group.make_context("command", list(words), resilient_parsing=False)
    if isinstance(group, click.Group):
        name, command, rest = group.resolve_command(context, [*context.protected_args, *context.args])
        assert command is not None, name
        parse(command, rest)


def check(line: str) -> None:
    words = shlex.split(line, comments=True)
    while re.fullmatch(r"\w+=.*", words[0]):
        words = words[1:]
    program, rest = words[0], words[1:]
    if program == "pf-mlflow":
        parse(main, rest)
    elif program == "mlflow":
        parse(mlflow_cli, rest)
    elif program == "pf":
        get_parser_args(rest)
    elif program == "make":
        assert set(rest) <= TARGETS
    elif program == "export":
        assert all(re.fullmatch(r"[A-Z_]+=\S+", word) for word in rest)
    elif program == "eval":
        assert rest in [[f"$(_PF_MLFLOW_COMPLETE={shell}_source pf-mlflow)"] for shell in ("bash", "zsh")]
    else:
        assert (program, rest[0]) in {("pip", "install"), ("pip", "uninstall"), ("python", "-m")}, line


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_is_taken_by_its_program(line: str) -> None:
    check(line)


@pytest.mark.parametrize("line", INLINE)
def test_every_command_named_in_a_sentence_is_there(line: str) -> None:
    words = shlex.split(line)[1:]
    if len(words) > 1:
        parse(main, words)
    assert words[0] in {*main.commands, "--version", "--help"}


@pytest.mark.parametrize(
    "line",
    ["pf-mlflow fly", "pf-mlflow init", "pf-mlflow run --dada x", "pf fly", "make fly", "mlflow ui --fly", "fly away"],
)
def test_a_command_that_there_is_not_would_be_seen(line: str) -> None:
    with pytest.raises((click.ClickException, SystemExit, AssertionError)):
        check(line)
