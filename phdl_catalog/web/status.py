"""The pages: how the fit runs stand, which catalogues there are, and one page for each of them.

A WSGI application, so that any server of that kind can run it.  It reads, in read-only transactions, and
takes nothing from a request but its path, in which only names that exist have an answer.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from html import escape
from threading import Lock
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from sqlalchemy import Connection, Engine
from sqlalchemy import text as sql

from phdl_catalog.catalog.describing import describe_release
from phdl_catalog.catalog.releases import CatalogReleaseInfo, get_catalog_release, list_catalog_releases
from phdl_catalog.database.calibration_sets import find_set
from phdl_catalog.database.run_status import run_status
from phdl_catalog.errors import NotFoundError, ServiceError
from phdl_catalog.web.catalog_page import catalog_page
from phdl_catalog.web.figures import FigureCache
from phdl_catalog.web.html import answer, page, row, table, text

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

_RUN_COLUMNS = ("run", "release", "model", "state", "spectra", "done", "failed", "rate", "eta_s")
_CATALOG_COLUMNS = ("name", "state", "model", "calibration_set", "n_rows", "built_at", "published_at")

#: Pages of catalogues that are kept: their numbers take seconds to count and change with the state only.
_MOST_PAGES = 50


class StatusApplication:
    """Answers these paths, and no other:

    ==========================  =========================================================
    ``/``                       catalogues and runs (HTML)
    ``/status``                 the same as JSON
    ``/health``                 200, or 503 without a database
    ``/catalog/NAME``           a catalogue release (HTML)
    ``/catalog/NAME/FIG.png``   a figure of its calibration set
    ==========================  =========================================================

    Parameters
    ----------
    engine : Engine
        The database.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine.execution_options(postgresql_readonly=True)
        self._figures = FigureCache()
        self._pages: dict[tuple[Any, ...], str] = {}
        self._lock = Lock()

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ.get("REQUEST_METHOD") not in ("GET", "HEAD"):
            return answer(
                start_response, "405 Method Not Allowed", "text/plain", "only GET is answered here\n"
            )
        try:
            match environ.get("PATH_INFO", "/").split("/")[1:]:
                case [""]:
                    return answer(start_response, "200 OK", "text/html", self._front_page())
                case ["status"]:
                    document = json.dumps(self.status(), indent=2)
                    return answer(start_response, "200 OK", "application/json", document + "\n")
                case ["health"]:
                    self._ping()
                    return answer(start_response, "200 OK", "text/plain", "ok\n")
                case ["catalog", name]:
                    return answer(start_response, "200 OK", "text/html", self._catalog_page(name))
                case ["catalog", name, file] if file.endswith(".png"):
                    picture = self._figure(name, file.removesuffix(".png"))
                    return answer(start_response, "200 OK", "image/png", picture, lasting=True)
        except ServiceError as error:
            return answer(start_response, "503 Service Unavailable", "text/plain", f"{error}\n")
        except NotFoundError as error:
            return answer(start_response, "404 Not Found", "text/plain", f"{error}\n")
        return answer(
            start_response, "404 Not Found", "text/plain", "there are /, /status, /health and /catalog/NAME\n"
        )

    def status(self) -> dict[str, Any]:
        """Runs as `phdl fit status --json` has them, and catalogue releases."""
        with self._engine.connect() as connection:
            return {
                "runs": [run.as_dict() for run in run_status(connection)],
                "catalogs": [release.to_dict() for release in list_catalog_releases(connection)],
            }

    def _ping(self) -> None:
        with self._engine.connect() as connection:
            connection.execute(sql("SELECT 1"))

    def _front_page(self) -> str:
        status = self.status()
        catalogs = [
            [f'<a href="/catalog/{quote(entry["name"])}">{escape(entry["name"])}</a>']
            + [text(entry[column]) for column in _CATALOG_COLUMNS[1:]]
            for entry in status["catalogs"]
        ]
        runs = [[text(entry[column]) for column in _RUN_COLUMNS] for entry in status["runs"]]
        body = (
            f"<h2>Catalogues</h2>\n{_listed(_CATALOG_COLUMNS, catalogs)}\n"
            f"<h2>Fit runs</h2>\n{_listed(_RUN_COLUMNS, runs)}\n"
            '<p>The same as JSON: <a href="/status">/status</a>.</p>'
        )
        return page("phdl-catalog", body)

    def _catalog_page(self, name: str) -> str:
        with self._engine.connect() as connection:
            release = _existing(connection, name)
            if release.checksum is None:
                # A draft may be built anew: its numbers are counted each time.
                return catalog_page(describe_release(connection, name))
            key = (release.catalog_release_id, release.state, _set_state(connection, release))
            with self._lock:
                if key not in self._pages:
                    if len(self._pages) >= _MOST_PAGES:
                        self._pages.clear()
                    self._pages[key] = catalog_page(describe_release(connection, name))
                return self._pages[key]

    def _figure(self, name: str, figure: str) -> bytes:
        with self._engine.connect() as connection:
            release = _existing(connection, name)
            if release.calibration_set is None:
                raise NotFoundError("this catalogue is not calibrated: it has no figures")
            row = find_set(connection, release.calibration_set)
            return self._figures.png(connection, row.calibration_set_id, row.name, figure)


def _existing(connection: Connection, name: str) -> CatalogReleaseInfo:
    """The release of a name from a request; what cannot be a name never reaches the database."""
    if "\x00" in name:
        raise NotFoundError("there is no such catalogue release")
    return get_catalog_release(connection, name)


def _set_state(connection: Connection, release: CatalogReleaseInfo) -> str | None:
    return release.calibration_set and find_set(connection, release.calibration_set).state


def _listed(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return "<p>None yet.</p>"
    return table(row([escape(column) for column in columns], tag="th"), (row(cells) for cells in rows))
