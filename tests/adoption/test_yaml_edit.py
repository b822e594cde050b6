from __future__ import annotations

import pytest
from builders import any_text
from hypothesis import given
from hypothesis import strategies as st

from pf_mlflow.adoption.yaml_edit import Edit, appended_lines, applied, newline_of, taken_back

changes = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 3), any_text), max_size=5)


@given(any_text, changes)
def test_what_was_applied_is_taken_back(text: str, wanted: list[tuple[int, int, str]]) -> None:
    end = 0
    made = []
    for at, length, added in sorted(wanted, key=lambda change: change[0]):
        start = max(at, end)
        if start > len(text):
            break
        end = min(start + length, len(text))
        made.append(Edit(start, text[start:end], added))
    new, edits = applied(text, made)
    assert taken_back(new, edits) == text


@pytest.mark.parametrize(
    ("since", "left"),
    [
        (lambda text: "# mine\n" + text, "# mine\na\nb\nc\n"),
        (lambda text: text + "d\n", "a\nb\nc\nd\n"),
        (lambda text: text.replace("b\n", ""), "a\nc\n"),
        (lambda text: text.replace("one\n", ""), None),
        (lambda text: text + "one\n", "a\nb\nc\none\n"),  # the place noted is looked at first
        (lambda text: "one\n" + text + "one\n", None),
    ],
    ids=["above", "below", "between", "ours gone", "ours again", "ours twice elsewhere"],
)
def test_edits_made_since_stay(since, left: str | None) -> None:
    text, edits = applied("a\nb\nc\n", [Edit(2, "", "one\n"), Edit(4, "", "two\n")])
    assert text == "a\none\nb\ntwo\nc\n"
    if left is None:
        with pytest.raises(ValueError, match="one"):
            taken_back(since(text), edits)
    else:
        assert taken_back(since(text), edits) == left


@pytest.mark.parametrize(
    ("text", "new"),
    [
        ("", "x\ny\n"),
        ("a\n", "a\nx\ny\n"),
        ("a", "a\nx\ny\n"),
        ("a\r\n", "a\r\nx\r\ny\r\n"),
        ("a\r\nb", "a\r\nb\r\nx\r\ny\r\n"),
    ],
)
def test_lines_are_appended_in_the_texts_own_way(text: str, new: str) -> None:
    assert applied(text, [appended_lines(text, ["x", "y"])])[0] == new
    assert newline_of(new) in new
