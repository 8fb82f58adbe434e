"""What commands print: texts as they are, whatever they hold."""

from __future__ import annotations

import json
import time

import pytest

from phdl_catalog.cli.output import RateColumn, print_json, print_table, progress_bar


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


def test_a_rate_counts_from_the_beginning_however_few_reports_there_are() -> None:
    with progress_bar() as progress:
        task = progress.add_task("fitting", total=4)
        time.sleep(0.2)
        progress.advance(task, 4)
        shown = RateColumn().render(progress.tasks[task]).plain
    assert 1.0 < float(shown.removesuffix("/s")) <= 20.0
