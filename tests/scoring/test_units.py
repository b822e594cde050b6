from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pf_mlflow.scoring.units import is_mainly_spaceless, only_latin, separated_units, spaced, units


@pytest.mark.parametrize(
    "text, expected",
    [
        ("", []),
        ("  \n\t", []),
        ("。、「」!?", []),
        ("Hello,  World!", ["hello", "world"]),
        ("Don't be well-known", ["dont", "be", "wellknown"]),  # as SQuAD: ASCII punctuation vanishes
        ("Don’t be well‑known", ["dont", "be", "wellknown"]),  # … and so it does as typographers write it
        ("one—two…three", ["one", "twothree"]),  # … is three ASCII points
        ("Straße", ["strasse"]),
        ("東京は首都です。", ["東", "京", "は", "首", "都", "で", "す"]),
        ("「東京」、大阪・京都", ["東", "京", "大", "阪", "京", "都"]),
        ("東京 タワー", ["東", "京", "タ", "ワ", "ー"]),  # ー is a character of its own
        ("人々々", ["人", "々", "々"]),
        ("ｶﾞｰﾄﾞ", ["ガ", "ー", "ド"]),  # half width, the voice mark a character of its own
        ("か\u3099", ["が"]),
        ("か\u309a", ["か\u309a"]),  # no single character for these two: the mark stays with its base
        ("ＭＬｆｌｏｗ２", ["mlflow2"]),
        ("MLflowで2026年に", ["mlflow", "で", "2026", "年", "に"]),
        ("GPT-4oは速い", ["gpt4o", "は", "速", "い"]),
        ("東京\u3000Tokyo", ["東", "京", "tokyo"]),
        ("𠮷𠮷野家", ["𠮷", "𠮷", "野", "家"]),  # beyond the first 65 536 characters
        ("我爱北京", ["我", "爱", "北", "京"]),
        ("สวัสดี", ["ส", "วั", "ส", "ดี"]),  # vowels and tones above and below stay with their consonant
        ("ສະບາຍດີ", ["ສ", "ະ", "ບ", "າ", "ຍ", "ດີ"]),
        ("ភាសា", ["ភា", "សា"]),
        ("မြန်မာ", ["မြ", "န်", "မာ"]),
        ("བོད་ཡིག", ["བོ", "ད", "ཡི", "ག"]),
        ("안녕하세요 세계", ["안녕하세요", "세계"]),  # Korean has spaces
        ("Привет, мир!", ["привет", "мир"]),
        ("مرحبا بالعالم", ["مرحبا", "بالعالم"]),
        ("हिन्दी भाषा", ["हिन्दी", "भाषा"]),
        ("e\u0301tude étude", ["étude", "étude"]),
        ("a\u200bb c\u00add", ["a", "b", "cd"]),  # a space of no width, a soft hyphen
        ("👍🏽", ["👍🏽"]),
        ("\u3099か", ["\u3099", "か"]),  # a mark that has nothing to stay with
    ],
)
def test_units(text: str, expected: list[str]) -> None:
    assert units(text) == expected


@pytest.mark.parametrize(
    "text, expected",
    [
        ("Don't be well-known_x", ["don", "t", "be", "well", "known", "x"]),
        ("GPT-4oは速い。", ["gpt", "4o", "は", "速", "い"]),
        ("สวัสดี ครับ", ["ส", "วั", "ส", "ดี", "ค", "รั", "บ"]),
        ("한국어, 좋아요", ["한국어", "좋아요"]),
        ("😀 $ + 。", []),
    ],
)
def test_separated_units(text: str, expected: list[str]) -> None:
    assert separated_units(text) == expected


@pytest.mark.parametrize(
    "text, expected",
    [
        ("Hello,  World – “x”!", "Hello,  World – “x”!"),  # untouched
        ("東京、大阪", "東 京 、 大 阪"),
        ("MLflowで見る", "MLflow で 見 る"),
        ("ＧＰＴ", "GPT"),
        ("สวัสดี", "ส วั ส ดี"),
    ],
)
def test_spaced(text: str, expected: str) -> None:
    assert spaced(text) == expected


@pytest.mark.parametrize(
    "text, mainly",
    [
        ("", False),
        ("!?", False),
        ("Tokyo is the capital.", False),
        ("한국어 문장입니다", False),
        ("東京は首都です", True),
        ("The tower is called 東京タワー", False),  # 5 characters are two and a half words, and there are 4
        ("MLflowでPromptFlowを実行", True),  # 4 characters are two words, and there are 2
        ("ビタミン A", True),
    ],
)
def test_is_mainly_spaceless(text: str, mainly: bool) -> None:
    assert is_mainly_spaceless(text) is mainly


@pytest.mark.parametrize(
    "text, latin",
    [
        ("café – naïve “x” 5 €", True),
        ("", True),
        ("α-helix", False),
        ("東京", False),
        ("Ｔｏｋｙｏ", False),
        ("٣", False),
    ],
)
def test_only_latin(text: str, latin: bool) -> None:
    assert only_latin(text) is latin


@given(st.text())
@example("C:\u0327")
def test_units_are_the_same_however_wide_and_tall_the_text_is(text: str) -> None:
    found = units(text)
    assert all(unit.strip() for unit in found)
    assert units(" ".join(found)) == found


@given(st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E)))
def test_full_width_is_half_width(text: str) -> None:
    assert units("".join(chr(ord(char) + 0xFEE0) for char in text)) == units(text)
