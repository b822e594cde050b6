"""What counts as a verdict in what a judge says."""

from __future__ import annotations

import time

import pytest

from pf_mlflow.scoring.judges.reply import NoVerdict, Verdict, read_verdict

YES_NO = ("yes", "no")
GRADES = (1, 2, 3, 4, 5)
LETTERS = ("a", "a+", "b")


@pytest.mark.parametrize(
    ("text", "values", "expected"),
    [
        ('{"rationale": "r", "result": "yes"}', YES_NO, Verdict("yes", "r")),
        ('{"result": "no"}', YES_NO, Verdict("no")),
        ('```json\n{"rationale": "r", "result": "no"}\n```', YES_NO, Verdict("no", "r")),
        ('```\n{"result": "no"}```', YES_NO, Verdict("no")),
        ('Well {x}: {"rationale": "a } in it", "result": "yes"} Bye {', YES_NO, Verdict("yes", "a } in it")),
        ('{"rationale": "line\nbreak", "result": "yes"}', YES_NO, Verdict("yes", "line\nbreak")),
        ('<think>{"result": "no"}</think>{"result": "yes"}', YES_NO, Verdict("yes")),
        ('{"result": "yes"} {"result": "Yes"}', YES_NO, Verdict("yes")),
        ('{"result": " YES. "}', YES_NO, Verdict("yes")),
        ('{"result": "**No**"}', YES_NO, Verdict("no")),
        ('{"result": true}', YES_NO, Verdict("yes")),
        ('{"result": "False"}', YES_NO, Verdict("no")),
        ('{"result": "true"}', ("true", "false"), Verdict("true")),
        ('{"result": "Too Long!"}', ("too long", "fine"), Verdict("too long")),
        ('{"result": "N/A", "rationale": ""}', ("n/a", "c++"), Verdict("n/a")),
        ('{"result": "C++"}', ("n/a", "c++"), Verdict("c++")),
        ('{"result": "A+"}', LETTERS, Verdict("a+")),
        ('{"result": "**A+**."}', LETTERS, Verdict("a+")),
        ('{"result": "A."}', LETTERS, Verdict("a")),
        *((f'{{"result": "{word}"}}', ("c", "c++", "c#"), Verdict(word.lower())) for word in ("C", "C++", "C#")),
        ('{"result": true}', ("true", "false"), Verdict("true")),
        ('{"result": "「はい」"}', ("はい", "いいえ"), Verdict("はい")),
        (
            '{"rationale": "It says <think> and {x}.", "result": "no"}',
            YES_NO,
            Verdict("no", "It says <think> and {x}."),
        ),
        ('{"rationale": "</think>", "result": "no"}', YES_NO, Verdict("no", "</think>")),
        ('{"result": "no"} or not?</think>{"result": "yes"}', YES_NO, Verdict("yes")),
        ('<think>{"a": "</think>{"result": "yes"}', YES_NO, Verdict("yes")),
        (r'{"rationale": "a \ud83d b", "result": "yes"}', YES_NO, Verdict("yes", r"a \ud83d b")),
        ('{"result": 4}', GRADES, Verdict(4)),
        ('{"result": 4.0}', GRADES, Verdict(4)),
        ('{"result": " 4 "}', GRADES, Verdict(4)),
        ('{"result": "4/5"}', GRADES, Verdict(4)),
        ('{"result": 0.5, "rationale": 7}', (0, 0.5, 1), Verdict(0.5, "7")),
        ('{"result": " ４ "}', GRADES, Verdict(4)),
        ('{"Rationale": "r", "RESULT": "yes"}', YES_NO, Verdict("yes", "r")),
        ('{"result": "yes", "Result": "Yes", "result": true}', YES_NO, Verdict("yes")),
        ('{"rationale": {"Step 1": "r"}, "result": "yes"}', YES_NO, Verdict("yes", '{"Step 1": "r"}')),
        ('As {"rationale": "why", "result": a word}: {"result": "yes"}', YES_NO, Verdict("yes")),
        ('{"result": "no"} {"rationale": "a "b" c", "result": "no"}', YES_NO, Verdict("no")),
        ('{"result": "yes"} as in {"curly', YES_NO, Verdict("yes")),
        ('{"result": "cafe\u0301"}', ("caf\u00e9", "thé"), Verdict("caf\u00e9")),
    ],
)
def test_verdicts(text: str, values: tuple[str, ...], expected: Verdict) -> None:
    assert read_verdict(text, values) == expected


@pytest.mark.parametrize(
    ("text", "values", "says"),
    [
        ("", YES_NO, ["no JSON with a result", "''"]),
        ("yes", YES_NO, ["no JSON", "'yes'"]),
        ('"yes"', YES_NO, ["no JSON"]),
        ('["yes"]', YES_NO, ["no JSON"]),
        ("I am sure that it is correct, yes.", YES_NO, ["no JSON", "I am sure"]),
        ('{"rationale": "r", "result": "yes', YES_NO, ["no JSON"]),
        ('{"rationale": "r"}', YES_NO, ["no JSON with a result"]),
        ('<think>{"result": "yes"}', YES_NO, ["no JSON"]),
        ('{"outer": {"result": "yes"}}', YES_NO, ["no JSON with a result"]),
        ('{"result": "maybe"}', YES_NO, ["'maybe'", "none of yes, no"]),
        ('{"result": "yes and no"}', YES_NO, ["'yes and no'"]),
        ('{"result": "A-"}', LETTERS, ["'A-'", "none of a, a+, b"]),
        ('{"result": "B+"}', LETTERS, ["'B+'"]),
        ('{"result": "C+"}', ("c", "c++"), ["'C+'"]),
        ('{"result": "-1"}', ("1", "2"), ["'-1'"]),
        (r'{"result": "\ud83d"}', YES_NO, [r"\ud83d"]),
        ("\ud83d", YES_NO, [r"\ud83d"]),
        ('{"result": null}', YES_NO, ["'null'"]),
        ('{"result": 1}', YES_NO, ["'1'"]),
        ('{"result": ["yes"]}', YES_NO, ["none of"]),
        ('{"result": "yes"} {"result": "no"}', YES_NO, ["several verdicts: yes, no"]),
        ('{"result": "yes", "result": "no"}', YES_NO, ["several verdicts: yes, no"]),
        ('{"result": "no", "Result": "yes"}', YES_NO, ["several verdicts: no, yes"]),
        ('{"result": "yes", "result": "maybe"}', YES_NO, ["'maybe'"]),
        ('{"result": "yes"} {"rationale": "a "b" c", "result": "no"}', YES_NO, ["several verdicts: yes, no"]),
        ('{"result": "yes"} No: {"result": no}', YES_NO, ["several verdicts: yes, no"]),
        *(
            (f'{{"result": "yes"}} On second thought: {cut}', YES_NO, ["breaks off"])
            for cut in (
                '{"result": "n',
                '{"result": "no"',
                '{"result":',
                '{"rationale": "no',
                '{"rationale": {"a": 1}, "re',
            )
        ),
        ('{"result": "1_0"}', (1, 10), ["'1_0'"]),
        ('{"result": "1_0/1_0"}', (1, 10), ["'1_0/1_0'"]),
        ('{"result": 0}', GRADES, ["'0'", "1, 2, 3, 4, 5"]),
        ('{"result": 6}', GRADES, ["'6'"]),
        ('{"result": 4.5}', GRADES, ["'4.5'"]),
        ('{"result": "4/10"}', GRADES, ["'4/10'"]),
        ('{"result": "four"}', GRADES, ["'four'"]),
        ('{"result": true}', GRADES, ["'true'"]),
        ('{"result": NaN}', GRADES, ["NaN"]),
        ('{"result": 1e999}', GRADES, ["none of"]),
        ('{"result": "' + "x" * 5000 + '"}', YES_NO, ["xxx…"]),
        *(
            (brace * 200_000, YES_NO, ["no JSON"])
            for brace in ("{", '{"', '{"a":', r'{"\"', "{ ", "<think>", "</think>")
        ),
        ('{"result":' * 5_000, YES_NO, ["no JSON"]),
    ],
)
def test_what_is_no_verdict(text: str, values: tuple[str, ...], says: list[str]) -> None:
    started = time.process_time()
    with pytest.raises(NoVerdict) as told:
        read_verdict(text, values)
    assert time.process_time() - started < 5
    assert all(word in str(told.value) for word in says), told.value
    assert len(str(told.value)) < 400
