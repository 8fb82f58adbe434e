"""``phdl catalog`` and ``phdl explain``: one JSON document, tables for people, exit codes."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from phdl_catalog.cli.main import app
from phdl_catalog.errors import InputError

from .conftest import LABELS


def run(*arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, list(arguments), catch_exceptions=True)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result.stdout


def test_the_whole_life_of_a_release_in_json(survey):
    star = survey.add(gaia=2**62 + 3)
    dwarf = survey.add(labels={"logg": 4.4})
    built = json.loads(
        run("catalog", "build", "-m", "first", "--calibration", "none", "--name", "a", "--json")
    )
    assert (built["n_rows"], built["state"], built["table"]) == (1, "draft", "catalog.subgiant__a")
    checked = json.loads(run("catalog", "check", "a", "--json"))
    assert (checked["passed"], checked["state"], checked["checksum"]) == (
        True,
        "candidate",
        built["checksum"],
    )
    assert json.loads(run("catalog", "publish", "a", "--json"))["published"] == "a"
    options = ("-m", "first", "--calibration", "none", "--name", "b", "--snr-min", "30", "--check")
    again = json.loads(run("catalog", "build", *options, "--json"))
    assert (again["state"], again["check"]["passed"]) == ("candidate", True)
    run("catalog", "publish", "b")
    listed = json.loads(run("catalog", "list", "--json"))["releases"]
    assert [(entry["name"], entry["state"]) for entry in listed] == [("b", "published"), ("a", "superseded")]
    assert listed[0]["selection"]["subgiant"]["snr_g_min"] == 30
    assert json.loads(run("catalog", "rollback", "--json"))["published"] == "a"
    assert json.loads(run("catalog", "diff", "a", "b", "--json"))["n_common"] == 1
    told = json.loads(run("explain", str(star), "--json"))
    assert (told["verdict"], told["obsid"], told["labels"]["mg_fe"]["flags"]) == (
        "in",
        str(star),
        ["not_calibrated"],
    )
    assert json.loads(run("explain", str(dwarf), "--json"))["verdict"] == "out"


def test_tables_show_the_numbers(survey):
    star = survey.add(labels={"teff": 5432.0}, flags=32)
    assert "1 subgiants of 1 stars" in run(
        "catalog", "build", "-m", "first", "--calibration", "none", "--name", "a"
    )
    assert "a is candidate" in run("catalog", "check", "a")
    assert "catalog.subgiant is now a: 1 stars" in run("catalog", "publish", "a")
    assert "published" in run("catalog", "list")
    assert "1 common stars" in run("catalog", "diff", "a", "a")
    shown = run("explain", str(star))
    assert "flagged" in shown
    assert "poor_fit" in shown
    assert "5432" in shown


def test_columns_are_those_of_the_published_release(survey):
    survey.add()
    for command in (
        ("build", "-m", "first", "--calibration", "none", "--name", "a"),
        ("check", "a"),
        ("publish", "a"),
    ):
        run("catalog", *command)
    columns = json.loads(run("catalog", "columns", "--json"))["columns"]
    assert [column["name"] for column in columns if column["name"] in LABELS] == list(LABELS)
    assert "v_micro" in run("catalog", "columns", "--model", "first")


def test_a_check_that_fails_ends_with_one(survey):
    run("catalog", "build", "-m", "first", "--calibration", "none", "--name", "a")
    assert json.loads(run("catalog", "check", "a", "--json", code=1))["passed"] is False


def test_parts_of_the_selection_come_from_a_file(survey, tmp_path):
    survey.add(labels={"logg": 3.4})
    survey.add(labels={"logg": 3.6})
    path = tmp_path / "rule.json"
    path.write_text('{"logg_min": 3.5}')
    built = run(
        "catalog",
        "build",
        "-m",
        "first",
        "--calibration",
        "none",
        "--name",
        "a",
        "--selection",
        str(path),
        "--json",
    )
    assert json.loads(built)["n_rows"] == 1
    path.write_text("logg > 3")
    with pytest.raises(InputError, match="is no JSON"):
        run("catalog", "build", "-m", "first", "--selection", str(path))


def test_an_obsid_may_be_negative(survey):
    survey.add(obsid=-(2**60) - 1)
    assert json.loads(run("explain", str(-(2**60) - 1), "--json"))["obsid"] == str(-(2**60) - 1)


@pytest.mark.parametrize("arguments", [("abc",), ("5", "--jsn"), ()])
def test_wrong_usage_ends_with_two(survey, arguments):
    run("explain", *arguments, code=2)
