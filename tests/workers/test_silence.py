"""A process that is frozen in the middle of a transaction: its locks end with its lease."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from job_examples import add_observations, enqueue_all
from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError

from phdl_catalog.database.chunks import ChunkTimings, claim_chunk, close_chunk, requeue_expired
from phdl_catalog.database.session import connect
from phdl_catalog.emulator.model import Emulator
from workers.failures import is_database_hiccup


def test_a_worker_frozen_in_its_writing_transaction_keeps_no_lock(
    database: Engine, model: Emulator, model_file: Path
) -> None:
    add_observations(database, model, 8)
    enqueue_all(database, model, model_file)
    with connect(pooled=False, silence=0.5).connect() as frozen, database.connect() as other:
        chunk = other.scalar(text("SELECT min(fit_chunk_id) FROM phdl.fit_chunk"))
        claim = claim_chunk(frozen, chunk, "host:1", 0.1)
        frozen.commit()
        assert claim is not None
        close_chunk(frozen, claim, 8, ChunkTimings(0.1, 0.1, 0.1))
        other.rollback()
        end = time.monotonic() + 10
        taken = 0
        while not taken and time.monotonic() < end:
            time.sleep(0.05)
            with other.begin():
                taken = requeue_expired(other, "test")
        assert taken == 1
        with pytest.raises(DBAPIError) as woken:
            frozen.execute(text("SELECT 1"))
    assert is_database_hiccup(woken.value), "the transaction is tried again, and finds that it lost the chunk"
