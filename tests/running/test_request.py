"""The options of a run are checked once, for the command and for `pf_mlflow.run` alike."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from machine import Machine

import pf_mlflow
from pf_mlflow.errors import BadInput
from pf_mlflow.running.request import RunRequest

DATA = Path("data.jsonl")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"limit": -1}, "limit=-1 cannot be used: it is a whole number from 1 on."),
        ({"limit": 0}, "limit=0 cannot be used"),
        ({"line_timeout": 0}, "line_timeout=0 cannot be used"),
        ({"line_timeout": 1.5}, "line_timeout=1.5 cannot be used"),
        ({"concurrency": "8"}, "concurrency='8' cannot be used"),
        ({"concurrency": True}, "concurrency=True cannot be used"),
        ({"engine": "magic"}, "engine='magic' cannot be used: it is threads or processes."),
        ({"engine": "processes", "limit": 3}, "limit is for threads only."),
        ({"column_mapping": ["topic"]}, "column_mapping=['topic'] cannot be used"),
        ({"name": "."}, "name='.' cannot be used: promptflow makes a folder of that name"),
        ({"name": "../up"}, "name='../up' cannot be used"),
        ({"name": ".."}, "name='..' cannot be used"),
        ({"name": "a/b"}, "name='a/b' cannot be used"),
        (
            {"name": "ü" * 101},
            "cannot be used: promptflow makes a folder of that name; take one without `/`, of at most 200",
        ),
        ({"name": 7}, "name=7 cannot be used"),
        ({"engine": ["threads"]}, "engine=['threads'] cannot be used"),
        ({"tags": "mine"}, "tags='mine' cannot be used"),
        ({"connections": {"joke": "mine"}}, "connections['joke']='mine' cannot be used"),
        ({"environment_variables": {"A=B": "x"}}, "environment_variables: 'A=B' cannot be used: a name has no `=`"),
        ({"environment_variables": {"": "x"}}, "environment_variables: '' cannot be used"),
        ({"environment_variables": {"A": "x\0"}}, "environment_variables: 'A' cannot be used"),
        ({"data": None}, "There is nothing to run the flow on"),
        ({"resume_from": "b"}, "resume_from takes all of the earlier batch; leave out data."),
        ({"resume_changed": True}, "resume_changed needs a batch"),
    ],
)
def test_an_option_that_cannot_be_used_is_named(options: dict[str, Any], says: str) -> None:
    with pytest.raises(BadInput) as raised:
        RunRequest(**{"data": DATA, **options})
    assert says in str(raised.value)


@pytest.mark.parametrize(("options", "lines"), [({}, 32), ({"engine": "processes"}, 4), ({"concurrency": 7}, 7)])
def test_how_many_lines_are_executed_at_once(options: dict[str, Any], lines: int) -> None:
    assert RunRequest(data=DATA, **options).lines_at_once == lines


def test_a_script_is_checked_as_the_command_is(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="limit=0 cannot be used"):
        pf_mlflow.run(tmp_path, tmp_path, limit=0)
    with pytest.raises(BadInput, match="no flow at"):
        pf_mlflow.run(tmp_path, tmp_path, column_mapping=None, tags=None)
    with pytest.raises(TypeError, match=r"^run\(\) got an unexpected keyword argument 'colum_mapping'"):
        pf_mlflow.run(tmp_path, tmp_path, colum_mapping={})  # type: ignore[call-arg]


def test_a_script_that_promptflows_processes_would_run_again_is_refused(machine: Machine, tmp_path: Path) -> None:
    call = "pf_mlflow.run('nowhere', 'data.jsonl', engine='processes')\n"
    guarded = f"import pf_mlflow\nif __name__ == '__main__':\n    {call}"
    for text, says in ((f"import pf_mlflow\n{call}", "line 2 would run again"), (guarded, "no flow at 'nowhere'")):
        (tmp_path / "script.py").write_text(text)
        done = machine.command("python", str(tmp_path / "script.py"))
        assert done.returncode == 1 and says in done.stderr.splitlines()[-1], done.stderr
    (tmp_path / "batches").mkdir()
    (tmp_path / "batches" / "__main__.py").write_text(f"import pf_mlflow\n{call}")  # which no process imports again
    done = machine.command("python", "-m", "batches", cwd=tmp_path)
    assert done.returncode == 1 and "no flow at 'nowhere'" in done.stderr.splitlines()[-1], done.stderr
