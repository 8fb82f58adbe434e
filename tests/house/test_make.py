"""make: targets explain themselves, and a Python that is too old is told so, not crashed on."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

MAKE = shutil.which("make")
pytestmark = pytest.mark.skipif(MAKE is None, reason="make is not installed")


def make(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    # A make that runs the tests hands its own flags on; this one is not its child.
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}
    return subprocess.run(
        [str(MAKE), *arguments], cwd=root, capture_output=True, text=True, check=False, env=environment
    )


def test_help_lists_every_target_a_user_may_want(pytestconfig: pytest.Config) -> None:
    listed = make(pytestconfig.rootpath, "help").stdout
    for target in ("demo", "test", "lint", "docs", "clean", "help"):
        assert f"make {target} " in listed


def test_a_python_that_is_not_there_is_named_with_what_to_do(
    pytestconfig: pytest.Config, tmp_path: Path
) -> None:
    done = make(pytestconfig.rootpath, "install", "PYTHON=no-such-python", f"VENV={tmp_path}/v")
    assert done.returncode != 0
    assert "'no-such-python' is not there: install Python 3.11 or newer" in done.stdout


def test_a_python_that_is_too_old_is_named_with_its_version(
    pytestconfig: pytest.Config, tmp_path: Path
) -> None:
    old = tmp_path / "old-python"
    old.write_text('#!/bin/sh\n[ "$1" = --version ] && { echo Python 3.8.1; exit 0; }\nexit 1\n')
    old.chmod(0o755)
    done = make(pytestconfig.rootpath, "install", f"PYTHON={old}", f"VENV={tmp_path}/v")
    assert done.returncode != 0
    assert "Python 3.8.1 is too old: Python 3.11 or newer is needed" in done.stdout
    assert not (tmp_path / "v").exists()


def test_continuous_integration_runs_the_test_suite_and_nothing_else(pytestconfig: pytest.Config) -> None:
    script = (pytestconfig.rootpath / ".ci" / "run").read_text()
    commands = [line for line in script.splitlines() if line and not line.startswith("#")]
    assert commands[-1] == "exec make test"
    assert len(commands) == 3


def test_passwords_are_chosen_at_random_once_and_nobody_else_reads_them(
    pytestconfig: pytest.Config, tmp_path: Path
) -> None:
    for name in ("Makefile", ".env.example"):
        shutil.copy(pytestconfig.rootpath / name, tmp_path)
    assert make(tmp_path, "env").returncode == 0
    file = tmp_path / ".env"
    lines = [line for line in file.read_text().splitlines() if "PASSWORD=" in line]
    passwords = [line.split("=")[1] for line in lines]
    assert len(set(passwords)) == len(passwords) == 6
    assert {len(password) for password in passwords} == {32}
    assert file.stat().st_mode & 0o077 == 0
    before = file.read_text()
    assert make(tmp_path, "env").returncode != 0
    assert file.read_text() == before


@pytest.mark.skipif(
    shutil.which("docker-compose") is None,
    reason="docker-compose is not installed: nothing can check the file",
)
@pytest.mark.parametrize(
    "files", [("docker-compose.yml",), ("docker-compose.yml", "docker-compose.open.yml")]
)
def test_the_compose_file_is_one_that_the_tool_accepts_from_a_machine_that_only_works(
    pytestconfig: pytest.Config, tmp_path: Path, files: tuple[str, ...]
) -> None:
    settings = tmp_path / "env"
    settings.write_text("PHDL_WORKER_PASSWORD=a\nPHDL_BROKER_PASSWORD=b\nPHDL_BIND=192.0.2.1\n")
    named = [word for file in files for word in ("--file", file)]
    profiles = [word for name in ("cpu", "gpu", "web", "flower", "command") for word in ("--profile", name)]
    done = subprocess.run(
        ["docker-compose", *named, "--env-file", str(settings), *profiles, "config", "-q"],
        cwd=pytestconfig.rootpath, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
