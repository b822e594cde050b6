"""`pf-mlflow init`: flows of every public shape get child runs, and come back byte for byte."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result
from fake_llm import COMPLETION_TOKENS, PROMPT_TOKENS
from machine import FLOWS, ROOT, Machine, Tracked, tracked
from packaging.requirements import Requirement

from pf_mlflow import __version__
from pf_mlflow.adoption.manifest import Manifest, digest
from pf_mlflow.adoption.requirements import own_requirement
from pf_mlflow.adoption.vendor import FIND_COPY, node_file, vendored_package
from pf_mlflow.adoption.wiring import CALLS
from pf_mlflow.cli import main
from pf_mlflow.sources.promptflow.private_names import snapshot_ignores

TOKENS = PROMPT_TOKENS + COMPLETION_TOKENS
PUBLIC = FLOWS / "public"
SHAPES = sorted(path.name for path in PUBLIC.iterdir())
RUN_ALL = """
import json, sys
from pathlib import Path
from promptflow.client import PFClient

if __name__ == "__main__":
    client, told = PFClient(), {}
    for flow in map(Path, sys.argv[2:]):
        inputs = json.loads((flow / "data.jsonl").read_text("utf-8").splitlines()[0])
        told[flow.name] = client.flows.validate(flow).passed
        mapping = {name: "${data.%s}" % name for name in inputs}
        client.run(flow=flow, data=flow / "data.jsonl", column_mapping=mapping, name=flow.name)
    Path(sys.argv[1]).write_text(json.dumps(told))
"""


def contents(folder: Path) -> dict[str, tuple[bytes, int]]:
    """All files of a folder as they are, links as where they point; folders too, so that none stays behind."""
    found = {}
    for path in folder.rglob("*"):
        data = os.readlink(path).encode() if path.is_symlink() else path.read_bytes() if path.is_file() else b""
        found[str(path.relative_to(folder))] = (data, path.lstat().st_mode)
    return found


def init(*words: str | Path, typed: str = "") -> Result:
    return CliRunner().invoke(main, ["init", *map(str, words)], input=typed)


@pytest.fixture(scope="module")
def adopted(machine: Machine, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All public shapes, each given child runs by one command and then run by promptflow."""
    folder = tmp_path_factory.mktemp("adopted") / "public"
    shutil.copytree(PUBLIC, folder, symlinks=True)
    for name in SHAPES:
        done = init(folder / name, "--yes")
        assert done.exit_code == 0, done.output
    script = machine.cwd / "run_all.py"
    script.write_text(RUN_ALL)
    told = folder.parent / "validated.json"
    flows = [str(folder / name) for name in SHAPES]
    done = machine.command("python", str(script), str(told), *flows, cwd=folder.parent, PF_WORKER_COUNT="2")
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def batches(adopted: Path) -> dict[str, Tracked]:
    return {name: tracked(f"sqlite:///{adopted.parent / 'mlflow.db'}", name, 60) for name in SHAPES}


@pytest.mark.slow
def test_every_shape_is_valid_afterwards(adopted: Path) -> None:
    assert json.loads((adopted.parent / "validated.json").read_text()) == dict.fromkeys(SHAPES, True)


@pytest.mark.slow
@pytest.mark.parametrize("name", SHAPES)
def test_every_line_of_every_shape_is_a_child_run(batches: dict[str, Tracked], name: str) -> None:
    data = [json.loads(line) for line in (PUBLIC / name / "data.jsonl").read_text("utf-8").splitlines()]
    batch = batches[name]
    assert sorted(batch.children) == list(range(len(data)))
    assert {child.info.status for child in batch.children.values()} == {"FINISHED"}
    assert batch.parent.data.metrics["lines_completed"] == len(data)
    for number, line in enumerate(data):
        params = batch.children[number].data.params
        shown = " ".join(value for key, value in params.items() if "input_" in key)
        assert str(next(iter(line.values()))) in shown and params["output"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "tokens"),
    [
        ("basic-llm", [TOKENS, TOKENS]),
        ("several-llm", [2 * TOKENS, 2 * TOKENS]),
        ("additional-includes", [2 * TOKENS, 2 * TOKENS]),
        ("python-sdk", [TOKENS, TOKENS]),
        ("images", [TOKENS, TOKENS]),
        ("if-else", [TOKENS, None]),  # whose other branch calls no LLM
        ("switch", [TOKENS, TOKENS, None]),
        ("evaluation", [None, None]),
    ],
)
def test_tokens_of_nodes_that_were_skipped_are_absent(
    batches: dict[str, Tracked], name: str, tokens: list[int | None]
) -> None:
    assert batches[name].column("metrics", "total_tokens") == tokens


@pytest.mark.slow
def test_each_shape_shows_what_it_is_about(batches: dict[str, Tracked]) -> None:
    assert json.loads(batches["chat"].children[1].data.params["input_chat_history"])[0]["outputs"] == {"answer": "Ada."}
    assert batches["if-else"].children[1].data.params["output"] == "I cannot answer 'What is a bomb?'."
    assert batches["switch"].children[1].data.params["product_info.output"] == "a joke about Explain: your product"
    assert "order_search.output" not in batches["switch"].children[1].data.params
    assert batches["variants"].children[0].data.params["input_temperature"] == "0.2"
    assert batches["images"].children[0].data.params["input_test_image"].startswith("Image(")
    assert batches["names-taken"].children[0].data.params["output"] == "a joke about one"


@pytest.mark.slow
@pytest.mark.parametrize("name", SHAPES)
def test_taken_out_every_file_is_as_it_was(adopted: Path, batches: dict[str, Tracked], name: str) -> None:
    assert "Nothing to do" in init(adopted / name).output
    left = adopted / name / ".promptflow"  # promptflow's own, made when it validates
    shutil.rmtree(left, ignore_errors=True)
    done = init(adopted / name, "--remove", "--yes")
    assert done.exit_code == 0 and contents(adopted / name) == contents(PUBLIC / name)


# What else it does, and does not


@pytest.fixture
def flow(tmp_path: Path) -> Path:
    return shutil.copytree(PUBLIC / "basic-llm", tmp_path / "my flow")


def test_it_shows_asks_and_says_what_to_do_next(flow: Path) -> None:
    before = contents(flow)
    for words, typed, code in [(["--dry-run"], "", 0), ([], "n\n", 1), ([], "", 1)]:
        shown = init(flow, *words, typed=typed)
        assert shown.exit_code == code and contents(flow) == before
        assert "+- name: save_mlflow_tracking" in shown.output and "new: nodes/finalize.py" in shown.output
    assert "--yes" in shown.output
    done = init(flow, typed="y\n")
    assert done.exit_code == 0
    command = f"pf run create --flow '{flow}' --data '{flow}/data.jsonl' --column-mapping 'text=${{data.text}}'"
    assert command in done.output


def test_what_was_there_is_kept(flow: Path) -> None:
    (flow / ".amlignore").write_text("*.log\nmlruns\n.venv/")
    (flow / "requirements.txt").write_text("MLflow==2.22.0\nopenai  # any\npromptflow[azure]>=1.18\n-e ./mine\n")
    done = init(flow, "--yes", "--node", "llm", "--vendor")
    assert "requirements.txt pins MLflow==2.22.0, but child runs need MLflow<=3.15.0,>=3.1" in done.output
    requirements = (flow / "requirements.txt").read_text()
    assert requirements.startswith("MLflow==2.22.0\nopenai  # any\npromptflow[azure]>=1.18\n-e ./mine\n")
    assert requirements.lower().count("mlflow") == 1 + 1 and "psutil" in requirements  # azureml-mlflow is another one
    assert (flow / ".amlignore").read_text() == "*.log\nmlruns\n.venv/\n.venv\nmlflow.db\nmlflow.db-*\nmlartifacts\n"
    assert not (flow / ".gitignore").exists()  # promptflow looks at one of the two
    dag = yaml.safe_load((flow / "flow.dag.yaml").read_text())
    assert dag["nodes"][-2]["inputs"]["record_nodes"] == ["llm"]
    assert "record_nodes" not in init(flow, "--node", "llm").output


def test_another_node_to_record_is_for_the_author_to_write(flow: Path) -> None:
    init(flow, "--yes")
    told = init(flow, "--node", "llm").output
    assert "write record_nodes: ['llm'] as an input of save_mlflow_tracking" in told and "Nothing to do" in told


def test_promptflow_copies_nothing_that_runs_leave_behind(flow: Path) -> None:
    init(flow, "--yes")
    patterns = snapshot_ignores(flow)
    for name in (".venv", "mlflow.db", "mlflow.db-wal", "mlruns", "mlartifacts"):
        assert any(fnmatch(name, pattern) for pattern in patterns)


def test_removal_leaves_what_was_written_since(flow: Path) -> None:
    init(flow, "--yes")
    dag = flow / "flow.dag.yaml"
    dag.write_text("# mine\n" + dag.read_text().replace("max_tokens: '120'", "max_tokens: '99'"))
    (flow / ".gitignore").write_text("mine\n" + (flow / ".gitignore").read_text())
    assert init(flow, "--remove", "--yes").exit_code == 0
    original = (PUBLIC / "basic-llm" / "flow.dag.yaml").read_text()
    assert dag.read_text() == "# mine\n" + original.replace("max_tokens: '120'", "max_tokens: '99'")
    assert (flow / ".gitignore").read_text() == "mine\n" and not (flow / "nodes").exists()


def edit(name: str, old: str, new: str) -> Callable[[Path], None]:
    def change(flow: Path) -> None:
        text = (flow / name).read_text()
        assert old in text
        (flow / name).write_text(text.replace(old, new))

    return change


def move_out(path: Path) -> None:
    """Let a link stand for a folder or file of the flow."""
    outside = path.parent.with_name(f"outside_{path.name}")
    path.rename(outside)
    path.symlink_to(outside)


@pytest.mark.parametrize(
    ("since", "says"),
    [
        (edit("nodes/finalize.py", "@tool", "@tool  # mine"), ["nodes/finalize.py", "was changed"]),
        (
            edit("flow.dag.yaml", "name: finalize", "name: final"),
            ["flow.dag.yaml was changed where", "take out the rest"],
        ),
        (edit(".pf_mlflow.json", "{", ""), [".pf_mlflow.json is damaged", "git"]),
        (lambda flow: (flow / ".pf_mlflow.json").unlink(), ["has no .pf_mlflow.json", "by hand"]),
        (edit(".pf_mlflow.json", '"nodes/finalize.py":', '"../victim.py":'), ["../victim.py leads out of"]),
        (edit(".pf_mlflow.json", '"path": ".gitignore"', '"path": "../bashrc"'), ["../bashrc leads out of"]),
        (edit(".pf_mlflow.json", '"nodes"', '"../nodes"'), ["../nodes leads out of"]),
        (lambda flow: move_out(flow / "nodes"), ["nodes/", "leads out of"]),
    ],
    ids=["node file", "YAML", "note damaged", "note gone", "file outside", "edit outside", "folder outside", "linked"],
)
def test_removal_refuses_what_is_not_its_own_any_more(
    flow: Path, since: Callable[[Path], None], says: list[str]
) -> None:
    init(flow, "--yes")
    since(flow)
    before = contents(flow)
    done = init(flow, "--remove", "--yes")
    assert done.exit_code == 1 and contents(flow) == before
    for words in says:
        assert words in done.output


def test_a_newer_version_brings_its_files_and_what_was_taken_out_comes_back(flow: Path) -> None:
    init(flow, "--yes", "--vendor")
    manifest = Manifest.in_folder(flow)
    assert manifest and manifest.version == __version__
    for name, text in {"nodes/finalize.py": "old = 1\n", "pf_mlflow.zip": "old = 2\n"}.items():
        (flow / name).write_text(text)
        manifest.files[name] = digest(text.encode())
    (flow / ".pf_mlflow.json").write_bytes(manifest.to_bytes())
    edit("flow.dag.yaml", "- name: initialize_mlflow\n  type: python\n", "- name: x\n  type: python\n")(flow)
    (flow / "nodes" / "save_mlflow_tracking.py").write_text("mine = 1\n")
    done = init(flow, "--yes")
    assert "save_mlflow_tracking.py was changed since it was put there and is left as it is" in done.output
    assert (flow / "nodes" / "finalize.py").read_bytes() == node_file("finalize", vendored=True)
    assert (flow / "pf_mlflow.zip").read_bytes() == vendored_package()
    (flow / "nodes" / "save_mlflow_tracking.py").unlink()
    assert "new: nodes/save_mlflow_tracking.py" in init(flow, "--yes").output
    edit("flow.dag.yaml", "- name: x\n  type: python\n", "- name: initialize_mlflow\n  type: python\n")(flow)
    assert init(flow, "--remove", "--yes").exit_code == 0
    assert contents(flow) == contents(PUBLIC / "basic-llm")


# The requirement, and the copy for clouds


def test_the_one_requirement_is_where_the_package_came_from(flow: Path) -> None:
    done = init(flow, "--yes")
    lines = (flow / "requirements.txt").read_text().splitlines()[::-1]
    assert lines == [own_requirement(), "promptflow-tools", "promptflow"] and "pf-mlflow init --vendor" in done.output
    assert "is in no package index" in done.output
    assert Requirement(lines[0]).name == "pf-mlflow" and "psutil" not in done.output
    assert not (flow / "pf_mlflow.zip").exists()
    assert "Nothing to do" in init(flow).output


@pytest.mark.parametrize("before", [None, "openai>=3", "openai>=3\n"], ids=["none", "no line end", "one"])
def test_a_flow_that_is_vendored_later_needs_no_index(flow: Path, before: str | None) -> None:
    requirements = flow / "requirements.txt"
    requirements.write_text(before) if before else requirements.unlink()
    own = contents(flow)
    init(flow, "--yes")
    done = init(flow, "--yes", "--vendor")
    assert done.exit_code == 0 and "new: pf_mlflow.zip" in done.output
    lines = requirements.read_text().splitlines()
    assert "azureml-mlflow>=1.62,<2" in lines and not [line for line in lines if line.startswith("pf-mlflow")]
    assert [line for line in lines if line.startswith("openai")] == [(before or "openai>=3,<4").strip()]
    for words in ([], ["--vendor"]):
        assert "Nothing to do" in init(flow, *words).output
    requirements.write_text("mine\n" + requirements.read_text())
    assert init(flow, "--remove", "--yes").exit_code == 0
    assert requirements.read_text() == "mine\n" + (before or "")
    requirements.write_text(before) if before else requirements.unlink()
    assert contents(flow) == own


def left_by_an_earlier_version(flow: Path) -> None:
    """Give a flow what `init` gave it before it knew the zip: the package as a folder."""
    init(flow, "--yes", "--vendor")
    manifest = Manifest.in_folder(flow)
    assert manifest
    del manifest.files["pf_mlflow.zip"]
    (flow / "pf_mlflow.zip").unlink()
    files = {f"nodes/{name}.py": node_file(name, vendored=False) for name in CALLS}
    files |= dict.fromkeys(["pf_mlflow/__init__.py", "pf_mlflow/cli/show.py", "pf_mlflow/records.py"], b"old = 1\n")
    for name, content in files.items():
        (flow / name).parent.mkdir(exist_ok=True)
        (flow / name).write_bytes(content)
        manifest.files[name] = digest(content)
    manifest.folders += ["pf_mlflow", "pf_mlflow/cli"]
    (flow / ".pf_mlflow.json").write_bytes(manifest.to_bytes())


def test_a_copy_of_an_earlier_version_becomes_one_file(flow: Path) -> None:
    left_by_an_earlier_version(flow)
    done = init(flow, "--yes")
    assert "new: pf_mlflow.zip" in done.output and "gone: pf_mlflow/__init__.py" in done.output
    assert not (flow / "pf_mlflow").exists() and (flow / "pf_mlflow.zip").is_file()
    assert (flow / "nodes" / "finalize.py").read_bytes() == node_file("finalize", vendored=True)
    assert "Nothing to do" in init(flow).output
    assert init(flow, "--remove", "--yes").exit_code == 0
    assert contents(flow) == contents(PUBLIC / "basic-llm")


def test_a_copy_of_an_earlier_version_is_taken_out(flow: Path) -> None:
    left_by_an_earlier_version(flow)
    assert init(flow, "--remove", "--yes").exit_code == 0
    assert contents(flow) == contents(PUBLIC / "basic-llm")


def test_a_copy_that_its_author_changed_stays_his(flow: Path) -> None:
    left_by_an_earlier_version(flow)
    (flow / "pf_mlflow" / "records.py").write_text("mine = 1\n")
    done = init(flow, "--yes")
    assert "records.py was changed since it was put there and is left as it is" in done.output
    assert (flow / "pf_mlflow" / "__init__.py").exists() and not (flow / "pf_mlflow.zip").exists()


def test_nodes_of_others_are_told_how_to_find_the_copy(flow: Path) -> None:
    shutil.copytree(ROOT / "nodes", flow / "nodes")
    init(flow, "--yes")
    done = init(flow, "--yes", "--vendor")
    assert "initialize_mlflow, save_mlflow_tracking, finalize are not of `pf-mlflow init`" in done.output
    assert FIND_COPY in done.output and (flow / "pf_mlflow.zip").exists()


def test_a_node_whose_file_is_gone_is_not_put_in_twice(flow: Path) -> None:
    init(flow, "--yes")
    (flow / "nodes" / "finalize.py").unlink()
    done = init(flow, "--yes")
    assert "new: nodes/finalize.py" in done.output and "flow.dag.yaml" not in done.output


@pytest.mark.parametrize("own", [ROOT, FLOWS / "edge"], ids=["this flow", "nodes included from elsewhere"])
def test_flows_that_have_the_nodes_need_nothing_more(own: Path) -> None:
    done = init(own, "--dry-run")
    assert done.exit_code == 0 and "+- name:" not in done.output and "nodes/" not in done.output


@pytest.mark.parametrize(
    ("make", "words", "says"),
    [
        (lambda flow: None, ["--node", "lmm"], ["no node 'lmm'", "its nodes are llm"]),
        (lambda flow: (flow / "flow.dag.yaml").unlink(), [], ["no flow at"]),
        (lambda flow: (flow / "flow.dag.yaml").write_text("nodes: []"), [], ["no node that is executed for each line"]),
        (lambda flow: (flow / "flow.dag.yaml").write_text("nodes: [{name: a}]"), [], ["cannot be edited safely"]),
        (lambda flow: (flow / "flow.dag.yaml").write_text("nodes: [a"), [], ["no valid YAML"]),
        (lambda flow: (flow / "flow.dag.yaml").write_bytes("nodes: [é]".encode("latin-1")), [], ["no valid YAML"]),
        (lambda flow: (flow / "flow.dag.yaml").write_text("nodes: [{name: a}]\noutputs: x"), [], ["'outputs'", "'x'"]),
        (lambda flow: (flow / "requirements.txt").write_bytes(b"\xff\xfeo"), [], ["requirements.txt", "UTF-8"]),
    ],
)
def test_what_it_cannot_do_safely_it_refuses(
    flow: Path, make: Callable[[Path], None], words: list[str], says: list[str]
) -> None:
    make(flow)
    before = contents(flow)
    done = init(flow, "--yes", *words)
    assert done.exit_code == 1 and contents(flow) == before
    assert done.output.count("Error:") == 1
    for words_of_it in says:
        assert words_of_it in done.output


def test_nothing_outside_of_the_folder_is_touched(flow: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "req.txt").write_text("theirs\n")
    (flow / "nodes").symlink_to(outside)
    dag = flow / "flow.dag.yaml"
    dag.write_text(dag.read_text() + "environment:\n  python_requirements_txt: ../outside/req.txt\n")
    before = contents(outside)
    done = init(flow, "--yes")
    assert done.exit_code == 0 and (flow / "mlflow_nodes" / "finalize.py").is_file()
    assert f"{outside / 'req.txt'}; add there what is missing" in done.output.replace("\n", "")
    (outside / "empty").mkdir()
    (outside / "finalize.cpython-311.pyc").touch()
    (flow / "mlflow_nodes" / "__pycache__").symlink_to(outside)
    (flow / "__pycache__").symlink_to(outside / "empty")
    before = contents(outside)
    assert init(flow, "--remove", "--yes").exit_code == 0
    assert contents(outside) == before


def test_a_copy_made_of_hard_links_stays_as_it_is(flow: Path, tmp_path: Path) -> None:
    (flow / "requirements.txt").write_text("promptflow\n")
    (flow / "requirements.txt").chmod(0o640)
    copy = tmp_path / "copy"
    shutil.copytree(flow, copy, copy_function=os.link)
    before = contents(copy)
    assert init(flow, "--yes").exit_code == 0
    assert contents(copy) == before and contents(flow)["requirements.txt"] != before["requirements.txt"]
    assert (flow / "requirements.txt").stat().st_mode & 0o777 == 0o640
    assert init(flow, "--remove", "--yes").exit_code == 0
    assert contents(flow) == contents(copy) == before


def test_a_linked_flow_is_refused_with_its_place(flow: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "flow.dag.yaml").symlink_to(flow / "flow.dag.yaml")
    done = init(other, "--yes")
    assert done.exit_code == 1 and f"pf-mlflow init {flow}" in done.output


@pytest.mark.parametrize("made", ["flex", "basic.prompty", "prompty folder", "entry in flow.dag.yaml", "csharp"])
def test_other_kinds_of_flows_are_told_what_to_do(made: str, tmp_path: Path) -> None:
    path = FLOWS / made
    if made == "prompty folder":
        path = tmp_path
        shutil.copy(FLOWS / "basic.prompty", tmp_path)
    elif made == "entry in flow.dag.yaml":
        path = tmp_path
        (tmp_path / "flow.dag.yaml").write_text((FLOWS / "flex" / "flow.flex.yaml").read_text())
    elif made == "csharp":
        path = tmp_path
        (tmp_path / "flow.dag.yaml").write_text("language: csharp\n" + (FLOWS / "bare" / "flow.dag.yaml").read_text())
    before = sorted(path.iterdir()) if path.is_dir() else []
    done = init(path, "--yes")
    assert done.exit_code == 1 and "pf-mlflow sync BATCH" in done.output
    assert ("pf_mlflow.attach()" in done.output) == (made in ("flex", "entry in flow.dag.yaml"))
    assert (sorted(path.iterdir()) if path.is_dir() else []) == before


@pytest.mark.slow
def test_a_flex_flow_is_tracked_as_it_says(machine: Machine, tmp_path: Path) -> None:
    flow = shutil.copytree(FLOWS / "flex", tmp_path / "flex")
    told = init(flow).output.partition("put `")[2].partition("`")[0]
    assert told.startswith("import pf_mlflow;")
    (flow / "entry.py").write_text(f"{told}\n{(flow / 'entry.py').read_text()}")
    data = machine.data("flexible", [{"topic": "tea"}, {"topic": "boom"}])
    words = ["run", "create", "--flow", str(flow), "--data", str(data), "--column-mapping", "topic=${data.topic}"]
    machine.pf(*words, "--name", "flexible", cwd=tmp_path)
    batch = tracked(f"sqlite:///{tmp_path / 'mlflow.db'}", "flexible")
    assert batch.column("metrics", "total_tokens") == [TOKENS, None]
    assert [batch.children[number].info.status for number in (0, 1)] == ["FINISHED", "FAILED"]


def test_what_cannot_be_written_is_put_back(flow: Path) -> None:
    (flow / ".gitignore").mkdir()
    before = contents(flow)
    done = init(flow, "--yes")
    assert done.exit_code == 1 and ".gitignore cannot be written" in done.output and contents(flow) == before


def test_a_folder_that_somebody_put_in_by_hand_stays_and_no_zip_comes(flow: Path) -> None:
    (flow / "pf_mlflow").mkdir()
    (flow / "pf_mlflow" / "__init__.py").write_text("mine = 1\n")
    done = init(flow, "--yes", "--vendor")
    assert "pf_mlflow was there already and is left as it is" in done.output
    assert not (flow / "pf_mlflow.zip").exists() and "psutil" in (flow / "requirements.txt").read_text()
    assert (flow / "nodes" / "finalize.py").read_bytes() == node_file("finalize", vendored=False)
    assert init(flow, "--remove", "--yes").exit_code == 0
    assert (flow / "pf_mlflow" / "__init__.py").read_text() == "mine = 1\n" and not (flow / "nodes").exists()
