from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import nullcontext
from importlib.metadata import requires
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.requirements import Requirement

from pf_mlflow.errors import BadInput
from pf_mlflow.running.checks import check_data, check_mapping, check_outputs, check_sources
from pf_mlflow.running.mapping import columns_of
from pf_mlflow.sources.promptflow.flow import read_dag
from pf_mlflow.sources.promptflow.private_names import data_rows
from pf_mlflow.versions import SUPPORTED, check_versions


def test_the_versions_that_are_installed_are_supported() -> None:
    check_versions()


def test_what_is_checked_is_what_the_package_declares() -> None:
    declared = {one.name: one.specifier for one in map(Requirement, requires("pf-mlflow") or []) if one.marker is None}
    assert {name: declared[name] for name in SUPPORTED} == SUPPORTED


@pytest.mark.parametrize(
    "content, expected",
    [
        (b"nodes: [{name: joke}]", {"nodes": [{"name": "joke"}]}),
        ("inputs: {thème: }\nnodes: []".encode(), {"inputs": {"thème": None}, "nodes": []}),
        (b"inputs: {no: , on: }\nnodes: []", {"inputs": {"no": None, "on": None}, "nodes": []}),  # by YAML 1.2
        (b"nodes: []\nx: [true, False, yes]", {"nodes": [], "x": [True, False, "yes"]}),
        (b"entry: flow:main", "has no list of nodes; only DAG flows can be run here."),
        (b"nodes: {name: joke}", "has no list of nodes; only DAG flows can be run here."),
        (b"- nodes", "has no list of nodes; only DAG flows can be run here."),
        (b"", "has no list of nodes; only DAG flows can be run here."),
        (b"nodes: []\noutputs: 5", "has no names under 'outputs', only 5."),
        (b"nodes: [", "is no valid YAML, "),
        (b"nodes: [{name: \xe9t\xe9}]", "is no valid YAML, "),
        (None, "flow.dag.yaml does not exist. Name the folder of a flow.dag.yaml."),
    ],
)
@pytest.mark.parametrize("named", [".", "flow.dag.yaml"])
def test_read_dag(tmp_path: Path, content: bytes | None, expected: Mapping[str, Any] | str, named: str) -> None:
    path = tmp_path / "flow.dag.yaml"
    if content is not None:
        path.write_bytes(content)
    if not isinstance(expected, str):
        assert read_dag(tmp_path / named) == expected
        return
    with pytest.raises(BadInput) as told:
        read_dag(tmp_path / named)
    assert expected in str(told.value) and str(path) in str(told.value)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    "content, expected",
    [
        (b'{"topic": "atom"}\n{"topic": 1, "style": 2}\n', {"topic", "style"}),
        (b'{"topic": "atom"}', {"topic"}),
        (b'\n{"topic": "atom"}\r\n  \n', {"topic"}),
        (b'\xef\xbb\xbf{"topic": "atom"}\n', {"topic"}),  # as Excel writes it
        (b'{"topic": "a\tb"}\n', {"topic"}),  # a tab as it is, which pandas takes
        ('{"thème": "é\u2028"}\n'.encode(), {"thème"}),
        (b"", "is empty; give it one JSON object per line."),
        (b"\n \n", "is empty; give it one JSON object per line."),
        (b'{"topic": "atom"}\n{"topic": \n', "line 2 is no JSON (Expecting value, column "),
        (b'{"topic": "\xe9"}\n', "line 1 is not UTF-8; save the file as UTF-8."),
        (b'\n\n["atom"]\n', """line 3 is no JSON object, as {"input": "value"}: ["atom"]"""),
        (b'"atom"\n', "line 1 is no JSON object"),
        (b"null\n", "line 1 is no JSON object"),
        (
            b'{"n": 18446744073709551615, "s": "18446744073709551616", "f": 1e30, "m": -9223372036854775808}',
            set("nsfm"),
        ),
        (
            b'{"n": 1}\n{"n": 1, "m": 18446744073709551616}',
            "line 2 has a number of more than 64 bits in the column 'm'",
        ),
        (b'{"m": [{"deep": -9223372036854775809}]}', "line 1 has a number of more than 64 bits in the column 'm'"),
        (b'{"m": 100000000000000000000.5}', "line 1 has a number of more than 64 bits in the column 'm'"),
        ('{"topic": "atom"}'.encode("utf-16"), "line 1 is not UTF-8"),
        (b'{"topic": ' + 100_000 * b"[" + 100_000 * b"]" + b"}", "line 1 is nested too deeply"),
        (None, "does not exist."),
    ],
)
def test_check_data(tmp_path: Path, content: bytes | None, expected: set[str] | str) -> None:
    data = tmp_path / "d.jsonl"
    if content is not None:
        data.write_bytes(content)
    if isinstance(expected, set):
        assert check_data(data) == expected
        return
    with pytest.raises(BadInput) as told:
        check_data(data)
    assert expected in str(told.value) and str(data) in str(told.value)
    assert len(str(told.value)) < 300 + len(str(data))


@given(st.lists(st.dictionaries(st.text(), st.text() | st.none() | st.floats()), min_size=1))
def test_any_rows_are_read(tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]]) -> None:
    data = tmp_path_factory.getbasetemp() / "rows.jsonl"
    data.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8", newline="")
    assert check_data(data) == {name for row in rows for name in row}


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("d.ndjson", b'{"topic": "atom"}\n', {"topic"}),
        ("d", b'{"topic": "atom"}\n', {"topic"}),
        ("d.csv", b"topic\natom\n", {"topic"}),
        ("d.csv", b"", "are empty; give them a row"),
        ("d.json", b"[]", "are empty; give them a row"),
        ("d.csv", b"topic\ncaf\xe9\n", "cannot be read: they are not UTF-8; save the file as UTF-8."),
        (
            "d.csv",
            b"a,b\n1,2\n1,2,3\n",
            "cannot be read: Error tokenizing data. C error: Expected 2 fields in line 3, saw 3.",
        ),
        ("d.CSV", b"topic\natom\n", "is in no format that promptflow reads; save it as .jsonl, .csv, .tsv, .json"),
        ("d.xlsx", b"PK\3\4", "is in no format that promptflow reads"),
        ("azureml:d:1", None, "does not exist. Addresses are not read: get the file"),
    ],
)
def test_other_formats(tmp_path: Path, name: str, content: bytes | None, expected: set[str] | str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    if isinstance(expected, set):
        assert columns_of(tmp_path / name) == expected
        return
    with pytest.raises(BadInput) as told:
        columns_of(tmp_path / name)
    assert expected in str(told.value) and name in str(told.value)


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("data.topic", "is this text on every line; for a column write topic='${data.topic}'."),
        ("{data.topic}", "write topic='${data.topic}'."),
        ("$data.topic", "write topic='${data.topic}'."),
        ("${{data.topic}}", "write topic='${data.topic}'."),
        ("${data.topic", "write topic='${data.topic}'."),
        ("run.outputs.answer", "write topic='${run.outputs.answer}'."),
        ("${run.outputs.answer}", "there is no other batch; name one with --run BATCH."),
        ("${topic}", "names no column; write topic='${data.COLUMN}'."),
        ("${inputs.topic}", "names no column"),
        ("${data.topic}", None),
        ("${data.the topic}", None),
        ("data.topic is what it says", None),
        ("costs ${5}", None),
    ],
)
def test_a_mapping_that_means_a_column(source: str, told: str | None) -> None:
    if told is None:
        return check_sources({"topic": source}, True, False)
    with pytest.raises(BadInput) as raised:
        check_sources({"topic": source}, True, False)
    assert told in str(raised.value)


def test_a_mapping_without_a_column() -> None:
    with pytest.raises(
        BadInput, match=r"No column goes to any input.*\(topic=tea\); map one with --column-mapping topic="
    ):
        check_mapping({"topic": "tea"}, {"topic"}, {"inputs": {"topic": {}}}, Path("d.jsonl"))


def test_a_folder_named_like_a_data_file_is_no_data(tmp_path: Path) -> None:
    (tmp_path / "d.jsonl").mkdir()
    with pytest.raises(BadInput):
        check_data(tmp_path / "d.jsonl")


READABLE = [
    b'\xef\xbb\xbf{"topic": "\xe6\xb8\xa9"}\n{"topic": 2}\n',
    b'{"topic": 18446744073709551615, "s": "18446744073709551616", "f": 1e30, "m": -9223372036854775808}\n',
]
UNREADABLE = [b'{"m": 18446744073709551616}\n', b'{"m": -9223372036854775809}\n', b'{"m": 100000000000000000000.5}\n']


@pytest.mark.parametrize("content", [*READABLE, *UNREADABLE])
def test_what_is_let_through_is_what_promptflow_reads(tmp_path: Path, content: bytes) -> None:
    data = tmp_path / "d.jsonl"
    data.write_bytes(content)
    try:
        columns = check_data(data)
    except BadInput:
        with pytest.raises(BadInput):
            data_rows(data)
    else:
        assert content in READABLE and set().union(*data_rows(data)) == columns


@pytest.mark.parametrize(
    ("mapping", "says"),
    [
        ({"answer": "${run.outputs.joke}", "topic": "${data.joque}", "n": "5"}, None),
        ({"answer": "${run.outputs.the.joke}"}, None),
        (
            {"answer": "${run.outputs.joque}"},
            "The batch 'b1' has no output 'joque' (mapped to 'answer'); its outputs are ",
        ),
        ({"answer": "${run.outputs.line_number}"}, "its outputs are joke, the.joke."),
    ],
)
def test_an_output_that_the_base_lacks(tmp_path: Path, mapping: dict[str, str], says: str | None) -> None:
    outputs = tmp_path / "output.jsonl"
    check_outputs(mapping, outputs, "b1")  # it still runs
    outputs.write_text('{"line_number": 0, "joke": "Ha"}\n{"line_number": 1, "joke": "Ho", "the.joke": 1}\n')
    with pytest.raises(BadInput) if says else nullcontext() as told:
        check_outputs(mapping, outputs, "b1")
    assert says is None or says in str(told and told.value)


def test_other_formats_are_left_to_promptflow(tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_text("topic\natom\n")
    assert check_data(tmp_path / "d.csv") is None


DAG = {"inputs": {"topic": {"type": "string"}, "style": {"type": "string", "default": "dry"}, "n": None}}


@pytest.mark.parametrize(
    "mapping, columns, expected",
    [
        ({"topic": "${data.topic}"}, {"topic", "n"}, None),
        ({"topic": "${data.subject}", "n": "5"}, {"subject"}, None),
        ({"topic": "${data.row.deep}", "n": "${run.outputs.n}"}, {"row.deep"}, None),
        ({}, {"topic", "n"}, None),
        ({"topic": "${data.anything}"}, None, None),  # a format whose columns are not known here
        (
            {"topic": "${data.Topic}"},
            {"topic", "n"},
            "d.jsonl has no column 'Topic' (mapped to 'topic'); its columns are n, topic.",
        ),
        ({"topic": "${data.row.deep}"}, {"row"}, "has no column 'row.deep' (mapped to 'topic'); its columns are row."),
        ({"tpoic": "x"}, {"topic"}, "The flow has no input 'tpoic'; its inputs are n, style, topic."),
        (
            {"topic": "atom"},
            {"topic", "style"},
            "d.jsonl has no column 'n', which the flow needs; map one with --column-mapping n='${data.COLUMN}' "
            "(columns: style, topic).",
        ),
        ({}, {"style", "n"}, "d.jsonl has no column 'topic', which the flow needs"),
    ],
)
def test_check_mapping(mapping: dict[str, str], columns: set[str] | None, expected: str | None) -> None:
    if expected is None:
        check_mapping(mapping, columns, DAG, Path("d.jsonl"))
        return
    with pytest.raises(BadInput) as told:
        check_mapping(mapping, columns, DAG, Path("d.jsonl"))
    assert str(told.value).startswith(expected) or expected in str(told.value)


@pytest.mark.parametrize("mapping", [{}, {"topic": "${data.topic}", "n": "1"}])
def test_rows_without_any_column_lack_the_needed_one(tmp_path: Path, mapping: dict[str, str]) -> None:
    data = tmp_path / "d.jsonl"
    data.write_text("{}\n{}\n")
    with pytest.raises(BadInput, match="has no column 'topic'"):
        check_mapping(mapping, check_data(data), DAG, data)


def test_a_flow_without_inputs_needs_no_column() -> None:
    check_mapping({}, {"topic"}, {"inputs": None}, Path("d.jsonl"))
    with pytest.raises(BadInput, match="its inputs are none"):
        check_mapping({"topic": "x"}, {"topic"}, {}, Path("d.jsonl"))


def test_a_flow_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "flow.dag.yaml").touch()
    monkeypatch.setattr(Path, "read_text", lambda *words, **more: (tmp_path / "locked" / "x").open())
    with pytest.raises(BadInput, match="flow.dag.yaml cannot be read: No such file"):
        read_dag(tmp_path)
