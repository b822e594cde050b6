"""What a flow's worker imports: it pays for each module in time and memory, as often as there are workers."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from pf_mlflow.cli import main

_LIST = "import json, sys, pf_mlflow; {more}print(json.dumps(sorted(sys.modules)))"
_KEPT_OUT = {"mlflow", "click", "rich", "jinja2", "httpx", "sqlalchemy"}


def imported(more: str = "") -> list[str]:
    code = _LIST.format(more=more)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    modules: list[str] = json.loads(done.stdout)
    return modules


@pytest.mark.parametrize("more", ["", "pf_mlflow.attach(); ", "pf_mlflow.checked_scores; "])
def test_a_worker_loads_neither_mlflow_nor_what_draws_and_asks(more: str) -> None:
    assert not _KEPT_OUT & {name.partition(".")[0] for name in imported(more)}


def test_a_worker_loads_few_of_our_modules() -> None:
    ours = [name for name in imported() if name.partition(".")[0] == "pf_mlflow"]
    print(len(ours), *ours)
    assert len(ours) < 32


_HELP = """
import json, sys
from pf_mlflow.cli import main
main(["--help"], standalone_mode=False)
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""
_HELP_MAY_IMPORT = {
    *("annotated_types", "click", "colorama", "filelock", "importlib_metadata", "opentelemetry", "packaging"),
    *("pf_mlflow", "platformdirs", "psutil", "pydantic", "pydantic_core", "pydantic_settings", "rich", "tenacity"),
    *("typing_extensions", "typing_inspection", "yaml", "zipp"),
}
"""Packages; whatever is not named here, as promptflow, mlflow and pandas, is imported when a command needs it."""


def test_help_imports_little() -> None:
    done = subprocess.run([sys.executable, "-c", _HELP], capture_output=True, text=True, check=True, timeout=60)
    packages = json.loads(done.stdout.splitlines()[-1])
    compiled = {name for name in packages if name.startswith("_") or name == "cython_runtime"}
    assert set(packages) - compiled - sys.stdlib_module_names <= _HELP_MAY_IMPORT


_TYPED = """
import atexit, gc, json, sys
from pf_mlflow.cli import command
atexit.register(lambda: print(json.dumps([gc.get_threshold()[0], sorted(sys.modules)])))
sys.argv = ["pf-mlflow", "show", "--help"]
command()
"""


def test_a_command_imports_no_other_and_looks_for_garbage_rarely() -> None:
    done = subprocess.run([sys.executable, "-c", _TYPED], capture_output=True, text=True, check=True, timeout=60)
    threshold, modules = json.loads(done.stdout.splitlines()[-1])
    commands = {name for name in modules if name in {f"pf_mlflow.cli.{one}" for one in main.commands}}
    assert commands == {"pf_mlflow.cli.show"}
    assert threshold >= 100_000


_READ = """
import json, sys
from pathlib import Path
from pf_mlflow.running.submission import new_client
from pf_mlflow.running.engine.plain_rows import read_plainly
from promptflow.batch._batch_inputs_processor import BatchInputsProcessor

new_client("threads")
data = Path(sys.argv[1])
with read_plainly():
    BatchInputsProcessor(data.parent, {}).process_batch_inputs({"data": data}, {"topic": "${data.topic}"})
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""


def test_a_run_has_read_its_data_without_pandas(tmp_path: Path) -> None:
    data = tmp_path / "data.jsonl"
    data.write_text('{"topic": "tea"}\n')
    done = subprocess.run(
        [sys.executable, "-c", _READ, str(data)], capture_output=True, text=True, check=True, timeout=120
    )
    assert not {"pandas", "numpy", "mlflow"} & set(json.loads(done.stdout.splitlines()[-1]))
