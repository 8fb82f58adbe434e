"""The page of a catalogue release, and its figures, on a real database."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import Any
from wsgiref.util import setup_testing_defaults

import pytest
from sqlalchemy import Engine, text

from phdl_catalog.catalog.building import build_release
from phdl_catalog.catalog.checking import check_release
from phdl_catalog.catalog.describing import describe_release
from phdl_catalog.database.roles import PAGES
from phdl_catalog.database.session import connect
from phdl_catalog.services.postgres_server import PostgresServer
from phdl_catalog.web.catalog_page import catalog_page
from phdl_catalog.web.status import StatusApplication
from tests.catalog.conftest import Survey, add_calibration, candidate

PNG = b"\x89PNG\r\n\x1a\n"


class Page(HTMLParser):
    """Text of the cells of a page, row by row, and what its tags point to."""

    def __init__(self, body: bytes) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.sources: list[str] = []
        self.links: list[str] = []
        self.words = ""
        self.feed(body.decode())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
        self.sources += [given["src"] or ""] if "src" in given else []
        self.links += [given["href"] or ""] if tag == "a" else []

    def handle_data(self, data: str) -> None:
        self.words += data
        if self.rows and self.rows[-1]:
            self.rows[-1][-1] += data

    def row(self, first: str) -> list[str]:
        """The row whose first cell is this."""
        (found,) = [row for row in self.rows if row and row[0] == first]
        return found[1:]


def ask(application: StatusApplication, path: str) -> tuple[str, str, bytes]:
    """Status, content type and body of an answer."""
    environ: dict[str, Any] = {"PATH_INFO": path, "REQUEST_METHOD": "GET"}
    setup_testing_defaults(environ)
    seen: list[Any] = []
    body = b"".join(application(environ, lambda *answer: seen.extend(answer)))  # type: ignore[arg-type]
    return seen[0], dict(seen[1])["Content-Type"], body


@pytest.fixture
def survey(database: Engine) -> Survey:
    survey = Survey(database)
    for teff in (5500.0, 5600.0, 5700.0):
        survey.add(labels={"teff": teff, "eu_fe": None})
    return survey


def calibrated(survey: Survey) -> StatusApplication:
    """A checked release ``a`` with the certified set ``cal1``, which has all labels but eu_fe."""
    add_calibration(survey, "cal1")
    build_release(survey.engine, "first", name="a")
    check_release(survey.engine, "a")
    return StatusApplication(survey.engine)


def test_the_role_of_the_pages_may_read_all_that_they_show(
    survey: Survey, postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    calibrated(survey)
    build_release(survey.engine, "first", name="draft")
    monkeypatch.setenv("PHDL_DATABASE_URL", postgres.url(str(survey.engine.url.database), PAGES))
    application = StatusApplication(connect(pooled=False))
    page = Page(ask(application, "/catalog/a")[2])
    paths = ["/", "/status", "/health", "/catalog/a", "/catalog/draft", page.sources[0]]
    assert [ask(application, path)[0] for path in paths] == ["200 OK"] * len(paths)


def test_the_page_says_what_a_release_is_and_how_good_its_labels_are(survey: Survey) -> None:
    application = calibrated(survey)
    status, kind, body = ask(application, "/catalog/a")
    assert (status, kind) == ("200 OK", "text/html; charset=utf-8")
    page = Page(body)
    with survey.engine.connect() as connection:
        known = describe_release(connection, "a")
    assert page.row("stars") == ["3 subgiants"]
    assert page.row("model") == ["first"]
    assert page.row("checksum") == [f"sha256 {known.release.checksum}"]
    assert "cal1, certified" in page.row("calibration set")[0]
    assert "teff from 4800 to 6800 K" in page.row("selection")[0]
    published = next(entry.published for entry in known.labels if entry.label == "mg_fe")
    held = known.report["mg_fe"].held_out_pairs
    cells = page.row("[Mg/Fe]")
    assert cells[:4] == ["3", f"{published.median:.3f}", f"{published.median_error:.3f}", "0%"]
    assert cells[4] == "both"
    assert cells[5:9] == [str(held.count), f"{held.before:.3f}", f"{held.after:.3f}", f"{held.expected:.3f}"]
    assert page.row("[Eu/Fe]")[:5] == ["0", "", "", "100%", "nothing"]
    assert "no calibrator star has a fitted value" in page.words
    assert "/catalog/a" in Page(ask(application, "/")[2]).links


def test_its_figures_are_there_and_drawn_once(survey: Survey) -> None:
    application = calibrated(survey)
    page = Page(ask(application, "/catalog/a")[2])
    assert page.sources == ["/catalog/a/overview.png", "/catalog/a/errors.png"]
    assert "/catalog/a/mg_fe.png" in page.links
    assert "/catalog/a/eu_fe.png" not in page.links
    for source in ("/catalog/a/errors.png", "/catalog/a/mg_fe.png"):
        status, kind, picture = ask(application, source)
        assert (status, kind) == ("200 OK", "image/png")
        assert picture.startswith(PNG)
        assert ask(application, source)[2] is picture


def test_a_draft_and_an_uncalibrated_one_have_a_page_too(survey: Survey) -> None:
    candidate(survey, "raw")
    build_release(survey.engine, "first", calibration="none", name="new")
    application = StatusApplication(survey.engine)
    page = Page(ask(application, "/catalog/raw")[2])
    assert page.row("calibration") == ["none: labels are as fitted"]
    assert page.sources == []
    assert "not checked" in Page(ask(application, "/catalog/new")[2]).words
    assert ask(application, "/catalog/raw/overview.png")[0].startswith("404")


def test_a_page_follows_its_release_and_its_set(survey: Survey) -> None:
    application = calibrated(survey)
    assert "cal1, certified" in Page(ask(application, "/catalog/a")[2]).words
    add_calibration(survey, "cal2")
    assert "cal1, superseded" in Page(ask(application, "/catalog/a")[2]).words


def test_a_release_whose_table_is_gone_still_says_what_it_was(survey: Survey) -> None:
    candidate(survey, "raw")
    with survey.engine.begin() as connection:
        connection.execute(text("DROP TABLE catalog.subgiant__raw"))
    page = Page(ask(StatusApplication(survey.engine), "/catalog/raw")[2])
    assert page.row("[Mg/Fe]")[:4] == ["", "", "", ""]


#: Beside a release ``a``.
NOWHERE = (
    "/catalog/", "/catalog/b", "/catalog/a/", "/catalog/a/secret.png", "/catalog/a/../../etc/passwd.png",
    "/catalog/a/overview.png/x", "/catalog/a\x00.png", "/catalog/a/over\x00view.png",
    "/catalog/a/overview.svg",
    "/catalog/a' OR 'a'='a", "/catalog/<script>",
)  # fmt: skip


def test_a_name_that_does_not_exist_has_no_answer(survey: Survey) -> None:
    application = calibrated(survey)
    for path in NOWHERE:
        status, kind, body = ask(application, path)
        assert status.startswith("404"), path
        assert kind == "text/plain; charset=utf-8"
        assert not body.startswith(PNG)


def test_what_comes_from_the_database_is_escaped(survey: Survey) -> None:
    candidate(survey, "raw")
    with survey.engine.connect() as connection:
        described = describe_release(connection, "raw")
    object.__setattr__(described.release.model, "name", "<script>alert(1)</script>")
    body = catalog_page(described)
    assert "<script>" not in body
    assert "&lt;script&gt;" in body
