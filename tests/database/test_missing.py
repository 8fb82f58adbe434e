"""Cutting what is missing into chunks: stretch by stretch, neighbours in the pixel store together."""

from __future__ import annotations

import numpy as np
import pytest
from database_rows import add_model, add_release, spectrum_values
from sqlalchemy import Connection, Engine, insert, text

from phdl_catalog.database import missing
from phdl_catalog.database.fit_runs import Enqueued, RunRequest, enqueue, needed
from phdl_catalog.database.fits import write_failure
from phdl_catalog.database.model_versions import find_model
from phdl_catalog.database.models import Spectrum
from phdl_catalog.database.outbox import finish_runs, take_due
from phdl_catalog.database.selection import Selection

_SHARDS, _ROWS = 12, 10


@pytest.fixture
def release(database: Engine) -> Engine:
    """Shards of ten spectra each, whose keys follow each other in no order."""
    places = [(shard, row) for shard in range(_SHARDS) for row in range(_ROWS)]
    generator = np.random.default_rng(5)
    with database.begin() as connection:
        add_model(connection)
        key = add_release(connection)
        rows = [
            spectrum_values(key, int(n))
            | {"shard": f"dr10/{places[n][0]:04}", "shard_row": places[n][1], "snr_g": float(n)}
            for n in generator.permutation(len(places))
        ]
        connection.execute(insert(Spectrum), rows)
    return database


def request(connection: Connection, selection: Selection | None = None, size: int = 8) -> RunRequest:
    return RunRequest("dr10", find_model(connection, "default"), selection or Selection(), {}, size)


def enqueued(engine: Engine, selection: Selection | None = None, size: int = 8) -> Enqueued:
    with engine.begin() as connection:
        return enqueue(connection, request(connection, selection, size))


def places_of_chunks(engine: Engine) -> list[list[int]]:
    """The chunks in their order, each with its spectra by their places: 10 times the shard, and the row."""
    with engine.connect() as connection:
        rows = connection.execute(
            text(
                "SELECT array_agg(right(s.shard, 4)::int * 10 + s.shard_row ORDER BY s.shard, s.shard_row) "
                "FROM phdl.fit_chunk AS c JOIN phdl.spectrum AS s ON s.spectrum_id = ANY(c.spectrum_ids) "
                "GROUP BY c.fit_chunk_id ORDER BY c.fit_chunk_id"
            )
        )
        return [list(row[0]) for row in rows]


def test_one_stretch_is_cut_in_the_order_of_the_pixels(release: Engine) -> None:
    done = enqueued(release)
    assert done.chunks == 15
    assert places_of_chunks(release) == [list(range(n, n + 8)) for n in range(0, 120, 8)]


def test_stretches_end_with_a_shard_and_are_cut_each_by_itself(
    release: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(missing, "STRETCH", 30)
    done = enqueued(release)
    assert places_of_chunks(release) == [
        list(range(n, min(n + 8, first + 30)))
        for first in range(0, 120, 30)
        for n in range(first, first + 30, 8)
    ]
    assert (done.added, done.chunks) == (120, 16)


@pytest.mark.parametrize("stretch", [1, 25, 1000])
def test_what_others_have_is_left_out_of_every_stretch(
    release: Engine, monkeypatch: pytest.MonkeyPatch, stretch: int
) -> None:
    monkeypatch.setattr(missing, "STRETCH", stretch)
    first = enqueued(release, Selection(where="snr_g in (3, 17, 18, 19, 64) or snr_g between 80 and 91"), 3)
    with release.begin() as connection:
        need = needed(connection, request(connection))
    second = enqueued(release)
    assert (need.selected, need.missing, need.chunks) == (120, 103, second.chunks)
    assert (first.added, second.added, enqueued(release).added) == (17, 103, 0)
    chunks = places_of_chunks(release)
    assert sorted(place for chunk in chunks for place in chunk) == list(range(120))
    later = [place for chunk in chunks[first.chunks :] for place in chunk]
    assert later == sorted(later)


def test_a_list_of_spectra_is_stored_as_it_is_beside_its_row(release: Engine) -> None:
    with release.begin() as connection:
        connection.execute(text("INSERT INTO phdl.fit_run (release_id, model_version_id, configuration_hash, "
                                "code_version) VALUES (1, 1, repeat('a', 64), '0')"))  # fmt: skip
        connection.execute(text("INSERT INTO phdl.fit_chunk (fit_run_id, spectrum_ids) "
                                "SELECT 1, array_agg(n) FROM generate_series(1, 256) AS n"))  # fmt: skip
        sizes = connection.execute(
            text("SELECT pg_column_size(c.spectrum_ids), pg_relation_size(t.reltoastrelid) > 0 "
                 "FROM phdl.fit_chunk AS c, pg_class AS t WHERE t.oid = 'phdl.fit_chunk'::regclass")
        ).one()  # fmt: skip
    assert sizes == (20 + 8 * 256, True)


def test_adding_to_a_run_holds_up_neither_its_workers_nor_the_dispatcher(release: Engine) -> None:
    run = enqueued(release, Selection(min_snr_g=100.0)).run
    with release.begin() as connection:
        connection.execute(text("UPDATE phdl.spectrum SET snr_g = 200 WHERE snr_g < 100"))
    with release.connect() as adding, release.connect() as other:
        added = enqueue(adding, request(adding, Selection(min_snr_g=100.0)))
        assert (added.run, added.added) == (run, 100)
        other.execute(text("SET LOCAL lock_timeout = '2s'"))
        write_failure(other, run, 1, 1)
        assert len(take_due(other, 100, "test")) == 3
        assert finish_runs(other, "test") == []
        other.commit()
        adding.commit()
    assert sum(map(len, places_of_chunks(release))) == 120
