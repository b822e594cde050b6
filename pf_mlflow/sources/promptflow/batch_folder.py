"""The folder that promptflow keeps of a batch: its lines, its outputs, a copy of its flow, its log."""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from pf_mlflow.errors import BadInput
from pf_mlflow.records.line import COMPLETED, FAILED, LineRecord
from pf_mlflow.sources.promptflow.flow import flow_nodes, read_flow
from pf_mlflow.sources.promptflow.run_info import line_of_run_info
from pf_mlflow.sources.promptflow.run_record import NOWHERE, RunRecord

__all__ = ["BatchFolder", "data_files", "digest", "flow_files_of"]

log = logging.getLogger(__name__)

_FLOW_FILES = {".py", ".jinja2", ".yaml", ".yml", ".prompty", ".json", ".txt"}


@dataclass(frozen=True)
class BatchFolder:
    """What promptflow keeps of one batch; nothing, where it names no folder."""

    path: Path
    flow: Path | None = None
    """The folder of the flow that ran; `None` is the copy in this one."""

    @classmethod
    def of(cls, record: RunRecord | None) -> BatchFolder:
        """Return the folder that a record names."""
        return cls(record.folder, record.flow_as_run) if record else cls(NOWHERE)

    @property
    def _copy(self) -> Path:
        return self.path / "snapshot"

    @property
    def lines_folder(self) -> Path:
        """Its lines, a file each."""
        return self.path / "flow_artifacts"

    @property
    def outputs_file(self) -> Path:
        """The outputs of its completed lines, which promptflow writes when it ends."""
        return self.path / "flow_outputs" / "output.jsonl"

    def lines(
        self, batch_uid: str, name: str, wanted: Callable[[int], bool] = lambda number: True
    ) -> Iterator[LineRecord]:
        """Yield the wanted lines in order of their numbers, as lines of the batch with this uid and name."""
        nodes = flow_nodes(self.flow or self._copy)
        takes = self._takes()
        for number, info in self.run_infos(wanted):
            with suppress(ValueError, KeyError, TypeError):
                inputs = (info.get("inputs") or {}).items()
                info["inputs"] = {name: value for name, value in inputs if takes is None or name in takes}
                yield line_of_run_info(batch_uid, name, number, info, nodes, self.path)

    def _takes(self) -> Collection[str] | None:
        """Return which values of a row a flex flow's entry takes: promptflow adds them to the YAML in its copy."""
        with suppress(BadInput):
            flow = read_flow(self._copy)
            return None if flow.is_dag else flow.inputs
        return None

    def inputs(self, wanted: Callable[[int], bool]) -> dict[int, dict[str, Any]]:
        """Return the inputs of the wanted lines by number, with all decimals, which `inputs.jsonl` has not."""
        return {number: info.get("inputs") or {} for number, info in self.run_infos(wanted)}

    def run_infos(self, wanted: Callable[[int], bool]) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yield promptflow's record of the wanted lines by number."""
        for path in self._line_files():
            if not any(map(wanted, _numbers_in(path))):
                continue
            for text in _text(path).split("\n"):
                try:
                    line = json.loads(text)
                    number, info = line["line_number"], line["run_info"]
                except (ValueError, KeyError, TypeError):  # a line that was being written when its writer was killed
                    continue
                if wanted(number):
                    yield number, info

    def decided(self, batch_uid: str) -> Iterator[LineRecord]:
        """Yield status and outputs of each line, in no order; from one file, where promptflow came to write it."""
        path = self.outputs_file
        if not path.is_file():
            yield from (replace(line, inputs={}, spans=()) for line in self.lines(batch_uid, ""))
            return
        shown = flow_nodes(self.flow or self._copy).shown_outputs
        failed = {number for file in self._line_files() for number in _numbers_in(file)}
        with path.open(encoding="utf-8") as file:
            for text in file:
                with suppress(
                    ValueError, KeyError, TypeError, AttributeError
                ):  # a line that was being written when its writer was killed
                    outputs = json.loads(text)
                    failed.discard(number := outputs.pop("line_number"))
                    yield LineRecord(batch_uid, number, COMPLETED, 0.0, 0.0, outputs=shown(outputs))
        yield from (LineRecord(batch_uid, number, FAILED, 0.0, 0.0) for number in failed)

    def unread(self, wanted: Callable[[int], bool]) -> set[int]:
        """Return the wanted lines that there are, by files' names and by the outputs, but that cannot be read."""
        numbers = {number for path in self._line_files() for number in self._named_in(path)} | self._with_output()
        unread = set(filter(wanted, numbers))
        return unread - {line.line_number for line in self.lines("", "", unread.__contains__)} if unread else unread

    @staticmethod
    def _named_in(path: Path) -> range:
        """Return the line that a file is of; one of several lines need not have all in its name."""
        numbers = _numbers_in(path)
        return numbers if len(numbers) == 1 else range(0)

    def _with_output(self) -> set[int]:
        numbers = set()
        for text in _text(self.outputs_file).split("\n") if self.outputs_file.is_file() else ():
            with suppress(ValueError, KeyError, TypeError):  # a line that was being written when its writer was killed
                numbers.add(int(json.loads(text)["line_number"]))
        return numbers

    def count(self) -> int:
        """Return how many lines there are, by the names of their files."""
        return sum(len(_numbers_in(path)) for path in self._line_files())

    def _line_files(self) -> list[Path]:
        files = self.lines_folder.glob("*.jsonl")
        return sorted(path for path in files if re.fullmatch(r"[0-9]+_[0-9]+", path.stem, re.ASCII))

    def named_runs(self) -> dict[int, str]:
        """Return the child run ids that the batch's outputs name, by line."""
        try:
            outputs = map(json.loads, self.outputs_file.read_text("utf-8").splitlines())
            return {one["line_number"]: one["child_run_id"] for one in outputs if one.get("child_run_id")}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return {}

    def flow_hash(self) -> str | None:
        """Return the hash of the flow's files as they ran; `None` until promptflow has copied them."""
        return digest(flow_files_of(self._copy), self._copy) if self._copy.is_dir() else None

    def last_written(self) -> float | None:
        """Return when something was written here last, in Unix seconds."""
        if not self.path.is_dir():
            return None
        return max(path.stat().st_mtime for path in (self.path, *self.path.iterdir()))

    def last_line_written(self) -> float | None:
        """Return when the last line ended, in Unix seconds; `None` if none has."""
        return max((path.stat().st_mtime for path in self._line_files()), default=None)

    def log(self, sentence: str) -> None:
        """Write a warning into the batch's `logs.txt`."""
        path = self.path / "logs.txt"
        with suppress(OSError):
            if not path.is_file():
                return
            now = datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M:%S %z")
            with path.open("a", encoding="utf-8") as logs:
                logs.write(f"{now} {'':7} pf-mlflow            WARNING  {sentence}\n")


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:  # one odd file keeps no other line back
        log.warning("%s cannot be read: %s", path, error)
        return ""


def _numbers_in(path: Path) -> range:
    """Return the line numbers in a file, which its name tells: `000000000_000000024.jsonl`."""
    first, _, last = path.stem.partition("_")
    return range(int(first), int(last) + 1)


def flow_files_of(folder: Path) -> list[Path]:
    """Return the files in a flow's folder that make the flow, hidden ones left out."""
    files = (path for path in folder.rglob("*") if path.suffix in _FLOW_FILES and path.is_file())
    return sorted(path for path in files if not any(part.startswith(".") for part in path.relative_to(folder).parts))


def data_files(data: Path) -> list[Path]:
    """Return the files that a batch's data are: one, or those of a folder, none where they are not there any more."""
    if data.is_file():
        return [data]
    return sorted(path for path in data.rglob("*") if path.is_file()) if data.is_dir() else []


def digest(files: Iterable[Path], base: Path | None = None) -> str:
    """Return a hash of files' contents, and of their paths below `base`."""
    content = hashlib.sha256()
    for path in files:
        if base:
            content.update(f"\0{path.relative_to(base).as_posix()}\0".encode())
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                content.update(block)
    return content.hexdigest()[:16]
