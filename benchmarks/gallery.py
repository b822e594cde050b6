"""promptflow's own examples by three ways: `python -m benchmarks.gallery CHECKOUT [NAME…]`, about a quarter of an hour.

CHECKOUT is a clone of github.com/microsoft/promptflow, or its git directory. Every flow in `GALLERY` that runs offline
is executed over its own data by `pf-mlflow run` and, with the three nodes added, by `pf run create`; then the finished
batch is synced into another store. The model is a server on this machine. The table tells whether MLflow shows by each
way what promptflow itself keeps: status, error and output of each line, and the sums, times aside; tokens are compared
with those that the server has counted.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agreement import as_promptflow_has_it, make_tell, plain, run, sync, the_same
from fake_llm import COMPLETION_TOKENS, PROMPT_TOKENS, FakeLlm
from machine import Machine, Tracked

from benchmarks.parts import own_folder
from benchmarks.report import measured_on, table
from pf_mlflow.sources.promptflow.flow import read_flow

STANDARD, CHAT, EVALUATION = "flows/standard", "flows/chat", "flows/evaluation"
MODEL = {"connection": "open_ai_connection", "azure_deployment": "gpt-4o"}
GALLERY: Mapping[str, Any] = {
    f"{STANDARD}/basic": None,
    f"{STANDARD}/basic-with-builtin-llm": None,
    f"{STANDARD}/basic-with-connection": None,
    f"{STANDARD}/conditional-flow-for-switch": None,
    f"{STANDARD}/gen-docstring": None,
    f"{STANDARD}/maths-to-code": None,
    f"{STANDARD}/named-entity-recognition": None,
    f"{CHAT}/chat-basic": [{"question": "What is ChatGPT?", "chat_history": []}],
    f"{CHAT}/chat-math-variant": None,
    f"{EVALUATION}/eval-accuracy-maths-to-code": None,
    f"{EVALUATION}/eval-basic": None,
    f"{EVALUATION}/eval-chat-math": None,
    f"{EVALUATION}/eval-classification-accuracy": None,
    f"{EVALUATION}/eval-entity-match-rate": None,
    f"{EVALUATION}/eval-groundedness": None,
    f"{EVALUATION}/eval-multi-turn-metrics": [{"metrics": "creativity,answer_relevance"}],
    f"{EVALUATION}/eval-perceived-intelligence": None,
    f"{EVALUATION}/eval-qna-rag-metrics": None,
    f"{EVALUATION}/eval-single-turn-metrics": None,
    "flex-flows/basic": None,
    "flex-flows/chat-basic": None,
    "flex-flows/chat-minimal": None,
    "flex-flows/chat-stream": None,
    "flex-flows/eval-checklist": None,
    "flex-flows/eval-code-quality": None,
    "prompty/basic/basic.prompty": None,
    "prompty/chat-basic/chat.prompty": None,
    "prompty/eval-basic/eval.prompty": None,
    "prompty/format-output/all_response.prompty": None,
    "prompty/format-output/json_format.prompty": None,
    "prompty/format-output/stream_output.prompty": None,
    "prompty/format-output/text_format.prompty": None,
}
"""The examples that need no network, no further packages and nothing of a model but chat, and do not answer by chance;
rows for those that bring none. `eval-summarization` is left out: its four nodes, which ask at once, all fail over an
answer without a number, and what the others had done when the first one ended the line is chance."""
_IN_CHECKOUT = ("examples/flows", "examples/flex-flows", "examples/prompty")
_HEAD = ["flow", "lines", "failed", "promptflow's own", "`pf` with nodes", "`sync`", "tokens"]


def main(checkout: str, *names: str) -> None:
    """Print the table, row by row, and what differs to stderr."""
    print(f"Measured {measured_on()}\n")
    wanted = [name for name in GALLERY if not names or any(part in name for part in names)]
    with own_folder() as folder:
        examples = _extracted(Path(checkout), folder)
        llm = FakeLlm()
        machine = _machine(folder, llm)
        print(table(_HEAD, []))
        for name in wanted:
            print(table(_Example(machine, llm, examples, name).row(), []).splitlines()[0], flush=True)
        llm.close()


def _extracted(checkout: Path, folder: Path) -> Path:
    """Return a folder with the files of the examples; a partial clone lacks some pictures."""
    git = ["git", "-C", str(checkout)]
    listed = subprocess.run([*git, "ls-tree", "-rz", "HEAD", *_IN_CHECKOUT], capture_output=True, text=True, check=True)
    for row in filter(None, listed.stdout.split("\0")):
        (mode, _, blob), name = row.partition("\t")[0].split(), row.partition("\t")[2]
        found = subprocess.run([*git, "cat-file", "blob", blob], capture_output=True, check=False)
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if mode == "120000":
            path.symlink_to(found.stdout.decode())
        elif not found.returncode:
            path.write_bytes(found.stdout)
    return folder / "examples"


def _machine(folder: Path, llm: FakeLlm) -> Machine:
    """Return a machine with all that the examples name: connections, and variables that lead to the model."""
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
        ("basic_custom_connection", {"type": "custom", "secrets": {"api_key": custom["api_key"]}, "configs": custom}),
    ):
        path = folder / f"{name}.yaml"
        path.write_text(json.dumps({"name": name, **values}), "utf-8")
        machine.pf("connection", "create", "--file", str(path))
    return machine


class _Example:
    """One flow of the gallery, in copies of its own."""

    def __init__(self, machine: Machine, llm: FakeLlm, examples: Path, name: str) -> None:
        self._machine, self._llm, self._examples, self._name = machine, llm, examples, name
        self._batch = name.replace("/", "_").replace(".", "_")
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
            "—" if self._is_prompty else self._answer("plain", lambda: the_same(shown, self._plain(data))),
            self._answer("sync", lambda: the_same(shown, sync(self._machine, self._batch))),
            f"{int(shown.parent.data.metrics.get('total_tokens', 0))} of {counted}",
        ]

    def _counted(self) -> int:
        return self._llm.requests[200] * (PROMPT_TOKENS + COMPLETION_TOKENS)

    def _copy(self, way: str) -> Path:
        """Return a copy of the flow, or of the folder of a prompty; what it includes lies beside it as ever."""
        target = self._machine.folder / way / self._batch
        shutil.copytree(self._examples, target, symlinks=True)
        flow = target / self._name
        if (init := flow / "init.json").is_file():
            definition = {**read_flow(flow).definition, "sample": {"init": json.loads(init.read_text("utf-8"))}}
            (flow / "flow.flex.yaml").write_text(json.dumps(definition), "utf-8")
        return flow

    def _data(self) -> Path:
        folder = self._examples / (Path(self._name).parent if self._is_prompty else self._name)
        if rows := GALLERY[self._name]:
            return self._machine.data(self._batch, rows)
        path = next(iter([*sorted(folder.glob("*data.jsonl")), *sorted(folder.glob("sample*.json"))]))
        text = path.read_text("utf-8")
        rows = [json.loads(line) for line in text.splitlines() if line] if path.suffix == ".jsonl" else json.loads(text)
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
