"""The pieces that every page is made of.  Whatever comes from the database is escaped here."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import TYPE_CHECKING

from phdl_catalog import __version__

if TYPE_CHECKING:
    from wsgiref.types import StartResponse

#: Pages have no script and load nothing from anywhere else.
_SECURITY = [
    ("Content-Security-Policy", "default-src 'none'; img-src 'self'; style-src 'unsafe-inline'"),
    ("X-Content-Type-Options", "nosniff"),
]

_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; color: #222 }}
body {{ max-width: 76rem; margin: 2rem auto; padding: 0 1rem }}
h1 {{ margin-bottom: .2rem }} h2 {{ margin-top: 2.2rem }}
a {{ color: #2a5a8c }}
.wide {{ overflow-x: auto }}
table {{ border-collapse: collapse; margin-bottom: 1rem; font-variant-numeric: tabular-nums }}
th, td {{ padding: .15rem .55rem; text-align: left; border-bottom: 1px solid #ddd; vertical-align: top }}
thead th {{ border-bottom: 1px solid #888; font-weight: 600 }}
td.n, th.n {{ text-align: right; white-space: nowrap }}
code {{ overflow-wrap: anywhere }}
img {{ max-width: 100%; height: auto }}
summary {{ cursor: pointer; padding: .15rem 0 }}
.note, footer {{ color: #555 }} footer {{ margin-top: 3rem; font-size: 13px }}
</style>
<h1>{title}</h1>
{body}
<footer>phdl-catalog {version}. <a href="/">All catalogues and runs</a></footer>
</html>
"""


def page(title: str, body: str) -> str:
    """A whole page; `body` is HTML, the title is text."""
    return _PAGE.format(title=escape(title), body=body, version=escape(__version__))


def text(value: object) -> str:
    """Text of a cell: nothing for None, floats with one digit."""
    if value is None:
        return ""
    return escape(f"{value:.1f}" if isinstance(value, float) else str(value))


def table(head: str, rows: Iterable[str]) -> str:
    """A table of rows that are HTML, its head too; wide ones scroll."""
    return f'<div class="wide"><table><thead>{head}</thead><tbody>{"".join(rows)}</tbody></table></div>'


def row(cells: Sequence[str], *, numeric_from: int | None = None, tag: str = "td") -> str:
    """One row of cells that are HTML; from some column on they are numbers, aligned right."""
    start = len(cells) if numeric_from is None else numeric_from
    return (
        "<tr>"
        + "".join(
            f'<{tag} class="n">{cell}</{tag}>' if number >= start else f"<{tag}>{cell}</{tag}>"
            for number, cell in enumerate(cells)
        )
        + "</tr>"
    )


def answer(
    start_response: StartResponse, status: str, kind: str, body: str | bytes, *, lasting: bool = False
) -> Iterable[bytes]:
    """Send one answer.

    Parameters
    ----------
    start_response : callable
        Of WSGI.
    status, kind : str
        ``200 OK``; ``text/html``.
    body : str or bytes
        Content; text is sent as UTF-8.
    lasting : bool
        Whether a browser may keep it for an hour.
    """
    data = body.encode() if isinstance(body, str) else body
    headers = [
        ("Content-Type", f"{kind}; charset=utf-8" if isinstance(body, str) else kind),
        ("Content-Length", str(len(data))),
        ("Cache-Control", "max-age=3600" if lasting else "no-cache"),
        *_SECURITY,
    ]
    start_response(status, headers)
    return [data]
