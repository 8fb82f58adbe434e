"""One page, as HTML and as JSON: how the fit runs stand and which catalogues there are.

A WSGI application, so that any server of that kind can run it.  It reads, in read-only transactions, and
takes nothing from a request but its path.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from sqlalchemy import Engine, text

from phdl_catalog import __version__
from phdl_catalog.catalog.releases import list_catalog_releases
from phdl_catalog.database.run_status import run_status
from phdl_catalog.errors import ServiceError

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

_RUN_COLUMNS = ("run", "release", "model", "state", "spectra", "done", "failed", "rate", "eta_s")
_CATALOG_COLUMNS = ("name", "state", "model", "calibration_set", "n_rows", "built_at", "published_at")

_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>phdl-catalog</title>
<style>
body {{ font: 16px/1.5 sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem }}
table {{ border-collapse: collapse; margin-bottom: 2rem }}
th, td {{ padding: .2rem .8rem; text-align: left; border-bottom: 1px solid #ccc }}
</style>
<h1>phdl-catalog</h1>
<h2>Catalogues</h2>
{catalogues}
<h2>Fit runs</h2>
{runs}
<p>Version {version}. The same as JSON: <a href="/status">/status</a>.</p>
</html>
"""


class StatusApplication:
    """Answers ``/`` (HTML), ``/status`` (JSON) and ``/health`` (200, or 503 without a database).

    Parameters
    ----------
    engine : Engine
        The database.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine.execution_options(postgresql_readonly=True)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ.get("REQUEST_METHOD") not in ("GET", "HEAD"):
            return _answer(
                start_response, "405 Method Not Allowed", "text/plain", "only GET is answered here\n"
            )
        try:
            match environ.get("PATH_INFO", "/"):
                case "/":
                    return _answer(start_response, "200 OK", "text/html", self._page())
                case "/status":
                    document = json.dumps(self.status(), indent=2)
                    return _answer(start_response, "200 OK", "application/json", document + "\n")
                case "/health":
                    self._ping()
                    return _answer(start_response, "200 OK", "text/plain", "ok\n")
        except ServiceError as error:
            return _answer(start_response, "503 Service Unavailable", "text/plain", f"{error}\n")
        return _answer(start_response, "404 Not Found", "text/plain", "there are /, /status and /health\n")

    def status(self) -> dict[str, Any]:
        """Runs as `phdl fit status --json` has them, and catalogue releases."""
        with self._engine.connect() as connection:
            return {
                "runs": [run.as_dict() for run in run_status(connection)],
                "catalogs": [release.to_dict() for release in list_catalog_releases(connection)],
            }

    def _ping(self) -> None:
        with self._engine.connect() as connection:
            connection.execute(text("SELECT 1"))

    def _page(self) -> str:
        status = self.status()
        return _PAGE.format(
            catalogues=_table(_CATALOG_COLUMNS, status["catalogs"]),
            runs=_table(_RUN_COLUMNS, status["runs"]),
            version=escape(__version__),
        )


def _table(columns: Sequence[str], rows: Sequence[dict[str, Any]]) -> str:
    if not rows:
        return "<p>None yet.</p>"
    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    body = "".join(
        f"<tr>{''.join(f'<td>{_cell(row[column])}</td>' for column in columns)}</tr>" for row in rows
    )
    return f"<table><tr>{head}</tr>{body}</table>"


def _cell(value: object) -> str:
    if value is None:
        return ""
    return escape(f"{value:.1f}" if isinstance(value, float) else str(value))


def _answer(start_response: StartResponse, status: str, kind: str, body: str) -> Iterable[bytes]:
    data = body.encode()
    headers = [("Content-Type", f"{kind}; charset=utf-8"), ("Content-Length", str(len(data)))]
    start_response(status, headers)
    return [data]
