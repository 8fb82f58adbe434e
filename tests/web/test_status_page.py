"""The status page on a real database."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from typing import Any
from wsgiref.util import setup_testing_defaults

import pytest
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError, InternalError

from phdl_catalog.database.session import connect
from phdl_catalog.web.html import text as cell
from phdl_catalog.web.status import StatusApplication
from tests.database_rows import add_model, add_release, add_run


def ask(engine: Engine, path: str, method: str = "GET") -> tuple[str, str, str]:
    """Status, content type and body of an answer."""
    environ: dict[str, Any] = {"PATH_INFO": path, "REQUEST_METHOD": method}
    setup_testing_defaults(environ)
    seen: list[Any] = []
    body = b"".join(StatusApplication(engine)(environ, lambda *answer: seen.extend(answer)))  # type: ignore
    return seen[0], dict(seen[1])["Content-Type"], body.decode()


@pytest.fixture
def run(database: Engine) -> int:
    with database.begin() as connection:
        return add_run(connection, add_release(connection), add_model(connection))


def test_the_json_has_the_runs_of_the_database(database: Engine, run: int) -> None:
    status, kind, body = ask(database, "/status")
    assert (status, kind) == ("200 OK", "application/json; charset=utf-8")
    document = json.loads(body)
    assert [item["run"] for item in document["runs"]] == [run]
    assert document["runs"][0]["release"] == "dr10"
    assert document["catalogs"] == []


def test_the_page_has_a_row_for_every_run(database: Engine, run: int) -> None:
    status, kind, body = ask(database, "/")
    assert (status, kind) == ("200 OK", "text/html; charset=utf-8")
    assert f"<tr><td>{run}</td><td>dr10</td><td>default</td>" in body


def test_what_comes_from_the_database_is_escaped() -> None:
    assert cell("<script>") == "&lt;script&gt;"


def test_health_is_bad_without_a_database(database: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    assert ask(database, "/health")[0] == "200 OK"
    monkeypatch.setenv("PHDL_DATABASE_URL", "postgresql://nobody@/nothing?host=/nonexistent")
    status, _, body = ask(connect(), "/health")
    assert status == "503 Service Unavailable"
    assert "phdl up" in body


def test_its_transactions_cannot_write(database: Engine) -> None:
    application = StatusApplication(database)
    with (
        application._engine.connect() as connection,
        pytest.raises((InternalError, DBAPIError), match="read-only transaction"),
    ):
        add_release(connection, "dr11")


@pytest.mark.parametrize(("path", "method", "status"), [("/../etc", "GET", "404"), ("/", "POST", "405")])
def test_anything_else_is_refused(database: Engine, path: str, method: str, status: str) -> None:
    assert ask(database, path, method)[0].startswith(status)


def test_the_command_serves_the_page_until_it_is_stopped(database: Engine, run: int) -> None:
    server = subprocess.Popen(
        [sys.executable, "-m", "phdl_catalog.cli.main", "serve", "--port", "0"],
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert server.stderr is not None
        address = server.stderr.readline().split()[0]
        with urllib.request.urlopen(address + "status", timeout=20) as answer:
            assert json.load(answer)["runs"][0]["run"] == run
    finally:
        server.terminate()
        server.communicate(timeout=20)
