"""Run a program as another user: ``python drop_privileges.py UID GID KEEP PROGRAM ARGUMENT...``.

PostgreSQL refuses to run as root.  Started by root, it runs as an ordinary user; where that user may not
enter the directories of the program or of the data (``/root`` has mode 700), widening the permissions of
somebody's home directory would be wrong, so the one capability to pass through directories is kept instead
(``KEEP`` = 1).  A file of its own, and standard library only, because it replaces itself with the program.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys

# Numbers of the Linux interface: linux/prctl.h, linux/capability.h.
_PR_SET_KEEPCAPS = 8
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_RAISE = 2
_CAPABILITY_VERSION_3 = 0x20080522
_CAP_DAC_OVERRIDE = 1


def _call(function: object, *arguments: object) -> None:
    if function(*arguments) != 0:  # type: ignore[operator]
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))


def become(uid: int, gid: int, *, keep_access: bool) -> None:
    """Turn this process, and what it executes, into another user's.

    Parameters
    ----------
    uid, gid : int
        User and group to become.
    keep_access : bool
        Keep the capability to read and traverse what the user's own permissions do not allow.

    Raises
    ------
    OSError
        If the kernel refuses.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if keep_access:
        _call(libc.prctl, _PR_SET_KEEPCAPS, 1, 0, 0, 0)
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)
    if keep_access:
        bit = 1 << _CAP_DAC_OVERRIDE
        header = struct.pack("Ii", _CAPABILITY_VERSION_3, 0)
        _call(libc.capset, header, struct.pack("6I", bit, bit, bit, 0, 0, 0))
        _call(libc.prctl, _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, _CAP_DAC_OVERRIDE, 0, 0)


if __name__ == "__main__":
    become(int(sys.argv[1]), int(sys.argv[2]), keep_access=sys.argv[3] == "1")
    os.umask(0o077)
    os.execv(sys.argv[4], sys.argv[4:])
