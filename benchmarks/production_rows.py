"""Spectra, fits, chunks and calibrators by the million, for `production.py`: no pixels, but real rows.

Labels are those of simulated stars, again and again with a little noise, so that a calibration finds its
calibrators and a catalogue its subgiants.  Fits are written by the function that the workers write them with.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import resource
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TypeVar

import numpy as np
import psutil
from pydantic import SecretStr
from sqlalchemy import Engine, text

from phdl_catalog.calibration.simulation import SimulatedCalibrators, simulate_calibrators
from phdl_catalog.database.chunks import ChunkTimings, claim_chunk, close_chunk
from phdl_catalog.database.copy import copy_rows
from phdl_catalog.database.fits import write_fits
from phdl_catalog.database.session import connect
from phdl_catalog.fitting.result import FitResult
from phdl_catalog.labels import LABELS
from phdl_catalog.settings import Settings

P = TypeVar("P")
R = TypeVar("R")

RELEASE, MODEL = "dr10", "benchmark"
NAMES = tuple(LABELS)[:32]
CHUNK = 256

#: Gaia source of the first star; the others follow.
_GAIA = 4472832130942570000

#: Fits that are sent to the server; more are made of them there.
SENT = 102_400

#: Stars drawn; the rest of the rows repeat them.
_STARS = 20_000

#: The 4,000 spectra of a plate follow each other and lie in one of 3,072 cells of the sky (HEALPix order 4);
#: 512 lie in a shard, whose name is as long as a real one.
_SPECTRA = """
INSERT INTO phdl.spectrum (release_id, obsid, gaia_source_id, uri, sha256, state, shard, shard_row,
                           first_pixel, n_pixels, ra, dec, healpix_29, snr_g, class)
SELECT 1, 100000 + g, :gaia + g, 'file:///data/' || g || '.fits', md5(g::text) || md5('x' || g), 'accepted',
       'dr10/20260101T000000-' || lpad(to_hex(g / 512), 12, '0') || '.shard', g % 512,
       35682, 3909, (g * 0.000137) % 360, (g * 0.00071) % 80 - 10,
       (g / 4000 * 2654435761 % 3072) * (1::bigint << 50) + g * 7919 * 104729 % (1::bigint << 50),
       20 + g % 130, 'STAR'
FROM generate_series(CAST(:first AS bigint), CAST(:last AS bigint) - 1) AS g
"""

_COPIED = (
    "model_version_id, fit_run_id, flags, rv, e_rv, chi2, snr, distance, n_pixels, n_iterations, "
    "label_values, label_errors, label_flags, label_covariance"
)

_CHUNKS = """
INSERT INTO phdl.fit_chunk (fit_run_id, state, attempt, worker, started_at, finished_at, n_fitted, n_failed,
                            read_seconds, fit_seconds, write_seconds, spectrum_ids)
SELECT :run, 'done', 1, 'host' || g % 8 || ':' || g % 16, now() - interval '1 day' + g * interval '2 s',
       now() - interval '1 day' + g * interval '2 s' + interval '1.7 s', :size - 2, 2, 0.02, 1.6, 0.02,
       (SELECT array_agg(9000000000 + (g * :size + i) * 3 ORDER BY i) FROM generate_series(0, :size - 1) AS i)
FROM generate_series(CAST(:first AS integer), CAST(:last AS integer)) AS g
"""


_MULTIPLY = (
    f"INSERT INTO phdl.fit_model_1 (spectrum_id, {_COPIED}) "  # noqa: S608 - names of this file
    f"SELECT spectrum_id + :shift, {_COPIED} FROM phdl.fit_model_1 "
    "WHERE spectrum_id <= :count ORDER BY spectrum_id"
)


@dataclass(frozen=True)
class Part:
    """Rows `first` to `last` - 1 of a table of spectra whose first key is `offset`."""

    url: str
    first: int
    last: int
    model: int = 1
    run: int = 1
    with_covariance: bool = True


@cache
def stars() -> SimulatedCalibrators:
    """The stars behind all rows."""
    return simulate_calibrators(NAMES, pairs=300, references=600, targets=_STARS - 1200)


def engine_for(url: str, *, wait_for_disk: bool = True) -> Engine:
    """Connections as the project makes them; those of workers do not wait for the disk."""
    return connect(Settings(database_url=SecretStr(url)), wait_for_disk=wait_for_disk)


def prepare(engine: Engine) -> None:
    """A release, two models with a run each, and calibrators, unless they are there."""
    with engine.begin() as connection:
        if connection.scalar(text("SELECT count(*) FROM phdl.data_release")):
            return
        connection.execute(text("INSERT INTO phdl.data_release (name) VALUES (:name)"), {"name": RELEASE})
        for name in (MODEL, MODEL + "_2"):
            digest = hashlib.sha256(name.encode()).hexdigest()
            model = connection.execute(
                text(
                    "INSERT INTO phdl.model_version (name, sha256, uri, label_names, wavelength_first, "
                    "wavelength_size, code_version) "
                    "VALUES (:name, :sha, :name, :labels, 35740, 3801, '0') RETURNING model_version_id"
                ),
                {"name": name, "sha": digest, "labels": list(NAMES)},
            ).scalar_one()
            connection.execute(
                text(
                    "INSERT INTO phdl.fit_run "
                    "(release_id, model_version_id, configuration_hash, code_version, state) "
                    "VALUES (1, :model, :sha, '0', 'running')"
                ),
                {"model": model, "sha": digest},
            )
        _add_calibrators(connection)


def _add_calibrators(connection: object) -> None:
    simulated = stars()
    pairs, rows = simulated.inputs["pairs"], simulated.inputs["reference_rows"]
    copy_rows(
        connection,  # type: ignore[arg-type]
        "phdl.wide_binary",
        ("catalogue", "pair_name", "gaia_source_id_a", "gaia_source_id_b", "chance_probability"),
        ("text", "text", "int8", "int8", "float8"),
        [("simulated", str(n), _GAIA + int(a), _GAIA + int(b), 0.001) for n, (a, b) in enumerate(pairs)],
    )
    values, errors = simulated.inputs["reference_labels"], simulated.inputs["reference_errors"]
    copy_rows(
        connection,  # type: ignore[arg-type]
        "phdl.reference_label",
        ("survey", "star_name", "gaia_source_id", "label", "value", "error"),
        ("text", "text", "int8", "text", "float8", "float8"),
        [
            (survey, str(row), _GAIA + int(row), name, float(values[n, i]), float(errors[n, i]))
            for n, (row, survey) in enumerate(zip(rows, simulated.inputs["surveys"], strict=True))
            for i, name in enumerate(NAMES)
            if np.isfinite(values[n, i])
        ],
    )


def spectra_there(engine: Engine) -> int:
    """Number of spectra that have a fit: where growing goes on."""
    with engine.connect() as connection:
        row = connection.execute(text("SELECT count(*), coalesce(max(spectrum_id), 0) FROM phdl.fit")).one()
    if row[0] != row[1]:
        raise SystemExit("this database was interrupted while it grew: remove it and begin again")
    return int(row[0])


def add_spectra(engine: Engine, first: int, last: int) -> None:
    """Rows of `spectrum`, unless they are there; their keys follow each other."""
    with engine.begin() as connection:
        there = connection.scalar(text("SELECT coalesce(max(spectrum_id), 0) FROM phdl.spectrum")) or 0
        connection.execute(text("SET LOCAL session_replication_role = replica"))
        connection.execute(text(_SPECTRA), {"gaia": _GAIA, "first": max(first, there), "last": last})
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE phdl.spectrum"))
        # Otherwise what is measured next writes these pages too, to make room for its own.
        connection.execute(text("CHECKPOINT"))


def add_bare_spectra(engine: Engine, count: int) -> None:
    """Rows of `spectrum` up to so many, without the checks and indexes that an enqueueing does not need."""
    with engine.begin() as connection:
        checks = (
            "SELECT conname FROM pg_constraint WHERE conrelid = 'phdl.spectrum'::regclass AND contype = 'c'"
        )
        for name in connection.scalars(text(checks)).all():
            connection.execute(text(f"ALTER TABLE phdl.spectrum DROP CONSTRAINT {name}"))
        indexes = (
            "SELECT indexname FROM pg_indexes WHERE schemaname = 'phdl' AND tablename = 'spectrum' "
            "AND indexname NOT IN ('pk_spectrum', 'uq_spectrum_shard')"
        )
        for name in connection.scalars(text(indexes)).all():
            connection.execute(text(f"DROP INDEX phdl.{name}"))
        there = connection.scalar(text("SELECT count(*) FROM phdl.spectrum")) or 0
    for first in range(there, count, 1_000_000):
        add_spectra(engine, first, min(first + 1_000_000, count))


def add_done_chunks(engine: Engine, run: int, chunks: int) -> None:
    """So many chunks of spectra that are not there, for what looks at chunks alone."""
    with engine.begin() as connection:
        counted = text("SELECT count(*) FROM phdl.fit_chunk WHERE fit_run_id = :run AND state = 'done'")
        there = connection.scalar(counted, {"run": run}) or 0
        connection.execute(text(_CHUNKS), {"run": run, "first": there + 1, "last": chunks, "size": CHUNK})
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE phdl.fit_chunk"))


def multiply_fits(engine: Engine, first: int, last: int) -> None:
    """Repeat the fits that were sent until there are enough; they need no check of foreign keys."""
    for start in range(first, last, SENT):
        with engine.begin() as connection:
            connection.execute(text("SET LOCAL session_replication_role = replica"))
            connection.execute(text("SET LOCAL synchronous_commit = off"))
            connection.execute(text(_MULTIPLY), {"shift": start, "count": min(SENT, last - start)})


def fits_of(first: int, last: int) -> FitResult:
    """Fits of some rows: labels of the stars, noise, and correlations as a fit has them."""
    simulated, n = stars(), last - first
    rows = np.arange(first, last)
    generator = np.random.default_rng(first)
    result = FitResult.empty(NAMES, n)
    result.labels[:] = simulated.labels[rows % _STARS]
    result.errors[:] = np.where(np.isfinite(result.labels), simulated.errors[rows % _STARS], np.nan)
    again = rows >= _STARS
    noise = generator.normal(scale=0.3, size=(n, len(NAMES))) * simulated.errors[rows % _STARS]
    result.labels[again] += noise[again]
    result.covariance[:] = _correlations() * result.errors[:, :, None] * result.errors[:, None, :]
    failed = ~np.isfinite(result.labels).all(axis=1)
    result.flags[:] = np.where(failed, 2, 0)
    result.label_flags[:] = 0
    for name, value in {"rv": -12.5, "e_rv": 1.5, "chi2": 1.1, "distance": 0.3}.items():
        getattr(result, name)[:] = value
    result.snr[:] = 20 + rows % 130
    result.n_pixels[:] = 3600
    result.n_iterations[:] = 9
    return result


@cache
def _correlations() -> np.ndarray:
    generator = np.random.default_rng(0)
    factor = generator.normal(size=(len(NAMES), 2 * len(NAMES)))
    matrix = factor @ factor.T
    scale = np.sqrt(np.diag(matrix))
    return np.asarray(matrix / np.outer(scale, scale))


@dataclass(frozen=True)
class Spent:
    """What a writer took: time, and processor time of its own and of its session at the server [s]."""

    seconds: float
    client: float
    server: float


def write_part(part: Part) -> Spent:
    """Write the fits of some rows, a chunk a transaction.  A process's work."""
    engine, writing, client = engine_for(part.url, wait_for_disk=False), 0.0, 0.0
    with engine.connect() as connection:
        session = psutil.Process(connection.scalar(text("SELECT pg_backend_pid()")))
        before = sum(session.cpu_times()[:2])
        for first in range(part.first, part.last, CHUNK):
            last = min(first + CHUNK, part.last)
            result = fits_of(first, last)
            ids = np.arange(first, last) + 1
            at, used = time.perf_counter(), time.process_time()
            write_fits(connection, part.run, part.model, ids, result, with_covariance=part.with_covariance)
            connection.commit()
            writing += time.perf_counter() - at
            client += time.process_time() - used
        server = sum(session.cpu_times()[:2]) - before
    engine.dispose()
    return Spent(writing, client, server)


def in_processes(function: Callable[[P], R], parts: Sequence[P]) -> list[R]:
    """Do the parts at once, each in a process of its own."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(len(parts)) as pool:
        pool.map(_warm_up, range(len(parts)), chunksize=1)
        return pool.map(function, parts, chunksize=1)


@dataclass(frozen=True)
class Job:
    """A database, and the name of what is made in it."""

    url: str
    name: str


@dataclass(frozen=True)
class Done:
    """What a process did: seconds, the most memory beyond what it began with [MiB], and a number."""

    seconds: float
    memory: float
    result: float


def in_own_process(function: Callable[[Job], float], job: Job) -> Done:
    """Do something in a process of its own, and say what it took."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_measured, (function, job))


def _measured(function: Callable[[Job], float], job: Job) -> Done:
    function(Job("", ""))  # imports what it needs
    before = psutil.Process().memory_info().rss / 2**20
    begun = time.perf_counter()
    result = function(job)
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    return Done(time.perf_counter() - begun, most - before, result)


def calibrate(job: Job) -> float:
    """A calibration set, certified."""
    from phdl_catalog.database.calibration_run import CalibrationRequest, run_calibration
    from phdl_catalog.database.calibration_sets import certify_set

    if not job.url:
        return 0.0
    engine = engine_for(job.url)
    run_calibration(engine, CalibrationRequest(MODEL, name=job.name))
    with engine.begin() as connection:
        certify_set(connection, job.name)
    engine.dispose()
    return 0.0


def build(job: Job) -> float:
    """A catalogue release; number of its rows."""
    from phdl_catalog.catalog.building import build_release

    if not job.url:
        return 0.0
    engine = engine_for(job.url)
    rows = build_release(engine, MODEL, name=job.name).n_rows
    engine.dispose()
    return float(rows)


def _warm_up(number: int) -> int:
    stars()
    fits_of(0, 2)
    time.sleep(0.2)
    return number


@dataclass(frozen=True)
class Claims:
    """Chunks that one worker claims, and whether it closes them too."""

    url: str
    chunks: tuple[int, ...]
    worker: str
    close: bool = False


@dataclass(frozen=True)
class Claimed:
    """When a worker began and ended on the machine's clock, and its and its session's processor time [s]."""

    begun: float
    ended: float
    processor: float


def claim_all(claims: Claims) -> Claimed:
    """Claim chunks one after another, as a worker does."""
    engine = engine_for(claims.url, wait_for_disk=False)
    with engine.connect() as connection:
        claim_chunk(connection, -1, claims.worker, 60.0)
        connection.commit()
        session = psutil.Process(connection.scalar(text("SELECT pg_backend_pid()")))
        connection.commit()
        before = sum(session.cpu_times()[:2]) + time.process_time()
        begun = time.time()
        for chunk in claims.chunks:
            claim = claim_chunk(connection, chunk, claims.worker, 60.0)
            connection.commit()
            if claims.close and claim is not None:
                close_chunk(connection, claim, len(claim.spectrum_ids), ChunkTimings(0.1, 1.5, 0.1))
                connection.commit()
        ended = time.time()
        processor = sum(session.cpu_times()[:2]) + time.process_time() - before
    engine.dispose()
    return Claimed(begun, ended, processor)
