"""A process that is started again when it ends by itself, with growing pauses."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import time

_log = logging.getLogger(__name__)

#: A process that ended is started again after so long [s]: doubled each time, up to the last.
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 60.0

#: A process that ran for so long is healthy, and its next end is the first one [s].
_HEALTHY = 60.0


class Child:
    """A process of this machine that is kept running.

    Parameters
    ----------
    name : str
        What it is, for the logs.
    command : list of str
        Program and arguments.
    environment : dict
        Its environment.
    """

    def __init__(self, name: str, command: list[str], environment: dict[str, str]) -> None:
        self.name, self._command, self._environment = name, command, environment
        self._popen: subprocess.Popen[bytes] | None = None
        self._started = self._next_start = 0.0
        self._pause = _FIRST_PAUSE

    @property
    def pid(self) -> int | None:
        """Its process id, if it runs."""
        return self._popen.pid if self._popen is not None and self._popen.poll() is None else None

    def keep_running(self) -> bool:
        """Start it, if it does not run and is due; True if it has ended since the last call."""
        now = time.monotonic()
        ended = self._popen is not None and self._popen.poll() is not None
        if ended:
            assert self._popen is not None
            self._pause = (
                _FIRST_PAUSE if now - self._started > _HEALTHY else min(_LONGEST_PAUSE, self._pause * 2)
            )
            self._next_start = now + self._pause
            _log.error(
                "the %s ended with status %s; it is started again in %.0f s",
                self.name,
                self._popen.returncode,
                self._pause,
            )
            self._popen = None
        elif self._popen is None and now >= self._next_start:
            # A session of its own: Ctrl-C in the terminal reaches this process only, which stops the others.
            # What Celery says on stdout is in the log too, and stdout is the document of `--json`.
            self._popen = subprocess.Popen(
                self._command,
                env=self._environment,
                start_new_session=True,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
            )
            self._started = now
        return ended

    def send(self, number: signal.Signals) -> None:
        """Send a signal, if it runs."""
        if self._popen is not None and self._popen.poll() is None:
            self._popen.send_signal(number)

    def wait(self, timeout: float) -> bool:
        """Wait for its end; False if it still runs."""
        if self._popen is None:
            return True
        try:
            self._popen.wait(timeout)
        except subprocess.TimeoutExpired:
            return False
        return True

    def kill(self) -> None:
        """Kill it and all it started."""
        if self._popen is not None and self._popen.poll() is None:
            os.killpg(self._popen.pid, signal.SIGKILL)
            self._popen.wait()
