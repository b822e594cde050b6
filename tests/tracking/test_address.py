"""Addresses at which no store can be are refused at once, as the doctor tells them; nobody waits for them to answer."""

from __future__ import annotations

from pathlib import Path

import pytest

from pf_mlflow.doctor.store import _examined
from pf_mlflow.errors import TrackingRefused
from pf_mlflow.tracking.reader import StoreReader
from pf_mlflow.tracking.writer import StoreWriter


@pytest.mark.parametrize(
    ("uri", "says", "remedy"),
    [
        ("http://", "names no host", "mend MLFLOW_TRACKING_URI"),
        ("https://:5000", "names no host", "mend MLFLOW_TRACKING_URI"),
        ("http://127.0.0.1:99999", "Port out of range", "mend MLFLOW_TRACKING_URI"),
        ("http://[::1", "Invalid IPv6 URL", "mend MLFLOW_TRACKING_URI"),
        ("localhost:5000", "takes no runs at localhost:5000", "`export MLFLOW_TRACKING_URI=http://localhost:5000`"),
        ("htp://host:5000", "takes no runs at htp://host:5000, of", "`export MLFLOW_TRACKING_URI=http://host:5000`"),
        ("uc:foo", "takes no runs at uc:foo", "`export MLFLOW_TRACKING_URI=sqlite:///"),
        ("databricks", "takes no runs at databricks", "DATABRICKS_HOST"),
        ("databricks://nobody", "takes no runs at databricks://nobody", "DATABRICKS_HOST"),
        ("mlruns", "takes no runs at", "mlflow migrate-filestore"),
    ],
)
def test_an_address_at_which_no_store_can_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uri: str, says: str, remedy: str
) -> None:
    monkeypatch.setenv("DATABRICKS_CONFIG_FILE", str(tmp_path / "none"))
    for store in (StoreReader(uri, "x", tmp_path), StoreWriter(uri, "x", tmp_path)):
        with pytest.raises(TrackingRefused) as refused:
            store.open_experiment()
        assert says in str(refused.value) and remedy in str(refused.value)
    (told,) = _examined(uri, "x", tmp_path)
    assert told.level == "error" and says in told.message and remedy in told.remedy
