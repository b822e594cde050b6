"""Writes one batch into MLflow: its parent run, each line's child run exactly once, and in the end the sums."""

from __future__ import annotations

import logging
import time
from collections.abc import Container, Iterable, Iterator
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING

from pf_mlflow.errors import RequestRejected, TrackingDown, TrackingError, TrackingForbidden, TrackingRefused
from pf_mlflow.projection.cost import priced
from pf_mlflow.projection.existing_runs import ExistingRuns
from pf_mlflow.projection.fingerprint import agrees, fingerprint, of_outputs
from pf_mlflow.projection.line_payload import line_payload
from pf_mlflow.projection.parent_payload import closing_payload, opening_payload
from pf_mlflow.projection.results_table import LINES, RESULTS, ResultsTable
from pf_mlflow.projection.score_payload import EVALUATION, EVALUATION_UID, add_scores, evaluation_tags, key_tags
from pf_mlflow.projection.summary import BatchSummary
from pf_mlflow.projection.write_result import LineWritten
from pf_mlflow.projection.writer import Writer
from pf_mlflow.records.batch import command_on
from pf_mlflow.records.line import LineRecord
from pf_mlflow.records.source import BatchFacts, Source
from pf_mlflow.tracking.known_run import KnownRun
from pf_mlflow.tracking.run_payload import LAST_OUTPUT, NOT_LOGGED, PARAM_LIMIT, RunPayload

if TYPE_CHECKING:  # which imports mlflow
    from pf_mlflow.tracking.writer import StoreWriter

__all__ = ["BatchWriter"]

_OLD_PARAM_LIMIT = 500
"""Characters that servers before MLflow 2.8, and Azure ML, take in a param."""
_MOST_LATE_FAILURES = 3
"""Runs in a row whose texts cannot be kept now either, after which no other is tried."""
_MAY_CHANGE = {"promptflow.error", "promptflow.error_type", NOT_LOGGED, LAST_OUTPUT}
"""Tags of a run that showed less than its line was, or what it was before promptflow's last word."""

log = logging.getLogger(__name__)


class BatchWriter(Writer):
    """Makes the runs of a batch: its parent, and one for each line."""

    def __init__(self, store: StoreWriter, source: Source) -> None:
        super().__init__(store, source)
        self._asked_parent = False
        self._asked: set[int] = set()
        """Lines whose run was asked for, and of which nothing was noted since: MLflow may have made it or not."""
        self._outdated: set[int] = set()
        """Lines whose runs are complete but show what was not the last word on them."""
        self._ended: set[int] = set()
        """Lines whose end MLflow has taken, however often it is read back."""
        self._late_failures = 0
        self._param_limit = PARAM_LIMIT
        self._last_end_ms = 0
        self._facts = BatchFacts(self.batch.name)

    def read_existing(self, table: ResultsTable | None = None) -> None:
        """Read what MLflow has of the batch, into a table too if one is given, and take away what is there twice."""
        self._read(table)
        if self.existing.parent and self.existing.has_strays:
            self.store.adopt_children(self.batch.uid, self.existing.parent.run_id)
        if surplus := self.existing.surplus:
            log.info("batch %s: %d runs are there twice", self.batch.name, len(surplus))
            for run_id in surplus:
                self.store.delete(run_id)
            self.changes.removed += len(surplus)
            self._read(table, but=set(surplus))

    def _read(self, table: ResultsTable | None = None, but: Container[str] = ()) -> None:
        runs = (run for run in self._runs() if run.run_id not in but)
        self.existing = ExistingRuns.of(table.filled(runs) if table else runs, cache(self.source.named_runs))

    def _runs(self) -> Iterator[KnownRun]:
        """Yield the batch's runs, those that were written here as they are, however late a search shows that."""
        parent = self.existing.parent
        written = {run_id for run_id in (parent and parent.run_id, *self.existing.complete.values()) if run_id}
        for run in self.store.runs(self.batch.uid):
            if run.is_over or run.line_number is None:
                written.discard(run.run_id)
            if run.run_id not in written:
                yield run
        yield from filter(None, map(self.store.active_run, written))

    def open_parent(self) -> str | None:
        """Make the parent run if there is none, and return its id; single executions have none."""
        self._facts = self.source.facts()
        if self.batch.single:
            return None
        if self.existing.parent is None and self._asked_parent:
            self._read()
        if self.existing.parent is None:
            start = self._facts.start or time.time()
            run_id = self._make_parent(start)
            self.existing.parent = KnownRun(run_id, None, None, RunPayload("RUNNING", round(start * 1000), 0))
            self.changes.parent = "made"
            self.show_at_all()
            if self.existing.complete or self.existing.incomplete:  # somebody deleted their parent
                self.store.adopt_children(self.batch.uid, run_id)
        if "flow" not in self.existing.parent.values.params:  # perhaps its maker got no further
            self._update_parent(opening_payload(self.batch, self.source.provenance()))
        if self.store.is_database or self.batch.log_model:
            self.store.use_model(self.batch.flow_name)
        return self.existing.parent.run_id

    def _make_parent(self, start: float) -> str:
        try:
            return self.store.create_parent(self.batch, self._facts.display_name, start)
        except TrackingDown:
            self._asked_parent = True
            raise

    def write(
        self, line_number: int, opened: float, record: LineRecord | None, store: StoreWriter | None = None
    ) -> LineWritten:
        """Make a line's run if it has none, and complete it if its record is known."""
        run_id = self.existing.complete.get(line_number)
        store = store or self.store
        if run_id is not None and line_number not in self._outdated:
            if record and line_number in self.existing.lacking_texts:
                return self._keep_late_texts(store, run_id, record)
            return LineWritten(line_number, run_id)
        known = store.run(run_id) if run_id else self.existing.incomplete.get(line_number)
        made = known is None
        if known is None:
            known = self._create(store, line_number, record.start if record else opened)
        if record is None:
            return LineWritten(line_number, known.run_id, known, made=made)
        record = replace(record, scores=priced(record.scores, self.prices))
        return replace(self._complete(store, known, record), made=made, is_over=True)

    def _create(self, store: StoreWriter, line_number: int, start: float) -> KnownRun:
        run_id = store.find_child(self.batch, line_number) if line_number in self._asked else None
        self._asked.add(line_number)
        run_id = run_id or self._make(store, line_number, start)
        known = KnownRun(run_id, line_number, None, RunPayload("RUNNING", round(start * 1000), 0))
        if store is self.store:  # what a transaction makes may be undone
            self.existing.incomplete[line_number] = known
        return known

    def _make(self, store: StoreWriter, line_number: int, start: float) -> str:
        try:
            if self.batch.single or self.existing.parent is None:
                return store.create_single(self.batch, line_number, start)
            return store.create_child(self.batch, line_number, self.existing.parent.run_id, start)
        except TrackingRefused:
            store.open_experiment()  # which says more if the experiment was deleted
            raise

    def _complete(self, store: StoreWriter, known: KnownRun, record: LineRecord) -> LineWritten:
        payload = self._payload(record)
        payload = payload.amending(known.values) if known.is_over else payload
        outdated = _MAY_CHANGE & known.values.tags.keys() | known.not_kept
        tags = {key: value for key, value in known.values.tags.items() if key not in outdated}
        known = replace(known, values=replace(known.values, tags=tags))
        try:
            store.drop_tags(known.run_id, outdated)
            store.complete(known.run_id, payload.without(known.values))
        except (TrackingRefused, RequestRejected) as error:
            if "length" in str(error) and self._param_limit > _OLD_PARAM_LIMIT:
                self._param_limit = _OLD_PARAM_LIMIT
                return self._complete(store, known, record)
            return self._refuse(store, known, record.line_number, payload, error)
        return LineWritten(
            record.line_number,
            known.run_id,
            end_ms=payload.end_ms,
            lacks_texts=known.run_id in store.lost,
            shown=of_outputs(record, payload),
        )

    def _keep_late_texts(self, store: StoreWriter, run_id: str, record: LineRecord) -> LineWritten:
        """Keep the long texts of a complete run that no file could keep before; if none can now, change nothing."""
        lacking = LineWritten(record.line_number, run_id, lacks_texts=True)
        if self._late_failures >= _MOST_LATE_FAILURES:
            return lacking
        known = store.run(run_id)
        late = self._payload(record).late_texts(known.values)
        if not late.texts:
            return lacking
        if store.keep_texts(run_id, late.texts):
            self._late_failures += 1
            return lacking
        self._late_failures = 0
        store.log(run_id, replace(late, texts={}))
        store.drop_tags(run_id, known.not_kept)
        return LineWritten(record.line_number, run_id)

    def _payload(self, record: LineRecord) -> RunPayload:
        payload = line_payload(record, self._facts.display_name, self._param_limit, self.prices)
        if self.batch.single:
            payload.add_tag("promptflow.run_id", record.run_name)
        if record.scores:
            payload.metrics.pop("line_duration", None)  # of the scoring: what the answer took is not known
            add_scores(payload, record.scores, record.inputs)
            payload.tags |= evaluation_tags(self.batch)
        return payload

    def _refuse(
        self, store: StoreWriter, known: KnownRun, line_number: int, payload: RunPayload, error: TrackingError
    ) -> LineWritten:
        """End the run of a line whose values do not get into MLflow; raise if nothing of this batch does."""
        store.open_experiment()  # a deleted experiment takes nothing
        bare = RunPayload(payload.status, payload.start_ms, payload.end_ms)
        bare.add_tag(NOT_LOGGED, str(error))
        try:
            store.complete(known.run_id, bare)
        except TrackingForbidden:
            raise
        except TrackingRefused as again:
            log.warning("batch %s, line %d: %s", self.batch.name, line_number, again)
        tags = {**known.values.tags, **bare.tags}
        ended = replace(known, values=replace(known.values, status=payload.status, tags=tags))
        return LineWritten(line_number, known.run_id, ended, refused=str(error))

    def note(self, written: LineWritten) -> None:
        """Count a line that was written."""
        self._asked.discard(written.line_number)
        if not written.is_over and written.line_number in self.existing.complete:
            self._note_texts(written)
            return
        self.existing.note(written.line_number, written.run_id, written.run, written.shown)
        self.changes.made += written.made
        if not written.is_over:
            return
        self._outdated.discard(written.line_number)
        if written.lacks_texts:
            self.existing.lacking_texts.add(written.line_number)
        self._last_end_ms = max(self._last_end_ms, written.end_ms)
        if written.refused:
            self.changes.refused += 1
        elif not written.made:
            self.changes.completed += 1

    def in_doubt(self, decided: Iterable[LineRecord]) -> set[int]:
        """Return the lines whose runs may not show what was decided on them: their status and outputs."""
        shown = self.existing.shown
        runs = ((line, shown[line.line_number]) for line in decided if line.line_number in self.existing.complete)
        return {line.line_number for line, of_run in runs if not agrees(of_run, line)}

    def amends(self, record: LineRecord) -> bool:
        """Tell whether a line ended otherwise than its run shows, so that it is to be written once more."""
        if not self.existing.complete[record.line_number]:  # in a dry run it was not made
            return False
        payload = self._payload(record)
        if self.existing.shown[record.line_number] in (fingerprint(payload), of_outputs(record, payload)):
            return False
        self._outdated.add(record.line_number)
        return True

    def close_parent(self) -> BatchSummary:
        """End the parent run with promptflow's status and the sums of what its lines show, and return these."""
        with ResultsTable() as table:
            is_shown = self._reads_back(self.existing.summary())
            if is_shown:
                self._read_back(table)
            summary = self.existing.summary()
            if self.existing.parent:
                self._end(self.existing.parent, summary)
                if is_shown and summary.lines_total:
                    self._show(self.existing.parent, summary, table)
        return replace(summary, lines_total=self.existing.lines_over)

    def _reads_back(self, summary: BatchSummary) -> bool:
        """Tell whether something was written, now or by one who came no further: the parent is not over then."""
        wrote = self.changes or self.changes.refused
        is_open = self.existing.parent and not self.existing.parent.is_over
        return not self.store.dry_run and bool(wrote or is_open or self._is_own_evaluation(summary))

    def _is_own_evaluation(self, summary: BatchSummary) -> bool:
        """Tell whether the lines bring scores of their own along, of which the parent shows nothing."""
        parent = self.existing.parent
        return bool(summary.scores and parent and EVALUATION not in parent.values.tags)

    def _read_back(self, table: ResultsTable) -> None:
        """Read what was written: somebody may have deleted runs meanwhile, or a proxy have made one more.

        Raises:
            TrackingRefused: the parent is gone.
            TrackingDown: MLflow does not show the end of lines that it had taken.
        """
        self._ended.update(self.existing.complete)
        self.read_existing(table)
        if not (self.batch.single or self.existing.parent):
            raise TrackingRefused(
                f"MLflow does not show the batch {self.batch.name!r} any more; "
                f"`{command_on('sync', self.batch.name)}` brings it in anew."
            )
        going = [n for n, run in self.existing.incomplete.items() if n in self._ended and not run.is_over]
        if going:
            raise TrackingDown(f"MLflow at {self.store.shown_uri} has taken the end of line {going[0]} and lost it.")

    def _end(self, parent: KnownRun, summary: BatchSummary) -> None:
        has_hash = "flow_hash" in parent.values.params
        payload = closing_payload(self.source.facts(), None if has_hash else self.source.provenance().flow_hash)
        payload.metrics.update(summary.metrics())
        if self._is_own_evaluation(summary):
            payload.tags |= evaluation_tags(self.batch) | key_tags(summary.scores)
        payload.end_ms = max(payload.end_ms, parent.values.start_ms, self._last_end_ms)
        self._update_parent(payload)

    def _show(self, parent: KnownRun, summary: BatchSummary, table: ResultsTable) -> None:
        table.add_data(self.source.other_columns())
        if parent.values.tags.get(EVALUATION_UID) == self.batch.uid:
            table.log_to(self.store, parent.run_id, RESULTS)
        table.log_to(self.store, parent.run_id, LINES)
        self.show_well(self.existing, self.batch.name, summary, table.columns)

    def _update_parent(self, payload: RunPayload) -> None:
        """Write what the parent lacks, and sums that are not true any more."""
        parent = self.existing.parent
        assert parent is not None
        lacking = parent.lacks(payload)
        changes = bool(lacking.params or lacking.tags or lacking.metrics)
        if changes:
            self.store.log(parent.run_id, lacking)
        ends = payload.status not in ("RUNNING", parent.values.status)
        if ends:
            self.store.end(parent.run_id, payload.status, payload.end_ms)
        if (changes or ends) and not self.changes.parent:
            self.changes.parent = "ended" if ends else "updated"
        self.existing.parent = parent.updated(payload)
