"""Files with exactly the columns and types that surveys publish come in as they should.

Columns, types and codes for missing values are those of the data models: APOGEE allStar of SDSS DR17 and
astraAllStarASPCAP of DR19, GALAH DR3 (main_allstar_v2) and DR4 (allstar_240705), El-Badry, Rix and Heintz
(2021).
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from sqlalchemy import Engine, text
from typer.testing import CliRunner

from phdl_catalog.cli.main import app
from phdl_catalog.database.calibrators import ImportReport, import_pairs, import_references
from phdl_catalog.errors import InputError

GAIA = [4472832130942575872, 4472832130942575873, 4472832130942575874, 4472832130942575875]
ELEMENTS_OF_APOGEE = 26


def values_of(database: Engine) -> dict[tuple[str, str], tuple[float, float | None]]:
    with database.connect() as connection:
        rows = connection.execute(text("SELECT star_name, label, value, error FROM phdl.reference_label"))
        return {(row.star_name, row.label): (row.value, row.error) for row in rows}


def rows_add_up(report: ImportReport) -> bool:
    return report.used + sum(report.skipped.values()) == report.rows


def apogee_dr17(path: Path) -> Path:
    """Four stars, the first observed in two fields, one with STAR_BAD, one with a very bright neighbour."""
    n = 5
    nan, single = np.nan, np.float32
    table = Table()
    table["APOGEE_ID"] = np.array(
        [
            "2M00000002+7417074",
            "2M00000032+5737103",
            "2M00000068+5710233",
            "AP00000103+1525513",
            "2M00000002+7417074",
        ],
        dtype="S30",
    )
    table["TELESCOPE"] = np.array(["apo25m"] * n, dtype="S6")
    table["RA"], table["DEC"] = (
        [0.000103, 0.00135, 0.002850, 0.004322, 0.000103],
        [74.28, 57.61, 57.17, 15.43, 74.28],
    )
    table["J"], table["K"], table["K_ERR"] = (np.full(n, 10.5, dtype=single) for _ in range(3))
    table["SNR"] = np.array([229.9, 120.0, 470.5, 90.0, 310.0], dtype=single)
    table["SNREV"] = table["SNR"] - single(5)
    table["STARFLAG"] = np.array([0, 0, 1 << 3, 0, 0], dtype=np.int64)
    table["ASPCAPFLAG"] = np.array([0, 1 << 23, 0, 1 << 7, 0], dtype=np.int64)
    table["FPARAM"] = np.zeros((n, 9), dtype=single)
    table["X_H"], table["X_M"] = (np.full((n, ELEMENTS_OF_APOGEE), 0.25, dtype=single) for _ in range(2))
    table["X_M"][:, 5] = 0.3
    table["ELEMFLAG"] = np.zeros((n, ELEMENTS_OF_APOGEE), dtype=np.int32)
    table["TEFF"] = np.array([3723.8, 5000.0, 4700.0, 5400.0, 3730.1], dtype=single)
    table["TEFF_ERR"] = np.array([3.2, 10.0, 8.0, 9.5, 2.9], dtype=single)
    table["LOGG"] = np.array([0.98, 3.0, 2.5, nan, 0.99], dtype=single)
    table["LOGG_ERR"] = np.array([0.03, 0.03, 0.02, nan, 0.03], dtype=single)
    table["VMICRO"] = np.array([2.2, 1.5, 1.4, 1.1, 2.2], dtype=single)
    table["FE_H"] = np.array([-0.168, 0.0, -0.4, 0.11, -0.170], dtype=single)
    table["FE_H_ERR"] = np.array([0.0079, 0.01, 0.01, 0.009, 0.0077], dtype=single)
    table["FE_H_FLAG"] = np.zeros(n, dtype=np.int32)
    table["MG_FE"] = np.array([0.04, 0.1, 0.2, -0.02, 0.05], dtype=single)
    table["MG_FE_ERR"] = np.array([0.013, 0.01, 0.01, 0.015, 0.012], dtype=single)
    table["MG_FE_FLAG"] = np.array([0, 0, 0, 1 << 8, 0], dtype=np.int32)
    table["CU_FE"] = np.array([nan, nan, nan, nan, nan], dtype=single)
    table["CU_FE_ERR"], table["CU_FE_FLAG"] = table["CU_FE"], np.full(n, 2, dtype=np.int32)
    table["GAIAEDR3_SOURCE_ID"] = np.array([*GAIA[:3], 0, GAIA[0]], dtype=np.int64)
    for name in ("GAIAEDR3_PMRA", "GAIAEDR3_PMDEC"):
        table[name] = np.array([1.25, 2.0, 3.0, -9999.99, 1.25], dtype=np.float32)
    elements = Table({"ELEM_SYMBOL": np.array([["C", "CI", "N"]], dtype="S5")})
    fits.HDUList(
        [fits.PrimaryHDU(), fits.BinTableHDU(table), fits.ImageHDU(), fits.BinTableHDU(elements)]
    ).writeto(path)
    return path


def test_apogee_dr17(database: Engine, tmp_path: Path) -> None:
    report = import_references(database, apogee_dr17(tmp_path / "allStar-dr17-synspec_rev1.fits"), "apogee")
    assert rows_add_up(report)
    assert report.skipped == {"bad in the survey": 2, "duplicate": 1}
    assert report.left_out == {"flagged by the survey": 1}
    assert report.warnings == ()
    assert report.columns["gaia_source_id"] == "GAIAEDR3_SOURCE_ID"
    first, faint = "2M00000002+7417074", "AP00000103+1525513"
    approximately = {key: (pytest.approx(value), error and pytest.approx(error)) for key, (value, error) in {
        (first, "teff"): (3730.1, 2.9), (first, "logg"): (0.99, 0.03), (first, "v_micro"): (2.2, None),
        (first, "fe_h"): (-0.170, 0.0077), (first, "mg_fe"): (0.05, 0.012),
        (faint, "teff"): (5400.0, 9.5), (faint, "v_micro"): (1.1, None), (faint, "fe_h"): (0.11, 0.009),
    }.items()}  # fmt: skip
    assert values_of(database) == approximately
    with database.connect() as connection:
        place = connection.execute(text(
            "SELECT DISTINCT gaia_source_id, ra, dec, pmra FROM phdl.reference_label WHERE star_name = :name"
        ), {"name": faint}).one()  # fmt: skip
    # Without a source there is a position; the code for a missing proper motion, rounded, is none.
    assert tuple(place) == (None, 0.004322, 15.43, None)


def test_an_element_of_an_array_of_apogee_is_had_by_a_mapping(database: Engine, tmp_path: Path) -> None:
    path = apogee_dr17(tmp_path / "allStar.fits")
    with pytest.raises(InputError, match=r"'X_M' of allStar.fits has 26 numbers in each row; .*X_M\[0\]"):
        import_references(database, path, "apogee", {"mg_fe": "X_M"})
    report = import_references(database, path, "apogee", {"mg_fe": "X_M[5]"})
    assert report.columns["mg_fe"] == "X_M[5]"
    assert values_of(database)["2M00000002+7417074", "mg_fe"] == (pytest.approx(0.3), pytest.approx(0.012))
    with pytest.raises(InputError, match="no column 'X_M\\[x\\]'"):
        import_references(database, path, "apogee", {"mg_fe": "X_M[x]"})


def test_apogee_dr19_lies_behind_an_empty_table(database: Engine, tmp_path: Path) -> None:
    stars = {
        "sdss_id": np.array([54392544, 54392545, 54392546]),
        "gaia_dr3_source_id": np.array(GAIA[:3]),
        "ra": [10.0, 11.0, 12.0], "dec": [1.0, 2.0, 3.0],
        "snr": np.array([80.0, 90.0, 60.0], dtype=np.float32),
        "teff": np.array([5000.0, 5500.0, 5600.0], dtype=np.float32),
        "e_teff": np.array([10.0, 11.0, 12.0], dtype=np.float32),
        "fe_h": np.array([-0.1, 0.2, 0.3], dtype=np.float32), "e_fe_h": np.full(3, 0.01, dtype=np.float32),
        "fe_h_flags": np.array([0, 0, 0], dtype=np.int32),
        "mg_h": np.array([0.0, 0.25, 0.2], dtype=np.float32), "e_mg_h": np.full(3, 0.02, dtype=np.float32),
        "mg_h_flags": np.array([0, 4, 0], dtype=np.int32), "flag_bad": np.array([False, False, True]),
    }  # fmt: skip
    apogee = Table(stars)
    units = [fits.PrimaryHDU(), fits.BinTableHDU(apogee[:0]), fits.BinTableHDU(apogee)]
    fits.HDUList(units).writeto(tmp_path / "astraAllStarASPCAP-0.6.0.fits")
    report = import_references(database, tmp_path / "astraAllStarASPCAP-0.6.0.fits", "apogee19")
    assert (report.rows, report.used, report.skipped) == (3, 2, {"bad in the survey": 1})
    assert report.values == {"teff": 2, "fe_h": 2, "mg_fe": 1}
    value, error = values_of(database)[str(GAIA[0]), "mg_fe"]
    assert (value, error) == (pytest.approx(0.1), pytest.approx(np.hypot(0.01, 0.02), rel=1e-5))


@pytest.mark.parametrize("release", ["dr3", "dr4"])
def test_galah(database: Engine, tmp_path: Path, release: str) -> None:
    mg, source = ("Mg_fe", "dr3_source_id") if release == "dr3" else ("mg_fe", "gaiadr3_source_id")
    single = np.float32
    table = Table()
    table["star_id" if release == "dr3" else "tmass_id"] = np.array(["00000000-0000000"] * 3, dtype="S16")
    table["sobject_id"] = np.array([210115002201239, 210115002201240, 210115002201241], dtype=np.int64)
    table[source] = np.array(GAIA[:3], dtype=np.int64)
    table["ra_dr2" if release == "dr3" else "ra"] = [148.57, 149.0, 150.1]
    table["dec_dr2" if release == "dr3" else "dec"] = [17.8, -18.0, -19.0]
    table["flag_sp"] = np.array([0, 0, 1 << 10], dtype=np.int64)
    table["teff"] = np.array([5732.7, 4444.0, 6000.0], dtype=single)
    table["e_teff"] = np.array([66.6, 80.0, 90.0], dtype=single)
    table["logg"] = np.array([4.46, np.nan, 4.0], dtype=single)
    table["e_logg"] = np.array([0.18, np.nan, 0.2], dtype=single)
    table["fe_h"], table["e_fe_h"] = (
        np.array(v, dtype=single) for v in ([-0.07, 0.1, 0.0], [0.05, 0.06, 0.05])
    )
    table["flag_fe_h"] = np.zeros(3, dtype=np.int64)
    table["vmic"] = np.array([1.06, 1.1, 1.2], dtype=single)
    table[mg] = np.array([0.02, 0.3, 0.1], dtype=single)
    table[f"e_{mg}"] = np.array([0.06, 0.07, 0.1], dtype=single)
    table[f"flag_{mg}"] = np.array([0, 1, 0], dtype=np.int64)
    table["snr_c3_iraf" if release == "dr3" else "snr_px_ccd3"] = np.array([62.0, 40.0, 90.0], dtype=single)
    table.write(tmp_path / "galah.fits")
    report = import_references(database, tmp_path / "galah.fits", release)
    assert rows_add_up(report)
    assert report.skipped == {"bad in the survey": 1}
    assert report.left_out == {"flagged by the survey": 1}
    assert report.values == {"teff": 2, "logg": 1, "v_micro": 2, "fe_h": 2, "mg_fe": 1}
    with database.connect() as connection:
        rows = connection.execute(
            text("SELECT gaia_source_id, ra, value, error FROM phdl.reference_label WHERE label = 'mg_fe'")
        ).all()
    assert [tuple(row) for row in rows] == [(GAIA[0], 148.57, pytest.approx(0.02), pytest.approx(0.06))]


def test_wide_binaries_of_el_badry_rix_and_heintz(database: Engine, tmp_path: Path) -> None:
    table = Table()
    for star, number in (("1", 0), ("2", 1)):
        table[f"solution_id{star}"] = np.full(3, 1636042515805110273)
        table[f"designation{star}"] = np.array([f"Gaia EDR3 {source}" for source in GAIA[:3]], dtype="S28")
        table[f"source_id{star}"] = np.roll(GAIA[:3], -number)
        table[f"ref_epoch{star}"] = np.full(3, 2016.0)
        table[f"ra{star}"], table[f"dec{star}"] = [10.0, 20.0, 30.0], [1.0, 2.0, 3.0]
        table[f"parallax{star}"], table[f"parallax_error{star}"] = (
            np.full(3, 5.0),
            np.full(3, 0.02, dtype=np.float32),
        )
        table[f"pm{star}"] = np.full(3, 9.0, dtype=np.float32)
        table[f"pmra{star}"], table[f"pmdec{star}"] = np.full(3, 1.5), np.full(3, -2.5)
        table[f"ruwe{star}"] = np.full(3, 1.0, dtype=np.float32)
        table[f"dr2_source_id{star}"] = np.full(3, 7)
    table["pairdistance"], table["sep_AU"] = np.full(3, 0.001), [900.0, 12000.0, 3000.0]
    table["binary_type"] = np.array(["MSMS", "WDMS", "MS??"], dtype="S4")
    table["R_chance_align"] = [1e-6, 1e-4, 1.7]
    table.write(tmp_path / "all_columns_catalog.fits")
    report = import_pairs(database, tmp_path / "all_columns_catalog.fits", "elbadry21")
    assert (report.used, report.skipped) == (2, {"white dwarf in it": 1})
    with database.connect() as connection:
        rows = connection.execute(text(
            "SELECT gaia_source_id_a, gaia_source_id_b, pmra_a, pmdec_b, parallax_a, separation_au, "
            "chance_probability FROM phdl.wide_binary ORDER BY 6"
        )).all()  # fmt: skip
    assert tuple(rows[0]) == (GAIA[0], GAIA[1], 1.5, -2.5, 5.0, 900.0, 1e-6)
    # A ratio of densities: above 1 it says that a chance pair is the likelier.
    assert tuple(rows[1]) == (GAIA[0], GAIA[2], 1.5, -2.5, 5.0, 3000.0, 1.7)


def test_flags_that_went_through_floats_are_flags(database: Engine, tmp_path: Path) -> None:
    """A column of integers with holes in it becomes one of floats in many programs."""
    path = tmp_path / "own.csv"
    path.write_text("obsid,mg_fe,mg_fe_flag\n11,0.1,0.0\n12,0.2,4.0\n13,0.3,\n")
    report = import_references(database, path, "own")
    assert (report.values, report.left_out) == ({"mg_fe": 1}, {"flagged by the survey": 2})


def mistaken(path: Path, **columns: np.ndarray) -> Path:
    """A sample of stars as somebody may have it."""
    generator = np.random.default_rng(0)
    n = 60
    fe_h = generator.normal(-0.2, 0.3, n)
    stars = {
        "obsid": np.arange(1, n + 1), "ra": generator.uniform(0, 360, n), "dec": generator.uniform(-5, 60, n),
        "teff": generator.uniform(4500, 6500, n), "fe_h": fe_h, "e_fe_h": np.full(n, 0.03),
        "mg_fe": 0.1 - 0.3 * fe_h + generator.normal(0, 0.05, n),
    }  # fmt: skip
    stars["mg_h"] = stars["mg_fe"] + fe_h
    Table({**stars, **columns}).write(path)
    return path


def test_plausible_mistakes_are_told_and_nothing_is_changed(database: Engine, tmp_path: Path) -> None:
    good = import_references(database, mistaken(tmp_path / "good.csv"), "good")
    assert good.warnings == ()
    table = Table.read(tmp_path / "good.csv")
    columns = {name: np.asarray(table[name]) for name in table.colnames}
    wrong = {
        "is it A(Mg)?": {"mg_fe": columns["mg_h"] + 2.0},
        "goes with fe_h (slope 0.": {"mg_fe": columns["mg_h"]},
        "taken as degrees": {"ra": columns["ra"] / 15},
        "another unit": {"teff": np.log10(columns["teff"])},
    }
    for number, (words, change) in enumerate(wrong.items()):
        path = mistaken(tmp_path / f"wrong{number}.csv", **change)
        report = import_references(database, path, f"wrong{number}")
        (warning,) = report.warnings
        assert words in warning
        assert report.used == 60


def test_the_mapping_a_warning_proposes_mends_it(database: Engine, tmp_path: Path) -> None:
    path = mistaken(tmp_path / "good.csv")
    good = Table.read(path)
    bad = mistaken(tmp_path / "bad.csv", mg_fe=np.asarray(good["mg_h"]), ra=np.asarray(good["ra"]) / 15)
    told = " ".join(import_references(database, bad, "bad").warnings)
    assert "--map mg_fe=mg_fe-fe_h" in told
    assert "--map ra=15*ra" in told
    words = [
        "references",
        "import",
        str(bad),
        "--survey",
        "mended",
        "--map",
        "mg_fe=mg_fe-fe_h",
        "--map",
        "ra=15*ra",
    ]
    result = CliRunner().invoke(app, [*words, "--json"], catch_exceptions=False)
    assert json.loads(result.stdout)["warnings"] == []
    with database.connect() as connection:
        rows = connection.execute(text(
            "SELECT value, ra FROM phdl.reference_label WHERE survey = 'mended' AND label = 'mg_fe' "
            "ORDER BY obsid"
        )).all()  # fmt: skip
    assert np.allclose([row.value for row in rows], good["mg_fe"])
    assert np.allclose([row.ra for row in rows], good["ra"])
