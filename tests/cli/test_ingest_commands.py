"""The commands release, ingest and spectrum, as a user types them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes, urlsplit

import pytest
from sqlalchemy import Engine, insert, select
from typer.testing import CliRunner, Result

from phdl_catalog.cli.main import app
from phdl_catalog.database.models import Fit, Source, Spectrum
from tests.database_rows import add_model, add_run, fit_values
from tests.lamost_files import FileContent, make_file

pytestmark = pytest.mark.usefixtures("database")


@pytest.fixture(autouse=True)
def _own_store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PHDL_STORE_URL", str(tmp_path / "shards"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "files"
    path.mkdir()
    (path / "a.fits").write_bytes(make_file("dr9", FileContent(obsid=11)))
    (path / "b.fits").write_bytes(make_file("pilot"))
    (path / "c.fits").write_bytes(b"not FITS")
    return path


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def run_json(*arguments: object) -> Any:
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_new_release_is_ingested_at_once_and_said_to_be_new(folder: Path) -> None:
    result = run("ingest", "dr10-sample", folder)
    assert result.exit_code == 0
    assert "release dr10-sample is new and was added" in result.stderr
    assert "rejected: not_fits" in result.stdout
    again = run_json("ingest", "dr10-sample", folder)
    assert (again["found"], again["unchanged"], again["created"]) == (3, 3, False)


def test_release_is_not_made_up_where_that_is_not_wanted(folder: Path) -> None:
    result = run("ingest", "dr10", folder, "--no-create")
    assert result.exit_code == 1
    assert "phdl release add dr10" in str(result.exception)


def test_conflict_ends_with_exit_code_1_and_both_names(folder: Path) -> None:
    (folder / "d.fits").write_bytes(make_file("dr9", FileContent(obsid=11, seed=2)))
    result = run("ingest", "dr10", folder, "--json")
    assert result.exit_code == 1
    document = json.loads(result.stdout)
    assert (document["accepted"], document["conflicts"]) == (2, 1)
    assert document["reasons"] == {"not_fits": 1}
    assert document["conflicting"][0]["obsid"] == "11"
    assert document["conflicting"][0]["file"].endswith("d.fits")
    assert document["conflicting"][0]["known_file"].endswith("a.fits")
    result = run("ingest", "dr10", folder)
    assert result.exit_code == 1
    assert "a.fits and, with other bytes" in str(result.exception)


#: Names that a shell, a URL, a terminal or an option parser would take for something else.
_ODD_NAMES = (
    "with space.fits", "it's \"quoted\".fits", "new\nline.fits", "$(touch canary).fits", "`touch canary`",
    ";touch canary;.fits", "| touch canary", "-rf.fits", "--help", "*.fits", "[a-z].fits", "[/red] [bold]",
    "100%25.fits", "?query#fragment.fits", "\u661f\u8272 \u00e9\u0301.fits", "\x1b[31mred\x07", "{0}%s:obsid",
    "x" * 250 + ".fits", "'); DROP TABLE phdl.fit; --", "\udcff\udcfe.fits", "~", "s3:", "...",
)  # fmt: skip


def test_names_of_files_are_names_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, database: Engine
) -> None:
    place = tmp_path / "odd"
    place.mkdir()
    monkeypatch.chdir(place)
    spectra = [make_file("dr9", FileContent(obsid=999999999, seed=seed)) for seed in (1, 2)]
    for number, name in enumerate(_ODD_NAMES):
        content = spectra[0].replace(b"999999999", b"%9d" % number, 1) if number % 2 else b"no spectrum"
        (place / name).parent.mkdir(exist_ok=True)
        (place / name).write_bytes(content)
    one_by_one = json.loads(run("ingest", "dr10", "--json", "--", *_ODD_NAMES).stdout)
    count = len(_ODD_NAMES)
    assert (one_by_one["found"], one_by_one["accepted"]) == (count, count // 2)
    assert run_json("ingest", "dr10", place)["unchanged"] == count
    with database.connect() as connection:
        uris = connection.scalars(select(Spectrum.uri)).all()
    named = {os.fsdecode(unquote_to_bytes(urlsplit(uri).path)) for uri in uris}
    assert named == {str(place / name) for name in _ODD_NAMES}
    assert {str(path.relative_to(place)) for path in place.rglob("*") if path.is_file()} == set(_ODD_NAMES)
    # Conflicts and errors are shown to a person with the names in them.
    for number, name in enumerate(_ODD_NAMES):
        (place / name).write_bytes(spectra[1].replace(b"999999999", b"%9d" % number, 1))
    assert json.loads(run("ingest", "dr10", place, "--json").stdout)["conflicts"] == count // 2
    for name in ("[/red] [bold]", "\udcff\udcfe.fits", "\x1b[31mred\x07"):
        assert run("ingest", "dr10", "--", f"./{name}/gone").exit_code == 2


def test_path_that_is_not_there_is_wrong_usage(folder: Path) -> None:
    result = run("ingest", "dr10", folder / "nothing.fits")
    assert result.exit_code == 2
    assert run_json("release", "list") == {"releases": []}


def test_releases_are_added_listed_and_shown(folder: Path) -> None:
    assert run_json("release", "add", "dr10", "--description", "the tenth")["release"] == "dr10"
    run("ingest", "dr10", folder / "a.fits", folder / "c.fits", "--no-create")
    listed = run_json("release", "list")["releases"]
    assert [(item["release"], item["accepted"], item["rejected"]) for item in listed] == [("dr10", 1, 1)]
    shown = run_json("release", "show", "dr10")
    assert (shown["reasons"], shown["snr_g"], shown["gaia_sources"]) == ({"not_fits": 1}, {"20-30": 1}, 1)
    for arguments in (("list",), ("show", "dr10")):
        assert "dr10" in run("release", *arguments).stdout
    assert run("release", "show", "dr11").exit_code == 1


def test_spectrum_shows_facts_star_and_fits(folder: Path, database: Engine) -> None:
    run("ingest", "dr10", folder)
    with database.begin() as connection:
        row = connection.execute(select(Spectrum.__table__).where(Spectrum.obsid == 11)).mappings().one()
        place = {name: row[name] for name in ("gaia_source_id", "healpix_29", "ra", "dec")}
        connection.execute(insert(Source).values(**place, phot_g_mean_mag=14.5))
        model = add_model(connection)
        run_id = add_run(connection, row["release_id"], model)
        connection.execute(insert(Fit).values(**fit_values(row["spectrum_id"], model, run_id, flags=64)))
    (shown,) = run_json("spectrum", "show", 11)["spectra"]
    assert (shown["obsid"], shown["gaia_source_id"]) == ("11", "172478915877176704")
    assert shown["source"]["phot_g_mean_mag"] == 14.5
    assert shown["fits"][0]["model"] == "default"
    assert shown["fits"][0]["labels"] == {"teff": 5000.0, "logg": 4.0, "fe_h": -0.5}
    assert shown["fits"][0]["label_flags"] == {"teff": 0, "logg": 1, "fe_h": 0}
    printed = run("spectrum", "show", 11).stdout
    assert "low_snr" in printed
    assert "at_bound" in printed
    assert "172478915877176704" in printed


def test_negative_obsid_is_an_argument_and_no_option(folder: Path) -> None:
    run("ingest", "dr10", folder)
    (shown,) = run_json("spectrum", "show", "-1585506456694517752")["spectra"]
    assert shown["layout"] == "pilot"


def test_spectrum_is_drawn(folder: Path, tmp_path: Path) -> None:
    run("ingest", "dr10", folder)
    picture = tmp_path / "spectrum.png"
    drawn = run_json("spectrum", "plot", 11, "--output", picture)
    assert (drawn["output"], drawn["model"]) == (str(picture), "default")
    assert picture.read_bytes().startswith(b"\x89PNG")
    bare = run_json("spectrum", "plot", 11, "--output", tmp_path / "bare.pdf", "--bare")
    assert bare["model"] is None
    assert (tmp_path / "bare.pdf").read_bytes().startswith(b"%PDF")
    assert picture.stat().st_size > 100_000
    assert run("spectrum", "plot", 11, "--output", tmp_path / "spectrum.doc").exit_code == 2


def test_spectrum_that_is_not_there_is_an_error(folder: Path) -> None:
    run("ingest", "dr10", folder)
    assert run("spectrum", "show", 12).exit_code == 1
    assert "no spectrum with obsid 11 in release 'dr9'" in str(
        run("spectrum", "show", 11, "--release", "dr9").exception
    )
