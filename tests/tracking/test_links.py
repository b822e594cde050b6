from __future__ import annotations

import re
from pathlib import Path

import pytest

from pf_mlflow.tracking.links import batches_link, is_database, run_link, store_link

SCOPE = "/subscriptions/s-1/resourceGroups/rg/providers/Microsoft.MachineLearningServices/workspaces/ws"
WORKSPACE = "wsid=/subscriptions/s-1/resourceGroups/rg/workspaces/ws"


@pytest.mark.parametrize(
    "uri, store, run",
    [
        ("http://127.0.0.1:5000", "http://127.0.0.1:5000/", "http://127.0.0.1:5000/#/experiments/3/runs/abc"),
        (
            "https://ml.example/mlflow/",
            "https://ml.example/mlflow/",
            "https://ml.example/mlflow/#/experiments/3/runs/abc",
        ),
        ("https://ana:pw@ml.example", "https://ml.example/", "https://ml.example/#/experiments/3/runs/abc"),
        ("https://ml.example?token=t", "https://ml.example/", "https://ml.example/#/experiments/3/runs/abc"),
        ("http://[::1]:5000", "http://[::1]:5000/", "http://[::1]:5000/#/experiments/3/runs/abc"),
        (
            f"azureml://eastus.api.azureml.ms/mlflow/v1.0{SCOPE}",
            f"https://ml.azure.com/?{WORKSPACE}",
            f"https://ml.azure.com/runs/abc?{WORKSPACE}",
        ),
        (
            f"azureml://usgovvirginia.api.ml.azure.us/mlflow/v2.0{SCOPE.lower()}?",
            "https://ml.azure.us/?wsid=/subscriptions/s-1/resourceGroups/rg/workspaces/ws",
            "https://ml.azure.us/runs/abc?wsid=/subscriptions/s-1/resourceGroups/rg/workspaces/ws",
        ),
        (
            f"azureml://chinaeast2.api.ml.azure.cn/mlflow/v1.0{SCOPE}",
            f"https://studio.ml.azure.cn/?{WORKSPACE}",
            f"https://studio.ml.azure.cn/runs/abc?{WORKSPACE}",
        ),
        ("azureml://eastus.api.azureml.ms/mlflow/v1.0", None, None),
        ("sqlite:////tmp/mlflow.db", None, None),
        ("postgresql+psycopg://ana:pw@db/mlflow", None, None),
    ],
)
def test_links(uri: str, store: str | None, run: str | None) -> None:
    assert (store_link(uri), run_link(uri, "3", "abc")) == (store, run)
    beside = run and re.sub(r"(#.*/runs)/abc", r"\1?viewStateShareKey=pf_mlflow_batches", run)
    assert run is None or batches_link(run) == beside


@pytest.mark.parametrize("experiment_id, run_id", [(None, "abc"), ("3", None), ("", "abc"), ("3", "")])
def test_a_run_that_is_not_known_has_no_link(experiment_id: str | None, run_id: str | None) -> None:
    assert run_link("http://127.0.0.1:5000", experiment_id, run_id) is None


PROFILES = "[DEFAULT]\nhost = https://first.example/\n[team]\nhost = second.example\ntoken = dapi-1\n"


@pytest.mark.parametrize(
    "uri, env, host",
    [
        ("databricks", {}, "https://first.example"),
        ("databricks", {"DATABRICKS_CONFIG_PROFILE": "team"}, "https://second.example"),
        ("databricks", {"DATABRICKS_HOST": "https://third.example/"}, "https://third.example"),
        ("databricks://team", {}, "https://second.example"),
        ("databricks://team", {"DATABRICKS_HOST": "https://third.example"}, "https://second.example"),
        ("databricks://nobody", {}, None),
        ("databricks", {"DATABRICKS_CONFIG_FILE": "/nowhere"}, None),
    ],
)
def test_databricks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uri: str, env: dict[str, str], host: str | None
) -> None:
    (tmp_path / "profiles").write_text(PROFILES)
    for name in ("DATABRICKS_HOST", "DATABRICKS_CONFIG_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"DATABRICKS_CONFIG_FILE": str(tmp_path / "profiles"), **env}.items():
        monkeypatch.setenv(name, value)
    assert store_link(uri) == (host and f"{host}/ml/experiments")
    assert run_link(uri, "3", "abc") == (host and f"{host}/ml/experiments/3/runs/abc")


def test_a_file_of_profiles_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DATABRICKS_HOST", raising=False)
    for content in (b"host = x", b"\xff\xfe"):
        (tmp_path / "profiles").write_bytes(content)
        monkeypatch.setenv("DATABRICKS_CONFIG_FILE", str(tmp_path / "profiles"))
        assert store_link("databricks") is None


@pytest.mark.parametrize(
    "uri, expected",
    [
        ("sqlite:////tmp/mlflow.db", True),
        ("mysql+pymysql://ana@db/mlflow", True),
        ("mssql+pyodbc://db/mlflow", True),
        ("http://127.0.0.1:5000", False),
        ("https://ml.example", False),
        ("databricks", False),
        ("databricks://team", False),
        ("azureml://eastus.api.azureml.ms/x", False),
    ],
)
def test_which_stores_need_a_server(uri: str, expected: bool) -> None:
    assert is_database(uri) is expected
