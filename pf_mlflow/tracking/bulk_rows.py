"""Writes runs as rows of MLflow's own tables, many at once: call by call its store takes four times as long.

What it writes is what MLflow's `SqlAlchemyStore` would write for the same calls, which a test compares row by row.
"""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from mlflow import __version__ as mlflow_version
from mlflow.entities import LoggedModelOutput, Metric, Param, Run, RunInfo, RunStatus, RunTag
from mlflow.store.tracking.dbmodels.models import (
    SqlExperiment,
    SqlInput,
    SqlLatestMetric,
    SqlMetric,
    SqlParam,
    SqlRun,
    SqlTag,
)
from mlflow.utils.uri import append_to_uri_path
from mlflow.utils.validation import _validate_batch_log_data, _validate_batch_log_limits, _validate_param_keys_unique
from sqlalchemy import bindparam, inspect, select, tuple_, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection, Engine

__all__ = ["TESTED_VERSIONS", "BulkStore", "can_write_rows"]

TESTED_VERSIONS = (
    "3.1.4",
    "3.3.2",
    "3.4.0",
    "3.5.1",
    "3.6.0",
    "3.7.0",
    "3.8.1",
    "3.9.0",
    "3.10.1",
    "3.11.1",
    "3.12.0",
    "3.13.0",
    "3.14.0",
    "3.15.0",
)
"""The MLflow versions whose rows `tests/tracking/test_bulk_rows.py` compared with these."""
_INSERTS: Mapping[str, Any] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}
"""Databases that can be told what to do with rows that are there already."""
_COLUMNS: Mapping[Any, str] = {
    SqlRun: "run_uuid name source_type source_name entry_point_name user_id status start_time end_time deleted_time "
    "source_version lifecycle_stage artifact_uri experiment_id",
    SqlParam: "key value run_uuid",
    SqlTag: "key value run_uuid",
    SqlMetric: "key value timestamp run_uuid step is_nan",
    SqlLatestMetric: "key value timestamp step is_nan run_uuid",
    SqlInput: "input_uuid source_type source_id destination_type destination_id step",
}
"""All columns that the tables had in the tested versions."""
_KEYS: Mapping[Any, Sequence[str]] = {
    SqlParam: ("key", "run_uuid"),
    SqlTag: ("key", "run_uuid"),
    SqlMetric: ("key", "timestamp", "step", "run_uuid", "value", "is_nan"),
    SqlLatestMetric: ("key", "run_uuid"),
    SqlInput: ("source_type", "source_id", "destination_type", "destination_id"),
}
_OVERWRITTEN: Mapping[Any, Sequence[str]] = {
    SqlTag: ("value",),
    SqlLatestMetric: ("value", "timestamp", "step", "is_nan"),
}
"""What becomes of a row that is there already; in tables not named here it stays as it is."""


@cache
def can_write_rows(engine: Engine) -> bool:
    """Tell whether a database's tables are as a tested MLflow makes them, with no column more or less."""
    if mlflow_version not in TESTED_VERSIONS or engine.dialect.name not in _INSERTS:
        return False
    tables = inspect(engine)
    return all(
        {column["name"] for column in tables.get_columns(table.__tablename__)} == set(columns.split())
        for table, columns in _COLUMNS.items()
    )


class BulkStore:
    """MLflow's store within one transaction, which keeps rows of runs and their values back to write many at once.

    Every other call is the store's own, after the rows that it may have to see.

    Args:
        store: MLflow's, within the same transaction.
        connection: Has the transaction.
        experiment_id: The experiment of new runs.
    """

    def __init__(self, store: Any, connection: Connection, experiment_id: str) -> None:
        self._store = store
        self._connection = connection
        columns = (SqlExperiment.lifecycle_stage, SqlExperiment.artifact_location)
        one = select(*columns).where(SqlExperiment.experiment_id == int(experiment_id))
        found = connection.execute(one).one_or_none()
        self._stage, self._artifacts = (str(found[0]), str(found[1])) if found else ("", "")
        self._runs: dict[str, dict[str, Any]] = {}
        self._ended: list[dict[str, Any]] = []
        self._values: defaultdict[Any, list[dict[str, Any]]] = defaultdict(list)

    def __getattr__(self, name: str) -> Any:
        self.flush()
        return getattr(self._store, name)

    def create_run(self, experiment_id: str, user_id: str, start_time: int, tags: list[RunTag], run_name: str) -> Run:
        """Add a run that is RUNNING."""
        if self._stage != "active":
            return self._store.create_run(experiment_id, user_id, start_time, tags, run_name)  # which says why not
        run_id = uuid.uuid4().hex
        artifact_uri = append_to_uri_path(self._artifacts, run_id, "artifacts")
        self._runs[run_id] = {
            "run_uuid": run_id,
            "name": run_name,
            "artifact_uri": artifact_uri,
            "experiment_id": int(experiment_id),
            "user_id": user_id,
            "status": "RUNNING",
            "start_time": start_time,
            "end_time": None,
            "deleted_time": None,
            "lifecycle_stage": "active",
            "source_type": "UNKNOWN",
            **dict.fromkeys(["source_name", "entry_point_name", "source_version"], ""),
        }
        self._add(SqlTag, run_id, [*tags, RunTag("mlflow.runName", run_name)])
        status = RunStatus.to_string(RunStatus.RUNNING)
        info = RunInfo(run_id, experiment_id, user_id, status, start_time, None, "active", artifact_uri, run_name)
        return Run(info, None)

    def log_batch(self, run_id: str, metrics: list[Metric], params: list[Param], tags: list[RunTag]) -> None:
        """Add values of a run; raise MLflow's exception if they are none that it takes, and add nothing then."""
        if not self._takes(run_id):
            self._store.log_batch(run_id, metrics, params, tags)  # which says why not
            return
        metrics, params, tags = _validate_batch_log_data(metrics, params, tags)
        _validate_batch_log_limits(metrics, params, tags)
        _validate_param_keys_unique(params)
        self._add(SqlParam, run_id, params)
        self._add(SqlTag, run_id, tags)
        for metric in metrics:
            is_nan = metric.value != metric.value
            value = 0.0 if is_nan else metric.value
            row = {"key": metric.key, "value": value, "timestamp": metric.timestamp, "step": metric.step}
            for table in (SqlMetric, SqlLatestMetric):
                self._values[table].append({**row, "is_nan": is_nan, "run_uuid": run_id})

    def log_outputs(self, run_id: str, models: list[LoggedModelOutput]) -> None:
        """Make a run's outputs of models."""
        kinds = {"source_type": "RUN_OUTPUT", "source_id": run_id, "destination_type": "MODEL_OUTPUT"}
        self._values[SqlInput] += [
            {"input_uuid": uuid.uuid4().hex, **kinds, "destination_id": one.model_id, "step": one.step}
            for one in models
        ]

    def update_run_info(self, run_id: str, run_status: int, end_time: int, run_name: None) -> None:
        """Set a run's status and end."""
        ended = {"status": RunStatus.to_string(run_status), "end_time": end_time}
        if run_id in self._runs:
            self._runs[run_id].update(ended)
        elif self._takes(run_id):
            self._ended.append({"its_id": run_id, **ended})
        else:
            self._store.update_run_info(run_id, run_status, end_time, run_name)  # which says why not

    def _takes(self, run_id: str) -> bool:
        """Tell whether a run is there and not deleted."""
        if run_id in self._runs:
            return True
        found = select(SqlRun.lifecycle_stage).where(SqlRun.run_uuid == run_id)
        return self._connection.execute(found).scalar() == "active"

    def _add(self, table: Any, run_id: str, values: Sequence[Param | RunTag]) -> None:
        self._values[table] += [{"key": one.key, "value": one.value, "run_uuid": run_id} for one in values]

    def flush(self) -> None:
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
