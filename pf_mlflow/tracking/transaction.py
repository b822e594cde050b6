"""Lets many calls of MLflow's database store be one transaction: it would commit five times for each line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from functools import cache
from typing import Any

from mlflow.store.db.utils import _get_managed_session_maker
from sqlalchemy.engine import Connection
from sqlalchemy.orm import sessionmaker

from pf_mlflow.tracking.bulk_rows import BulkStore, can_write_rows

__all__ = ["one_transaction"]

_SQLITE = ("PRAGMA foreign_keys = ON", "PRAGMA busy_timeout = 20000", "PRAGMA case_sensitive_like = true")
"""What MLflow sets for each of its sessions."""


@contextmanager
def one_transaction(store: Any, experiment_id: str) -> Iterator[Any]:
    """Yield a store that commits what it is asked to write when the block is left, or nothing if an error leaves it.

    A call that fails inside undoes itself alone, as ever: each has a savepoint. For one thread at a time.

    Args:
        store: MLflow's `SqlAlchemyStore`, which goes on as it was.
        experiment_id: The experiment of new runs.

    Raises:
        sqlalchemy.exc.SQLAlchemyError: the transaction could not begin or be committed.
    """
    writes_rows = can_write_rows(store.engine)
    with store.engine.connect() as connection:
        is_sqlite = connection.dialect.name == "sqlite"
        for pragma in _SQLITE if is_sqlite else ():
            connection.exec_driver_sql(pragma)
        connection.commit()
        with connection.begin():
            if is_sqlite:  # else the first savepoint would be the transaction, and its release commit it
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            joined = _joined(store, connection)
            if not writes_rows:
                yield joined
                return
            rows = BulkStore(joined, connection, experiment_id)
            yield rows
            rows.flush()


def _joined(store: Any, connection: Connection) -> Any:
    """Return the store as part of a connection's transaction."""
    joined = copy(store)
    sessions = sessionmaker(bind=connection, join_transaction_mode="create_savepoint")
    joined.ManagedSessionMaker = _get_managed_session_maker(sessions, f"{connection.dialect.name} joined")
    joined.get_experiment = cache(joined.get_experiment)  # each run that is made asks for it
    return joined
