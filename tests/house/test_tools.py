"""The tools that keep the house in order find nothing: style, types, direction of imports."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


def run(root: Path, *command: str) -> None:
    """Run a tool of this environment; the test fails with what it says."""
    tool = Path(sys.executable).parent / command[0]
    done = subprocess.run([tool, *command[1:]], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"


def test_ruff_finds_nothing(pytestconfig: pytest.Config) -> None:
    run(pytestconfig.rootpath, "ruff", "check", ".")


def test_the_code_is_formatted(pytestconfig: pytest.Config) -> None:
    run(pytestconfig.rootpath, "ruff", "format", "--check", ".")


@pytest.mark.slow
def test_the_types_are_right(pytestconfig: pytest.Config) -> None:
    run(pytestconfig.rootpath, "mypy")


def test_imports_go_down_only(pytestconfig: pytest.Config) -> None:
    run(pytestconfig.rootpath, "lint-imports")
