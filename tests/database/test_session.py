"""Which database is used, and what is said when it does not answer."""

from __future__ import annotations

import contextlib
import traceback
from pathlib import Path

import pytest
from sqlalchemy import Engine, func, select, text

from phdl_catalog.database.events import record_event
from phdl_catalog.database.models import Event
from phdl_catalog.database.session import connect, connect_reader, database_url, session_scope
from phdl_catalog.errors import InputError, ServiceError
from phdl_catalog.services.redis_server import broker_url
from phdl_catalog.settings import Settings


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg", "postgresql+psycopg2"])
def test_any_spelling_of_a_url_uses_psycopg(monkeypatch: pytest.MonkeyPatch, scheme: str) -> None:
    monkeypatch.setenv("PHDL_DATABASE_URL", f"{scheme}://me:secret@host:5433/name")
    url = database_url()
    assert (url.drivername, url.host, url.port, url.database) == ("postgresql+psycopg", "host", 5433, "name")
    assert "secret" not in str(url)


def test_without_a_url_the_embedded_server_is_used_by_its_socket(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    url = database_url(settings)
    assert url.host is None
    assert url.query["host"] == str(settings.socket_dir)


def test_a_server_that_does_not_answer_is_named_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ServiceError, match="`phdl up` starts the embedded one"):
        connect(Settings(data_dir=tmp_path)).connect()


@pytest.mark.parametrize(
    ("name", "url"),
    [
        ("database", "postgres//phdl:hunter2@host/phdl"),
        ("database", "postgresql://phdl:hunter2@host:port/phdl"),
        ("broker", "redi://:hunter2@host:6379/0"),
        ("broker", "redis://:hunter2@host:port/0"),
    ],
)
def test_a_url_that_cannot_be_read_is_not_quoted(
    name: str, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"PHDL_{name.upper()}_URL", url)
    with pytest.raises(InputError, match=f"PHDL_{name.upper()}_URL has the form") as refused:
        {"database": database_url, "broker": broker_url}[name](Settings())
    assert "hunter2" not in "".join(traceback.format_exception(refused.value))


def test_a_unit_of_work_is_kept_or_undone_as_a_whole(database: Engine) -> None:
    with session_scope() as session:
        record_event(session, "a:1", "made")
    with contextlib.suppress(ZeroDivisionError), session_scope(database) as session:
        record_event(session, "a:2", "made")
        raise ZeroDivisionError
    with database.connect() as connection:
        assert connection.scalar(select(func.count()).select_from(Event)) == 1


@pytest.mark.parametrize("own_login", [True, False])
def test_the_reader_is_the_reader_by_login_and_by_giving_up_rights(
    database: Engine, monkeypatch: pytest.MonkeyPatch, own_login: bool
) -> None:
    if not own_login:
        monkeypatch.delenv("PHDL_READER_URL")
    with connect_reader().connect() as connection:
        assert connection.scalar(text("SELECT current_user")) == "phdl_reader"
        assert connection.scalar(text("SHOW statement_timeout")) == "1min"
        assert connection.scalar(text("SHOW search_path")) == "catalog, phdl, public"
        assert connection.scalar(text("SHOW transaction_read_only")) == "on"
