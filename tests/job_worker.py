"""A Celery worker whose fit is quick and can be told to be slow or deadly: ``celery -A job_worker worker``.

Everything but the fit is the product's: messages, claims, leases, pixels, writes, signals.
"""

from __future__ import annotations

import os
import signal
import time

from job_fits import quick_fit

from phdl_catalog.database.chunks import Claim
from phdl_catalog.fitting import FitResult
from phdl_catalog.spectra.records import PixelBlock
from workers import process
from workers.app import app as app

#: Seconds a chunk takes; obsids that kill the process, as the kernel does when memory runs out.
SECONDS = float(os.environ.get("TEST_SECONDS", "0"))
DEADLY = {int(word) for word in os.environ.get("TEST_DEADLY", "").split()}


class SlowFits:
    """In the place of `ModelFits`."""

    def __init__(self, device: str) -> None:
        self.device = device

    def __call__(self, claim: Claim, block: PixelBlock) -> FitResult:
        if DEADLY & set(block.obsid.tolist()):
            os.kill(os.getpid(), signal.SIGKILL)
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            time.sleep(0.02)
        return quick_fit(claim, block)


process.ModelFits = SlowFits  # type: ignore[assignment,misc]

if "TEST_BEAT" in os.environ:
    app.conf.beat_schedule["dispatch"]["schedule"] = float(os.environ["TEST_BEAT"])
    app.conf.beat_max_loop_interval = 0.3
