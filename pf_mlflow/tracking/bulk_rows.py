"""Writes runs as rows of MLflow's own tables, many at once: call by call its store takes four times as long.

What it writes is what MLflow's `SqlAlchemyStore` would write for the same calls, which a test compares row by row.
"""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from mlflow.entities import Metric, Param, RunStatus, RunTag
from mlflow.store.tracking.dbmodels.models import SqlExperiment, SqlLatestMetric, SqlMetric, SqlParam, SqlRun, SqlTag
from mlflow.utils.uri import append_to_uri_path
from mlflow.utils.validation import (
    _validate_batch_log_data,
    _validate_batch_log_limits,
    _validate_param_keys_unique,
)
from sqlalchemy import bindparam, select, tuple_, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection

__all__ = ["Rows"]

_INSERTS: Mapping[str, Any] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}
"""Databases that can be told what to do with rows that are there already."""
_KEYS: Mapping[Any, Sequence[str]] = {
    SqlParam: ("key", "run_uuid"),
    SqlTag: ("key", "run_uuid"),
    SqlMetric: ("key", "timestamp", "step", "run_uuid", "value", "is_nan"),
    SqlLatestMetric: ("key", "run_uuid"),
}
_OVERWRITTEN: Mapping[Any, Sequence[str]] = {
    SqlTag: ("value",),
    SqlLatestMetric: ("value", "timestamp", "step", "is_nan"),
}
"""What becomes of a row that is there already; in tables not named here it stays as it is."""


class Rows:
    """The rows of one transaction.

    Args:
        connection: Has the transaction.
        experiment_id: The experiment of new runs.
    """

    def __init__(self, connection: Connection, experiment_id: str) -> None:
        self._connection = connection
        self._experiment_id = int(experiment_id)
        self._runs: dict[str, dict[str, Any]] = {}
        self._ended: list[dict[str, Any]] = []
        self._values: defaultdict[Any, list[dict[str, Any]]] = defaultdict(list)
        where = SqlExperiment.experiment_id == self._experiment_id
        columns = (SqlExperiment.lifecycle_stage, SqlExperiment.artifact_location)
        found = connection.execute(select(*columns).where(where)).one_or_none()
        self._stage, self._artifacts = (str(found[0]), str(found[1])) if found else ("", "")

    @property
    def can_be_written(self) -> bool:
        """Whether this database and this experiment take rows; else MLflow's own calls say why not, or do it."""
        return self._stage == "active" and self._connection.dialect.name in _INSERTS

    def create(self, start_ms: int, tags: Mapping[str, str], name: str) -> str:
        """Add a run that is RUNNING, and return its id."""
        run_id = uuid.uuid4().hex
        self._runs[run_id] = {
            "run_uuid": run_id,
            "name": name,
            "artifact_uri": append_to_uri_path(self._artifacts, run_id, "artifacts"),
            "experiment_id": self._experiment_id,
            "user_id": tags.get("mlflow.user", "unknown"),
            "status": "RUNNING",
            "start_time": start_ms,
            "end_time": None,
            "deleted_time": None,
            "lifecycle_stage": "active",
            "source_type": "UNKNOWN",
            **dict.fromkeys(["source_name", "entry_point_name", "source_version"], ""),
        }
        self._add(SqlTag, run_id, {**tags, "mlflow.runName": name})
        return run_id

    def takes(self, run_id: str) -> bool:
        """Tell whether a run is there and not deleted."""
        if run_id in self._runs:
            return True
        found = select(SqlRun.lifecycle_stage).where(SqlRun.run_uuid == run_id)
        return self._connection.execute(found).scalar() == "active"

    def log_batch(self, run_id: str, metrics: list[Metric], params: list[Param], tags: list[RunTag]) -> None:
        """Add values of a run; raise MLflow's exception if they are none that it takes, and add nothing then."""
        metrics, params, tags = _validate_batch_log_data(metrics, params, tags)
        _validate_batch_log_limits(metrics, params, tags)
        _validate_param_keys_unique(params)
        self._add(SqlParam, run_id, {param.key: param.value for param in params})
        self._add(SqlTag, run_id, {tag.key: tag.value for tag in tags})
        for metric in metrics:
            is_nan = metric.value != metric.value
            value = 0.0 if is_nan else metric.value
            row = {"key": metric.key, "value": value, "timestamp": metric.timestamp, "step": metric.step}
            for table in (SqlMetric, SqlLatestMetric):
                self._values[table].append({**row, "is_nan": is_nan, "run_uuid": run_id})

    def update_run_info(self, run_id: str, status: int, end_ms: int, name: None) -> None:
        """Set a run's status and end."""
        told = RunStatus.to_string(status)
        if run_id in self._runs:
            self._runs[run_id].update(status=told, end_time=end_ms)
        else:
            self._ended.append({"its_id": run_id, "status": told, "end_time": end_ms})

    def _add(self, table: Any, run_id: str, values: Mapping[str, str]) -> None:
        self._values[table] += [{"key": key, "value": value, "run_uuid": run_id} for key, value in values.items()]

    def write(self) -> None:
        """Write what was added so far; it is there for others when the transaction is committed."""
        insert = _INSERTS[self._connection.dialect.name]
        if self._runs:
            self._connection.execute(insert(SqlRun), list(self._runs.values()))
        for table, keys in _KEYS.items():
            if rows := self._values[table]:
                self._connection.execute(_merging(insert(table), table, keys), rows)
        if self._ended:
            ended = update(SqlRun).where(SqlRun.run_uuid == bindparam("its_id"))
            self._connection.execute(ended, self._ended)
        self._runs, self._ended = {}, []
        self._values.clear()


def _merging(insert: Any, table: Any, keys: Sequence[str]) -> Any:
    if table not in _OVERWRITTEN:
        return insert.on_conflict_do_nothing(index_elements=keys)
    later = None
    if table is SqlLatestMetric:
        order = ("step", "timestamp", "value")
        later = tuple_(*(insert.excluded[name] for name in order)) > tuple_(*(getattr(table, name) for name in order))
    return insert.on_conflict_do_update(
        index_elements=keys, set_={name: insert.excluded[name] for name in _OVERWRITTEN[table]}, where=later
    )
