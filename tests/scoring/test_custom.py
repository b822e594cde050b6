from __future__ import annotations

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pf_mlflow.errors import BadInput
from pf_mlflow.scoring import LineFields, Score, score_line
from pf_mlflow.scoring.custom import is_custom, load

LINE = LineFields.of(answer="Paris", question="Capital?", ground_truth="Paris", context=["France"], topic="geo", year=7)


def written(folder: Path, code: str, name: str = "metric.py") -> str:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(code, "utf-8")
    return str(path)


def scored(folder: Path, code: str, line: LineFields = LINE) -> Score:
    (score,) = score_line(line, [written(folder, code)])
    return score


@pytest.mark.parametrize(
    "body, expected",
    [
        ("return len(answer)", float(len("Paris"))),
        ("return True", True),
        ("return 'kind'", "kind"),
        ("return ''", ""),
        ("return 0.25", 0.25),
        ("from fractions import Fraction; return Fraction(1, 4)", 0.25),
        ("from decimal import Decimal; return Decimal('0.25')", 0.25),
        ("import numpy; return numpy.float32(0.25)", 0.25),
        ("import numpy; return numpy.int64(3)", 3.0),
        ("import numpy; return numpy.bool_(False)", False),
        ("import numpy; return numpy.str_('kind')", "kind"),
        ("import numpy; return numpy.array(2.0)", 2.0),
        ("return float('nan')", "ValueError: returned nan, which is no finite number"),
        ("return -float('inf')", "ValueError: returned -inf, which is no finite number"),
        ("import numpy; return numpy.float64('nan')", "ValueError: returned nan, which is no finite number"),
        ("return 10 ** 400", "OverflowError: int too large to convert to float"),
        ("return None", "TypeError: returned NoneType, not a number, a bool or a text"),
        ("return [1]", "TypeError: returned list, not a number, a bool or a text"),
        ("return 1j", "TypeError: returned complex, not a number, a bool or a text"),
        ("import numpy; return numpy.array([1.0])", "TypeError: returned ndarray, not a number, a bool or a text"),
        ("return answer.no", "AttributeError: 'str' object has no attribute 'no'"),
        ("raise ValueError('no: ' + answer)", "ValueError: no: Paris"),
        ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("import sys; sys.exit(3)", "SystemExit: 3"),
        ("return polite(answer)", "RecursionError: maximum recursion depth exceeded"),
        (
            "class Mute(Exception):\n        def __str__(self): raise ValueError\n    raise Mute",
            "Mute",
        ),
    ],
)
def test_what_a_metric_returns_or_raises(body: str, expected: float | bool | str, tmp_path: Path) -> None:
    score = scored(tmp_path, f"def polite(answer):\n    {body}\n")
    assert score.name == "polite"
    if isinstance(expected, str) and score.error is not None:
        assert score.error.startswith(expected)
    else:
        assert score == Score("polite", expected)
        assert type(score.value) is type(expected)


@pytest.mark.parametrize(
    "parameters, line, expected",
    [
        ("answer, question, ground_truth", LINE, "Paris, Capital?, Paris"),
        ("context", LINE, "('France',)"),
        ("topic, year", LINE, "geo, 7"),
        ("answer, *, year", LINE, "Paris, 7"),
        ("answer, style='plain'", LINE, "Paris, plain"),
        ("answer, question=None", LineFields.of(answer="x"), "x, None"),
        ("answer", LineFields.of(), ""),  # an answer that is missing is an empty text
        ("ground_truth", LineFields.of(answer="x"), "needs ground_truth"),
        ("answer, style, mood", LINE, "needs style and mood"),
        ("context", LineFields.of(answer="x", context=[]), "needs context"),
        ("answer, /", LINE, "TypeError: "),
    ],
)
def test_a_metric_takes_the_fields_that_it_names(
    parameters: str, line: LineFields, expected: str, tmp_path: Path
) -> None:
    names = [part.split("=")[0].strip(" *") for part in parameters.split(",") if part.strip(" */")]
    body = f"return ', '.join(map(str, [{', '.join(names)}]))"
    score = scored(tmp_path, f"def told({parameters}):\n    {body}\n", line)
    assert (score.error or score.value or "").startswith(expected)
    assert bool(score.error) is expected.startswith(("needs", "TypeError"))


def test_a_metric_may_take_all_fields(tmp_path: Path) -> None:
    score = scored(tmp_path, "def told(question, **fields):\n    return ' '.join(sorted(fields))\n")
    assert score.value == "answer context ground_truth topic year"


THREE = "from os.path import join\ndef one(answer): return 1\ndef metric(answer): return 2\ndef _own(answer): return 3\nTWO = 2\n"


@pytest.mark.parametrize(
    "file, name, code, expected",
    [
        ("metric.py", "", THREE, "metric"),  # named like its file
        ("metric.py", ":one", THREE, "one"),
        ("metric.py", ":_own", THREE, "_own"),  # asked for by name
        ("metric.py", ":join", THREE, "join"),
        ("a.py", "", "from json import dumps, loads\ndef only(answer): return 1\n", "only"),
        ("a.py", "", "from functools import wraps\ndef _w(f):\n    @wraps(f)\n    def g(*a): return f(*a)\n    return g\n@_w\ndef only(answer): return 1\n", "only"),
        ("a.py", "", "from __future__ import annotations\nfrom dataclasses import dataclass\n@dataclass\nclass A:\n    x: int\ndef only(answer): return A(1).x\n", "only"),
        ("a.py", "", "# coding: latin-1\ndef only(answer): return 1\n", "only"),
        ("dir with space/a.py", "", "def only(answer): return 1\n", "only"),
        ("a.py", "", THREE, "Write a.py:function for the one meant in {path}; it defines: metric, one."),
        ("a.py", "", "x = 1\n", "Write a.py:function for the one meant in {path}; it defines: none."),
        ("a.py", ":two", THREE, "The metric file {path} has no function two; it defines: metric, one."),
        ("a.py", ":TWO", THREE, "The metric file {path} has no function TWO; it defines: metric, one."),
        ("a.py", "", "def only(answer:\n", "The metric file {path} cannot be loaded: SyntaxError: "),
        ("a.py", "", "1 / 0\n", "The metric file {path} cannot be loaded: ZeroDivisionError: division by zero."),
        ("a.py", "", "import no_such\n", "The metric file {path} cannot be loaded: ModuleNotFoundError: "),
        ("a.py", "", "raise SystemExit('bye')\n", "The metric file {path} cannot be loaded: SystemExit: bye."),
        ("a.py", "", "x = 1\0\n", "The metric file {path} cannot be loaded: "),
    ],
)  # fmt: skip
def test_which_function_is_the_metric(file: str, name: str, code: str, expected: str, tmp_path: Path) -> None:
    path = written(tmp_path, code, file)
    if " " not in expected:
        assert load(path + name).name == expected
        return
    before = set(sys.modules)
    with pytest.raises(BadInput) as raised:
        load(path + name)
    assert str(raised.value).startswith(expected.format(path=path))
    assert "cannot be loaded" not in expected or set(sys.modules) == before


@pytest.mark.parametrize(
    "entry, custom",
    [
        ("a.py", True),
        ("x/a.py:f", True),
        ("C:\\x\\a.py:f", True),
        ("a.py:", False),
        ("a.pyc", False),
        ("rougeL", False),
        (".py", False),
        ("", False),
    ],
)
def test_what_names_a_file(entry: str, custom: bool) -> None:
    assert is_custom(entry) is custom
    if not custom:
        with pytest.raises(BadInput, match="names no metric file"):
            load(entry)


def test_relative_paths_are_looked_for_in_the_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in ("one", "two"):
        written(tmp_path / folder, f"def metric(answer): return '{folder}'\n", "m/metric.py")
    written(tmp_path / "two", "def other(answer): return 'other'\n", "other.py")
    folders = [tmp_path / "one", tmp_path / "two"]
    assert score_line(LINE, ["m/metric.py", "other.py"], folders) == [Score("metric", "one"), Score("other", "other")]
    assert score_line(LINE, ["m/metric.py"], folders[::-1]) == [Score("metric", "two")]  # same name, other folder
    monkeypatch.chdir(tmp_path / "two")
    assert score_line(LINE, ["m/metric.py"]) == [Score("metric", "two")]
    with pytest.raises(BadInput, match=r"There is no metric file no\.py in .*one or .*two\.$"):
        load("no.py", folders)
    with pytest.raises(BadInput, match=r"There is no metric file /no/where\.py\.$"):
        load("/no/where.py", folders)


def test_a_file_is_run_once_until_it_changes(tmp_path: Path) -> None:
    code = f"open({str(tmp_path / 'ran')!r}, 'a').write('x')\ndef metric(answer): return {{}}\n"
    path = Path(written(tmp_path, code.format(1)))
    with ThreadPoolExecutor(8) as threads:
        scores = list(threads.map(lambda _: score_line(LINE, [str(path)])[0].value, range(40)))
    assert scores == [1.0] * 40
    assert (tmp_path / "ran").read_text() == "x"
    path.write_text(code.format(2), "utf-8")
    os.utime(path, ns=(1, 1))
    assert score_line(LINE, [str(path)])[0].value == 2.0
    assert (tmp_path / "ran").read_text() == "xx"
    assert not (tmp_path / "__pycache__").exists()


def test_a_file_hides_no_module_of_the_users(tmp_path: Path) -> None:
    assert scored(tmp_path, "import json\ndef told(answer): return json.dumps(answer)\n").value == '"Paris"'
    load(written(tmp_path, "def f(answer): return 1\n", "no_module_of_this_name.py"))
    load(written(tmp_path, "def f(answer): return 1\n", "json.py"))
    assert "no_module_of_this_name" not in sys.modules
    assert sys.modules["json"].__file__ != str(tmp_path / "json.py")
    assert str(tmp_path) not in sys.path


def test_two_metrics_of_one_name_are_refused(tmp_path: Path) -> None:
    one, two = (written(tmp_path / folder, "def metric(answer): return 1\n") for folder in ("a", "b"))
    with pytest.raises(BadInput, match="are both named metric: rename the function of one"):
        score_line(LINE, [one, two])
    mine = written(tmp_path, "def bleu(answer): return 1\n", "mine.py")
    with pytest.raises(BadInput, match="^bleu and .*mine.py are both named bleu"):
        score_line(LINE, ["bleu", mine])
    assert score_line(LINE, [one, one]) == [Score("metric", 1.0)]
