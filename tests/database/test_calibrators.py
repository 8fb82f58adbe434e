"""Published tables of calibrators come in: exactly, once, and with a reason for what is not used."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from astropy.table import MaskedColumn, Table
from sqlalchemy import Engine, text

from phdl_catalog.database.calibrators import ImportReport, import_pairs, import_references
from phdl_catalog.database.sources import import_sources
from phdl_catalog.errors import InputError

#: Neighbours that no double can tell apart.
GAIA = [4472832130942575872, 4472832130942575873, 4472832130942575874, 4472832130942575875]


def rows_add_up(report: ImportReport) -> bool:
    return report.used + sum(report.skipped.values()) == report.rows


def el_badry() -> Table:
    return Table(
        {
            "source_id1": np.array([GAIA[1], GAIA[2], GAIA[0], GAIA[0]]),
            "source_id2": np.array([GAIA[0], GAIA[3], GAIA[0], GAIA[1]]),
            "ra1": [10.0, 20.0, 30.0, 10.0],
            "dec1": [1.0, 2.0, 3.0, 1.0],
            "ra2": [10.001, 20.001, 30.0, 10.0],
            "dec2": [1.0, 2.0, 3.0, 1.0],
            "pmra1": [1.5, 2.5, 3.5, 1.0],
            "parallax1": [5.0, 6.0, 7.0, 5.0],
            "sep_AU": [900.0, 12000.0, 1.0, 900.0],
            "R_chance_align": [1e-6, 0.5, 0.0, 1e-6],
        }
    )


@pytest.mark.parametrize("ending", ["csv", "csv.gz", "fits", "vot", "parquet", "ecsv"])
def test_wide_binaries_keep_every_digit_in_every_format(
    database: Engine, tmp_path: Path, ending: str
) -> None:
    path = tmp_path / f"elbadry.{ending}"
    kind = {"csv.gz": "ascii.csv", "csv": "ascii.csv", "vot": "votable", "ecsv": "ascii.ecsv"}.get(
        ending, ending
    )
    el_badry().write(path, format=kind)
    report = import_pairs(database, path)
    assert (report.name, report.rows, report.used, report.new) == ("elbadry", 4, 2, 2)
    assert report.skipped == {"same star twice": 1, "duplicate": 1}
    with database.connect() as connection:
        rows = connection.execute(
            text(
                "SELECT gaia_source_id_a, gaia_source_id_b, ra_a, pmra_a, pmra_b, parallax_b, separation_au, "
                "chance_probability FROM phdl.wide_binary ORDER BY gaia_source_id_a"
            )
        ).all()
    # The smaller identifier is star a, with its own numbers.
    assert tuple(rows[0]) == (GAIA[0], GAIA[1], 10.001, None, 1.5, 5.0, 900.0, 1e-6)
    assert tuple(rows[1]) == (GAIA[2], GAIA[3], 20.0, 2.5, None, None, 12000.0, 0.5)


def test_the_same_file_again_changes_nothing(database: Engine, tmp_path: Path) -> None:
    path = tmp_path / "elbadry.fits"
    el_badry().write(path)
    import_pairs(database, path)
    with database.connect() as connection:
        before = connection.execute(text("SELECT * FROM phdl.wide_binary ORDER BY 1")).all()
    report = import_pairs(database, path)
    assert (report.used, report.new) == (2, 0)
    with database.connect() as connection:
        assert connection.execute(text("SELECT * FROM phdl.wide_binary ORDER BY 1")).all() == before


def test_pairs_by_observation_and_by_mapping(database: Engine, tmp_path: Path) -> None:
    path = tmp_path / "own.csv"
    Table({"first": [101, 102], "second": [201, 202], "risk": [0.01, -1.0]}).write(path)
    with pytest.raises(InputError, match=r"--map gaia_source_id_a=COLUMN; it has first, second, risk"):
        import_pairs(database, path)
    given = {"obsid_a": "first", "obsid_b": "second", "chance_probability": "risk"}
    report = import_pairs(database, path, "own", given)
    assert report.used == 2
    assert report.columns == given
    with database.connect() as connection:
        rows = connection.execute(
            text("SELECT obsid_a, obsid_b, chance_probability FROM phdl.wide_binary ORDER BY 1")
        )
        assert [tuple(row) for row in rows] == [(101, 201, 0.01), (102, 202, None)]


def test_a_mapping_to_nothing_is_refused(database: Engine, tmp_path: Path) -> None:
    path = tmp_path / "own.csv"
    Table({"a": [101], "b": [201]}).write(path)
    with pytest.raises(InputError, match="no column 'c'"):
        import_pairs(database, path, given={"obsid_a": "c"})
    with pytest.raises(InputError, match="no such column of ours"):
        import_pairs(database, path, given={"nonsense": "a"})


def test_identifiers_that_were_floats_are_refused(database: Engine, tmp_path: Path) -> None:
    path = tmp_path / "floats.fits"
    Table({"source_id1": np.array(GAIA[:2], dtype=float), "source_id2": np.array(GAIA[2:])}).write(path)
    with pytest.raises(InputError, match="last digits are lost"):
        import_pairs(database, path)


def test_files_that_are_none_are_refused(database: Engine, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no file"):
        import_pairs(database, tmp_path / "nothing.csv")
    broken = tmp_path / "broken.fits"
    broken.write_bytes(b"SIMPLE")
    with pytest.raises(InputError, match="cannot be read as fits"):
        import_pairs(database, broken)
    with pytest.raises(InputError, match="cannot tell the format"):
        import_pairs(database, Path(__file__))


def values_of(database: Engine, survey: str) -> dict[tuple[str, str], tuple[float, float | None]]:
    with database.connect() as connection:
        rows = connection.execute(
            text("SELECT star_name, label, value, error FROM phdl.reference_label WHERE survey = :survey"),
            {"survey": survey},
        )
        return {(row.star_name, row.label): (row.value, row.error) for row in rows}


def test_hypatia_is_turned_into_abundances_relative_to_iron(database: Engine, tmp_path: Path) -> None:
    path = tmp_path / "hypatia.csv"
    path.write_text(
        "f_preferred_name,Fe,Fe_err,Mg,Mg_err,S,S_err,f_ra,f_dec,f_teff,f_logg,\n"
        "HIP 1 ,-0.50 ,0.03 ,-0.30 ,0.04 ,,,102.5 ,-50.6 ,4710.0 ,1.74 ,\n"
        "HIP 2 ,0.10 ,0.03 ,,,0.05 ,0.05 ,201.5 ,72.4 ,,,\n"
        "HIP 3 ,,,,,,,20.5 ,12.4 ,,,\n"
    )
    report = import_references(database, path, "hypatia")
    assert (report.rows, report.used, report.new) == (3, 2, 6)
    assert report.skipped == {"no label": 1}
    assert report.values == {"teff": 1, "logg": 1, "fe_h": 2, "mg_fe": 1, "s_fe": 1}
    values = values_of(database, "hypatia")
    assert values["HIP 1", "mg_fe"] == (pytest.approx(0.2), pytest.approx(0.05))
    assert values["HIP 1", "teff"] == (4710.0, None)
    assert values["HIP 2", "s_fe"][0] == pytest.approx(-0.05)
    assert ("HIP 2", "teff") not in values


def test_apogee_flags_and_sentinels_are_honoured(database: Engine, tmp_path: Path) -> None:
    path = tmp_path / "allStar.fits"
    Table(
        {
            "APOGEE_ID": ["2M1", "2M2", "2M3", "2M1"],
            "GAIAEDR3_SOURCE_ID": np.array([*GAIA[:3], GAIA[0]]),
            "SNREV": [100.0, 150.0, 80.0, 300.0],
            "ASPCAPFLAG": np.array([0, 1 << 23, 0, 0], dtype=np.int64),
            "TEFF": [5000.0, 5100.0, -9999.0, 5050.0],
            "TEFF_ERR": [50.0, 51.0, 52.0, 49.0],
            "FE_H": [-0.1, 0.0, 0.1, -0.12],
            "FE_H_ERR": [0.01, 0.01, 0.01, 0.01],
            "FE_H_FLAG": [0, 0, 4, 0],
            "MG_FE": [0.1, 0.2, 0.3, 99.0],
            "MG_FE_ERR": [0.02, 0.02, 0.0, 0.02],
        }
    ).write(path)
    report = import_references(database, path, "apogee")
    assert rows_add_up(report)
    assert report.skipped == {"bad in the survey": 1, "duplicate": 1}
    assert report.left_out == {"flagged by the survey": 1, "outside physical bounds": 1}
    values = values_of(database, "apogee")
    # Of two visits the one with the higher S/N; without a positive error there is none.
    assert values == {
        ("2M1", "teff"): (5050.0, 49.0),
        ("2M1", "fe_h"): (-0.12, 0.01),
        ("2M3", "mg_fe"): (pytest.approx(0.3), None),
    }


def test_galah_names_and_own_names_are_recognised(database: Engine, tmp_path: Path) -> None:
    galah, own = tmp_path / "galah.fits", tmp_path / "own.csv"
    Table(
        {
            "sobject_id": np.array([170412003901001, 170412003901002]),
            "gaiadr3_source_id": np.array(GAIA[:2]),
            "flag_sp": [0, 1],
            "teff": [5700.0, 5800.0],
            "e_teff": [70.0, 70.0],
            "vmic": [1.1, 1.2],
            "Mg_fe": [0.05, 0.06],
            "e_Mg_fe": [0.04, 0.04],
            "flag_Mg_fe": [0, 0],
        }
    ).write(galah)
    Table({"obsid": [11, 12], "fe_h": [0.1, 0.2], "e_fe_h": [0.03, 0.03]}).write(own)
    assert import_references(database, galah, "galah").skipped == {"bad in the survey": 1}
    assert set(values_of(database, "galah")) == {
        ("170412003901001", label) for label in ("teff", "v_micro", "mg_fe")
    }
    assert import_references(database, own, "own").used == 2
    with database.connect() as connection:
        obsids = connection.scalars(
            text("SELECT obsid FROM phdl.reference_label WHERE survey = 'own' ORDER BY 1")
        )
        assert obsids.all() == [11, 12]


def test_references_again_change_nothing_and_other_values_replace(database: Engine, tmp_path: Path) -> None:
    path = tmp_path / "own.csv"
    Table({"obsid": [11], "fe_h": [0.1]}).write(path)
    assert import_references(database, path, "own").new == 1
    assert import_references(database, path, "own").new == 0
    Table({"obsid": [11], "fe_h": [0.3]}).write(path, overwrite=True)
    assert import_references(database, path, "own").new == 0
    assert values_of(database, "own") == {("11", "fe_h"): (0.3, None)}


def test_a_table_without_labels_is_refused(database: Engine, tmp_path: Path) -> None:
    path = tmp_path / "own.csv"
    Table({"obsid": [11], "colour": [0.1]}).write(path)
    with pytest.raises(InputError, match="no column of a label"):
        import_references(database, path, "own")
    assert import_references(database, path, "own", {"fe_h": "colour"}).used == 1


def test_low_signal_is_left_out_on_request(database: Engine, tmp_path: Path) -> None:
    path = tmp_path / "own.csv"
    Table({"obsid": [11, 12], "fe_h": [0.1, 0.2], "snr": [20.0, 90.0]}).write(path)
    report = import_references(database, path, "own", min_snr=50)
    assert (report.used, report.skipped) == (1, {"low S/N": 1})


def test_sources_come_in_with_their_cell_and_without_a_zero(database: Engine, tmp_path: Path) -> None:
    path = tmp_path / "gaia.fits"
    table = Table(
        {
            "source_id": MaskedColumn(GAIA, mask=[False, False, True, False]),
            "ra": [10.0, 20.0, 30.0, np.nan],
            "dec": [1.0, 2.0, 3.0, 4.0],
            "parallax": [5.0, np.nan, 1.0, 1.0],
            "parallax_error": [0.02, 0.0, 0.1, 0.1],
            "phot_g_mean_mag": np.array([12.5, 13.5, 14.5, 15.5], dtype=np.float32),
        }
    )
    table["source_id"].fill_value = 0
    table.filled().write(path)
    report = import_sources(database, path)
    assert (report.used, report.skipped) == (2, {"no source id": 1, "no position": 1})
    assert import_sources(database, path).new == 0
    with database.connect() as connection:
        rows = connection.execute(
            text(
                "SELECT gaia_source_id, parallax, parallax_error, phot_g_mean_mag FROM phdl.source ORDER BY 1"
            )
        ).all()
    assert [tuple(row) for row in rows] == [
        (GAIA[0], 5.0, pytest.approx(0.02), 12.5),
        (GAIA[1], None, None, 13.5),
    ]


@pytest.mark.shared_data
def test_the_real_hypatia_catalogue_comes_in(database: Engine, shared_data: Path) -> None:
    report = import_references(database, shared_data / "calibrators" / "hypatia_2024.csv.gz", "hypatia")
    assert rows_add_up(report)
    assert report.used > 8000
    assert report.values["mg_fe"] > 5000
    assert report.warnings == ()


@pytest.mark.shared_data
def test_the_real_gaia_benchmark_stars_come_in(database: Engine, shared_data: Path) -> None:
    path = shared_data / "calibrators" / "gaia_benchmark_stars_v3.fits"
    report = import_references(database, path, "benchmark")
    assert rows_add_up(report)
    assert report.values["teff"] > 150
    assert report.values["logg"] > 150
    assert report.warnings == ()


def test_pairs_that_number_the_stars_of_another_table(database: Engine, tmp_path: Path) -> None:
    pairs, stars = tmp_path / "pair.csv", tmp_path / "star.csv"
    pairs.write_text("star1,star2,separation\n0,9999,1.5\n")
    stars.write_text("row_id,tgas_source_id,ra,dec,parallax\n9999,7,20.5,-3.0,9.0\n0,8,20.4,-3.1,9.1\n")
    with pytest.raises(InputError, match="gaia_source_id_a"):
        import_pairs(database, pairs)
    report = import_pairs(database, pairs, stars=stars)
    assert (report.rows, report.used) == (1, 1)
    with database.connect() as connection:
        row = connection.execute(text("SELECT ra_a, dec_a, ra_b, dec_b FROM phdl.wide_binary")).one()
    assert tuple(row) == (20.4, -3.1, 20.5, -3.0)
    stars.write_text("row_id,ra,dec\n0,20.4,-3.1\n")
    with pytest.raises(InputError, match=r"star\.csv has no star 9999, which pair\.csv names"):
        import_pairs(database, pairs, stars=stars)
