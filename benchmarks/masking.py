"""How many secrets masking misses, and how many ordinary texts it touches: `python -m benchmarks.masking [--show]`."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from benchmarks.secret_set import halves
from pf_mlflow.records.masking import Secrets
from pf_mlflow.sources.promptflow.known_secrets import environment_secrets

_TELLING = 12
"""Characters of a secret of which a reader may see no run."""


def is_missed(secret: str, masked: str) -> bool:
    """Tell whether so much of a secret is left that it is no secret any more."""
    runs = [secret[start : start + _TELLING] for start in range(max(1, len(secret) - _TELLING + 1))]
    return any(run in masked for run in runs)


def wrong(rows: Iterable[Mapping[str, Any]]) -> tuple[list[Mapping[str, Any]], float]:
    """Return the rows that masking gets wrong, and its seconds per 10,000 characters."""
    found, seconds, characters = [], 0.0, 0
    for row in rows:
        known = [*environment_secrets(row.get("environment") or {}), *(row.get("connection") or [])]
        secrets = Secrets(known)
        started = time.process_time()
        masked = secrets.masked(row["text"])
        seconds += time.process_time() - started
        characters += len(row["text"])
        if is_missed(row["secret"], masked) if row["kind"] == "secret" else masked != row["text"]:
            found.append(row)
    return found, seconds / characters * 10_000


if __name__ == "__main__":
    for half, rows in halves().items():
        found, seconds = wrong(rows)
        kinds = Counter(row["kind"] for row in found)
        print(f"{half}: {kinds['secret']} of 100 secrets missed, {kinds['ordinary']} of 1,000 texts touched, ", end="")
        print(f"{1000 * seconds:.1f} ms per 10,000 characters")
        if "--show" in sys.argv:
            for row in found:
                print(f"  {row.get('type', row['kind'])}: {row['text'][:160]!r}")
