"""What `pf-mlflow init` put into a flow's folder, kept there so that it can be taken out again byte for byte."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from pf_mlflow.adoption.changes import FolderChange, read_text
from pf_mlflow.adoption.text_edits import Edit, taken_back
from pf_mlflow.errors import BadInput

__all__ = ["Added", "EditedFile", "removal"]


@dataclass(frozen=True)
class EditedFile:
    """Edits of one file, in the order in which they were made."""

    path: str
    edits: Sequence[Edit]
    created: bool = False
    """Whether there was no such file before."""


@dataclass
class Added:
    """What is in a flow's folder that its author did not write."""

    NAME = ".pf_mlflow.json"

    version: str
    files: dict[str, str] = field(default_factory=dict)
    """Whole files and their hashes."""
    folders: list[str] = field(default_factory=list)
    edited: list[EditedFile] = field(default_factory=list)

    @classmethod
    def in_folder(cls, flow_dir: Path) -> Added | None:
        """Return what was put into a folder, `None` if nothing was.

        Raises:
            BadInput: the file that tells cannot be read.
        """
        path = flow_dir / cls.NAME
        if not path.is_file():
            return None
        try:
            data = json.loads(read_text(path))
            edited = [EditedFile(e["path"], [Edit(**x) for x in e["edits"]], e["created"]) for e in data["edited"]]
            return cls(data["version"], dict(data["files"]), list(data["folders"]), edited)
        except (ValueError, KeyError, TypeError) as error:
            raise BadInput(f"{path} is damaged ({error!r}); bring it back, from git for example.") from error

    def to_bytes(self) -> bytes:
        """Return it as it is kept."""
        return (json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n").encode()

    @property
    def has_package(self) -> bool:
        """Whether the copy of this package is ours."""
        return any(path.startswith("pf_mlflow/") for path in self.files)

    def is_untouched(self, flow_dir: Path, path: str) -> bool:
        """Tell whether a file is ours and nobody has changed it since."""
        full = flow_dir / path
        return path in self.files and full.is_file() and self.files[path] == digest(full.read_bytes())


def digest(content: bytes) -> str:
    """Return what tells one content from another."""
    return hashlib.sha256(content).hexdigest()


def removal(flow_dir: Path) -> FolderChange:
    """Return the change that takes out what was put in.

    Raises:
        BadInput: nothing was put in, or it was changed since, so that it is not ours alone any more.
    """
    added = Added.in_folder(flow_dir)
    if added is None:
        raise BadInput(
            f"There is nothing to take out of {flow_dir}: it has no {Added.NAME}, where `pf-mlflow init` notes what it "
            "puts in. What was put in by hand has to be taken out by hand."
        )
    there = [path for path in added.files if (flow_dir / path).is_file()]
    if changed := [path for path in there if not added.is_untouched(flow_dir, path)]:
        raise BadInput(
            f"{', '.join(changed)} in {flow_dir} was changed since `pf-mlflow init` put it there; move it away if you "
            "want to keep it, else delete it, then try again. Nothing was changed."
        )
    change = FolderChange(flow_dir, dict.fromkeys(there), tuple(added.folders))
    for path, content in _texts_before(flow_dir, added.edited).items():
        change.put(path, content)
    change.put(Added.NAME, None)
    return change


def _texts_before(flow_dir: Path, edited: Sequence[EditedFile]) -> dict[str, bytes | None]:
    paths = dict.fromkeys(one.path for one in edited if (flow_dir / one.path).is_file())
    texts = {path: read_text(flow_dir / path) for path in paths}
    for one in reversed(edited):
        if one.path in texts:
            texts[one.path] = _before(flow_dir / one.path, texts[one.path], one.edits)
    created = {one.path for one in edited if one.created}
    return {path: None if path in created and not text else text.encode() for path, text in texts.items()}


def _before(path: Path, text: str, edits: Sequence[Edit]) -> str:
    try:
        return taken_back(text, edits)
    except ValueError as error:
        first = str(error).strip().splitlines()[0].strip()
        raise BadInput(
            f"{path} was changed where `pf-mlflow init` had put {first!r}; write it as it was, or take out the rest "
            f"by hand and delete {Added.NAME}. Nothing was changed."
        ) from error
