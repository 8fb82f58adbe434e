"""Metrics for Prometheus: what workers and dispatchers count, shown on a port of this machine if asked for.

Counting costs nothing worth naming and is always done; a port is opened only on request, on ``127.0.0.1``
unless another address is named.  The processes of one ``phdl worker`` write into a folder of memory-mapped
files, and its first process shows the sum.
"""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from phdl_catalog.errors import ServiceError

if TYPE_CHECKING:
    from prometheus_client import Counter, Gauge, Histogram

_log = logging.getLogger(__name__)

#: Set for the processes of one ``phdl worker``; the name is that of prometheus-client.
FOLDER = "PROMETHEUS_MULTIPROC_DIR"

#: Phases of a chunk take milliseconds (reading) to minutes (fitting) [s].
_BUCKETS = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000)


@dataclass(frozen=True)
class MetricsAddress:
    """Where metrics are shown: ``http://host:port/metrics``."""

    port: int
    host: str = "127.0.0.1"


@dataclass(frozen=True)
class _Metrics:
    chunks: Counter
    spectra: Counter
    errors: Counter
    seconds: Histogram
    dispatched: Counter
    runs: Counter
    waiting: Gauge
    oldest: Gauge
    leading: Gauge


@cache
def _metrics() -> _Metrics:
    # After the environment is complete: the library looks at it when it is imported.
    from prometheus_client import Counter, Gauge, Histogram

    def gauge(name: str, text: str, labels: tuple[str, ...] = ()) -> Gauge:
        return Gauge(name, text, labels, multiprocess_mode="mostrecent")

    return _Metrics(
        chunks=Counter("phdl_chunks", "Messages that ended, by outcome", ["outcome"]),
        spectra=Counter("phdl_spectra", "Spectra written, with labels or without", ["result"]),
        errors=Counter("phdl_chunk_errors", "Chunks that failed, by kind of error", ["kind"]),
        seconds=Histogram("phdl_chunk_seconds", "Time of a chunk by phase [s]", ["phase"], buckets=_BUCKETS),
        dispatched=Counter("phdl_dispatched", "Chunks the dispatcher moved, by action", ["action"]),
        runs=Counter("phdl_runs_finished", "Runs that ended"),
        waiting=gauge("phdl_chunks_in_flight", "Chunks told to the broker or at workers", ("state",)),
        oldest=gauge("phdl_next_due_seconds", "How long the most urgent chunk that could run has waited [s]"),
        leading=gauge("phdl_dispatcher_leads", "1 where the dispatcher of this process leads"),
    )


def count_message(outcome: str) -> None:
    """A message ended: done, failed, lost, handed back, or not to be claimed."""
    _metrics().chunks.labels(outcome).inc()


def count_error(kind: str) -> None:
    """A chunk failed."""
    _metrics().errors.labels(kind).inc()


def count_done(n_fitted: int, n_failed: int, read: float, fit: float, write: float) -> None:
    """A chunk was written: spectra with labels, spectra without, and its times [s]."""
    metrics = _metrics()
    metrics.spectra.labels("fitted").inc(n_fitted)
    metrics.spectra.labels("failed").inc(n_failed)
    for phase, seconds in (("read", read), ("fit", fit), ("write", write)):
        metrics.seconds.labels(phase).observe(seconds)


def count_round(requeued: int, published: int, republished: int, finished: int) -> None:
    """What one round of the dispatcher did."""
    metrics = _metrics()
    for action, chunks in (("requeued", requeued), ("published", published), ("republished", republished)):
        metrics.dispatched.labels(action).inc(chunks)
    metrics.runs.inc(finished)


def show_flight(queued: int, running: int, oldest_due: float | None, *, leads: bool = True) -> None:
    """How things stand, as the leading dispatcher sees it."""
    metrics = _metrics()
    metrics.waiting.labels("queued").set(queued)
    metrics.waiting.labels("running").set(running)
    metrics.oldest.set(oldest_due or 0.0)
    metrics.leading.set(float(leads))


@contextmanager
def shown(address: MetricsAddress | None) -> Iterator[dict[str, str]]:
    """Show the metrics of this process and of those it starts, while the block lasts.

    Parameters
    ----------
    address : MetricsAddress, optional
        Where; nothing is opened by default.

    Yields
    ------
    dict
        What must be added to the environment of the processes that are started.

    Raises
    ------
    ServiceError
        If the port cannot be had.
    """
    if address is None:
        yield {}
        return
    with tempfile.TemporaryDirectory(prefix="phdl-metrics-") as folder:
        # This process shows what the others write and counts nothing itself.
        from prometheus_client import CollectorRegistry, start_http_server
        from prometheus_client.multiprocess import MultiProcessCollector

        registry = CollectorRegistry()
        MultiProcessCollector(registry, path=folder)
        try:
            server, thread = start_http_server(address.port, address.host, registry)
        except OSError as error:
            raise ServiceError(
                f"metrics cannot be shown on {address.host}:{address.port}: {error.strerror or error}"
            ) from error
        _log.info("metrics on http://%s:%d/metrics", address.host, address.port)
        try:
            yield {FOLDER: folder}
        finally:
            server.shutdown()
            server.server_close()
            thread.join()


def show_own(address: MetricsAddress | None) -> None:
    """Show the metrics of this process alone, until it ends.

    Raises
    ------
    ServiceError
        If the port cannot be had.
    """
    if address is None or FOLDER in os.environ:
        return
    from prometheus_client import start_http_server

    _metrics()
    try:
        start_http_server(address.port, address.host)
    except OSError as error:
        raise ServiceError(
            f"metrics cannot be shown on {address.host}:{address.port}: {error.strerror or error}"
        ) from error
