"""How long judges take beside the least that their answers allow: `python -m benchmarks.judging [--lines N …]`.

A server answers each judge after a fixed time; lines are judged in threads of one process, as `pf-mlflow evaluate`
judges them. The bar: wall time / (lines x judges x latency / requests at once) of at most 1.5.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from judge_server import KEY, JudgeServer

from benchmarks.report import measured_on, table

BAR = 1.5
LINES_AT_ONCE = 32


def judged(server: JudgeServer, lines: int) -> tuple[float, int]:
    """Return the seconds that judging took, and how many judges were asked."""
    from promptflow.connections import OpenAIConnection

    from pf_mlflow.scoring import LineFields, score_line

    connection = OpenAIConnection(name="judge", api_key=KEY, base_url=server.base_url)
    fields = [LineFields.of(f"answer {n}", f"question {n}?", f"truth {n}", [f"context {n}"]) for n in range(lines)]
    judges = ["context_sufficiency", "groundedness", "correctness", "safety"]
    before = len(server.asked)
    with ThreadPoolExecutor(LINES_AT_ONCE) as pool:
        started = time.perf_counter()
        score = partial(score_line, metrics=judges, judge_model="judge", connection=connection)
        scores = list(pool.map(score, fields))
        seconds = time.perf_counter() - started
    assert all(score.value in ("yes", "pass") for line in scores for score in line)
    return seconds, len(server.asked) - before


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lines", type=int, default=200)
    parser.add_argument("--latency", type=float, default=0.5)
    parser.add_argument("--at-once", type=int, default=16)
    given = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder, JudgeServer(latency=given.latency) as server:
        os.environ |= {"PF_MLFLOW_SPOOL_DIR": folder, "PF_MLFLOW_JUDGE_REQUESTS": str(given.at_once)}
        for what in ("new", "given before"):
            seconds, asked = judged(server, given.lines)
            least = asked * given.latency / given.at_once
            ratio = seconds / least if asked else 0.0
            rows.append(
                [what, given.lines, asked, server.most_at_once, f"{least:.1f}", f"{seconds:.1f}", f"{ratio:.2f}"]
            )
    print(f"Judges of {given.latency:g} s; {measured_on()}\n")
    print(table(["verdicts", "lines", "asked", "most at once", "least, s", "took, s", "ratio"], rows))
    if float(rows[0][-1]) > BAR:
        sys.exit(f"The ratio is over {BAR}.")


if __name__ == "__main__":
    main()
