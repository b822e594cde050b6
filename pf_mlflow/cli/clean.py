"""`pf-mlflow clean`."""

from __future__ import annotations

import re
from itertools import groupby

import click
from rich.filesize import decimal
from rich.markup import escape

from pf_mlflow.cleaning.clean import clean as clean_up
from pf_mlflow.cleaning.findings import BATCH, Cleaned, Kept, Removed
from pf_mlflow.cli.output import err, one_sentence, out, print_json
from pf_mlflow.cli.sync_progress import Progress
from pf_mlflow.settings import read_settings

__all__ = ["clean"]

_SECONDS = {"h": 3600.0, "d": 24 * 3600.0, "w": 7 * 24 * 3600.0}
_WHAT = {
    "spool": "free pages of the spool",
    "log": "log",
    "copy": "copy of another version",
    "connection": "connection of a killed command",
    "batch": "promptflow's folder of batch",
}


class Age(click.ParamType[float]):
    """A number of hours, days or weeks, as seconds."""

    name = "AGE"

    def convert(self, value: object, param: click.Parameter | None, context: click.Context | None) -> float:
        """Read `12h`, `30d` or `2w`."""
        if isinstance(value, float):
            return value
        found = re.fullmatch(r"(\d{1,6})([hdw])", str(value))
        if not found:
            self.fail(f"{value!r} is no age; write 12h, 30d or 2w for hours, days or weeks.", param, context)
        return int(found[1]) * _SECONDS[found[2]]


@click.command()
@click.option("--older-than", type=Age(), default="30d", show_default=True, help="Keep what is younger: 12h, 30d, 2w.")
@click.option("--batches", is_flag=True, help="Also promptflow's folders of batches that MLflow has all of.")
@click.option("--dry-run", is_flag=True, help="Only tell what would be done.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON and nothing else on stdout.")
def clean(older_than: float, batches: bool, dry_run: bool, as_json: bool) -> None:
    """Free what finished batches left on this machine.

    The spool's file is emptied of what MLflow has; logs of delivery and copies of other versions of this package go if
    they are old, and connections of commands that were killed. With `--batches`, promptflow's record and folder of each
    batch too that ended so long ago and that MLflow has everything of, as `pf run delete` does: promptflow cannot show
    it or resume from it any more. One stays that is running, that MLflow lacks anything of, that holds images, whose
    texts were kept out of MLflow, or that scores another.

    Exit code: 0 done, 1 something could not be taken away, 2 wrong command line.

    Example: pf-mlflow clean --older-than 2w --batches --dry-run
    """
    with one_sentence("Interrupted; what was taken away stays so."), Progress(err) as progress:
        found = clean_up(read_settings(), older_than, batches, dry_run, progress)
    print_json("clean", {"dry_run": dry_run, **found.as_dict()}) if as_json else _print(found, dry_run)
    raise SystemExit(0 if found.succeeded else 1)


def _print(found: Cleaned, dry_run: bool) -> None:
    for gone in found.removed:
        out.print(_said(gone, "would go" if dry_run else "gone"))
    for kept in (one for one in found.kept if one.kind != BATCH or one.failed):
        err.print(f"[yellow]kept[/]  {_WHAT[kept.kind]} {escape(kept.name)}: {escape(kept.why)}")
    for why, some in groupby(sorted(_batches(found), key=_why), key=_why):
        names = [one.name for one in some]
        out.print(f"kept  {escape(_listed(names))}: {escape(why)}")
    out.print(f"{decimal(found.size)} {'would be freed' if dry_run else 'freed'}.")


def _said(gone: Removed, how: str) -> str:
    size = f", {decimal(gone.size)}" if gone.size else ""
    return f"{how}  {_WHAT[gone.kind]} {escape(gone.name)}{size}"


def _batches(found: Cleaned) -> list[Kept]:
    return [one for one in found.kept if one.kind == BATCH and not one.failed]


def _why(kept: Kept) -> str:
    return kept.why


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:3])
    return f"batch {shown}" if len(names) == 1 else f"{len(names)} batches, as {shown}"
