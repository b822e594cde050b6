"""What `pf-mlflow init` put into a flow's folder, kept there so that it can be taken out again byte for byte."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from pf_mlflow.adoption.changes import FolderChange, inside, read_text
from pf_mlflow.adoption.vendor import COPY
from pf_mlflow.adoption.yaml_edit import Edit, taken_back
from pf_mlflow.errors import BadInput
from pf_mlflow.sources.promptflow.flow_files import PACKAGE

__all__ = ["EditedFile", "Manifest", "digest", "removal"]


@dataclass(frozen=True)
class EditedFile:
    """Edits of one file, in the order in which they were made."""

    path: str
    edits: Sequence[Edit]
    created: bool = False
    """Whether there was no such file before."""


@dataclass
class Manifest:
    """What is in a flow's folder that its author did not write."""

    NAME = ".pf_mlflow.json"

    version: str
    files: dict[str, str] = field(default_factory=dict)
    """Whole files and their hashes."""
    folders: list[str] = field(default_factory=list)
    edited: list[EditedFile] = field(default_factory=list)

    @classmethod
    def in_folder(cls, flow_dir: Path) -> Manifest | None:
        """Return what was put into a folder, `None` if nothing was.

        Raises:
            BadInput: the manifest cannot be read, or names what is not in the folder.
        """
        path = flow_dir / cls.NAME
        if not path.is_file():
            return None
        try:
            data = json.loads(read_text(path))
            edited = [EditedFile(e["path"], [Edit(**x) for x in e["edits"]], e["created"]) for e in data["edited"]]
            manifest = cls(data["version"], dict(data["files"]), list(data["folders"]), edited)
        except (ValueError, KeyError, TypeError) as error:
            raise BadInput(f"{path} is damaged ({error!r}); bring it back, from git for example.") from error
        for name in (*manifest.files, *manifest.folders, *(one.path for one in edited)):
            inside(flow_dir, name)
        return manifest

    def to_bytes(self) -> bytes:
        """Return it as it is kept."""
        return (json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n").encode()

    @property
    def has_copy(self) -> bool:
        """Whether the flow carries a copy of this package that is ours: a zip, or a folder of earlier versions."""
        return any(path.partition("/")[0] in (PACKAGE.name, COPY) for path in self.files)

    def is_untouched(self, flow_dir: Path, path: str) -> bool:
        """Tell whether a file is ours and nobody has changed it since."""
        full = flow_dir / path
        return path in self.files and full.is_file() and self.files[path] == digest(full.read_bytes())

    def changed_since(self, flow_dir: Path) -> list[str]:
        """Return the files of ours that somebody has changed."""
        there = (path for path in self.files if (flow_dir / path).is_file())
        return [path for path in there if not self.is_untouched(flow_dir, path)]

    def text_before(self, flow_dir: Path, path: str) -> str:
        """Return the text of an edited file without our edits; what others changed in it stays.

        Raises:
            BadInput: it was changed where our edits are.
        """
        text = read_text(flow_dir / path)
        try:
            for one in reversed([one for one in self.edited if one.path == path]):
                text = taken_back(text, one.edits)
        except ValueError as error:
            first = str(error).strip().splitlines()[0].strip()
            raise BadInput(
                f"{flow_dir / path} was changed where `pf-mlflow init` had put {first!r}; write it as it was, or take "
                f"out the rest by hand and delete {self.NAME}. Nothing was changed."
            ) from error
        return text


def digest(content: bytes) -> str:
    """Return what tells one content from another."""
    return hashlib.sha256(content).hexdigest()


def removal(flow_dir: Path) -> FolderChange:
    """Return the change that takes out what was put in.

    Raises:
        BadInput: nothing was put in, or it was changed since, so that it is not ours alone any more.
    """
    manifest = Manifest.in_folder(flow_dir)
    if manifest is None:
        raise BadInput(
            f"There is nothing to take out of {flow_dir}: it has no {Manifest.NAME}, where `pf-mlflow init` notes what "
            "it puts in. What was put in by hand has to be taken out by hand."
        )
    if changed := manifest.changed_since(flow_dir):
        raise BadInput(
            f"{', '.join(changed)} in {flow_dir} was changed since `pf-mlflow init` put it there; move it away if you "
            "want to keep it, else delete it, then try again. Nothing was changed."
        )
    there = (path for path in manifest.files if (flow_dir / path).is_file())
    change = FolderChange(flow_dir, dict.fromkeys(there), tuple(manifest.folders))
    created = {one.path for one in manifest.edited if one.created}
    for path in sorted({one.path for one in manifest.edited if (flow_dir / one.path).is_file()}):
        text = manifest.text_before(flow_dir, path)
        change.put(path, None if path in created and not text else text.encode())
    change.put(Manifest.NAME, None)
    return change
