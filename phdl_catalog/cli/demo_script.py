"""How the demo speaks: headings, commands that are shown and run, and times."""

from __future__ import annotations

import contextlib
import shlex
import time
from collections.abc import Iterator

from phdl_catalog.cli.output import stdout
from phdl_catalog.errors import PhdlError


class Script:
    """Headings, commands and times, as they happen."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._begin = time.perf_counter()

    @contextlib.contextmanager
    def step(self, name: str, title: str) -> Iterator[None]:
        """One step of the demo: a heading before it, its time after it."""
        stdout.rule(f"[bold]{len(self.seconds) + 1}. {title}", align="left")
        begin = time.perf_counter()
        yield
        self.seconds[name] = time.perf_counter() - begin

    def say(self, text: str) -> None:
        """A sentence for the reader."""
        stdout.print(text, highlight=False)

    def run(self, *arguments: str) -> None:
        """Show a command and run it as the command line would.

        Raises
        ------
        PhdlError
            If the command fails.
        """
        from phdl_catalog.cli.main import app

        self.say(f"[bold green]$[/] [bold]phdl {shlex.join(arguments)}[/]")
        code = app(list(arguments), prog_name="phdl", standalone_mode=False)
        if isinstance(code, int) and code != 0:
            raise PhdlError(f"`phdl {shlex.join(arguments)}` ended with exit code {code}")

    @property
    def total(self) -> float:
        """Seconds since the demo began."""
        return time.perf_counter() - self._begin
