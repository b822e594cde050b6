"""The metrics that are formulas: none asks a model, none downloads anything.

The two texts are compared by the units of `units`; an answer without any has 0, and so has one without any in common
with the ground truth.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence

from pf_mlflow.scoring import readability
from pf_mlflow.scoring.metric import Metric, library
from pf_mlflow.scoring.units import is_mainly_spaceless, only_latin, separated_units, spaced, units

__all__ = [
    "HEURISTICS",
    "answer_length",
    "ari_grade",
    "bleu",
    "exact_match",
    "flesch_kincaid_grade",
    "rouge1",
    "rouge2",
    "rougeL",
    "token_f1",
]

ari_grade = readability.ari_grade
flesch_kincaid_grade = readability.flesch_kincaid_grade

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PLAIN_WORD = re.compile("[a-z0-9]+")


def exact_match(answer: str, ground_truth: str) -> float:
    """Return 1.0 where both are the same but for case, punctuation, English articles and spaces, else 0.0.

    As SQuAD's evaluation script (Rajpurkar et al. 2016).
    """
    return float(_squad_units(answer) == _squad_units(ground_truth))


def token_f1(answer: str, ground_truth: str) -> float:
    """Return the harmonic mean of the share of units of the answer, and of the ground truth, that both have.

    As SQuAD's evaluation script (Rajpurkar et al. 2016), and where nothing is left of one, 1.0 if nothing is of both.
    """
    ours, theirs = _squad_units(answer), _squad_units(ground_truth)
    if not ours or not theirs:
        return float(ours == theirs)
    shared = sum((Counter(ours) & Counter(theirs)).values())
    return 2 * shared / (len(ours) + len(theirs))


def _squad_units(text: str) -> list[str]:
    """Return units without English articles; in a text mainly in another script, "A" may be any letter's name."""
    found = units(text)
    if is_mainly_spaceless(text):
        return found
    return _ARTICLES.sub(" ", " ".join(found)).split()


def rouge1(answer: str, ground_truth: str) -> float:
    """Return the F-measure of the units that both have (Lin 2004), as `rouge_score` without stemming."""
    return _rouge(answer, ground_truth, 1)


def rouge2(answer: str, ground_truth: str) -> float:
    """Return the F-measure of the pairs of neighbouring units that both have (Lin 2004), as `rouge_score`."""
    return _rouge(answer, ground_truth, 2)


def rougeL(answer: str, ground_truth: str) -> float:
    """Return the F-measure of the longest common subsequence of units (Lin 2004), as `rouge_score`."""
    ours, theirs = _rouge_units(answer), _rouge_units(ground_truth)
    return _f_measure(_longest_common(ours, theirs), len(ours), len(theirs))


def _rouge(answer: str, ground_truth: str, size: int) -> float:
    ours, theirs = (_grams(_rouge_units(text), size) for text in (answer, ground_truth))
    return _f_measure((ours & theirs).total(), ours.total(), theirs.total())


def _grams(found: Sequence[str], size: int) -> Counter[tuple[str, ...]]:
    return Counter(zip(*(found[start:] for start in range(size)), strict=False))


def _f_measure(shared: int, ours: int, theirs: int) -> float:
    return 2 * shared / (ours + theirs) if shared else 0.0


def _rouge_units(text: str) -> list[str]:
    """Return what `rouge_score` makes of Latin letters, and the units of other scripts, which it would drop."""
    if only_latin(text):
        return _plain_words(text)
    return [part for unit in separated_units(text) for part in (_plain_words(unit) if only_latin(unit) else [unit])]


def _plain_words(text: str) -> list[str]:
    return _PLAIN_WORD.findall(text.lower())


def _longest_common(ours: Sequence[str], theirs: Sequence[str]) -> int:
    """Return the length of the longest common subsequence, a bit per unit (Hyyrö 2004)."""
    places: dict[str, int] = {}
    for place, unit in enumerate(ours):
        places[unit] = places.get(unit, 0) | 1 << place
    everywhere = rows = (1 << len(ours)) - 1
    for unit in theirs:
        hits = rows & places.get(unit, 0)
        rows = (rows + hits | rows - hits) & everywhere
    return len(ours) - rows.bit_count()


def bleu(answer: str, ground_truth: str) -> float:
    """Return BLEU of one sentence between 0 and 1 (Papineni et al. 2002), a hundredth of `sacrebleu.sentence_bleu`.

    With sacrebleu's defaults: its tokenizer `13a`, case kept, orders up to 4 that the answer is long enough for,
    exponential smoothing. Characters of scripts without spaces are tokens each, as with its tokenizer `zh`.
    """
    score = library("sacrebleu", "sacrebleu").sentence_bleu(spaced(answer), [spaced(ground_truth)]).score
    _forget_texts()
    return min(float(score) / 100, 1.0)


def _forget_texts() -> None:
    """Empty the caches of sacrebleu's tokenizers, which would keep the last 65 536 texts."""
    for module, tokenizer in (("tokenizer_13a", "Tokenizer13a"), ("tokenizer_re", "TokenizerRegexp")):
        cached = getattr(library(f"sacrebleu.tokenizers.{module}", "sacrebleu"), tokenizer).__call__
        cached.cache_clear()


def answer_length(answer: str) -> float:
    """Return the number of words, and of characters of scripts without spaces, punctuation not counted."""
    return float(len(units(answer)))


def _match(name: str, function: Callable[[str, str], float], package: str = "") -> Metric:
    """Return a comparison with the ground truth; an answer that is missing is compared as an empty one."""
    return Metric(
        name,
        ("ground_truth",),
        lambda fields: function(fields.answer or "", fields.ground_truth or ""),
        package=package,
    )


def _grade(name: str, function: Callable[[str], float], package: str = "") -> Metric:
    return Metric(
        name,
        ("answer",),
        lambda fields: function(fields.answer or ""),
        unfit=lambda fields: readability.unreadable(fields.answer),
        package=package,
    )


HEURISTICS = (
    _match("exact_match", exact_match),
    _match("token_f1", token_f1),
    _match("rouge1", rouge1),
    _match("rouge2", rouge2),
    _match("rougeL", rougeL),
    _match("bleu", bleu, "sacrebleu"),
    _grade("flesch_kincaid_grade_level", flesch_kincaid_grade, "pyphen"),
    _grade("ari_grade_level", ari_grade),
    Metric("answer_length", (), lambda fields: answer_length(fields.answer or "")),
)
