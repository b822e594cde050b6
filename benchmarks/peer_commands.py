"""How each program is called with the same lines: 64 at once, results kept as by default, no cache, no telemetry."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path

from machine import ROOT

from benchmarks.peer_installs import npm_programs, pip_environment
from benchmarks.stores import Store
from benchmarks.ways import run_at

__all__ = ["OURS", "PEERS", "STALLING", "Command", "Lines", "Peer"]

AT_ONCE = 64
SETTINGS = {"model": "gpt-4o-mini", "temperature": 0.7, "top_p": 1, "max_tokens": 256}
"""As the flow's LLM node has them."""
_FILES = Path(__file__).parent / "peer_files"
_KEY = {"OPENAI_API_KEY": "none"}


@dataclass(frozen=True)
class Lines:
    """What every program is given."""

    llm: str
    data: Path
    """The topics, as the flow's data file."""
    topics: Sequence[str]
    folder: Path
    """For what is written on the way."""
    store: Store

    @property
    def system(self) -> str:
        """Return the system message of the flow's prompt."""
        prompt: str = (ROOT / "joke.jinja2").read_text("utf-8")
        return prompt.partition("# user:")[0].removeprefix("# system:").strip()

    def written(self, name: str, what: object) -> Path:
        """Write something down as JSON."""
        path = self.folder / name
        path.write_text(json.dumps(what), "utf-8")
        return path


@dataclass(frozen=True)
class Command:
    """A command line, what its environment has besides, and the version of what it calls."""

    words: Sequence[str]
    version: str
    env: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Peer:
    """A program; its command is made of the lines and a word that tells calls apart."""

    name: str
    command: Callable[[Lines, str], Command]


def _ours(lines: Lines, call: str) -> Command:
    program, *words = run_at(AT_ONCE).words(lines.data, call)
    env = {"MLFLOW_TRACKING_URI": lines.store.uri_for(call), "PYTHONPATH": os.environ.get("PYTHONPATH", "")}
    return Command([str(Path(sys.executable).with_name(program)), *words], version("pf-mlflow"), env)


def _promptfoo(lines: Lines, call: str) -> Command:
    installed = npm_programs("promptfoo", "node@22")
    prompt = [{"role": "system", "content": lines.system}, {"role": "user", "content": "{{topic}}"}]
    config = {name: value for name, value in SETTINGS.items() if name != "model"} | {"apiBaseUrl": lines.llm}
    suite = {
        "prompts": [json.dumps(prompt)],
        "providers": [{"id": f"openai:chat:{SETTINGS['model']}", "config": config}],
        "tests": [{"vars": {"topic": topic}} for topic in lines.topics],
    }
    words = ["eval", "--config", str(lines.written("promptfooconfig.json", suite)), "--no-cache"]
    words += ["--max-concurrency", str(AT_ONCE), "--no-progress-bar", "--no-table"]
    own = {"PROMPTFOO_CONFIG_DIR": str(lines.folder / call), "PATH": f"{installed.programs}:{os.environ['PATH']}"}
    return Command([str(installed.programs / "promptfoo"), *words], installed.version, _KEY | own)


def _inspect(lines: Lines, call: str) -> Command:
    installed = pip_environment("inspect-ai", "openai")
    asked = lines.written("inspect.json", {"system": lines.system, "topics": lines.topics})
    task = Path(shutil.copy(_FILES / "inspect_task.py", lines.data.parent))  # it takes no file of another folder
    words = ["eval", task.name, "-T", f"lines={asked}"]
    words += ["--model", f"openai/{SETTINGS['model']}", "--model-base-url", lines.llm]
    for name in ("temperature", "top_p", "max_tokens"):
        words += [f"--{name.replace('_', '-')}", str(SETTINGS[name])]
    words += ["--max-connections", str(AT_ONCE), "--display", "none", "--log-dir", str(lines.folder / call)]
    return Command([str(installed.programs / "inspect"), *words], installed.version, _KEY)


def _genai_evaluate(lines: Lines, call: str) -> Command:
    """Lift the limit of its pace, which it would have to find by itself."""
    asked = lines.written("genai.json", {"system": lines.system, "topics": lines.topics, "settings": SETTINGS})
    words = [sys.executable, str(_FILES / "genai_evaluate.py"), str(asked), lines.llm]
    env = {"MLFLOW_GENAI_EVAL_MAX_WORKERS": str(AT_ONCE), "MLFLOW_GENAI_EVAL_PREDICT_RATE_LIMIT": "0"}
    return Command(words, version("mlflow"), env | {"MLFLOW_TRACKING_URI": lines.store.uri_for(call)})


def _genai_evaluate_unhindered(lines: Lines, call: str) -> Command:
    """Give each thread two connections: with MLflow's fifteen for all they wait for one another till a time-out."""
    command = _genai_evaluate(lines, call)
    return replace(command, env={**command.env, "MLFLOW_SQLALCHEMYSTORE_POOL_SIZE": str(2 * AT_ONCE)})


OURS = Peer("`pf-mlflow run`", _ours)
STALLING = Peer("`mlflow.genai.evaluate`, 15 connections", _genai_evaluate)
PEERS = (
    OURS,
    Peer("promptfoo", _promptfoo),
    Peer("Inspect AI", _inspect),
    Peer(f"`mlflow.genai.evaluate`, {2 * AT_ONCE} connections", _genai_evaluate_unhindered),
)
