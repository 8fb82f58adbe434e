"""Publishing and going back, seen by readers."""

from __future__ import annotations

import threading
import time

import pytest
from sqlalchemy import Engine, inspect, select, text
from sqlalchemy.exc import ProgrammingError

from phdl_catalog.catalog.building import build_release
from phdl_catalog.catalog.publishing import publish_release, rollback_release
from phdl_catalog.catalog.releases import get_catalog_release, published_release
from phdl_catalog.catalog.schema import load_schema
from phdl_catalog.database.models import Event
from phdl_catalog.database.session import connect_reader
from phdl_catalog.errors import ConflictError, NotFoundError, StateError

from .conftest import LABELS, candidate


@pytest.fixture
def reader(survey):
    engine = connect_reader()
    yield engine
    engine.dispose()


def read(engine: Engine, query: str = "SELECT DISTINCT catalog_release FROM catalog.subgiant"):
    with engine.connect() as connection:
        return connection.scalars(text(query)).all()


def states(survey, *names: str) -> list[str]:
    with survey.engine.connect() as connection:
        return [get_catalog_release(connection, name).state.value for name in names]


def test_a_published_release_is_what_the_reader_sees(survey, reader):
    survey.add(gaia=4295806720000000001)
    candidate(survey, "a")
    report = publish_release(survey.engine, "a")
    assert (report.published, report.superseded, report.view) == ("a", None, "catalog.subgiant")
    assert read(reader, "SELECT gaia_source_id FROM subgiant WHERE mg_fe > -0.5") == [4295806720000000001]
    assert read(reader, "SELECT obsid FROM catalog.subgiant__a")


def test_the_reader_cannot_write_nor_see_a_draft(survey, reader):
    survey.add()
    candidate(survey, "a")
    publish_release(survey.engine, "a")
    build_release(survey.engine, "first", calibration="none", name="b")
    with reader.connect() as connection:
        connection.execute(text("SET default_transaction_read_only = off"))
        connection.commit()
        for query in (
            "UPDATE catalog.subgiant SET mg_fe = 0",
            "DELETE FROM catalog.subgiant__a",
            "DROP VIEW catalog.subgiant",
            "SELECT obsid FROM catalog.subgiant__b",
        ):
            with pytest.raises(ProgrammingError, match=r"permission denied|must be owner"):
                connection.execute(text(query))
            connection.rollback()


def test_every_column_of_the_view_has_its_comment(survey):
    survey.add()
    candidate(survey, "a")
    publish_release(survey.engine, "a")
    found = {
        column["name"]: column["comment"]
        for column in inspect(survey.engine).get_columns("subgiant", "catalog")
    }
    assert found == {column.name: column.comment for column in load_schema().expand(LABELS)}
    assert found["teff"].startswith("[K] ")
    with survey.engine.connect() as connection:
        comment = connection.scalar(text("SELECT obj_description('catalog.subgiant'::regclass)"))
    assert "Release a" in comment


def test_a_draft_cannot_be_published(survey):
    survey.add()
    build_release(survey.engine, "first", calibration="none", name="a")
    with pytest.raises(StateError, match="is a draft: `phdl catalog check a`"):
        publish_release(survey.engine, "a")


def test_publishing_supersedes_and_rolling_back_goes_one_release_at_a_time(survey, reader):
    survey.add()
    for name in "abc":
        candidate(survey, name)
        publish_release(survey.engine, name)
    assert states(survey, *"abc") == ["superseded", "superseded", "published"]
    assert rollback_release(survey.engine).published == "b"
    assert read(reader) == ["b"]
    assert states(survey, *"abc") == ["superseded", "published", "superseded"]
    assert rollback_release(survey.engine).published == "a"
    with pytest.raises(StateError, match="no release was published before 'a'"):
        rollback_release(survey.engine)
    assert publish_release(survey.engine, "c").superseded == "a"
    assert read(reader) == ["c"]
    assert rollback_release(survey.engine).published == "a", (
        "the release before is the one that c took the place of"
    )


def test_nothing_to_roll_back_is_said(survey):
    with pytest.raises(StateError, match="no catalogue release is published"):
        rollback_release(survey.engine)


def test_publishing_twice_is_refused_and_changes_nothing(survey):
    survey.add()
    candidate(survey, "a")
    publish_release(survey.engine, "a")
    with pytest.raises(StateError, match="is the published one already"):
        publish_release(survey.engine, "a")
    assert states(survey, "a") == ["published"]


def test_a_release_that_was_published_cannot_be_replaced(survey):
    survey.add()
    candidate(survey, "a")
    publish_release(survey.engine, "a")
    with pytest.raises(ConflictError, match="was published, it stays what it is"):
        build_release(survey.engine, "first", calibration="none", name="a", replace=True)


def test_who_published_what_is_in_the_log(survey):
    survey.add()
    for name in "ab":
        candidate(survey, name)
        publish_release(survey.engine, name)
    rollback_release(survey.engine)
    with survey.engine.connect() as connection:
        events = connection.execute(
            select(Event.subject, Event.action)
            .where(Event.subject.like("catalog_release:%"))
            .order_by(Event.event_id)
        ).all()
    assert [tuple(event) for event in events] == [
        ("catalog_release:a", "built"),
        ("catalog_release:a", "checked"),
        ("catalog_release:a", "published"),
        ("catalog_release:b", "built"),
        ("catalog_release:b", "checked"),
        ("catalog_release:b", "published"),
        ("catalog_release:a", "superseded"),
        ("catalog_release:a", "rolled_back"),
        ("catalog_release:b", "superseded"),
    ]


def test_a_reader_sees_the_old_release_or_the_new_one_and_never_neither(survey):
    for _ in range(3):
        survey.add()
    candidate(survey, "a")
    survey.add()
    candidate(survey, "b")
    publish_release(survey.engine, "a")
    publish_release(survey.engine, "b")
    seen: list[tuple[str, int]] = []
    stop = threading.Event()
    failures: list[Exception] = []

    def keep_reading() -> None:
        engine = connect_reader()
        try:
            with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                while not stop.is_set():
                    rows = connection.execute(
                        text("SELECT catalog_release, count(*) FROM catalog.subgiant GROUP BY 1")
                    ).all()
                    seen.extend(tuple(row) for row in rows)
                    if len(rows) != 1:
                        failures.append(AssertionError(rows))
        except Exception as error:  # noqa: BLE001 - whatever a reader meets fails the test
            failures.append(error)
        finally:
            engine.dispose()

    readers = [threading.Thread(target=keep_reading) for _ in range(3)]
    for thread in readers:
        thread.start()
    for name in "ab" * 5:
        publish_release(survey.engine, name)
        time.sleep(0.02)
    stop.set()
    for thread in readers:
        thread.join()
    assert not failures
    assert set(seen) == {("a", 3), ("b", 4)}


def test_a_reader_that_holds_the_view_delays_publishing_and_does_not_break_it(survey, reader):
    survey.add()
    for name in "ab":
        candidate(survey, name)
    publish_release(survey.engine, "a")
    with reader.connect() as connection:
        connection.execute(text("SELECT 1 FROM catalog.subgiant"))
        with pytest.raises(StateError, match=r"readers hold catalog\.subgiant open"):
            publish_release(survey.engine, "b", patience=0.0)
    assert states(survey, "a", "b") == ["published", "candidate"]
    assert publish_release(survey.engine, "b").superseded == "a"


def test_a_view_somebody_made_of_the_published_table_is_named(survey):
    survey.add()
    for name in "ab":
        candidate(survey, name)
    publish_release(survey.engine, "a")
    with survey.engine.begin() as connection:
        connection.execute(text("CREATE VIEW mine AS SELECT obsid FROM catalog.subgiant"))
    with pytest.raises(ConflictError, match=r"view mine depends on view catalog\.subgiant"):
        publish_release(survey.engine, "b")
    with survey.engine.connect() as connection:
        assert published_release(connection).name == "a"


def test_a_release_whose_table_is_gone_is_not_published(survey):
    survey.add()
    candidate(survey, "a")
    with survey.engine.begin() as connection:
        connection.execute(text("DROP TABLE catalog.subgiant__a"))
    with pytest.raises(NotFoundError, match="is gone: build it again"):
        publish_release(survey.engine, "a")
