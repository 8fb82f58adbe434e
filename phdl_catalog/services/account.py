"""The operating system's user that the embedded PostgreSQL runs as, and what it owns."""

from __future__ import annotations

import os
import pwd
import stat
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from phdl_catalog.errors import ServiceError

_LAUNCHER = Path(__file__).with_name("drop_privileges.py")

#: Users tried in this order where root starts the server; every Unix has the last one.
_ORDINARY_USERS = ("postgres", "nobody")


@dataclass(frozen=True)
class Account:
    """A user to run a server as.

    Parameters
    ----------
    uid, gid : int
        User and group.
    """

    uid: int
    gid: int

    @property
    def is_me(self) -> bool:
        """Whether this process already is that user."""
        return os.geteuid() == self.uid

    def own(self, directory: Path) -> None:
        """Make a directory that only this user may enter."""
        directory.mkdir(parents=True, exist_ok=True)
        if not self.is_me:
            os.chown(directory, self.uid, self.gid)
        directory.chmod(0o700)

    def may_read(self, path: Path) -> bool:
        """Whether the user may reach and read a path by its mode bits."""
        for place in (*reversed(path.absolute().parents), path):
            status = place.stat()
            shift = 6 if status.st_uid == self.uid else 3 if status.st_gid == self.gid else 0
            needed = stat.S_IXOTH if stat.S_ISDIR(status.st_mode) else stat.S_IROTH
            if not (status.st_mode >> shift) & needed:
                return False
        return True

    def run(self, command: list[str], needs: list[Path], *, timeout: float) -> str:
        """Run a command as this user and return its output.

        Parameters
        ----------
        command : list of str
            Absolute path of the program, and its arguments.
        needs : list of Path
            What the program must be able to reach.
        timeout : float
            Longest time to wait [s].

        Raises
        ------
        ServiceError
            With the last lines the command said, if it failed.
        """
        if not self.is_me:
            keep = "0" if all(self.may_read(path) for path in needs) else "1"
            prefix = [sys.executable, "-I", str(_LAUNCHER), str(self.uid), str(self.gid), keep]
            command = [*prefix, *command]
        # A server that stays in the background must not hold our pipes, hence files.
        try:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                cwd="/",
                timeout=timeout,
                start_new_session=True,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise ServiceError(f"{Path(command[-1]).name} did not answer in {timeout:.0f} s") from error
        if done.returncode != 0:
            said = (done.stderr or done.stdout).strip().splitlines()[-3:]
            raise ServiceError(" ".join(said) or f"exit code {done.returncode}")
        return done.stdout


def server_account(data: Path) -> Account:
    """Whom to run a server as whose data are in a directory: its owner, or for root an ordinary user.

    Raises
    ------
    ServiceError
        If the directory is somebody else's and this process is not root.
    """
    if os.geteuid() != 0:
        if data.exists() and data.stat().st_uid != os.geteuid():
            owner = data.stat().st_uid
            raise ServiceError(
                f"{data} belongs to user {owner}, not to you: set PHDL_DATA_DIR to a directory of your own, "
                "or start the services as that user"
            )
        return Account(os.geteuid(), os.getegid())
    if data.exists() and data.stat().st_uid != 0:
        return Account(data.stat().st_uid, data.stat().st_gid)
    for name in _ORDINARY_USERS:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(entry.pw_uid, entry.pw_gid)
    raise ServiceError(
        "PostgreSQL does not run as root and this machine has no ordinary user; "
        "run phdl as one, or set PHDL_DATABASE_URL"
    )
