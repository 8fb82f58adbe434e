"""Two machines on one: a network namespace for the workers, joined by a virtual cable that can be pulled."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest


@dataclass(frozen=True)
class Wire:
    """A cable between this network and another one, in which nothing else of this one is seen.

    Parameters
    ----------
    namespace : str
        Name of the other network.
    here, there : str
        Addresses of its two ends.
    """

    namespace: str
    here: str
    there: str

    @property
    def prefix(self) -> tuple[str, ...]:
        """What stands before a command that is to run in the other network."""
        return ("ip", "netns", "exec", self.namespace)

    def pull(self) -> None:
        """No packet comes through any more, and nobody is told."""
        _run(*self.prefix, "ip", "link", "set", self.namespace, "down")

    def plug(self) -> None:
        """Join the networks again."""
        _run(*self.prefix, "ip", "link", "set", self.namespace, "up")


@contextmanager
def wired() -> Iterator[Wire]:
    """Make a wire; the test is skipped where that is not allowed."""
    number, name = os.getpid() % 250, f"phdl{os.getpid()}"
    wire = Wire(name, f"10.77.{number}.1", f"10.77.{number}.2")
    if shutil.which("ip") is None:
        pytest.skip("there is no program `ip`")
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True, check=False)
    if made.returncode != 0:
        pytest.skip(f"only root can make a network: {made.stderr.strip()}")
    try:
        _run("ip", "link", "add", f"{name}x", "type", "veth", "peer", "name", name, "netns", name)
        _run("ip", "address", "add", f"{wire.here}/24", "dev", f"{name}x")
        _run(*wire.prefix, "ip", "address", "add", f"{wire.there}/24", "dev", name)
        _run("ip", "link", "set", f"{name}x", "up")
        wire.plug()
        yield wire
    finally:
        _run("ip", "netns", "delete", name)


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)
