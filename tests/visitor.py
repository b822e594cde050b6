"""Somebody who asks the doctor, does what it says, and asks again."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from machine import BIN, ROOT, Machine

from pf_mlflow.doctor.check_result import CheckResult, verdict
from pf_mlflow.doctor.setup import Setup
from pf_mlflow.settings import read_settings
from pf_mlflow.sources.promptflow.flow import read_dag


@dataclass
class Report:
    """What doctor said."""

    code: int
    found: list[CheckResult]
    out: str

    def of(self, check: str) -> list[CheckResult]:
        return [one for one in self.found if one.check == check]

    def one(self, check: str) -> CheckResult:
        (found,) = self.of(check)
        return found

    def levels(self) -> dict[str, str]:
        return {one.check: one.level for one in self.found if one.level != "ok"}


class Visitor:
    """Somebody with a flow, who types commands into one shell and whose variables stay set in it."""

    def __init__(self, machine: Machine, folder: Path) -> None:
        self.machine, self.folder = machine, folder
        self.flow = folder / "jokes"
        shutil.copytree(ROOT / "nodes", self.flow / "nodes", ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "flow.dag.yaml", self.flow)
        shutil.copy(ROOT / "joke.jinja2", self.flow)
        self.cwd = folder / "cwd"
        self.cwd.mkdir()
        path = f"{BIN}{os.pathsep}{machine.env['PATH']}"
        own = {"PATH": path, "PWD": str(self.cwd), "PF_MLFLOW_SPOOL_DIR": str(folder / "spool")}
        self.env = machine.env | own

    def doctor(self, flow: Path | None = None) -> Report:
        done = self.machine.command("pf-mlflow", "doctor", str(flow or self.flow), "--json", cwd=self.cwd, **self.env)
        assert "Traceback" not in done.stderr and done.stdout, done.stderr
        told = json.loads(done.stdout)
        found = [CheckResult(one["level"], one["told"], one["remedy"], one["check"]) for one in told["checks"]]
        assert told["verdict"] == verdict(found) and done.returncode == (told["verdict"] == "error")
        assert all((one.level == "ok") == (not one.remedy) for one in found), found
        return Report(done.returncode, found, done.stdout)

    def follow(self, result: CheckResult) -> str:
        """Type the command of a remedy."""
        return self.type(commands(result)[0])

    def type(self, command: str) -> str:
        """Type a command; what it exports or unsets holds from now on."""
        left = self.folder / "env"
        script = f"{command}\ncode=$?; env -0 > {left}; exit $code"
        done = self.machine.shell(script, self.cwd, self.env)
        assert done.returncode == 0, done.stdout + done.stderr
        self.env = dict(pair.split("=", 1) for pair in left.read_text().split("\0") if pair)
        return done.stdout

    def edit(self, change: Callable[[dict[str, Any]], None]) -> None:
        """Edit the flow."""
        dag = yaml.safe_load((self.flow / "flow.dag.yaml").read_text("utf-8"))
        change(dag)
        (self.flow / "flow.dag.yaml").write_text(yaml.safe_dump(dag, sort_keys=False), "utf-8")

    def setup(self) -> Setup:
        """The same as doctor looks at it, for checks that are asked in this process."""
        dag = read_dag(self.flow)
        os.environ.update({name: value for name, value in self.env.items() if name.startswith(("PF_", "MLFLOW_"))})
        return Setup(read_settings(), {}, self.flow, dag, dag.get("environment_variables") or {}, ())


def commands(result: CheckResult) -> list[str]:
    return re.findall("`(.+?)`", result.remedy)
