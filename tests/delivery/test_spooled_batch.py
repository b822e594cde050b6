from __future__ import annotations

from pathlib import Path

import pytest
from builders import batch, line_record

from pf_mlflow.delivery.spooled_batch import SpooledBatch
from pf_mlflow.delivery.write_queue import QueuedLine
from pf_mlflow.projection.write_result import LineWritten
from pf_mlflow.spool.store import Spool


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    spool = Spool(tmp_path)
    spool.add_batch(batch())
    return spool


def keep(spool: Spool, number: int) -> None:
    spool.complete_line("uid", number, 100.0, line_record(line_number=number).to_json())


def written(line: QueuedLine, **changes: str) -> LineWritten:
    return LineWritten(line.line_number, f"run-{line.line_number}", **changes)


def test_each_record_is_read_once(spool: Spool) -> None:
    spooled = SpooledBatch(spool, "uid")
    for number in (3, 1, 2):
        keep(spool, number)
    first = spooled.completed(2)
    assert [line.line_number for line in first] == [3, 1] and first[0].record == line_record(line_number=3)
    keep(spool, 3)  # which is executed anew
    assert [line.line_number for line in spooled.completed(10)] == [2, 3] and spooled.completed(10) == []
    for line in first:
        spooled.settle(line, written(line))
    spooled.flush()
    assert [line.line_number for line in SpooledBatch(spool, "uid").completed(10)] == [2, 3]


def test_an_opened_line_is_there_until_its_run_is_known(spool: Spool) -> None:
    spooled = SpooledBatch(spool, "uid")
    spool.open_line("uid", 1, 100.0)
    (line,) = spooled.opened()
    assert spooled.opened() == [line]
    spooled.settle(line, written(line))
    assert spooled.opened() == [] and spool.run_id("uid", 1) == ""
    spooled.flush()
    assert spooled.opened() == [] and spool.run_id("uid", 1) == "run-1"


def test_a_refused_record_is_kept(spool: Spool) -> None:
    spooled = SpooledBatch(spool, "uid")
    keep(spool, 1)
    (line,) = spooled.completed(10)
    spooled.settle(line, written(line, refused="no"))
    spooled.flush()
    assert spooled.refused() == {1: "no"} and spool.waiting("uid") == 1


def test_what_a_spool_cannot_take_now_it_takes_later(spool: Spool) -> None:
    spooled = SpooledBatch(spool, "uid")
    keep(spool, 1)
    (line,) = spooled.completed(10)
    spooled.settle(line, written(line))
    spool._db.write("PRAGMA query_only = ON")
    spooled.flush()
    spooled.set_parent("parent", "1")
    assert spool.waiting("uid") == 1 and spooled.completed(10) == []
    spool._db.write("PRAGMA query_only = OFF")
    spooled.flush()
    assert spool.waiting("uid") == 0


def test_it_is_settled_only_when_the_spool_took_everything(spool: Spool) -> None:
    keep(spool, 1)
    spool.open_line("uid", 2, 100.0)  # whose record a full disk did not take
    spooled = SpooledBatch(spool, "uid")
    for line in spooled.completed(10):
        spooled.settle(line, written(line))
    spooled.flush()
    spool._db.write("PRAGMA query_only = ON")
    spooled.end_lines()
    assert not spooled.is_settled and spool.undelivered("uid") == 1
    spool._db.write("PRAGMA query_only = OFF")
    spooled.end_lines()
    assert spooled.is_settled and spool.undelivered("uid") == 0


def test_a_record_that_came_after_the_refused_one_is_not_refused(spool: Spool) -> None:
    keep(spool, 1)
    spooled = SpooledBatch(spool, "uid")
    (line,) = spooled.completed(10)
    keep(spool, 1)
    spooled.settle(line, written(line, refused="no"))
    assert spooled.refused() == {1: "no"}
    spooled.flush()
    assert spooled.refused() == {} and [one.line_number for one in spooled.completed(10)] == [1]


def test_a_dry_run_leaves_it_as_it_is(spool: Spool) -> None:
    keep(spool, 1)
    spool.open_line("uid", 2, 100.0)
    spooled = SpooledBatch(spool, "uid", dry_run=True)
    for line in spooled.opened() + spooled.completed(10):
        spooled.settle(line, written(line, refused="no"))
    spooled.set_parent("parent", "1")
    spooled.end_lines()
    state = spool.state("uid")
    assert (spool.waiting("uid"), spool.refused("uid"), spool.unfinished("uid")) == (2, {}, {2: 100.0})
    assert state and state.parent_run_id is None
