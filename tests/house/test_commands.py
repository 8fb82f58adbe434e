"""Every command explains itself, speaks JSON, and stands in the documentation."""

from __future__ import annotations

import subprocess
import sys

import pytest

from phdl_catalog.cli.reference import Command, commands, render

ALL = list(commands())

#: Libraries that take long to load; a page of help must not wait for them.
HEAVY = ("torch", "astropy", "matplotlib", "scipy", "pandas", "celery", "sqlalchemy", "numpy")

#: Commands that run until they are stopped, and have no result that could be a document.
ENDLESS = {"phdl worker", "phdl dispatcher", "phdl serve"}


def names(command: Command) -> str:
    return command.name


def test_there_are_commands() -> None:
    assert len(ALL) > 10


@pytest.mark.parametrize("command", ALL, ids=names)
def test_a_command_has_a_line_of_help(command: Command) -> None:
    first = command.help.split("\n\n")[0]
    assert first.endswith("."), f"{command.name}: the first paragraph of its docstring is {first!r}"
    assert 10 < len(first) < 200


@pytest.mark.parametrize("command", ALL, ids=names)
def test_each_argument_and_option_has_help(command: Command) -> None:
    assert not [item.shown for item in command.parameters if not item.help]


@pytest.mark.parametrize("command", [item for item in ALL if item.name not in ENDLESS], ids=names)
def test_a_command_speaks_json(command: Command) -> None:
    assert any("--json" in item.spellings for item in command.parameters)


def test_the_reference_of_the_commands_is_not_stale(pytestconfig: pytest.Config) -> None:
    page = pytestconfig.rootpath / "docs" / "reference" / "cli.md"
    assert page.read_text(encoding="utf-8") == render(), "it is stale: run `make docs`"


def test_help_does_not_load_the_heavy_libraries() -> None:
    program = (
        "import sys; from phdl_catalog.cli.reference import commands; list(commands()); "
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_command_that_does_not_exist_ends_with_exit_code_two() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "phdl_catalog.cli.main", "no-such-thing"], capture_output=True, check=False
    )
    assert done.returncode == 2
