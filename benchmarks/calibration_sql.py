"""How fast a calibration set is applied by query: prints a table.

An embedded PostgreSQL with simulated calibrators and fits; the view ``calibrated_<set>`` is evaluated with
one label, and with all columns of all labels: value, error, calibration error, flag, raw value.  CPU seconds
are of the server's processes, so that a busy machine does not matter; seconds are of the clock, of two
queries side by side, one a half of the stars.

Run ``python benchmarks/calibration_sql.py`` or ``... --stars 1000000`` (100,000 by default; 2 GB a million).
"""

from __future__ import annotations

import argparse
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil
from calibration import LABELS
from sqlalchemy import Connection, Engine, create_engine, text

from phdl_catalog.calibration.simulation import simulate_calibrators
from phdl_catalog.database import migrate
from phdl_catalog.database.calibration_run import CalibrationRequest, run_calibration
from phdl_catalog.database.copy import copy_rows
from phdl_catalog.services.postgres_server import PostgresServer

CALIBRATORS = 1100
GAIA = 10**15


#: Stars that are sent to the server; more are made of them there.
SENT = 20_000


def multiply(connection: Connection, stars: int) -> None:
    """Repeat the stars that were sent, without source and so no calibrators, until there are enough."""
    for start in range(SENT, stars, SENT):
        numbers = {"shift": start, "count": min(SENT, stars - start)}
        connection.execute(
            text(
                "INSERT INTO phdl.spectrum (release_id, obsid, uri, sha256, state, shard, shard_row, "
                "first_pixel, n_pixels, snr_g) SELECT release_id, obsid + :shift, "
                "uri || '+' || :shift, sha256, state, shard, shard_row + :shift, first_pixel, "
                "n_pixels, 0 FROM phdl.spectrum WHERE spectrum_id <= :count ORDER BY spectrum_id"
            ),
            numbers,
        )
        connection.execute(
            text(
                "INSERT INTO phdl.fit (spectrum_id, model_version_id, fit_run_id, flags, n_pixels, chi2, "
                "snr, label_values, label_errors, label_flags, label_covariance) "
                "SELECT spectrum_id + :shift, model_version_id, fit_run_id, flags, n_pixels, chi2, 0, "
                "label_values, label_errors, label_flags, label_covariance FROM phdl.fit "
                "WHERE spectrum_id <= :count ORDER BY spectrum_id"
            ),
            numbers,
        )


def fill(connection: Connection, stars: int) -> None:
    """Fits of the calibrators and of other stars, pairs and references."""
    multiplied, stars = stars, min(stars, SENT)
    simulated = simulate_calibrators(LABELS, pairs=300, references=500, targets=4000, failed_fraction=0.0)
    rows = np.r_[np.arange(CALIBRATORS), CALIBRATORS + np.arange(stars - CALIBRATORS) % 4000]
    digest = "0" * 64
    connection.execute(text("INSERT INTO phdl.data_release (name) VALUES ('simulated')"))
    connection.execute(
        text(
            "INSERT INTO phdl.model_version (name, sha256, uri, label_names, wavelength_first, "
            "wavelength_size, code_version) VALUES ('simulated', :digest, 'none', :labels, 35740, 3801, '0')"
        ),
        {"digest": digest, "labels": LABELS},
    )
    connection.execute(
        text(
            "INSERT INTO phdl.fit_run (release_id, model_version_id, configuration_hash, code_version) "
            "VALUES (1, 1, :digest, '0')"
        ),
        {"digest": digest},
    )
    spectrum = (
        (1, number, GAIA + number, f"file:///{number}", digest, "accepted", "none", number, 35682, 3900, 50.0)
        for number in range(1, stars + 1)
    )
    copy_rows(
        connection, "phdl.spectrum",
        ("release_id", "obsid", "gaia_source_id", "uri", "sha256", "state", "shard", "shard_row",
         "first_pixel", "n_pixels", "snr_g"),
        ("int4", "int8", "int8", "text", "text", "text", "text", "int4", "int4", "int4", "float4"), spectrum,
    )  # fmt: skip
    values, errors = simulated.labels.tolist(), simulated.errors.tolist()
    flags, packed = [0] * len(LABELS), bytes(len(LABELS) * (len(LABELS) - 1))
    fits = (
        (number, 1, 1, 0, 3000, 1.0, 50.0, values[row], errors[row], flags, packed)
        for number, row in enumerate(rows.tolist(), start=1)
    )
    copy_rows(
        connection, "phdl.fit",
        ("spectrum_id", "model_version_id", "fit_run_id", "flags", "n_pixels", "chi2", "snr", "label_values",
         "label_errors", "label_flags", "label_covariance"),
        ("int8", "int4", "int4", "int8", "int4", "float4", "float4", "float4[]", "float4[]", "int4[]",
         "bytea"),
        fits,
    )  # fmt: skip
    pairs = (
        ("simulated", str(first), GAIA + first + 1, GAIA + second + 1)
        for first, second in simulated.inputs["pairs"].tolist()
    )
    copy_rows(
        connection, "phdl.wide_binary", ("catalogue", "pair_name", "gaia_source_id_a", "gaia_source_id_b"),
        ("text", "text", "int8", "int8"), pairs,
    )  # fmt: skip
    references = (
        (simulated.inputs["surveys"][number], str(row), GAIA + row + 1, label,
         float(simulated.inputs["reference_labels"][number, column]), 0.04)
        for number, row in enumerate(simulated.inputs["reference_rows"].tolist())
        for column, label in enumerate(LABELS)
    )  # fmt: skip
    copy_rows(
        connection, "phdl.reference_label",
        ("survey", "star_name", "gaia_source_id", "label", "value", "error"),
        ("text", "text", "int8", "text", "float8", "float8"), references,
    )  # fmt: skip
    multiply(connection, multiplied)


def measure(engine: Engine, stars: int) -> None:
    """Calibrate, then evaluate the view."""
    start = time.perf_counter()
    name = run_calibration(engine, CalibrationRequest("simulated")).name
    print(f"calibrated and stored set {name} in {time.perf_counter() - start:.1f} s\n")
    view = f"phdl.calibrated_{name.replace('-', '_')}"
    print(f"{'query':<24}{'CPU s':>8}{'stars/s a core':>16}{'s on two cores':>16}{'ten million: CPU s':>20}")
    queries = {"one label, mg_fe": "mg_fe, e_mg_fe, e_cal_mg_fe, flag_mg_fe", "all labels": "*"}
    halves = (f"spectrum_id <= {stars // 2}", f"spectrum_id > {stars // 2}")
    for query, columns in queries.items():
        begin = time.perf_counter()
        with ThreadPoolExecutor(len(halves)) as pool:
            spent = sum(pool.map(lambda half: _evaluate(engine, view, columns, half), halves))  # noqa: B023
        seconds = time.perf_counter() - begin
        rate = stars / spent
        print(f"{query:<24}{spent:8.2f}{rate:16.0f}{seconds:16.1f}{1e7 / rate:20.0f}")


def _evaluate(engine: Engine, view: str, columns: str, condition: str) -> float:
    """CPU seconds that the server needs for a query."""
    with engine.connect() as connection:
        connection.execute(text("SET max_parallel_workers_per_gather = 0"))
        server = psutil.Process(connection.scalar(text("SELECT pg_backend_pid()")))
        before = server.cpu_times()
        # EXPLAIN ANALYZE computes every column and sends none: the client is not measured.
        explained = f"EXPLAIN (ANALYZE, TIMING OFF) SELECT {columns} FROM {view} WHERE {condition}"  # noqa: S608
        connection.execute(text(explained)).all()
        after = server.cpu_times()
    return after.user + after.system - before.user - before.system


def main() -> None:
    """Start a server, fill it, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--stars", type=int, default=100_000)
    parser.add_argument("--directory", type=Path, help="where the database is made; default: a temporary one")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.directory, prefix="phdl-") as folder:
        server = PostgresServer(Path(folder) / "postgresql", Path(folder) / "run", durable=False)
        server.start()
        try:
            engine = create_engine(server.url("postgres").replace("postgresql:", "postgresql+psycopg:", 1))
            migrate.upgrade(engine)
            with engine.begin() as connection:
                fill(connection, options.stars)
            with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                connection.execute(text("VACUUM ANALYZE"))
            print(f"{options.stars} stars x {len(LABELS)} labels")
            measure(engine, options.stars)
            engine.dispose()
        finally:
            server.stop()


if __name__ == "__main__":
    main()
