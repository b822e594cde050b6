"""What the doctor's checks of a machine and a flow tell apart, and that looking changes nothing."""

from __future__ import annotations

import os
import pty
import re
import shutil
import sqlite3
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from machine import BIN, ROOT, SECRET, Machine
from visitor import Visitor, commands

from pf_mlflow import __version__
from pf_mlflow.doctor import _looked, _shown
from pf_mlflow.doctor.check_result import OK, CheckResult
from pf_mlflow.doctor.connections import needs_of
from pf_mlflow.doctor.flow import check_copy, check_nodes, check_tracing
from pf_mlflow.doctor.machine import check_packages, check_python, check_settings
from pf_mlflow.doctor.setup import read_setup
from pf_mlflow.doctor.snapshot import check_snapshot
from pf_mlflow.sources.promptflow.private_names import snapshot_ignores

CHECKS = "python packages settings keyring flow nodes copy tracing connections snapshot spool mlflow".split()


def snapshot_of(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock"}


def test_a_healthy_setup_is_ok_everywhere_and_stays_as_it_was(visitor: Visitor, fresh_store: Path) -> None:
    shutil.copy(fresh_store, visitor.cwd)
    before = [snapshot_of(visitor.folder), snapshot_of(visitor.machine.folder)]
    report = visitor.doctor()
    assert report.levels() == {} and report.code == 0
    assert [one.check for one in report.found] == CHECKS
    assert f"sqlite:///{visitor.cwd}/mlflow.db" in report.one("mlflow").message
    assert "experiment 'jokes', which the first batch makes" in report.one("mlflow").message
    text = visitor.machine.command("pf-mlflow", "doctor", str(visitor.flow), cwd=visitor.cwd, **visitor.env)
    assert text.returncode == 0 and text.stderr == ""
    lines = [f"{one.level:9}{one.check:13}{one.message}" for one in report.found]
    assert text.stdout.splitlines() == [*lines, "", "All is well."]
    assert [snapshot_of(visitor.folder), snapshot_of(visitor.machine.folder)] == before


def test_without_a_flow_the_machine_is_looked_at_and_nothing_is_made(new_machine: Callable[..., Machine]) -> None:
    machine = new_machine(PATH=f"{BIN}{os.pathsep}{os.environ['PATH']}")
    before = sorted(machine.folder.rglob("*"))
    done = machine.command("pf-mlflow", "doctor")
    assert done.returncode == 0, done.stdout + done.stderr
    machines = [
        check for check in CHECKS if check not in ("flow", "nodes", "copy", "tracing", "connections", "snapshot")
    ]
    assert [line.split()[:2] for line in done.stdout.splitlines()[:-2]] == [["ok", check] for check in machines]
    assert sorted(machine.folder.rglob("*")) == before


def wheel(folder: Path, name: str, version: str) -> None:
    """Put a wheel into a folder from which pip may install."""
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as file:
        file.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        file.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        file.writestr(f"{info}/RECORD", "")


def older_package(folder: Path, name: str, version: str, *more: str) -> Path:
    """Make a folder that shows another version to whoever has it first on the path."""
    info = folder / f"{name}-{version}.dist-info"
    info.mkdir(parents=True)
    told = [f"Name: {name}", f"Version: {version}", *more]
    (info / "METADATA").write_text("\n".join(["Metadata-Version: 2.1", *told, ""]))
    return folder


def test_a_machine_with_six_things_wrong_is_mended_by_what_is_printed(visitor: Visitor, tmp_path: Path) -> None:
    stranger = tmp_path / "other" / "bin"
    stranger.mkdir(parents=True)
    (stranger / "pf").write_text("#!/bin/sh\n")
    (stranger / "pf").chmod(0o755)
    older = older_package(tmp_path / "older", "promptflow", "1.17.0")
    newer = tmp_path / "newer"
    wheel(tmp_path, "promptflow", "1.18.9")
    visitor.env |= {
        "PATH": f"{stranger}:{visitor.env['PATH']}",
        "PYTHONPATH": os.pathsep.join(map(str, [newer, older, visitor.env.get("PYTHONPATH", "")])),
        "PYTHON_KEYRING_BACKEND": "keyring.backends.fail.Keyring",
        "PF_MLFLOW_CONTENT": "some",
        "PF_MLFLOW_ENABLE": "false",
        "PF_MLFLOW_SPOOL_DIR": str(tmp_path / "jokes" / "joke.jinja2" / "spool"),
    }
    report = visitor.doctor()
    (python,) = report.of("python")
    assert python.level == "warning" and f"`pf` is {stranger}/pf" in python.message
    (packages,) = report.of("packages")
    assert (packages.level, packages.message) == ("error", "promptflow 1.17.0 is not supported")
    (keyring,) = report.of("keyring")
    assert keyring.level == "error" and "keyring.backends.fail.Keyring" in keyring.message
    bad, unknown = report.of("settings")
    assert bad.level == "error" and "PF_MLFLOW_CONTENT='some' cannot be used" in bad.message
    assert unknown.level == "warning" and "PF_MLFLOW_ENABLE, meaning PF_MLFLOW_ENABLED?" in unknown.message
    (spool,) = report.of("spool")
    assert spool.level == "error" and visitor.env["PF_MLFLOW_SPOOL_DIR"] in spool.message
    assert sorted(report.levels()) == ["keyring", "packages", "python", "settings", "spool"]

    for finding in (python, keyring, bad, unknown, spool):
        visitor.follow(finding)
    # pip does what is printed, but into a folder and out of one: the tests' own environment stays as it is
    pip = {"PIP_TARGET": newer, "PIP_NO_INDEX": 1, "PIP_FIND_LINKS": tmp_path, "PIP_DISABLE_PIP_VERSION_CHECK": 1}
    visitor.type(" ".join(f"{name}={value}" for name, value in pip.items()) + " " + commands(packages)[0])
    assert visitor.doctor().levels() == {}


def drop(name: str) -> Callable[[dict[str, Any]], None]:
    return lambda dag: dag.update(nodes=[node for node in dag["nodes"] if node["name"] != name])


@pytest.mark.parametrize(
    ("spoil", "level", "told", "remedy"),
    [
        (lambda dag: None, "ok", "initialize_mlflow, save_mlflow_tracking, finalize", ""),
        (drop("initialize_mlflow"), "warning", "no node calls open_line, which shows lines as running", "init"),
        (drop("save_mlflow_tracking"), "warning", "no node calls record_nodes, which says", "init"),
        (drop("finalize"), "warning", "no node calls child_run_id", "init"),
        (
            lambda dag: dag["nodes"][3]["inputs"].update(line=""),
            "warning",
            "the node finalize does not get the line from initialize_mlflow",
            "`line: ${initialize_mlflow.output}`",
        ),
        (
            lambda dag: dag["nodes"][3]["source"].update(path="nodes/finalise.py"),
            "error",
            "the source of finalize (nodes/finalise.py) is not there",
            "init",
        ),
        (
            lambda dag: dag["nodes"][2]["inputs"].update(record_nodes="joke, final"),
            "warning",
            "record_nodes names 'final'",
            "write `finalize` there instead",
        ),
        (lambda dag: dag["nodes"][2]["inputs"].pop("record_nodes"), "ok", "initialize_mlflow", ""),
        (lambda dag: dag["nodes"][2].update(name="keeper"), "ok", "initialize_mlflow, keeper, finalize", ""),
    ],
)
def test_nodes(visitor: Visitor, spoil: Callable[[dict[str, Any]], None], level: str, told: str, remedy: str) -> None:
    visitor.edit(spoil)
    finding = next(iter(check_nodes(visitor.setup())))
    assert finding.level == level and told in finding.message and remedy in finding.remedy


def test_nodes_are_known_by_what_they_call_wherever_they_are(visitor: Visitor) -> None:
    (visitor.flow / "nodes").rename(visitor.folder / "nodes")
    visitor.edit(lambda dag: dag.update(additional_includes=["../nodes"]))
    (visitor.folder / "nodes" / "initialize_mlflow.py").write_text("import pf_mlflow as p\nimport pf_mlflow\np.x\n")
    assert [one.message for one in check_nodes(visitor.setup())][:1] == [
        "no node calls open_line, which shows lines as running"
    ]
    (visitor.folder / "nodes" / "initialize_mlflow.py").write_text("import pf_mlflow\npf_mlflow.open_line()\n")
    assert [one.level for one in check_nodes(visitor.setup())] == ["ok"]


@pytest.mark.parametrize(("version", "level"), [(__version__, "ok"), ("0.0.1", "warning")])
def test_the_flows_own_copy_of_the_package(visitor: Visitor, version: str, level: str) -> None:
    (none,) = check_copy(visitor.setup())
    assert none.level == "ok" and f"`pf-mlflow init {visitor.flow} --vendor` for a cloud" in none.message
    (visitor.flow / "pf_mlflow").mkdir()
    (visitor.flow / "pf_mlflow" / "__init__.py").write_text(f'__version__ = "{version}"\n')
    (found,) = check_copy(visitor.setup())
    assert found.level == level and version in found.message
    assert ("put a copy of" in found.remedy) is (level == "warning")  # `init` leaves alone what it did not put there


@pytest.mark.parametrize(
    ("flow", "shell", "level"),
    [
        ({"PF_DISABLE_TRACING": "false"}, None, "ok"),
        ({"PF_DISABLE_TRACING": False}, "true", "ok"),
        ({"PF_DISABLE_TRACING": "True"}, "false", "warning"),
        ({"PF_DISABLE_TRACING": True}, None, "warning"),
        ({}, "false", "ok"),
        ({}, "no", "ok"),
        ({}, None, "warning"),
        (None, None, "warning"),
    ],
)
def test_tracing_is_on_as_promptflow_reads_it(
    visitor: Visitor, flow: dict[str, Any] | None, shell: str | None, level: str
) -> None:
    visitor.edit(lambda dag: dag.update(environment_variables=flow))
    if shell:
        visitor.env["PF_DISABLE_TRACING"] = shell
    (found,) = check_tracing(visitor.setup())
    assert found.level == level


@pytest.mark.parametrize("named", ["flex", "basic.prompty"])
def test_flows_that_cannot_have_nodes_are_told_what_to_do_instead(visitor: Visitor, named: str) -> None:
    flow = visitor.doctor(ROOT / "tests" / "flows" / named).one("flow")
    assert flow.level == "warning" and commands(flow) == ["pf-mlflow sync BATCH"]


def test_the_flex_flow_of_the_current_folder_is_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PWD", str(tmp_path))
    (tmp_path / "flow.flex.yaml").write_text("entry: x:y\nenvironment_variables: [A]\n")  # no mapping
    setup = read_setup(None)
    assert setup.flow_dir == tmp_path and setup.environment == {}


@pytest.mark.parametrize(
    ("content", "told"), [(None, "There is no flow at"), ("nodes: [", "is no valid YAML"), ("x: 1", "no list of nodes")]
)
def test_a_flow_that_cannot_be_read(visitor: Visitor, content: str | None, told: str) -> None:
    (visitor.flow / "flow.dag.yaml").unlink()
    if content:
        (visitor.flow / "flow.dag.yaml").write_text(content)
    flow = visitor.doctor().one("flow")
    assert flow.level == "error" and told in flow.message


def answer_prompt(visitor: Visitor, command: str, prompt: str, answer: str) -> None:
    """Type a command at a terminal, and an answer when it asks."""
    mine, theirs = pty.openpty()
    process = subprocess.Popen(
        ["bash", "-c", command], stdin=theirs, stdout=theirs, stderr=theirs, cwd=visitor.cwd, env=visitor.env
    )
    os.close(theirs)
    said = b""
    while prompt.encode() not in said:
        said += os.read(mine, 1000)
    time.sleep(0.3)  # it turns the terminal's echo off after it has asked
    os.write(mine, f"{answer}\r".encode())
    while process.poll() is None:
        try:
            os.read(mine, 1000)
        except OSError:  # it has ended
            break
    assert process.wait(60) == 0
    os.close(mine)


@pytest.mark.slow
def test_a_missing_connection_and_one_that_cannot_be_read(new_machine: Callable[..., Machine], tmp_path: Path) -> None:
    visitor = Visitor(new_machine(), tmp_path)
    missing = visitor.doctor().one("connections")
    assert missing.level == "warning"
    assert "'open_ai_connection' of node joke is not there; `pf-mlflow run` takes the offline model" in missing.message
    answer_prompt(visitor, commands(missing)[0], "api_key: ", SECRET)
    there = visitor.doctor()
    assert there.levels() == {} and there.one("connections").message == "open_ai_connection"
    shutil.rmtree(visitor.machine.folder / ".local" / "share" / "python_keyring")  # the keyring is a new one
    unreadable = visitor.doctor()
    assert unreadable.levels() == {"connections": "error"}
    assert "was kept by another keyring and cannot be read" in unreadable.one("connections").message
    answer_prompt(visitor, commands(unreadable.one("connections"))[0], "api_key: ", SECRET)
    last = visitor.doctor()
    assert last.levels() == {} and SECRET not in there.out + unreadable.out + last.out


def test_the_connections_that_a_flow_names(tmp_path: Path) -> None:
    (tmp_path / "ask.py").write_text(
        "def ask(a: 'AzureOpenAIConnection', b: Union[CustomConnection, str], c: SerpConnection, d: str, e: list): ..."
    )
    source = {"type": "code", "path": "ask.py"}
    shape = {"type": "llm", "connection": "in_variant", "source": {"type": "code", "path": "x.jinja2"}}
    nodes = [
        {"name": "one", "type": "llm", "connection": "plain", "provider": "AzureOpenAI"},
        {
            "name": "two",
            "type": "python",
            "source": source,
            "inputs": {"a": "az", "b": "cu", "c": "${inputs.c}", "d": "x"},
        },
        {"name": "three", "use_variants": True},
        {
            "name": "four",
            "type": "python",
            "source": {"type": "package", "tool": "t"},
            "inputs": {"connection": "plain"},
        },
        {
            "name": "five",
            "type": "python",
            "source": {"type": "package", "tool": "t"},
            "inputs": {"connection": "pack"},
        },
    ]
    variants = {"three": {"variants": {"v": {"node": shape}}}}
    dag = {"nodes": nodes, "node_variants": variants, "environment_variables": {"KEY": "${env.api_key}", "X": "a"}}
    assert [(need.name, need.kind, need.node) for need in needs_of(dag, tmp_path)] == [
        ("plain", "azure_open_ai", "node one"),
        ("az", "azure_open_ai", "node two"),
        ("cu", "custom", "node two"),
        ("in_variant", "open_ai", "node three"),
        ("pack", "", "node five"),
        ("env", "", "variable KEY"),
    ]


def test_a_database_that_cannot_be_read_is_told_and_the_other_checks_go_on(
    new_machine: Callable[..., Machine], tmp_path: Path
) -> None:
    visitor = Visitor(new_machine(), tmp_path)
    database = visitor.machine.folder / "promptflow" / "pf.sqlite"
    with closing(sqlite3.connect(database)) as db:
        db.execute("CREATE TABLE connection (a)")
    report = visitor.doctor()
    assert [one.check for one in report.found] == CHECKS and report.levels() == {"connections": "error"}
    message = report.one("connections").message
    assert message == f"{database} cannot be read: no such column: connectionName"
    database.write_text("no database at all, but text in a file " * 9)
    found = visitor.doctor().one("connections")
    assert found.message == f"{database} is damaged: file is not a database" and found.remedy.startswith("restore it")


def test_a_check_that_fails_itself_is_told_with_what_it_found() -> None:
    def check() -> Iterator[CheckResult]:
        yield CheckResult(OK, "found")
        raise ZeroDivisionError("by nought")

    assert [one.message for one in _looked(check)] == ["found", "could not be checked: ZeroDivisionError: by nought"]


def test_python_and_packages_are_held_against_what_the_package_declares(
    visitor: Visitor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", visitor.env["PATH"])
    assert [one.level for one in (*check_python(visitor.setup()), *check_packages(visitor.setup()))] == ["ok", "ok"]
    needs = [
        "Requires-Python: >=3.99",
        "Requires-Dist: click>=99",
        "Requires-Dist: nobody>=1",
        "Requires-Dist: x; extra == 'y'",
    ]
    monkeypatch.syspath_prepend(older_package(tmp_path, "pf_mlflow", "9.9", *needs))
    (python,) = check_python(visitor.setup())
    assert python.level == "error" and "only >=3.99" in python.message
    (packages,) = check_packages(visitor.setup())
    assert re.fullmatch(r"click [\d.]+ is not supported, nobody is not installed", packages.message)
    assert commands(packages) == [f"{sys.executable} -m pip install 'click>=99' 'nobody>=1'"]


@pytest.mark.parametrize(
    ("files", "lines"),
    [
        ({}, []),
        ({".gitignore": "a\n\n# b \nc/\n"}, ["a", "", "# b", "c/"]),
        ({".gitignore": "a\n", ".amlignore": "b"}, ["b"]),
    ],
)
def test_what_is_left_out_of_a_snapshot_is_what_promptflow_says(
    tmp_path: Path, files: dict[str, str], lines: list[str]
) -> None:
    from promptflow._sdk._utilities.general_utils import PromptflowIgnoreFile

    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert snapshot_ignores(tmp_path) == PromptflowIgnoreFile(tmp_path)._get_ignore_list()
    assert snapshot_ignores(tmp_path)[3:] == lines


@pytest.mark.parametrize(
    ("ignores", "named"),
    [
        ("*.pyc\n", []),
        ("nodes\n", ["nodes"]),
        ("/nodes/\n", ["/nodes/"]),
        ("nodes/*.py\n", ["nodes/*.py"]),
        ("*.jinja2\n", ["*.jinja2"]),
        ("nodes\n!nodes\n", []),
        ("#nodes\nother/nodes\n", []),
    ],
)
def test_parts_of_the_flow_that_the_cloud_would_lack(visitor: Visitor, ignores: str, named: list[str]) -> None:
    (visitor.flow / ".amlignore").write_text(ignores)
    found = [one for one in check_snapshot(visitor.setup()) if one.level == "warning"]
    assert [commands(one)[0] for one in found] == named


def test_a_large_folder_that_holds_a_nodes_source_is_not_left_out_as_a_whole(visitor: Visitor) -> None:
    for name in ("nodes/large.bin", "extra/deep/large.bin"):
        (visitor.flow / name).parent.mkdir(parents=True, exist_ok=True)
        with (visitor.flow / name).open("wb") as file:
            file.truncate(40 * 2**20)
    (found,) = check_snapshot(visitor.setup())
    assert found.level == "warning" and "nodes/large.bin 40.0 MiB" in found.message
    visitor.follow(found)
    assert [one.level for one in check_snapshot(visitor.setup())] == ["ok"]
    assert snapshot_ignores(visitor.flow)[-1] in ("large.bin", "extra")


def test_a_wrong_command_line_exits_with_2(visitor: Visitor) -> None:
    assert visitor.machine.command("pf-mlflow", "doctor", "one", "two").returncode == 2


def test_no_secret_is_shown_whoever_tells_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_API_KEY", "plain-words-as-key")
    told = "http://ana:hunter22@mlflow answered\nplain-words-as-key"
    shown = _shown("mlflow", CheckResult("error", told, f"look at {told}"))
    assert shown.message == "http://ana:***@mlflow answered **scrubbed**"
    assert shown.remedy == f"look at {shown.message}"


def test_settings_of_judges_are_known(visitor: Visitor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PF_MLFLOW_JUDGE_TIMEOUT", "5")
    assert {one.level for one in check_settings(visitor.setup())} == {"ok"}
