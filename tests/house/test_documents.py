"""What the documentation says can be done: links lead somewhere, and quoted commands exist."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from phdl_catalog.cli.reference import Command, commands

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
KNOWN = {command.name: command for command in commands()}

_FENCED = re.compile(r"^ *```[a-z]*\n(.*?)^ *```", re.DOTALL | re.MULTILINE)
_INLINE = re.compile(r"`(phdl [^`]+)`")
_LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")


def page_name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def command_of(words: list[str]) -> Command | None:
    """The command that a line begins with: the longest name that exists."""
    for length in (3, 2):
        if (found := KNOWN.get(" ".join(words[:length]))) is not None:
            return found
    return None


def quoted_commands(text: str) -> list[str]:
    """Calls of phdl in the code blocks of a page, continued lines joined, and those within sentences."""
    calls = []
    for block in _FENCED.findall(text):
        for line in block.replace("\\\n", " ").splitlines():
            bare = re.sub(r"^(\$ )?([A-Z_]+=\S+ )*", "", line.strip())
            bare = re.sub(r"^\.venv/bin/", "", bare)
            if bare.startswith("phdl "):
                calls.append(bare)
    return calls + [call for call in _INLINE.findall(text) if "..." not in call]


def wrong_with(call: str) -> str | None:
    """Why a call of phdl cannot be made, or None."""
    lexer = shlex.shlex(call, posix=True, punctuation_chars="|>&;")
    lexer.whitespace_split = True
    words: list[str] = []
    for word in lexer:
        if word[0] in "|>&;" or word.startswith("#"):
            break
        words.append(word)
    if words[1:] in (["--help"], ["--version"]):
        return None
    command = command_of(words)
    if command is None:
        group = " ".join(words[:2])
        return (
            None
            if len(words) == 2 and any(name.startswith(group + " ") for name in KNOWN)
            else "no such command"
        )
    spellings = {spelling for item in command.parameters for spelling in item.spellings} | {"--help"}
    options = [word.split("=")[0] for word in words if word.startswith("--")]
    unknown = [option for option in options if option not in spellings]
    return f"no option {', '.join(unknown)}" if unknown else None


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_links_between_pages_lead_to_files(page: Path) -> None:
    links = [link for link in _LINK.findall(page.read_text(encoding="utf-8")) if "://" not in link]
    assert not [link for link in links if not (page.parent / link).exists()]


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_commands_that_a_page_quotes_exist_with_their_options(page: Path) -> None:
    calls = quoted_commands(page.read_text(encoding="utf-8"))
    wrong = {call: why for call in calls if (why := wrong_with(call))}
    assert not wrong


def test_a_wrong_command_in_a_page_would_be_noticed() -> None:
    text = "```\nphdl no-such-command X\nphdl sql --no-such-option 'SELECT 1'\n```\n"
    assert [wrong_with(call) for call in quoted_commands(text)] == [
        "no such command",
        "no option --no-such-option",
    ]


def test_every_page_is_reached_from_the_readme_or_the_index() -> None:
    linked = {
        (page.parent / link).resolve()
        for page in PAGES
        for link in _LINK.findall(page.read_text(encoding="utf-8"))
        if "://" not in link
    }
    assert not [page_name(page) for page in PAGES if page.parent != ROOT and page not in linked]
