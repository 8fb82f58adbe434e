"""The reference of the command line, ``docs/reference/cli.md``, written from the commands themselves.

``python -m phdl_catalog.cli.reference FILE`` writes it; a test fails while it is stale.  Only what every
version of Typer tells of a command is used, so that the page does not depend on the version installed.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import typer

_INTRODUCTION = """# Command line

Written by `make docs` from the commands themselves; every command explains itself with `--help`.

Every command prints one JSON document with `--json`, shows progress on standard error, and ends with exit
code 0 (done), 1 (failed) or 2 (used wrongly).
"""


@dataclass(frozen=True)
class Parameter:
    """One argument or option of a command.

    Parameters
    ----------
    spellings : tuple of str
        ``("--limit", "-n")`` of an option; the name alone, in capitals, of an argument.
    help : str
        What it says of itself; empty if nothing.
    is_option, is_flag, required, repeated : bool
        An option, one without a value, one that must be given, one that may be given more than once.
    default : str
        What is used if it is not given; empty where that says nothing.
    """

    spellings: tuple[str, ...]
    help: str
    is_option: bool
    is_flag: bool
    required: bool
    repeated: bool
    default: str

    @property
    def shown(self) -> str:
        """How it is typed: ``--limit VALUE``, ``RELEASE``, ``PATHS...``."""
        if self.is_option:
            return ", ".join(self.spellings) + ("" if self.is_flag else " VALUE")
        return self.spellings[0] + ("..." if self.repeated else "")


@dataclass(frozen=True)
class Command:
    """One command: its full name, what it says of itself, what it takes."""

    name: str
    help: str
    parameters: tuple[Parameter, ...]

    @property
    def usage(self) -> str:
        """The line that shows how to call it."""
        arguments = [item for item in self.parameters if not item.is_option]
        words = [item.shown if item.required else f"[{item.shown}]" for item in arguments]
        required = [item.shown for item in self.parameters if item.is_option and item.required]
        return " ".join([self.name, *required, "[OPTIONS]", *words])


def commands() -> Iterator[Command]:
    """Every command that does something, in the order of the alphabet."""
    from phdl_catalog.cli.main import app

    yield from sorted(_walk("phdl", typer.main.get_command(app)), key=lambda command: command.name)


def render() -> str:
    """The whole page, in Markdown."""
    return _INTRODUCTION + "".join(_section(command) for command in commands())


def _walk(name: str, command: Any) -> Iterator[Command]:
    children = getattr(command, "commands", None)
    if children is not None:
        for child_name, child in children.items():
            yield from _walk(f"{name} {child_name}", child)
        return
    if not command.hidden:
        parameters = tuple(_parameter(item) for item in command.params if not getattr(item, "hidden", False))
        yield Command(name, inspect.cleandoc(command.help or ""), parameters)


def _parameter(item: Any) -> Parameter:
    is_option = item.param_type_name == "option"
    default = item.default
    if isinstance(default, Enum):
        default = default.value
    # A flag's default is in its name; a default that is computed differs between machines.
    plain = isinstance(default, (str, int, float)) and not isinstance(default, bool) and default != ""
    return Parameter(
        spellings=(*item.opts, *item.secondary_opts) if is_option else (item.name.upper(),),
        help=" ".join((getattr(item, "help", None) or "").split()),
        is_option=is_option,
        is_flag=bool(getattr(item, "is_flag", False)),
        required=bool(item.required),
        repeated=item.nargs == -1 or bool(getattr(item, "multiple", False)),
        default=str(default) if plain else "",
    )


def _section(command: Command) -> str:
    text = f"\n## {command.name}\n\n{command.help}\n\n    {command.usage}\n"
    if not command.parameters:
        return text
    rows = "".join(_row(item) for item in command.parameters)
    return f"{text}\n| argument or option | what it is |\n| --- | --- |\n{rows}"


def _row(item: Parameter) -> str:
    default = f" Default: `{item.default}`." if item.default else ""
    repeated = " May be given more than once." if item.is_option and item.repeated else ""
    return f"| `{item.shown}` | {item.help}{repeated}{default} |\n"


def main(arguments: list[str]) -> None:
    """Write the page to the file named, or to standard output."""
    if arguments:
        Path(arguments[0]).write_text(render(), encoding="utf-8")
    else:
        sys.stdout.write(render())


if __name__ == "__main__":
    main(sys.argv[1:])
