"""A file that kills whoever reads it; in a module of its own, because each reader process imports it."""

from __future__ import annotations

import multiprocessing
import os
import signal

from phdl_catalog.database.ingest_reader import ReadTask


class DeadlyTask(ReadTask):
    """A task whose path cannot be looked at without dying; but not in the process of the tests."""

    def __getattribute__(self, name: str) -> object:
        if name == "path" and multiprocessing.parent_process() is not None:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__getattribute__(name)
