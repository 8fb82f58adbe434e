"""``phdl dispatcher``, and what ``phdl worker`` starts: one dispatcher until a signal comes."""

from __future__ import annotations

import argparse
import os
import signal
import threading

from celery import platforms

from workers import logs
from workers.app import SUPERVISED, make_app
from workers.dispatcher import Dispatcher


def dispatch_forever(log_level: str = "INFO") -> None:
    """Run a dispatcher in this process until SIGTERM or SIGINT."""
    logs.configure(log_level)
    if SUPERVISED in os.environ:
        platforms.set_pdeathsig("SIGTERM")
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    Dispatcher(make_app()).run(stop)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--log-level", default="INFO")
    dispatch_forever(parser.parse_args().log_level)
