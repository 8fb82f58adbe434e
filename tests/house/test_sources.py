"""Rules about the files themselves, which no tool knows."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

LONGEST_MODULE = 400

#: A module that is called so has no idea of its own.
EMPTY_NAMES = {"utils", "util", "helpers", "helper", "common", "misc", "tools", "stuff"}

#: Hosts that a link in the project may lead to: papers, standards, the reader's own services.
KNOWN_HOSTS = {
    "arxiv.org", "doi.org", "ui.adsabs.harvard.edu", "www.ivoa.net", "ivoa.net", "fits.gsfc.nasa.gov",
    "www.w3.org", "www.postgresql.org", "git-lfs.github.com", "www.lamost.org", "gea.esac.esa.int",
    "opensource.org", "localhost", "127.0.0.1",
}  # fmt: skip

TEXT = {".py", ".md", ".toml", ".yml", ".yaml", ".sql", ".txt", ".example", ".mako", ".html", ""}


def tracked(root: Path) -> list[Path]:
    """Files of the project; those git knows if it is a git checkout."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=root, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    return [path for name in listed.stdout.splitlines() if (path := root / name).is_file()]


@pytest.fixture(scope="module")
def sources(pytestconfig: pytest.Config) -> list[Path]:
    return [path for path in tracked(pytestconfig.rootpath) if path.suffix == ".py"]


@pytest.fixture(scope="module")
def texts(pytestconfig: pytest.Config) -> dict[Path, str]:
    return {
        path: path.read_text(encoding="utf-8")
        for path in tracked(pytestconfig.rootpath)
        if path.suffix in TEXT
    }


def test_no_module_is_longer_than_four_hundred_lines(sources: list[Path]) -> None:
    # A migration is as long as the change it makes, and is never edited again.
    written = [path for path in sources if "versions" not in path.parts]
    long = {path.name: n for path in written if (n := path.read_bytes().count(b"\n")) > LONGEST_MODULE}
    assert not long


def test_no_module_has_a_name_without_an_idea(sources: list[Path]) -> None:
    assert not [path for path in sources if path.stem in EMPTY_NAMES]


def test_every_module_says_what_it_is(sources: list[Path]) -> None:
    package = [path for path in sources if {"phdl_catalog", "workers"} & set(path.parts)]
    silent = [path for path in package if not path.read_text(encoding="utf-8").lstrip().startswith('"""')]
    assert not silent


def test_no_file_names_a_path_of_the_machine_it_was_written_on(
    texts: dict[Path, str], pytestconfig: pytest.Config
) -> None:
    root = pytestconfig.rootpath
    found = [
        (path.relative_to(root), place)
        for path, text in texts.items()
        for place in (f"{root.parent}/", f"{Path.home()}/")
        if len(place) > 2 and place in text
    ]
    assert not found


def test_links_lead_to_hosts_that_are_known(texts: dict[Path, str], pytestconfig: pytest.Config) -> None:
    link = re.compile(r"https?://([A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+|localhost)")
    unknown = {
        (str(path.relative_to(pytestconfig.rootpath)), host)
        for path, text in texts.items()
        for host in link.findall(text)
        if host not in KNOWN_HOSTS and not host.endswith((".invalid", "example.org", "example.com"))
    }
    assert not unknown


def test_nothing_is_left_open(sources: list[Path], pytestconfig: pytest.Config) -> None:
    mark = re.compile(
        r"\b(TO" r"DO|FIX" r"ME|X" r"XX)\b|raise NotImplemented" r"Error|except Exception:\s*pass"
    )
    left = [path.relative_to(pytestconfig.rootpath) for path in sources if mark.search(path.read_text())]
    assert not left


def test_no_file_but_the_weights_is_larger_than_four_megabytes(pytestconfig: pytest.Config) -> None:
    files = [path for path in tracked(pytestconfig.rootpath) if path.parent.name != "weights"]
    large = [path for path in files if path.stat().st_size > 4 * 1024 * 1024]
    assert not large
