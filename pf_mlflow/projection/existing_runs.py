"""What MLflow has of a batch: its parent, the children that are complete, those that are not, what is there twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field

from pf_mlflow.projection.fingerprint import fingerprint
from pf_mlflow.projection.summary import BatchSummary, Tally
from pf_mlflow.tracking.known_run import KnownRun

__all__ = ["ExistingRuns"]


@dataclass
class ExistingRuns:
    """The runs of a batch, each line's once. Of complete children only the run id is kept: there may be many."""

    parent: KnownRun | None = None
    complete: dict[int, str] = field(default_factory=dict)
    incomplete: dict[int, KnownRun] = field(default_factory=dict)
    shown: dict[int, int] = field(default_factory=dict)
    """Fingerprints of the complete ones."""
    lacking_texts: set[int] = field(default_factory=set)
    """The complete ones of whose long values no file could keep the whole."""
    surplus: list[str] = field(default_factory=list)
    """Runs that show what another one shows."""
    has_strays: bool = False
    """Whether children are below another run than the parent."""
    tally: Tally = field(default_factory=Tally)
    """The complete children summed up; not to be relied on while there is surplus."""

    @classmethod
    def of(
        cls, runs: Iterable[KnownRun], named: Callable[[], Mapping[int, str]] = dict, worst_by: str = ""
    ) -> ExistingRuns:
        """Sort the runs of a batch.

        Args:
            runs: The batch's parent and child runs, in any order.
            named: Gives the run ids that the batch's own outputs name, by line. Of several runs of a line the one named
                there stays, else a complete one, else the first.
            worst_by: The score by which the worst lines are found.
        """
        existing = cls(tally=Tally(worst_by=worst_by))
        parents: list[KnownRun] = []
        children_of: Counter[str | None] = Counter()
        for run in runs:
            if run.line_number is None:
                parents.append(run)
            else:
                children_of[run.parent_run_id] += 1
                existing._add(run, run.line_number, named)
        parents.sort(key=lambda run: -children_of[run.run_id])
        existing.parent = parents[0] if parents else None
        existing.surplus += [run.run_id for run in parents[1:]]
        existing.has_strays = bool(parents) and any(one not in (None, parents[0].run_id) for one in children_of)
        return existing

    def _add(self, run: KnownRun, number: int, named: Callable[[], Mapping[int, str]]) -> None:
        if rival := self.run_id(number):
            stays = named().get(number)
            better = run.run_id == stays or (stays != rival and run.is_complete and number in self.incomplete)
            self.surplus.append(rival if better else run.run_id)
            if not better:
                return
            self.complete.pop(number, None)
            self.incomplete.pop(number, None)
            self.lacking_texts.discard(number)
        if run.is_complete:
            self.complete[number] = run.run_id
            self.shown[number] = fingerprint(run.values)
            self.tally.add_run(number, run.values)
            self.lacking_texts |= {number} if run.not_kept else set()
        else:
            self.incomplete[number] = run

    def note(self, line_number: int, run_id: str, incomplete: KnownRun | None, shown: int) -> None:
        """Take up what was written of a line; `incomplete`: its run if more is to come."""
        self.complete.pop(line_number, None)
        self.incomplete.pop(line_number, None)
        if incomplete:
            self.incomplete[line_number] = incomplete
        else:
            self.complete[line_number] = run_id
            self.shown[line_number] = shown

    def summary(self) -> BatchSummary:
        """Return the lines that were read as over summed up, also those whose run shows less than the line was."""
        tally = deepcopy(self.tally)
        for number, known in self.incomplete.items():
            if known.is_over:
                tally.add_run(number, known.values)
        return tally.summary()

    @property
    def lines_over(self) -> int:
        """How many lines are over, also those that were written since."""
        return len(self.complete) + sum(known.is_over for known in self.incomplete.values())

    def run_id(self, line_number: int) -> str | None:
        """Return the id of a line's child run, `None` if MLflow has none."""
        if line_number in self.complete:
            return self.complete[line_number]
        known = self.incomplete.get(line_number)
        return known.run_id if known else None
