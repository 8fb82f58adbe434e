"""``phdl sql``: a query as the read-only role."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator, Sequence
from datetime import date, datetime
from decimal import Decimal
from enum import StrEnum
from itertools import islice
from typing import Annotated, Any

import typer

from phdl_catalog.cli.output import JsonOption, print_json, print_table, stderr

#: Rows a table on the screen shows unless asked for more.
TABLE_ROWS = 100

#: Integers beyond are not exact in JavaScript and in many readers of JSON.
_LARGEST_EXACT = 2**53


class Format(StrEnum):
    """How a result is printed."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"


def sql(
    query: Annotated[str, typer.Argument(help="One SELECT; '-' reads it from standard input.")],
    format_: Annotated[
        Format, typer.Option("--format", "-f", help="How to print the result.")
    ] = Format.TABLE,
    limit: Annotated[
        int | None,
        typer.Option("--limit", min=0, help=f"Print at most so many rows; a table {TABLE_ROWS}, others all."),
    ] = None,
    timeout: Annotated[
        float | None, typer.Option("--timeout", min=0.001, help="Longest time the query may take [s].")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Run a query as the read-only role; schemas catalog and phdl need not be named."""
    from phdl_catalog.database.reading import open_query

    chosen = Format.JSON if as_json else format_
    if limit is None and chosen is Format.TABLE:
        limit = TABLE_ROWS
    text = sys.stdin.read() if query == "-" else query
    with open_query(text, timeout=timeout) as result:
        rows = result.rows if limit is None else islice(result.rows, limit)
        match chosen:
            case Format.TABLE:
                print_table("", result.columns, _for_table(rows))
                if next(result.rows, None) is not None:
                    stderr.print(f"the first {limit} rows; --limit shows more", highlight=False)
            case Format.CSV:
                writer = csv.writer(sys.stdout, lineterminator="\n")
                writer.writerow(result.columns)
                writer.writerows(rows)
            case Format.JSON:
                listed = [
                    [json_value(name, value) for name, value in zip(result.columns, row, strict=True)]
                    for row in rows
                ]
                print_json(
                    {
                        "columns": list(result.columns),
                        "rows": [dict(zip(result.columns, row, strict=True)) for row in listed],
                    }
                )


def _for_table(rows: Iterator[Sequence[Any]]) -> Iterator[Sequence[Any]]:
    for row in rows:
        yield tuple(round(value, 4) if isinstance(value, float) else value for value in row)


def json_value(column: str, value: Any) -> Any:
    """A value as JSON has it: identifiers and integers beyond 2**53 are strings.

    An identifier is a string whatever its size, so that a column has one type.
    """
    if isinstance(value, (list, tuple)):
        return [json_value(column, item) for item in value]
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, (date, datetime)):
        return value.isoformat()
    if isinstance(value, bool) or not isinstance(value, int):
        return value
    identifier = column == "obsid" or column.endswith("source_id") or column.startswith(("obsid_", "healpix"))
    return str(value) if identifier or abs(value) > _LARGEST_EXACT else value


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(sql)
