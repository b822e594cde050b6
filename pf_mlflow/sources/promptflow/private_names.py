"""The only module that uses names which promptflow does not document; checked against promptflow 1.18."""

from __future__ import annotations

import json
import logging
import os
import re
import sqlite3
import sys
from codecs import BOM_UTF8
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from shutil import copyfileobj
from tempfile import NamedTemporaryFile
from typing import Any

from pf_mlflow.errors import BadInput
from pf_mlflow.sqlite_file import Damaged, damage_named

__all__ = [
    "CurrentLine",
    "KEYRING_ENTRY",
    "as_recorded",
    "batch_logger",
    "byte_order_mark_read",
    "connection_secrets",
    "current_batch",
    "current_line",
    "data_rows",
    "database_rows",
    "last_word",
    "other_connection_provider",
    "promptflow_home",
    "run_database",
    "runs_batches",
    "snapshot_ignores",
    "stored_connections",
    "taken_by",
    "watch_workers",
]

KEYRING_ENTRY = ("promptflow", "encryption_key")
"""Service and name under which the system's keyring keeps the key of all connections' secrets."""


@dataclass(frozen=True)
class CurrentLine:
    """Which line this code runs in: of a batch, or a single execution with `line_number` `None`."""

    run_name: str
    line_number: int | None


def current_line() -> CurrentLine | None:
    """Return the line that is being executed in this context, or `None` outside of any."""
    return line_of_attributes(_context_attributes())


def current_batch() -> str:
    """Return the name of the batch whose line or aggregation is executed in this context, `""` outside of any."""
    return str(_context_attributes().get("batch_run_id", ""))


def _context_attributes() -> Any:
    from promptflow.tracing._operation_context import OperationContext

    return OperationContext.get_instance().get("_otel_attributes") or {}


def data_rows(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a data file, or of a folder of such, as promptflow reads them.

    Raises:
        BadInput: it cannot read them.
    """
    from promptflow._utils.load_data import InvalidUserData, load_data

    with byte_order_mark_read():
        try:
            return load_data(path)  # type: ignore[no-any-return]
        except (InvalidUserData, ImportError) as error:
            cause = error.__cause__ or error
            is_text = not isinstance(cause, UnicodeDecodeError)
            why = " ".join(str(cause).split()).rstrip(".") if is_text else "they are not UTF-8; save the file as UTF-8"
            raise BadInput(f"The data {str(path)!r} cannot be read: {why}.") from error


@contextmanager
def byte_order_mark_read() -> Iterator[None]:
    """Let promptflow read JSON lines that begin with a byte order mark, as some editors write them."""
    from promptflow._utils import load_data

    read_file = load_data._pd_read_file

    def read(path: str | Path, *words: Any, **options: Any) -> Any:
        with Path(path).open("rb") as file:
            if file.read(len(BOM_UTF8)) != BOM_UTF8:
                return read_file(path, *words, **options)
            with NamedTemporaryFile(suffix=Path(path).suffix) as copy:
                copyfileobj(file, copy)
                copy.flush()
                return read_file(copy.name, *words, **options)

    load_data._pd_read_file = read
    try:
        yield
    finally:
        load_data._pd_read_file = read_file


def line_of_attributes(attributes: Any) -> CurrentLine | None:
    """Return the line that a span's attributes, or the context's, tell of."""
    if "batch_run_id" in attributes:
        number = attributes.get("line_number")
        return None if number is None else CurrentLine(str(attributes["batch_run_id"]), int(number))
    if "line_run_id" in attributes:
        return CurrentLine(str(attributes["line_run_id"]), None)
    return None


def last_word(info: Any) -> dict[str, Any]:
    """Return what promptflow's run info says of a line's end, as its files have it, and its images' names by base64."""
    images: dict[str, str] = {}
    return {
        "images": images,
        "status": info.status.value,
        "error": info.error,
        "inputs": _plain(info.inputs, images),
        "output": _plain(info.output, images),
        **{name: (at := getattr(info, name)) and f"{at.isoformat()}Z" for name in ("start_time", "end_time")},
    }


def as_recorded(value: Any, kind: str | None) -> Any:
    """Return what a line's file has of a row's value that went to an input of a type; `None` is no type."""
    from promptflow.contracts.tool import ValueType

    with suppress(
        ValueError, TypeError, ArithmeticError
    ):  # no such type, or the value does not fit it: promptflow keeps it as it is
        value = ValueType(kind).parse(value)
    return _plain(value)


def _plain(value: Any, images: dict[str, str] | None = None) -> Any:
    from promptflow.contracts.multimedia import PFBytes
    from promptflow.tracing._utils import serialize

    def name(image: PFBytes) -> str:
        if images is not None:
            images[image.to_base64()] = str(image)
        return str(image)

    return json.loads(json.dumps(serialize(value, serialization_funcs={PFBytes: name}), default=str))


def taken_by(executor: Any, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of a line's inputs that its flow is given; a flex flow is given only what its entry takes."""
    from promptflow.executor._script_executor import ScriptExecutor

    if not isinstance(executor, ScriptExecutor):
        return dict(inputs)
    return {name: value for name, value in inputs.items() if name in executor._inputs or name == "line_number"}


def watch_workers(executing: Callable[[CurrentLine, Mapping[str, Any]], AbstractContextManager[list[Any]]]) -> None:
    """Surround each line that a worker of promptflow's pool executes, once; the list yielded takes its result."""
    from promptflow.executor import _line_execution_process_pool as pool

    execute = pool._exec_line
    if hasattr(execute, "__wrapped__"):
        return

    @wraps(execute)
    def watched(executor: Any, output_queue: Any, *, inputs: Any, run_id: str, index: int, **more: Any) -> Any:
        with executing(CurrentLine(run_id, index), taken_by(executor, inputs)) as results:
            results.append(execute(executor, output_queue, inputs=inputs, run_id=run_id, index=index, **more))
            return results[0]

    pool._exec_line = watched


def runs_batches() -> bool:
    """Tell whether this process has imported promptflow's pool of processes, as the client of a batch has."""
    return "promptflow.executor._line_execution_process_pool" in sys.modules


def batch_logger() -> logging.Logger:
    """Return promptflow's logger whose lines stand in a batch's `logs.txt`; `logging.getLogger` has another one."""
    from promptflow._utils.logger_utils import logger

    return logger  # type: ignore[no-any-return]


def promptflow_home() -> Path:
    """Return promptflow's folder, `~/.promptflow` unless `PF_HOME_DIRECTORY` names another.

    Written out here because importing promptflow's own constant makes the folder.
    """
    configured = os.environ.get("PF_HOME_DIRECTORY")
    return (Path(configured) if configured else Path.home() / ".promptflow").resolve()


def run_database(home: Path) -> Path:
    """Return the SQLite file that holds promptflow's run records."""
    return home / "pf.sqlite"


def database_rows(home: Path, table: str, columns: str, which: str = "", *values: str) -> list[sqlite3.Row]:
    """Return columns of rows of a table of promptflow's database, none where promptflow has not made it yet.

    Raises:
        Damaged: the file is no database, no longer a whole one, or cannot be read.
    """
    database = run_database(home)
    if not database.exists():
        return []
    remedy = "restore it, or move it away: promptflow makes another, without this one's batches and connections"
    try:
        with damage_named(database, remedy):
            with closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True, timeout=10)) as db:
                db.row_factory = sqlite3.Row
                if not db.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (table,)).fetchone():
                    return []
                return db.execute(f"SELECT {columns} FROM {table} {which}", values).fetchall()
    except sqlite3.OperationalError as error:
        raise Damaged(f"{database} cannot be read: {error}.") from error


def stored_connections(home: Path) -> dict[str, list[str]]:
    """Return promptflow's connections on this machine by name, each with its encrypted secrets."""
    rows = database_rows(home, "connection", "connectionName, configs || customConfigs")
    return {name: re.findall(r"gAAAAA[\w=-]{50,}", values or "") for name, values in rows}


def connection_secrets(home: Path) -> list[str]:
    """Return the secrets of promptflow's connections on this machine; none without the key that encrypts them."""
    encrypted = [secret for secrets in stored_connections(home).values() for secret in secrets]
    if not encrypted:
        return []
    import keyring
    from cryptography.fernet import Fernet

    key = keyring.get_password(*KEYRING_ENTRY)
    return [Fernet(key).decrypt(secret).decode() for secret in encrypted] if key else []


def other_connection_provider(home: Path) -> str | None:
    """Return where promptflow is set to take connections from, `None` if from this machine."""
    import yaml

    try:
        config = yaml.safe_load((home / "pf.yaml").read_text(encoding="utf-8"))
        provider = str(config["connection"]["provider"])
    except (OSError, yaml.YAMLError, KeyError, TypeError):
        return None
    return None if provider == "local" else provider


def snapshot_ignores(folder: Path) -> list[str]:
    """Return the patterns of base names that promptflow leaves out when it copies a flow's folder at each run.

    Written out here because importing promptflow's own `PromptflowIgnoreFile` takes 2 s and makes its home folder.
    """
    files = (folder / name for name in (".amlignore", ".gitignore"))
    first = next((path for path in files if path.exists()), None)
    lines = [line.rstrip() for line in first.read_text().splitlines()] if first else []
    return [".git", ".runs", "__pycache__", *lines]
