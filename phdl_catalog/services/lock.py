"""One start or stop at a time for each data directory."""

from __future__ import annotations

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from phdl_catalog.errors import ServiceError


@contextmanager
def services_lock(data_dir: Path, *, timeout: float = 120.0) -> Iterator[None]:
    """Hold the lock of a data directory; the kernel frees it if this process dies.

    Parameters
    ----------
    data_dir : Path
        Directory whose servers are started or stopped; made if needed.
    timeout : float
        Longest time to wait for another process [s].

    Raises
    ------
    ServiceError
        If another process holds the lock for longer.
    """
    data_dir.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + timeout
    with (data_dir / "services.lock").open("a") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise ServiceError(
                        f"another process has been starting or stopping the services of {data_dir} "
                        f"for more than {timeout:.0f} s"
                    ) from None
                time.sleep(0.1)
        yield
