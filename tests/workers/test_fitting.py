"""The life of a chunk, with a real database: claim, fence, retry, split, quarantine."""

from __future__ import annotations

import logging
import threading
import time
from datetime import datetime, timedelta, tzinfo
from pathlib import Path
from typing import Self

import numpy as np
import psycopg
import pytest
from job_examples import add_observations, bench, counts, enqueue_all
from job_fits import poisoned, quick_fit
from sqlalchemy import Engine, text

from phdl_catalog.database.chunks import (
    ChunkTimings,
    Claim,
    ErrorKind,
    Held,
    LostChunkError,
    Outcome,
    claim_chunk,
    close_chunk,
    extend_lease,
    fail_chunk,
    hand_back,
    requeue_expired,
)
from phdl_catalog.database.run_status import run_status, worker_status
from phdl_catalog.emulator.model import Emulator
from phdl_catalog.errors import ModelError
from phdl_catalog.fitting.flags import FitFlag
from phdl_catalog.fitting.result import FitResult
from phdl_catalog.settings import get_settings
from phdl_catalog.spectra.records import PixelBlock
from workers.fitting import ChunkOutcome, ShutdownRequested, run_chunk
from workers.job_settings import JobSettings
from workers.models import ModelFits


def chunks(engine: Engine, state: str = "planned") -> list[int]:
    with engine.connect() as connection:
        found = connection.scalars(
            text("SELECT fit_chunk_id FROM phdl.fit_chunk WHERE state = :state ORDER BY 1"), {"state": state}
        )
        return list(found)


def one(engine: Engine, statement: str, chunk: int | str | None = None) -> object:
    """One value; ``:chunk`` in the statement is the number of a chunk."""
    with engine.connect() as connection:
        return connection.execute(
            text(statement).bindparams(**({"chunk": chunk} if chunk else {}))
        ).scalar_one()


def error_kind(engine: Engine, chunk: int) -> object:
    return one(engine, "SELECT error_kind FROM phdl.fit_chunk WHERE fit_chunk_id = :chunk", chunk)


def standing(engine: Engine, chunk: int) -> object:
    """State, failures, and whether the chunk is due."""
    return one(
        engine,
        "SELECT concat_ws(' ', state, failures, due_at <= now()) FROM phdl.fit_chunk "
        "WHERE fit_chunk_id = :chunk",
        chunk,
    )


def run_all(engine: Engine, fit: object, rounds: int = 100) -> list[ChunkOutcome]:
    """What a worker would do with an endless supply of messages."""
    outcomes = []
    for _ in range(rounds):
        open_chunks = chunks(engine)
        if not open_chunks:
            return outcomes
        outcomes += [run_chunk(chunk, bench(fit)) for chunk in open_chunks]
    raise AssertionError(f"{len(chunks(engine))} chunks never end")


@pytest.fixture
def release(database: Engine, model: Emulator, model_file: Path) -> Engine:
    """Twenty spectra in chunks of eight."""
    add_observations(database, model, 20)
    enqueue_all(database, model, model_file)
    return database


def test_a_run_ends_with_one_row_a_spectrum(release: Engine) -> None:
    assert run_all(release, quick_fit) == [ChunkOutcome.DONE] * 3
    assert counts(release) == {"fits": 20, "spectra_fitted": 20, "labelled": 20, "spectra": 20, "open": 0}


def test_a_chunk_run_twice_leaves_one_row_a_spectrum(release: Engine) -> None:
    first = chunks(release)[0]
    assert run_chunk(first, bench(quick_fit)) is ChunkOutcome.DONE
    assert run_chunk(first, bench(quick_fit)) is ChunkOutcome.NOT_CLAIMED
    with release.begin() as connection:
        connection.execute(text("UPDATE phdl.fit_chunk SET state = 'queued', finished_at = NULL, "
                                "n_fitted = NULL, "
                                "n_failed = NULL WHERE fit_chunk_id = :c"), {"c": first})  # fmt: skip
    assert run_chunk(first, bench(quick_fit)) is ChunkOutcome.DONE
    assert counts(release)["fits"] == counts(release)["spectra_fitted"] == 8


def test_of_two_workers_one_claims(release: Engine) -> None:
    first = chunks(release)[0]
    claims: list[Claim | None] = []
    barrier = threading.Barrier(4)

    def claim(number: int) -> None:
        with release.begin() as connection:
            barrier.wait()
            claims.append(claim_chunk(connection, first, f"host:{number}", 60.0))

    threads = [threading.Thread(target=claim, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(c is not None for c in claims) == 1


def test_the_write_of_a_stale_attempt_is_rolled_back(release: Engine) -> None:
    first = chunks(release)[0]
    other: list[Claim | None] = []

    def frozen(claim: Claim, block: PixelBlock) -> FitResult:
        with release.begin() as connection:
            connection.execute(
                text(
                    "UPDATE phdl.fit_chunk SET lease_until = now() - interval '1 s' WHERE fit_chunk_id = :c"
                ),
                {"c": first},
            )
            assert requeue_expired(connection, "test") == 1
        with release.begin() as connection:
            other.append(claim_chunk(connection, first, "host:2", 60.0))
        return quick_fit(claim, block)

    assert run_chunk(first, bench(frozen)) is ChunkOutcome.LOST
    assert counts(release)["fits"] == 0, "what the stale attempt merged must be gone"
    assert other[0] is not None
    assert other[0].attempt == 2


def test_an_attempt_whose_number_a_crash_gave_to_another_worker_changes_nothing(release: Engine) -> None:
    first = chunks(release)[0]
    with release.begin() as connection:
        claim = claim_chunk(connection, first, "host:1", 60.0)
        assert claim is not None
    undone = (
        "UPDATE phdl.fit_chunk SET state = 'planned', attempt = 0, lease_until = NULL WHERE fit_chunk_id = :c"
    )
    with release.begin() as connection:
        connection.execute(text(undone), {"c": first})
        assert claim_chunk(connection, first, "host:2", 60.0)
    with release.begin() as connection:
        assert not extend_lease(connection, claim, 60.0)
        assert fail_chunk(connection, claim, ErrorKind.POISON, "mine", "host:1") is Outcome.LOST
        with pytest.raises(LostChunkError):
            close_chunk(connection, claim, 8, ChunkTimings(0.1, 0.1, 0.1))


def test_heartbeats_keep_a_chunk_that_takes_longer_than_its_lease(release: Engine) -> None:
    patient = JobSettings(lease=4.0, heartbeat=0.5)

    def slow(claim: Claim, block: PixelBlock) -> FitResult:
        time.sleep(patient.lease * 1.25)
        with release.begin() as connection:
            assert requeue_expired(connection, "test") == 0
        return quick_fit(claim, block)

    assert run_chunk(chunks(release)[0], bench(slow, jobs=patient)) is ChunkOutcome.DONE


def test_a_lease_that_runs_out_makes_the_chunk_due_again(release: Engine) -> None:
    first = chunks(release)[0]
    with release.begin() as connection:
        assert claim_chunk(connection, first, "host:1", 0.0)
        assert requeue_expired(connection, "test") == 1
    assert chunks(release)[0] == first
    assert error_kind(release, first) == "lost"
    assert (
        one(release, "SELECT action FROM phdl.event WHERE subject = 'fit_chunk:' || :chunk", str(first))
        == "failed"
    )


def test_a_poison_spectrum_is_halved_out_and_quarantined(release: Engine) -> None:
    run_all(release, poisoned({5, 17}))
    assert counts(release) == {"fits": 20, "spectra_fitted": 20, "labelled": 18, "spectra": 20, "open": 0}
    with release.connect() as connection:
        rows = connection.execute(
            text("SELECT s.obsid, f.flags, f.label_values FROM phdl.fit f "
                 "JOIN phdl.spectrum s USING (spectrum_id) "
                 "WHERE label_values IS NULL ORDER BY s.obsid")
        ).all()  # fmt: skip
        status = run_status(connection)[0]
    assert [tuple(row) for row in rows] == [(5, FitFlag.QUARANTINED, None), (17, FitFlag.QUARANTINED, None)]
    assert (status.spectra, status.done, status.failed, status.quarantined) == (20, 18, 2, 2)
    texts = (
        "SELECT count(*) FROM phdl.event WHERE action = 'quarantined' "
        "AND detail->>'error' LIKE '%beyond belief%'"
    )
    assert one(release, texts) == 2


def test_a_lost_worker_twice_splits_the_chunk(release: Engine) -> None:
    first = chunks(release)[0]
    for attempt in (1, 2):
        with release.begin() as connection:
            assert claim_chunk(connection, first, "host:1", 60.0)
            outcome = fail_chunk(connection, Held(first, attempt, "host:1"), ErrorKind.LOST, "killed", "test")
    assert outcome is Outcome.SPLIT
    children = "SELECT array_agg(n_spectra ORDER BY 1) FROM phdl.fit_chunk WHERE parent_chunk_id IS NOT NULL"
    assert one(release, children) == [4, 4]
    run_all(release, quick_fit)
    assert counts(release)["labelled"] == 20


@pytest.mark.parametrize(
    "error",
    [OSError(28, "No space left on device"), psycopg.OperationalError("gone"), ConnectionResetError()],
)
def test_a_transient_error_is_no_fault_of_the_chunk(release: Engine, error: Exception) -> None:
    def away(claim: Claim, block: PixelBlock) -> FitResult:
        raise error

    first = chunks(release)[0]
    assert run_chunk(first, bench(away)) is ChunkOutcome.FAILED
    assert error_kind(release, first) == "transient"
    assert standing(release, first) == "planned 0 f"
    assert run_chunk(first, bench(quick_fit)) is ChunkOutcome.NOT_CLAIMED, "not before it is due"


def test_a_model_whose_weights_differ_is_a_permanent_error(
    database: Engine, model: Emulator, model_file: Path, tmp_path: Path
) -> None:
    add_observations(database, model, 4)
    copy = tmp_path / "small.safetensors"
    copy.write_bytes(model_file.read_bytes())
    enqueue_all(database, model, copy)
    copy.unlink()
    first = chunks(database)[0]
    assert run_chunk(first, bench(ModelFits())) is ChunkOutcome.FAILED
    assert one(database, "SELECT error_kind FROM phdl.fit_chunk") == "permanent"
    assert "not on this machine" in str(one(database, "SELECT error_text FROM phdl.fit_chunk"))


def test_a_missing_shard_is_the_fault_of_its_spectra_but_an_empty_store_is_not(
    release: Engine, model: Emulator, tmp_path: Path
) -> None:
    shard = next((tmp_path / "shards").rglob("*.shard"))
    hidden = shard.rename(shard.with_suffix(".hidden"))
    first = chunks(release)[0]
    assert run_chunk(first, bench(quick_fit)) is ChunkOutcome.FAILED
    assert error_kind(release, first) == "permanent"
    add_observations(release, model, 1, first_obsid=900)
    second = chunks(release)[1]
    assert run_chunk(second, bench(quick_fit)) is ChunkOutcome.FAILED
    assert error_kind(release, second) == "poison"
    hidden.rename(shard)


def test_damaged_pixels_quarantine_their_spectrum_only(release: Engine, tmp_path: Path) -> None:
    shard = next((tmp_path / "shards").rglob("*.shard"))
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 0xFF
    shard.chmod(0o644)
    shard.write_bytes(content)
    run_all(release, quick_fit)
    assert counts(release) == {"fits": 20, "spectra_fitted": 20, "labelled": 19, "spectra": 20, "open": 0}


@pytest.mark.parametrize("message", ["a NUL \0 in it", "half a character \udcff"], ids=["NUL", "half"])
def test_an_error_whose_text_no_database_can_hold_is_recorded_all_the_same(
    release: Engine, message: str, caplog: pytest.LogCaptureFixture
) -> None:
    # A captured log with half a character cannot pass from a process of the tests to the one that reports.
    caplog.set_level(logging.CRITICAL, "workers.fitting")

    def strange(claim: Claim, block: PixelBlock) -> FitResult:
        raise ValueError(message)

    first = chunks(release)[0]
    assert run_chunk(first, bench(strange)) is ChunkOutcome.FAILED
    text_kept = one(release, "SELECT error_text FROM phdl.fit_chunk WHERE fit_chunk_id = :chunk", first)
    assert str(text_kept).startswith(f"ValueError: {message[:6]}")


def test_a_spectrum_that_was_removed_from_its_release_is_put_aside_alone(release: Engine) -> None:
    with release.begin() as connection:
        connection.execute(text("DELETE FROM phdl.spectrum WHERE obsid = 5"))
    run_all(release, quick_fit)
    assert counts(release) == {"fits": 19, "spectra_fitted": 19, "labelled": 19, "spectra": 19, "open": 0}
    with release.connect() as connection:
        assert run_status(connection)[0].quarantined == 1
    why = one(release, "SELECT error_text FROM phdl.fit_chunk WHERE state = 'quarantined'")
    assert "1 spectra have no pixels any more" in str(why)


def test_the_status_goes_by_the_clock_of_the_database(
    release: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    class HoursAhead(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Self:
            return super().now(tz) + timedelta(hours=5)

    monkeypatch.setattr("phdl_catalog.database.run_status.datetime", HoursAhead)
    assert run_chunk(chunks(release)[0], bench(quick_fit)) is ChunkOutcome.DONE
    with release.connect() as connection:
        status, worker = run_status(connection)[0], worker_status(connection)[0]
    assert 0 <= (status.oldest_due_s or 0.0) < 600
    assert min(status.rate or 0.0, worker.rate or 0.0) > 8 / 600


def test_a_shutdown_hands_the_chunk_back(release: Engine) -> None:
    def stopped(claim: Claim, block: PixelBlock) -> FitResult:
        raise ShutdownRequested

    first = chunks(release)[0]
    with pytest.raises(ShutdownRequested):
        run_chunk(first, bench(stopped))
    assert standing(release, first) == "planned 0 t"
    assert run_chunk(first, bench(quick_fit)) is ChunkOutcome.DONE


def test_a_chunk_that_was_cancelled_under_way_writes_nothing(release: Engine) -> None:
    from phdl_catalog.database.fit_runs import cancel_run

    def cancelled(claim: Claim, block: PixelBlock) -> FitResult:
        with release.begin() as connection:
            assert cancel_run(connection, claim.run) == 20
        return quick_fit(claim, block)

    assert run_chunk(chunks(release)[0], bench(cancelled)) is ChunkOutcome.LOST
    assert counts(release)["fits"] == 0


def test_the_writing_transaction_survives_a_lost_connection(release: Engine) -> None:
    outcomes: list[ChunkOutcome] = []
    writer = threading.Thread(target=lambda: outcomes.append(run_chunk(chunks(release)[0], bench(quick_fit))))
    blocked = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event_type = 'Lock' "
        "AND datname = current_database() AND query LIKE 'COPY phdl.fit %'"
    )
    killed: list[bool] = []
    with release.begin() as holder:
        holder.execute(text("LOCK TABLE phdl.fit IN EXCLUSIVE MODE"))
        writer.start()
        while not killed:
            with release.connect() as connection:
                killed = list(connection.scalars(text(blocked)))
            time.sleep(0.02)
    writer.join()
    assert outcomes == [ChunkOutcome.DONE]
    assert counts(release)["labelled"] == 8


def test_a_beat_of_an_attempt_that_is_over_extends_nothing(release: Engine) -> None:
    first = chunks(release)[0]
    with release.begin() as connection:
        claim = claim_chunk(connection, first, "host:1", 60.0)
        assert claim is not None
        assert extend_lease(connection, claim, 60.0)
        assert hand_back(connection, claim, "host:1", "test")
        assert not extend_lease(connection, claim, 60.0)
        assert not hand_back(connection, claim, "host:1", "test")


def test_a_chunk_is_fitted_by_the_real_fit_with_a_real_model(release: Engine, model: Emulator) -> None:
    fits = ModelFits()
    assert run_chunk(chunks(release)[0], bench(fits)) is ChunkOutcome.DONE
    with release.connect() as connection:
        rows = connection.execute(
            text("SELECT label_values, label_errors, label_covariance, rv, chi2 FROM phdl.fit "
                 "WHERE label_values "
                 "IS NOT NULL")
        ).all()  # fmt: skip
    assert len(rows) == 8
    for row in rows:
        assert len(row.label_values) == len(model.label_names)
        assert len(row.label_covariance) == len(model.label_names) * (len(model.label_names) - 1)
        assert 0.5 < row.chi2 < 2.0
        assert abs(row.rv) < 30.0
        assert np.isfinite(np.array(row.label_values, dtype=float)).all()


def test_a_worker_of_other_options_refuses(release: Engine) -> None:
    claim = Claim(1, 1, 1, "host:1", 0, (1,), 1, "small", "/nowhere.safetensors", "0" * 64, {})
    with pytest.raises(ModelError, match="not on this machine"):
        ModelFits()(claim, None)  # type: ignore[arg-type]
    assert get_settings().pixel_store_url
