"""What commands print: texts as they are, whatever they hold."""

from __future__ import annotations

import json

import pytest

from phdl_catalog.cli.output import print_json, print_table


def test_brackets_are_no_markup_and_control_characters_do_not_reach_the_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    print_table("[bold] files", ("rv [km/s]",), [("[/red] \x1b[31m\udcff \u661f",)])
    shown = capsys.readouterr().out
    assert "[bold] files" in shown
    assert "rv [km/s]" in shown
    assert "[/red] \\x1b[31m\\udcff \u661f" in shown


def test_bytes_that_are_no_text_are_escaped_in_json(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"file": "\udcff", "name": "\u661f"})
    shown = capsys.readouterr().out
    assert shown.encode()
    assert json.loads(shown) == {"file": "\udcff", "name": "\u661f"}
