"""``phdl dispatcher``, and what ``phdl worker`` starts: one dispatcher until a signal comes."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import threading

from celery import platforms

from phdl_catalog.errors import PhdlError
from workers import logs, metrics
from workers.app import SUPERVISED, make_app
from workers.dispatcher import Dispatcher

_log = logging.getLogger(__name__)


def dispatch_forever(log_level: str = "INFO", address: metrics.MetricsAddress | None = None) -> None:
    """Run a dispatcher in this process until SIGTERM or SIGINT; metrics are shown where asked for."""
    logs.configure(log_level)
    if SUPERVISED in os.environ:
        platforms.set_pdeathsig("SIGTERM")
    metrics.show_own(address)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    try:
        Dispatcher(make_app()).run(stop)
    except PhdlError as error:
        _log.critical("the dispatcher ends: %s", error)
        raise SystemExit(1) from error


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--log-level", default="INFO")
    dispatch_forever(parser.parse_args().log_level)
