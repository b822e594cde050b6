"""promptflow's own flows by three ways: `python -m benchmarks.gallery CHECKOUT [NAME…]`, half a minute a flow.

CHECKOUT is a clone of github.com/microsoft/promptflow, or its git directory; a NAME is a part of names in `GALLERY`.
Each flow is executed over its own data by `pf-mlflow run` and, with the three nodes added, by `pf run create`; then the
finished batch is synced into another store. The model is a server on this machine. The table tells whether MLflow shows
by each way what promptflow itself keeps: status, error and output of each line, and the sums, times aside; tokens are
compared with those that the server has counted.
"""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from agreement import as_promptflow_has_it, make_tell, plain, run, sync, the_same, the_same_by_pf
from command_server import CommandServer
from fake_llm import FakeLlm
from machine import Machine, Tracked

from benchmarks.gallery_flows import FOLDERS, GALLERY
from benchmarks.parts import own_folder
from benchmarks.report import measured_on, table
from pf_mlflow.sources.promptflow.flow import read_flow

_HEAD = ["flow", "lines", "failed", "promptflow's own", "`pf` with nodes", "`sync`", "tokens"]
_DATA = ("*data.jsonl", "inputs.jsonl", "sample*.json", "inputs.json")


def main(checkout: str, *names: str) -> None:
    """Print the table, row by row, and what differs to stderr."""
    print(f"Measured {measured_on()}\n")
    wanted = [name for name in GALLERY if not names or any(_means(name, part) for part in names)]
    with own_folder() as folder:
        flows = _extracted(Path(checkout), folder / "flows")
        llm = FakeLlm()
        machine = _machine(folder, llm)
        machine.server = CommandServer(machine.folder, machine.env)
        print(table(_HEAD, []))
        for name in wanted:
            print(table(_Flow(machine, llm, flows, name).row(), []).splitlines()[0], flush=True)
        machine.server.close()
        llm.close()


def _means(name: str, part: str) -> bool:
    return part == name if part in GALLERY else part in name


def _extracted(checkout: Path, folder: Path) -> Path:
    """Return a folder with the files of the flows; a partial clone lacks some pictures."""
    git = ["git", "-C", str(checkout)]
    for first, origin in FOLDERS.items():
        listed = subprocess.run([*git, "ls-tree", "-rz", f"HEAD:{origin}"], capture_output=True, text=True, check=True)
        files = [row.partition("\t") for row in listed.stdout.split("\0") if row]
        blobs = "".join(f"{about.split()[2]}\n" for about, _, _ in files).encode()
        contents = io.BytesIO(subprocess.run([*git, "cat-file", "--batch"], input=blobs, capture_output=True).stdout)
        for about, _, name in files:
            if (told := contents.readline().split())[-1] == b"missing":
                continue
            content = contents.read(int(told[2]) + 1)[:-1]
            path = folder / first / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.symlink_to(content.decode()) if about.startswith("120000") else path.write_bytes(content)
    return folder


def _machine(folder: Path, llm: FakeLlm) -> Machine:
    """Return a machine with all that the flows name: connections, and variables that lead to the model."""
    base = llm.base_url.removesuffix("/v1")
    machine = Machine(folder / "machine")
    machine.env |= {
        "AZURE_OPENAI_API_KEY": "none-0123456789",
        "AZURE_OPENAI_API_BASE": base,
        "AZURE_OPENAI_ENDPOINT": base,
        "OPENAI_API_VERSION": "2024-02-01",
        "PF_DISABLE_TRACING": "false",
    }
    custom = {"api_key": "none-0123456789", "api_base": base, "api_type": "azure", "api_version": "2024-02-01"}
    azure = {"type": "azure_open_ai", **custom}
    for name, values in (
        ("open_ai_connection", azure),
        ("azure_open_ai_connection", azure),
        ("basic_custom_connection", {"type": "custom", "secrets": {"api_key": custom["api_key"]}, "configs": custom}),
    ):
        path = folder / f"{name}.yaml"
        path.write_text(json.dumps({"name": name, **values}), "utf-8")
        machine.pf("connection", "create", "--file", str(path))
    return machine


class _Flow:
    """One flow of the gallery, in copies of its own."""

    def __init__(self, machine: Machine, llm: FakeLlm, flows: Path, name: str) -> None:
        self._machine, self._llm, self._flows, self._name = machine, llm, flows, name
        self._batch = re.sub(r"\W+", "_", name)
        self._is_prompty = name.endswith(".prompty")

    def row(self) -> list[Any]:
        """Execute it by all ways, and return its row of the table."""
        try:
            return self._row()
        except Exception as error:  # noqa: BLE001 - the others go on
            print(f"{self._name}: {type(error).__name__}: {error}", file=sys.stderr)
            return [self._name, *["?"] * (len(_HEAD) - 1)]

    def _row(self) -> list[Any]:
        flow, data = self._copy("bare"), self._data()
        before = self._counted()
        shown = run(self._machine, flow, data, self._batch)
        counted = self._counted() - before
        return [
            self._name,
            len(shown.children),
            int(shown.parent.data.metrics["lines_failed"]),
            self._answer("own", lambda: as_promptflow_has_it(self._machine, self._batch, shown)),
            "—" if self._is_prompty else self._answer("plain", lambda: the_same_by_pf(shown, self._plain(data))),
            self._answer("sync", lambda: the_same(shown, sync(self._machine, self._batch))),
            f"{int(shown.parent.data.metrics.get('total_tokens', 0))} of {counted}",
        ]

    def _counted(self) -> int:
        return self._llm.tokens

    def _copy(self, way: str) -> Path:
        """Return a copy of the flow or prompty; what it includes lies beside it as ever."""
        target = self._machine.folder / way / self._batch
        kind = Path(*Path(self._name).parts[:2])
        shutil.copytree(self._flows / kind, target / kind, symlinks=True)
        flow = target / self._name
        if (init := flow / "init.json").is_file():
            definition = {**read_flow(flow).definition, "sample": {"init": json.loads(init.read_text("utf-8"))}}
            (flow / "flow.flex.yaml").write_text(json.dumps(definition), "utf-8")
        return flow

    def _data(self) -> Path:
        if rows := GALLERY[self._name]:
            return self._machine.data(self._batch, [dict(row) for row in rows])
        folder = (self._flows / self._name).parent if self._is_prompty else self._flows / self._name
        path = next(path for pattern in _DATA for path in sorted(folder.glob(pattern)))
        if path.suffix == ".jsonl":
            return path  # it may name pictures that lie beside it
        rows = json.loads(path.read_text("utf-8"))
        return self._machine.data(self._batch, rows if isinstance(rows, list) else [rows])

    def _plain(self, data: Path) -> Tracked:
        flow = self._copy("nodes")
        make_tell(self._machine, flow)
        return plain(self._machine, flow, data, f"{self._batch}_plain")

    def _answer(self, way: str, check: Any) -> str:
        try:
            check()
        except AssertionError as error:
            print(f"{self._name}, {way}: {error}", file=sys.stderr, flush=True)
            return "differs"
        return "equal"


if __name__ == "__main__":
    os.environ.setdefault("PYTHONWARNINGS", "ignore")
    main(*sys.argv[1:])
