"""Lets many calls of MLflow's database store be one transaction: it would commit five times for each line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from mlflow.store.db.utils import _get_managed_session_maker
from sqlalchemy.engine import Connection
from sqlalchemy.orm import sessionmaker

__all__ = ["one_transaction"]

_SQLITE = ("PRAGMA foreign_keys = ON", "PRAGMA busy_timeout = 20000", "PRAGMA case_sensitive_like = true")
"""What MLflow sets for each of its sessions."""


@contextmanager
def one_transaction(store: Any) -> Iterator[Connection]:
    """Commit what a store is asked to write when the block is left, or nothing of it if an error leaves it.

    A call that fails inside undoes itself alone, as ever: each has a savepoint. For one thread at a time.

    Args:
        store: MLflow's `SqlAlchemyStore`.

    Raises:
        sqlalchemy.exc.SQLAlchemyError: the transaction could not begin or be committed.
    """
    own_maker = store.ManagedSessionMaker
    with store.engine.connect() as connection:
        is_sqlite = connection.dialect.name == "sqlite"
        for pragma in _SQLITE if is_sqlite else ():
            connection.exec_driver_sql(pragma)
        connection.commit()
        with connection.begin():
            if is_sqlite:  # else the first savepoint would be the transaction, and its release commit it
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            joined = sessionmaker(bind=connection, join_transaction_mode="create_savepoint")
            store.ManagedSessionMaker = _get_managed_session_maker(joined, f"{connection.dialect.name} joined")
            store.get_experiment = cache(store.get_experiment)  # each run that is made asks for it
            try:
                yield connection
            finally:
                store.ManagedSessionMaker = own_maker
                del store.get_experiment
