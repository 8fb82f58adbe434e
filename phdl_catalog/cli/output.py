"""How every command speaks: JSON or a table on stdout, progress and errors on stderr."""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Iterable, Sequence
from typing import Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

#: The option every command has.
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout, nothing else.")]

#: Columns of output that goes to no terminal: wide enough that no table is folded.
_WIDTH_OF_A_FILE = 200

# No markup: names of files and texts of errors have brackets of their own.
stdout = Console(markup=False)
if not stdout.is_terminal:
    stdout.width = _WIDTH_OF_A_FILE
stderr = Console(stderr=True, markup=False)


class RateColumn(ProgressColumn):
    """Items a second since the task began."""

    def render(self, task: Task) -> Text:
        # rich's own speed begins with the first report: of items that come in two batches it is anything.
        speed = f"{task.completed / task.elapsed:,.1f}/s" if task.completed and task.elapsed else ""
        return Text(speed, style="progress.data.speed")


def progress_bar() -> Progress:
    """A progress display on stderr with rate and remaining time."""
    return Progress(
        SpinnerColumn(),
        TextColumn("[progress.description]{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        RateColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=stderr,
    )


def jsonable(value: Any) -> Any:
    """Make a document plain JSON: numpy scalars become numbers, NaN and infinity become null."""
    if isinstance(value, dict):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [jsonable(item) for item in value]
    if hasattr(value, "tolist"):
        return jsonable(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (bool, int, str)):
        return value
    return str(value)


def print_json(document: Any) -> None:
    """Write one JSON document to stdout; bytes of a file name that are no text are escaped."""
    plain = jsonable(document)
    text = json.dumps(plain, indent=2, ensure_ascii=False)
    if not text.isascii() and _has_surrogates(text):
        text = json.dumps(plain, indent=2)
    sys.stdout.write(text + "\n")


def printable(text: object) -> str:
    """Text for a terminal: control characters and bytes that are no text are shown as escapes."""
    return "".join(
        letter if letter.isprintable() or letter == "\n" else letter.encode("unicode_escape").decode("ascii")
        for letter in str(text)
    )


def _has_surrogates(text: str) -> bool:
    return any("\ud800" <= letter <= "\udfff" for letter in text)


#: A number that is text already.
_NUMBER = re.compile(r"-?\d+\.\d+")


def _is_number(item: Any) -> bool:
    return isinstance(item, (int, float)) or (isinstance(item, str) and bool(_NUMBER.fullmatch(item)))


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print a table for a person on stdout; numbers, written out or not, are right-aligned."""
    listed = [tuple(row) for row in rows]
    if title:  # not the table's own title, which would be folded to the width of the table
        stdout.print(title, style="italic", markup=False, highlight=False)
    table = Table(header_style="bold", box=SIMPLE_HEAD, show_edge=False, show_header=any(columns))
    for index, column in enumerate(columns):
        numeric = any(_is_number(row[index]) for row in listed)
        table.add_column(column, justify="right" if numeric else "left", overflow="fold")
    for row in listed:
        table.add_row(*("" if item is None else printable(item) for item in row))
    stdout.print(table)
