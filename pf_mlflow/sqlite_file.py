"""One SQLite file that many processes and threads write to at once."""

from __future__ import annotations

import os
import shlex
import sqlite3
import threading
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from tenacity import retry, retry_if_exception_message, stop_after_delay, wait_random

from pf_mlflow.errors import BadInput

__all__ = ["Damaged", "SqliteFile", "damage_named", "is_private", "make_private", "rehearse_write"]

_FORMAT = 1000
"""The least version that this code cannot use: what only adds counts 1, 2, 3, …, since older code can go on with it."""


class Damaged(BadInput, sqlite3.DatabaseError):
    """A file that is no database, no longer a whole one, or that cannot be read."""


@contextmanager
def damage_named(path: Path, remedy: str) -> Iterator[None]:
    """Let an error that tells of damage name the file, and what to do about it."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        if type(error) is not sqlite3.DatabaseError:  # the others pass, as a lock or a full disk does
            raise
        raise Damaged(f"{path} is damaged: {error} — {remedy}.") from error


class SqliteFile:
    """A database in WAL mode, private to its user, made on first use. Safe for threads, processes and forks.

    Args:
        path: Where it is or will be.
        migrations: Scripts that bring it from each version to the next; an empty file has version 0. They only
            add: a format that older code could not use begins with the next thousand.
        settings: Pragmas of each connection, as `checkpoint = 1000`.
    """

    def __init__(self, path: Path, migrations: Sequence[str], settings: Iterable[str] = ()) -> None:
        self.path = path
        self._migrations = migrations
        self._settings = tuple(settings)
        self._lock = threading.RLock()
        self._pid = os.getpid()
        self._connection: sqlite3.Connection | None = None

    def one(self, sql: str, *values: object) -> sqlite3.Row | None:
        """Return the first row of a query, `None` if it has none."""
        with self._mine():
            row: sqlite3.Row | None = self._open().execute(sql, values).fetchone()
            return row

    def all(self, sql: str, *values: object) -> list[sqlite3.Row]:
        """Return the rows of a query."""
        with self._mine():
            return self._open().execute(sql, values).fetchall()

    def write(self, sql: str, *values: object) -> int:
        """Execute one statement, which is a transaction by itself, and return how many rows it changed."""
        with self._mine():
            return self._open().execute(sql, values).rowcount

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Hold the file for writing: all of it happens, or nothing."""
        with self._mine():
            db = self._open()
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
                db.execute("COMMIT")
            except BaseException:
                if db.in_transaction:  # SQLite ends it itself where the disk is full
                    db.execute("ROLLBACK")
                raise

    @contextmanager
    def _mine(self) -> Iterator[None]:
        """Hold the lock; after a fork a new one, and no connection: those inherited must not be used."""
        if self._pid != os.getpid():
            self._lock, self._connection, self._pid = threading.RLock(), None, os.getpid()
        moved = shlex.join(["mv", str(self.path), f"{self.path}.broken"])
        with self._lock, damage_named(self.path, f"`{moved}` makes room for a new one"):
            yield

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            self._connection = self._connect()
        return self._connection

    @retry(
        retry=retry_if_exception_message(match=".*locked"),  # SQLite does not wait while another process turns WAL on
        wait=wait_random(0.01, 0.05),
        stop=stop_after_delay(10),
        reraise=True,
    )
    def _connect(self) -> sqlite3.Connection:
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not self.path.exists():  # closing a live one would drop this process's locks on it
            os.close(os.open(self.path, os.O_CREAT | os.O_RDWR, 0o600))
        db = sqlite3.connect(self.path, timeout=10, isolation_level=None, check_same_thread=False)
        try:
            self._set_up(db)
        except BaseException:
            db.close()  # whoever keeps the error would keep a lock
            raise
        return db

    def _set_up(self, db: sqlite3.Connection) -> None:
        db.row_factory = sqlite3.Row
        self._refuse_other_format(_version(db))
        if _version(db) == 0:  # it holds only for a file that is still empty, and waits for whoever writes
            db.execute("PRAGMA auto_vacuum = INCREMENTAL")
        db.execute("PRAGMA secure_delete = ON")
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")
        self._migrate(db)
        for setting in self._settings:
            db.execute(f"PRAGMA {setting}")

    def _refuse_other_format(self, version: int) -> None:
        if version >= _FORMAT:
            raise BadInput(
                f"{self.path} is of format {version}, made by a newer pf-mlflow than this one — upgrade this one, a "
                "copy in a flow by `pf-mlflow init --vendor`, or set PF_MLFLOW_SPOOL_DIR to another folder."
            )

    def _migrate(self, db: sqlite3.Connection) -> None:
        if _version(db) >= len(self._migrations):
            return
        db.execute("BEGIN IMMEDIATE")
        for script in self._migrations[_version(db) :]:
            for statement in _statements(script):
                db.execute(statement)
        db.execute(f"PRAGMA user_version = {len(self._migrations)}")
        db.execute("COMMIT")


def _statements(script: str) -> Iterator[str]:
    """Yield the statements of a script; a trigger has semicolons inside."""
    statement = ""
    for part in script.split(";"):
        statement += f"{part};"
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
    yield statement


def _version(db: sqlite3.Connection) -> int:
    version: int = db.execute("PRAGMA user_version").fetchone()[0]
    return version


def make_private(folder: Path, patterns: Collection[str]) -> None:
    """Keep others out of the files of ours, and out of their folder unless it holds other files too."""
    if os.name == "nt" or not folder.is_dir():
        return
    with suppress(OSError):  # which somebody else owns
        ours = [path for pattern in patterns for path in folder.glob(pattern)]
        for path in ours:
            path.chmod(0o700 if path.is_dir() else 0o600)
        if len(ours) == sum(1 for _ in folder.iterdir()):
            folder.chmod(0o700)


def is_private(folder: Path) -> bool:
    """Tell whether nobody but this user can put something into a folder."""
    status = folder.stat()
    return os.name == "nt" or (status.st_uid == os.geteuid() and not status.st_mode & 0o022)


def rehearse_write(path: Path) -> None:
    """Begin to write to a database that exists, and leave it as it was.

    Raises:
        sqlite3.Error: it is no database, cannot be written, or another process has been writing for 5 seconds.
    """
    with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=rw", uri=True, timeout=5)) as db:
        db.isolation_level = None
        db.execute("BEGIN IMMEDIATE")
        db.execute("ROLLBACK")
