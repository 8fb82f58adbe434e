"""How the demo speaks: headings, commands that are shown and run, and times."""

from __future__ import annotations

import contextlib
import shlex
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from phdl_catalog.cli.output import stdout
from phdl_catalog.errors import PhdlError


class Script:
    """Headings, commands and times, as they happen.

    Parameters
    ----------
    reports : Path
        Folder for what is too long to be shown.
    """

    def __init__(self, reports: Path) -> None:
        self.seconds: dict[str, float] = {}
        self._reports = reports
        self._begin = time.perf_counter()

    @contextlib.contextmanager
    def step(self, name: str, title: str) -> Iterator[None]:
        """One step of the demo: a heading before it, its time after it."""
        self.heading(f"{len(self.seconds) + 1}. {title}")
        begin = time.perf_counter()
        yield
        self.seconds[name] = time.perf_counter() - begin

    def heading(self, text: str) -> None:
        """A line that begins something new."""
        stdout.print(f"\n{text}\n{'=' * len(text)}", style="bold", markup=False, highlight=False)

    def say(self, text: str) -> None:
        """A sentence for the reader."""
        stdout.print(text, markup=True, highlight=False)

    def show(self, *arguments: str, after: str = "") -> None:
        """Show a command as it is typed."""
        stdout.print(
            f"$ phdl {shlex.join(arguments)}{after}", style="bold green", markup=False, highlight=False
        )

    def run(self, *arguments: str) -> None:
        """Show a command and run it as the command line would.

        Raises
        ------
        PhdlError
            If the command fails.
        """
        self.show(*arguments)
        _call(arguments)

    def run_to_file(self, name: str, *arguments: str) -> None:
        """The same for a command that has much to say: it goes into a file."""
        self.show(*arguments)
        path = self._reports / f"{name}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", encoding="utf-8") as report, contextlib.redirect_stdout(report):
            _call(arguments)
        lines = len(path.read_text(encoding="utf-8").splitlines())
        self.say(f"what it says, {lines} lines, is in {path}")

    @property
    def total(self) -> float:
        """Seconds since the demo began."""
        return time.perf_counter() - self._begin


def _call(arguments: Sequence[str]) -> None:
    from phdl_catalog.cli.main import app

    code = app(list(arguments), prog_name="phdl", standalone_mode=False)
    if isinstance(code, int) and code != 0:
        raise PhdlError(f"`phdl {shlex.join(arguments)}` ended with exit code {code}")
