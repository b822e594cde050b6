"""Commands that are forked are those that are typed."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import psutil
import pytest
from batches import until
from machine import BIN, Machine


@pytest.fixture
def served(machine: Machine) -> Machine:
    if machine.server is None:
        pytest.skip("commands are not forked on this system")
    return machine


@pytest.mark.parametrize("words", [["--version"], ["fly"], ["show", "nobody"]])
def test_a_command_says_and_returns_the_same(served: Machine, words: list[str], tmp_path: Path) -> None:
    env = served.env | {"PWD": str(tmp_path)}
    typed = subprocess.run([BIN / "pf-mlflow", *words], cwd=tmp_path, env=env, capture_output=True, text=True)
    forked = served.command("pf-mlflow", *words, cwd=tmp_path)
    assert (forked.returncode, forked.stdout, forked.stderr) == (typed.returncode, typed.stdout, typed.stderr)


SCRIPT = """
import json, os, subprocess, sys
tops = {name.partition(".")[0] for name in sys.modules}
child = subprocess.run([sys.executable, "-c", "import sys; print(sys.argv[1:], 'mlflow' in sys.modules)", "a b"],
    capture_output=True, text=True)
print(json.dumps([sorted(tops & {"mlflow", "pf_mlflow", "promptflow"}), os.getcwd(), os.environ["MINE"], child.stdout]))
sys.exit(7)
"""


def test_only_libraries_are_there_before_it_starts(served: Machine, tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    done = served.command("python", str(tmp_path / "script.py"), cwd=tmp_path, MINE="yes")
    assert done.returncode == 7, done.stderr
    assert json.loads(done.stdout) == [["mlflow"], str(tmp_path), "yes", "['a b'] True\n"]


def test_a_command_ends_with_whoever_waits_for_it(served: Machine, tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text("import os, time\nprint(os.getpid(), flush=True)\ntime.sleep(100)\n")
    assert served.server
    words = served.server.words(str(tmp_path / "script.py"))
    with subprocess.Popen(words, env=served.env, stdout=subprocess.PIPE, text=True) as client:
        assert client.stdout
        pid = int(client.stdout.readline())
        assert psutil.pid_exists(pid)
        client.kill()
    until(lambda: not psutil.pid_exists(pid), "the command ends", 10)
