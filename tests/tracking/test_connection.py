"""The lock under which processes open a database one at a time."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pf_mlflow.tracking.connection import _one_process_at_a_time


@pytest.mark.skipif(os.name == "nt", reason="has other rights")
def test_the_lock_of_a_database_is_its_users_alone_and_no_hash_of_its_password(tmp_path: Path) -> None:
    for login in ("ana:one-Pa55word", "ana:another-Pa55word", "bob"):
        with _one_process_at_a_time(f"postgresql://{login}@db.example/mlflow", tmp_path):
            pass
    (lock,) = tmp_path.iterdir()
    assert lock.stat().st_mode & 0o777 == 0o600


def test_another_database_has_another_lock(tmp_path: Path) -> None:
    for name in ("one", "two"):
        with _one_process_at_a_time(f"sqlite:///{tmp_path}/{name}.db", tmp_path):
            pass
    assert len(list(tmp_path.iterdir())) == 2
