from __future__ import annotations

import os
from pathlib import Path

import pytest
from machine import FLOWS
from pydantic import ValidationError
from sqlalchemy.engine import make_url

from pf_mlflow.errors import BadInput
from pf_mlflow.settings import (
    Settings,
    current_user,
    leave_foreign_folder,
    read_settings,
    settings_here,
    store_address,
    without_password,
)
from pf_mlflow.settings.environment import changed_environment, loopback_unproxied, network_variables


def test_settings_of_an_empty_environment() -> None:
    settings = read_settings()
    assert (settings.tracking_uri, settings.experiment) == ("", "")
    assert (settings.enabled, settings.content, settings.log_single_runs) == (True, "all", False)
    assert settings.give_up_after == 10 * 60
    assert settings.spool_dir.is_absolute() and settings.spool_dir.name == "pf-mlflow"


@pytest.mark.parametrize(
    "variable, value, name, expected",
    [
        ("MLFLOW_TRACKING_URI", "https://host", "tracking_uri", "https://host"),
        ("MLFLOW_EXPERIMENT_NAME", "Jokes ü", "experiment", "Jokes ü"),
        ("MLFLOW_EXPERIMENT_ID", "7", "experiment", "MLFLOW_EXPERIMENT_ID=7"),
        ("PF_MLFLOW_ENABLED", "false", "enabled", False),
        ("PF_MLFLOW_ENABLED", "0", "enabled", False),
        ("PF_MLFLOW_ENABLED", "", "enabled", True),
        ("PF_MLFLOW_ENABLED", "nope", "enabled", BadInput),
        ("PF_MLFLOW_CONTENT", "none", "content", "none"),
        ("PF_MLFLOW_CONTENT", "some", "content", BadInput),
        ("PF_MLFLOW_LOG_SINGLE_RUNS", "true", "log_single_runs", True),
        ("PF_MLFLOW_LOG_SINGLE_RUNS", "2", "log_single_runs", BadInput),
        ("PF_MLFLOW_SPOOL_DIR", "/var/spool/x", "spool_dir", Path("/var/spool/x")),
        ("PF_MLFLOW_GIVE_UP_AFTER", "0", "give_up_after", 0.0),
        ("PF_MLFLOW_GIVE_UP_AFTER", "-1", "give_up_after", BadInput),
        ("PF_MLFLOW_GIVE_UP_AFTER", "nan", "give_up_after", BadInput),
        ("PF_MLFLOW_GIVE_UP_AFTER", "soon", "give_up_after", BadInput),
    ],
)
def test_a_setting_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, name: str, expected: object
) -> None:
    monkeypatch.setenv(variable, value)
    if expected is BadInput:
        with pytest.raises(BadInput) as told:
            read_settings()
        assert str(told.value).startswith(f"{variable}={value!r} cannot be used: ")
        assert "\n" not in str(told.value)
    else:
        assert getattr(read_settings(), name) == expected


def test_every_setting_is_described() -> None:
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []


@pytest.mark.parametrize("name", ["plain", "with space", "東京 ü", "a#b", "50%", "a?b", "a%20b"])
def test_the_default_store_is_beside_the_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str) -> None:
    typed_in = tmp_path / name
    typed_in.mkdir()
    monkeypatch.setenv("PWD", str(typed_in))
    monkeypatch.chdir(tmp_path)  # promptflow changes it
    uri = read_settings().store_of(tmp_path / "flow")
    assert make_url(uri).database == str(typed_in / "mlflow.db")
    assert not make_url(uri).query


@pytest.mark.parametrize("pwd", [None, "", "/no/such/folder", "a file"])
def test_the_default_store_is_beside_the_flow_if_the_command_s_folder_is_unknown(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, pwd: str | None
) -> None:
    (tmp_path / "a file").touch()
    monkeypatch.delenv("PWD", raising=False)
    if pwd is not None:
        monkeypatch.setenv("PWD", str(tmp_path / pwd) if pwd == "a file" else pwd)
    monkeypatch.chdir(tmp_path)
    assert read_settings().store_of(Path("flow")) == f"sqlite:///{tmp_path}/flow/mlflow.db"


@pytest.mark.parametrize("name", ["plain", "東京 ü", "a?b", "a%20b"])
@pytest.mark.parametrize(
    "uri, place",
    [
        ("sqlite:///mlflow.db", "mlflow.db"),
        ("sqlite:///runs/mlflow.db", "runs/mlflow.db"),
        ("sqlite:////data/mlflow.db", "/data/mlflow.db"),
        ("sqlite:///C:/data/mlflow.db", None),
        ("postgresql://host/db", None),
        ("https://host", None),
        ("", None),
    ],
)
def test_a_relative_store_is_where_the_command_was_typed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, uri: str, place: str | None
) -> None:
    typed_in = tmp_path / name
    typed_in.mkdir()
    monkeypatch.setenv("PWD", str(typed_in))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    read = read_settings().tracking_uri
    if place is None:
        assert read == uri
    else:
        assert make_url(read).database == str(typed_in / place)
        assert not make_url(read).query


@pytest.mark.parametrize(
    "uri, expected",
    [
        ("https://ana:pw@host:5000/x", "https://ana:***@host:5000/x"),
        ("https://:token@host", "https://:***@host"),
        ("https://token@host/x", "https://***@host/x"),
        ("postgresql+psycopg://ana:p%40w@host/db", "postgresql+psycopg://ana:***@host/db"),
        ("postgresql://ana:p/w@host/db", "postgresql://ana:***@host/db"),  # SQLAlchemy takes such a password
        ("postgresql://host/db?user=ana&password=pw", "postgresql://host/db?user=ana&password=***"),
        ("https://host:5000/a@b", "https://host:5000/a@b"),
        ("http://127.0.0.1:5000", "http://127.0.0.1:5000"),
        ("sqlite:////home/ana/a:b@c/mlflow.db", "sqlite:////home/ana/a:b@c/mlflow.db"),
        ("azureml://westeurope.api.azureml.ms/x", "azureml://westeurope.api.azureml.ms/x"),
        ("databricks", "databricks"),
        ("", ""),
        ("cannot reach https://ana:pw@host now", "cannot reach https://ana:***@host now"),
        ("http://ana:p@ssW0rdX@HOST", "http://ana:***@HOST"),
        ("http://ana:p/w@HOST/x", "http://ana:***@HOST/x"),
        ("postgresql://ana:p@ss/w@host/db", "postgresql://ana:***@host/db"),
        (
            "postgresql://host/db?sslkey=/k.pem&sslpassword=pw&a=b",
            "postgresql://host/db?sslkey=/k.pem&sslpassword=***&a=b",
        ),
        ("https://host?access_token=abc", "https://host?access_token=***"),
        ("https://gateway/mlflow?subscription-key=abc&a=b", "https://gateway/mlflow?subscription-key=***&a=b"),
        (
            "mssql+pyodbc:///?odbc_connect=DRIVER%3D%7BX%7D%3BUID%3Dana%3BPWD%3Dp%40w%3BEncrypt%3Dyes",
            "mssql+pyodbc:///?odbc_connect=DRIVER%3D%7BX%7D%3BUID%3Dana%3BPWD%3D***%3BEncrypt%3Dyes",
        ),
        (
            "mssql+pyodbc:///?odbc_connect=PWD%3D%7Bp%3Bw%7D%3BUID%3Dana",
            "mssql+pyodbc:///?odbc_connect=PWD%3D***%3BUID%3Dana",
        ),
        ("connecting DRIVER={X};UID=ana;PWD={p;w};Encrypt=yes", "connecting DRIVER={X};UID=ana;PWD=***;Encrypt=yes"),
    ],
)
def test_without_password(uri: str, expected: str) -> None:
    assert without_password(uri) == expected
    assert without_password(expected) == expected


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("https://host", "HTTPS://ana:pw@HOST:443/", True),
        ("http://host/ml", "http://token@host:80/ml/", True),
        ("http://host", "https://host", False),
        ("http://host:5000", "http://host:5001", False),
        ("http://host/a", "http://host/b", False),
        ("http://a.example", "http://a.example.evil", False),
        ("postgresql://ana:old@host/db", "postgresql+psycopg://ana:new@host/db", True),
        ("postgresql://host/db?password=old", "postgresql://host/db?password=new", True),
        ("sqlite:////a/mlflow.db", "sqlite:////b/mlflow.db", False),
        ("http://host:port", "http://host:x", False),
        ("", "", True),
    ],
)
def test_a_store_is_the_same_whoever_asks_it(one: str, other: str, same: bool) -> None:
    assert (store_address(one) == store_address(other)) == same


def test_the_user_is_who_the_system_says(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.setenv(variable, "ana")
    assert current_user() == "ana"


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can become somebody else")
def test_a_user_without_a_name_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(variable, raising=False)
    os.setreuid(54321, 0)  # as in a container that is run under a number
    try:
        assert current_user() == "unknown"
    finally:
        os.setreuid(0, 0)


FLOW = {
    "environment_variables": {
        "PF_MLFLOW_CONTENT": "none",
        "MLFLOW_TRACKING_URI": "sqlite:///own.db",
        "PF_MLFLOW_ENABLED": "${my_connection.api_base}",
        "OTHER": 1,
    }
}


def test_what_a_flow_sets_itself_comes_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    given = {"PF_MLFLOW_CONTENT": "all", "PF_MLFLOW_SPOOL_LIMIT": "7", "PWD": "/somewhere/else"}
    before = dict(os.environ)
    settings = Settings.for_flow(FLOW, given)
    assert (settings.content, settings.enabled, settings.spool_limit) == ("none", True, 7)
    assert settings.store_of(Path("flow")) == f"sqlite:///{tmp_path}/own.db"
    assert os.environ == before
    with pytest.raises(ValidationError):
        settings.enabled = False  # type: ignore[misc]


def test_a_child_process_has_the_same_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    settings = Settings.for_flow(FLOW, {"PF_MLFLOW_SPOOL_DIR": "spool"})
    with changed_environment(settings.variables()):
        assert read_settings().model_dump() == settings.model_dump() and "OTHER" not in os.environ
    off = Settings.for_flow({"environment_variables": {"PF_MLFLOW_ENABLED": "false"}}, {})
    assert off.variables() == {"PWD": str(tmp_path), "PF_MLFLOW_ENABLED": "false"}


def test_the_environment_is_given_back_whoever_changed_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEPT", "before")
    monkeypatch.setenv("TAKEN", "before")
    before = dict(os.environ)
    with changed_environment({"KEPT": "in it", "GONE": "in it"}):
        assert (os.environ["KEPT"], os.environ["GONE"]) == ("in it", "in it")
        os.environ |= {"LATE": "promptflow's", "MINE": "a node's"}
        del os.environ["TAKEN"]
    assert os.environ == before


@pytest.mark.parametrize("given", ["", "sqlite:///rel.db"])
def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path, given: str) -> None:
    settings = Settings.read({"PWD": str(tmp_path / "gone"), "MLFLOW_TRACKING_URI": given})
    assert settings.unwritable_folder == (None if given else tmp_path / "gone")
    assert given or settings.store_of(tmp_path) == f"sqlite:///{tmp_path}/mlflow.db"
    assert (
        Settings.read({"PWD": str(tmp_path)}).unwritable_folder is None and Settings.read({}).unwritable_folder is None
    )


@pytest.mark.parametrize(
    ("words", "stays"),
    [
        (["/bin/pf", "run", "create", "--flow", "mine", "--data", "d.jsonl"], True),
        (["/bin/pf", "run", "create", "--flow", "elsewhere"], False),  # `subprocess.run(cwd=…)`, `make -C`
        (["/bin/pf", "run", "create", "-f", "run.yml"], False),
        (["/bin/pf", "flow", "test", "--flow", "."], False),
        (["/bin/pf", "flow", "test", "--flow", str(FLOWS / "bare")], True),
        (["/bin/pf", "flow", "test", "--flow", str(FLOWS / "basic.prompty")], True),
        (["/bin/ipykernel", "-f", "nowhere"], True),
        (["/bin/pf"], True),
    ],
)
def test_a_folder_that_the_starter_has_left_is_not_the_users(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], stays: bool
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "flow.dag.yaml").touch()
    monkeypatch.setenv("PWD", str(tmp_path))
    leave_foreign_folder(words)
    assert ("PWD" in os.environ) is stays


@pytest.mark.parametrize(
    ("variables", "hosts"),
    [
        ({}, None),
        ({"HTTP_PROXY": ""}, None),
        ({"HTTP_PROXY": "http://proxy:3128"}, "127.0.0.1,localhost,::1"),
        ({"https_proxy": "http://proxy:3128", "NO_PROXY": "corp, localhost"}, "corp,localhost,127.0.0.1,::1"),
    ],
)
def test_this_machines_servers_go_through_no_proxy(variables: dict[str, str], hosts: str | None) -> None:
    assert loopback_unproxied(variables) == ({} if hosts is None else {"NO_PROXY": hosts, "no_proxy": hosts})


def test_variables_that_say_how_servers_are_reached() -> None:
    given = {"HTTPS_PROXY": "http://p", "ssl_cert_file": Path("/ca"), "NO_PROXY": "${c.hosts}", "OTHER": "1"}
    assert network_variables(given) == {"HTTPS_PROXY": "http://p", "ssl_cert_file": "/ca"}


def test_whoever_calls_is_in_the_working_folder_whatever_its_starter_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, link = tmp_path / "notebooks", tmp_path / "link"
    here.mkdir()
    link.symlink_to(here)
    monkeypatch.chdir(here)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///runs.db")
    for named, folder in ((tmp_path, here), (tmp_path / "gone", here), ("notebooks", here), (link, link)):
        monkeypatch.setenv("PWD", str(named))  # as a notebook has it of the server that started it
        assert settings_here().tracking_uri == f"sqlite:///{folder}/runs.db"
        assert settings_here().command_folder == folder
    here.rmdir()
    with pytest.raises(BadInput, match="is not there any more"):
        settings_here()
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("named", "kept_out"),
    [("", "127.0.0.1,localhost,::1"), ("mlflow.corp", "mlflow.corp,127.0.0.1,localhost,::1"), ("*", "*"), ("a,*", "*")],
)
def test_this_machine_is_kept_out_of_the_proxy_and_all_stays_all(named: str, kept_out: str) -> None:
    found = loopback_unproxied({"HTTPS_PROXY": "http://proxy", "NO_PROXY": named})
    assert found == {"NO_PROXY": kept_out, "no_proxy": kept_out} and not loopback_unproxied({"NO_PROXY": named})
