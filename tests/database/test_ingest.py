"""Ingest into a real database: every file has one row or one count, whatever happens in between."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import Engine, select, text

from phdl_catalog.database import ingest_reader
from phdl_catalog.database.ingest import ingest
from phdl_catalog.database.ingest_files import FileTree
from phdl_catalog.database.ingest_reader import ReadTask, read_pieces
from phdl_catalog.database.models import DataRelease, Event, Spectrum
from phdl_catalog.database.releases import add_release, describe_release, list_releases
from phdl_catalog.errors import ConflictError, InputError, NotFoundError, StateError
from phdl_catalog.spectra import PixelStore
from tests.deadly_task import DeadlyTask
from tests.file_mutations import mutated
from tests.ingested import counts, every_row_has_its_pixels, rows_by_state, write_files
from tests.lamost_files import FileContent, make_file


@pytest.fixture
def store(tmp_path: Path) -> PixelStore:
    return PixelStore(tmp_path / "shards")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "files"
    path.mkdir()
    return path


def test_folder_of_everything_ends_as_one_row_a_file(
    database: Engine, store: PixelStore, folder: Path
) -> None:
    (folder / "deep" / "deeper").mkdir(parents=True)
    (folder / "a.fits.gz").write_bytes(make_file("pilot", packed=True))
    (folder / "b").write_bytes(make_file("dr5", FileContent(obsid=2)))
    (folder / "deep" / "c.fits").write_bytes(make_file("dr9", FileContent(obsid=3)))
    (folder / "deep" / "deeper" / "d.fits").write_bytes(make_file("dr9", FileContent(obsid=4))[:9000])
    (folder / "deep" / "notes.txt").write_text("not a spectrum")
    (folder / ".hidden").write_bytes(b"")
    (folder / "nowhere").symlink_to(folder / "gone")
    summary = ingest(database, store, "dr10", [str(folder)])
    assert counts(summary) == {"found": 7, "accepted": 3, "rejected": 4}
    assert summary.created
    assert summary.reasons == {"truncated": 1, "not_fits": 1, "empty": 1, "unreadable": 1}
    assert rows_by_state(database) == {"accepted": 3, "rejected": 4}
    assert every_row_has_its_pixels(database, store) == 3


def test_facts_of_a_file_are_in_its_row(database: Engine, store: PixelStore, folder: Path) -> None:
    path = folder / "one spectrum.fits"
    data = make_file("dr9", FileContent(obsid=7, first_pixel=35690, n_pixels=3800))
    path.write_bytes(data)
    ingest(database, store, "dr10", [str(path)])
    with database.connect() as connection:
        row = connection.execute(select(Spectrum.__table__)).mappings().one()
    assert row["uri"] == path.as_uri()
    assert len(row["sha256"]) == 64
    assert (row["obsid"], row["layout"], row["first_pixel"], row["n_pixels"]) == (7, "dr9", 35690, 3800)
    assert (row["ra"], row["dec"], row["mjd"], row["lmjd"]) == (66.43298, 32.625089, 55861, 55862)
    assert row["snr_g"] == pytest.approx(21.5)
    assert row["redshift"] == pytest.approx(4.19e-5)
    assert (row["class"], row["subclass"], row["plan_id"]) == ("STAR", "G5", "B6202")
    # The name of the object is a Gaia id, and the HEALPix number in it is that of the position.
    assert row["gaia_source_id"] == 172478915877176704
    assert row["gaia_source_id"] >> 35 == row["healpix_29"] >> 34


def test_number_that_is_no_gaia_id_is_not_taken_for_one(
    database: Engine, store: PixelStore, folder: Path
) -> None:
    (folder / "a").write_bytes(make_file("dr9", FileContent(cards={"OBJNAME": "1237679997693591573"})))
    ingest(database, store, "dr10", [str(folder)])
    with database.connect() as connection:
        row = connection.execute(select(Spectrum.gaia_source_id, Spectrum.object_name)).one()
    assert tuple(row) == (None, "1237679997693591573")


def test_same_bytes_again_change_nothing(database: Engine, store: PixelStore, folder: Path) -> None:
    write_files(folder, 5)
    (folder / "broken").write_bytes(b"x")
    ingest(database, store, "dr10", [str(folder)])
    with database.connect() as connection:
        before = connection.execute(select(Spectrum.__table__).order_by("spectrum_id")).all()
    shards = store.shards("dr10")
    assert counts(ingest(database, store, "dr10", [str(folder)])) == {"found": 6, "unchanged": 6}
    with database.connect() as connection:
        assert connection.execute(select(Spectrum.__table__).order_by("spectrum_id")).all() == before
    assert store.shards("dr10") == shards


def test_copy_of_a_file_elsewhere_is_unchanged(database: Engine, store: PixelStore, folder: Path) -> None:
    (folder / "a").write_bytes(make_file("dr9"))
    (folder / "b").write_bytes(make_file("dr9"))
    assert counts(ingest(database, store, "dr10", [str(folder)])) == {
        "found": 2,
        "accepted": 1,
        "unchanged": 1,
    }
    (folder / "c").write_bytes(make_file("dr9"))
    again = ingest(database, store, "dr10", [str(folder / "c")])
    assert counts(again) == {"found": 1, "unchanged": 1}


def test_other_bytes_under_an_obsid_are_a_conflict_that_names_both(
    database: Engine, store: PixelStore, folder: Path
) -> None:
    for name, seed, obsid in (("a", 1, 5), ("b", 2, 5), ("c", 3, 6)):
        (folder / name).write_bytes(make_file("dr9", FileContent(obsid=obsid, seed=seed)))
    summary = ingest(database, store, "dr10", [str(folder)])
    assert counts(summary) == {"found": 3, "accepted": 2, "conflicts": 1}
    with pytest.raises(ConflictError, match=r"obsid 5 is .*/files/a and, with other bytes, .*/files/b"):
        summary.raise_conflicts()
    assert rows_by_state(database) == {"accepted": 2}
    assert every_row_has_its_pixels(database, store) == 2
    assert counts(ingest(database, store, "dr10", [str(folder)])) == {
        "found": 3, "unchanged": 2, "conflicts": 1,
    }  # fmt: skip


def test_same_obsid_in_another_release_is_no_conflict(
    database: Engine, store: PixelStore, folder: Path
) -> None:
    (folder / "a").write_bytes(make_file("dr9", FileContent(seed=1)))
    (folder / "b").write_bytes(make_file("dr9", FileContent(seed=2)))
    assert counts(ingest(database, store, "dr9", [str(folder / "a")])) == {"found": 1, "accepted": 1}
    assert counts(ingest(database, store, "dr10", [str(folder / "b")])) == {"found": 1, "accepted": 1}


@pytest.mark.parametrize("new", [b"no longer a spectrum", make_file("dr9", FileContent(obsid=6)), None])
def test_accepted_file_that_changed_on_disk_is_a_conflict(
    new: bytes | None, database: Engine, store: PixelStore, folder: Path
) -> None:
    path = folder / "a"
    path.write_bytes(make_file("dr9", FileContent(obsid=5)))
    ingest(database, store, "dr10", [str(folder)])
    path.unlink()
    if new is None:
        path.symlink_to(folder / "gone")
    else:
        path.write_bytes(new)
    summary = ingest(database, store, "dr10", [str(folder)])
    assert counts(summary) == {"found": 1, "conflicts": 1}
    with pytest.raises(ConflictError, match="other bytes than when it was ingested"):
        summary.raise_conflicts()
    assert every_row_has_its_pixels(database, store) == 1


def test_rejected_file_that_was_mended_is_accepted(database: Engine, store: PixelStore, folder: Path) -> None:
    path = folder / "a"
    path.write_bytes(make_file("dr9")[:50_000])
    assert counts(ingest(database, store, "dr10", [str(folder)])) == {"found": 1, "rejected": 1}
    path.write_bytes(make_file("dr9"))
    assert counts(ingest(database, store, "dr10", [str(folder)])) == {"found": 1, "accepted": 1}
    assert rows_by_state(database) == {"accepted": 1}
    with database.connect() as connection:
        assert connection.execute(select(Spectrum.reason, Spectrum.detail)).one() == (None, None)


def test_many_processes_leave_what_one_leaves(
    database: Engine, store: PixelStore, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_files(folder, 90)
    (folder / "spec-1050.fits").write_bytes(b"broken")
    monkeypatch.setattr("phdl_catalog.database.ingest._FEWEST_FOR_PROCESSES", 1)
    progress: list[int] = []
    options = {"processes": 2, "batch_files": 40, "on_progress": progress.append}
    assert counts(ingest(database, store, "two", [str(folder)], **options)) == {
        "found": 90, "accepted": 89, "rejected": 1,
    }  # fmt: skip
    assert progress == [40, 40, 10]
    ingest(database, store, "one", [str(folder)])
    with database.connect() as connection:
        wanted = (
            select(Spectrum.uri, Spectrum.sha256, Spectrum.state, Spectrum.obsid)
            .join(DataRelease, DataRelease.release_id == Spectrum.release_id)
            .order_by(Spectrum.spectrum_id)
        )
        one, two = (
            connection.execute(wanted.where(DataRelease.name == name)).all() for name in ("one", "two")
        )
    assert sorted(one) == sorted(two)
    assert every_row_has_its_pixels(database, store) == 178


def test_release_cannot_be_ingested_twice_at_once(database: Engine, store: PixelStore, folder: Path) -> None:
    write_files(folder, 3)

    def inside(_: int) -> None:
        with pytest.raises(StateError, match="another process"):
            ingest(database, store, "dr10", [str(folder)])

    assert counts(ingest(database, store, "dr10", [str(folder)], on_progress=inside))["accepted"] == 3


def test_two_releases_can_be_ingested_at_once(database: Engine, store: PixelStore, folder: Path) -> None:
    write_files(folder, 3)

    def inside(_: int) -> None:
        assert counts(ingest(database, store, "dr9", [str(folder)]))["accepted"] == 3

    assert counts(ingest(database, store, "dr10", [str(folder)], on_progress=inside))["accepted"] == 3


def test_release_that_is_not_there_is_added_or_asked_for(
    database: Engine, store: PixelStore, folder: Path
) -> None:
    write_files(folder, 1)
    with pytest.raises(NotFoundError, match="phdl release add dr10"):
        ingest(database, store, "dr10", [str(folder)], create=False)
    add_release(database, "dr10", "the tenth")
    assert not ingest(database, store, "dr10", [str(folder)], create=False).created
    assert [(item.name, item.accepted) for item in list_releases(database)] == [("dr10", 1)]


def test_name_of_a_release_is_checked(database: Engine) -> None:
    with pytest.raises(InputError, match="cannot be the name"):
        add_release(database, "dr 10/../x")
    add_release(database, "dr10")
    with pytest.raises(ConflictError, match="already"):
        add_release(database, "dr10")


def test_content_of_a_release_is_counted(database: Engine, store: PixelStore, folder: Path) -> None:
    for obsid, snr in enumerate((5.0, 15.0, 16.0, 500.0, -9999.0)):
        (folder / str(obsid)).write_bytes(make_file("dr9", FileContent(obsid=obsid + 1, cards={"SNRG": snr})))
    (folder / "broken").write_bytes(b"x")
    ingest(database, store, "dr10", [str(folder)])
    content = describe_release(database, "dr10")
    assert content.snr_g == {"0-10": 1, "10-20": 2, ">=200": 1, "unknown": 1}
    assert (content.reasons, content.layouts, content.classes) == ({"not_fits": 1}, {"dr9": 5}, {"STAR": 5})
    assert content.stars == 1
    with pytest.raises(NotFoundError, match="release list"):
        describe_release(database, "dr11")


def test_ingest_is_in_the_log(database: Engine, store: PixelStore, folder: Path) -> None:
    write_files(folder, 2)
    ingest(database, store, "dr10", [str(folder)])
    with database.connect() as connection:
        events = connection.execute(
            select(Event.subject, Event.action, Event.detail).order_by(Event.event_id)
        )
        found = [(row.subject, row.action) for row in events]
    assert found == [("data_release:dr10", "added"), ("data_release:dr10", "ingested")]


def test_names_that_are_not_utf_8_and_texts_with_nul_are_stored(
    database: Engine, store: PixelStore, folder: Path
) -> None:
    Path(os.fsdecode(os.fsencode(folder) + b"/\xff\xfe")).write_bytes(b"x")
    data = make_file("dr9").replace(b"'STAR    '", b"'ST\0\xff\n   '")
    (folder / "nul").write_bytes(data)
    assert counts(ingest(database, store, "dr10", [str(folder)])) == {
        "found": 2,
        "accepted": 1,
        "rejected": 1,
    }
    with database.connect() as connection:
        rows = connection.execute(
            select(Spectrum.uri, Spectrum.__table__.c["class"]).order_by(Spectrum.state)
        ).all()
    assert rows[0][1] == "ST???"
    assert rows[1].uri.endswith("/%FF%FE")


def test_damaged_files_never_stop_an_ingest(database: Engine, store: PixelStore, folder: Path) -> None:
    """What the reader lets through, PostgreSQL takes: no CHECK fails, whatever the header says."""
    chance = random.Random(8)
    samples = [make_file(layout) for layout in ("pilot", "dr1", "dr5", "dr9")]
    for number in range(160):
        (folder / f"{number:03}").write_bytes(mutated(chance.choice(samples), chance))
    summary = ingest(database, store, "dr10", [str(folder)])
    assert summary.accepted > 0
    assert summary.rejected > 40
    assert counts(summary)["found"] == 160
    assert sum(rows_by_state(database).values()) == summary.accepted + summary.rejected
    every_row_has_its_pixels(database, store)


def test_file_that_kills_its_reader_is_rejected_and_the_others_are_read(folder: Path) -> None:
    """A library that crashes, or a process that is killed for its memory, takes only its own file along."""
    write_files(folder, 64)
    deadly = 40
    tasks = [ReadTask(str(path), path.as_uri()) for path in sorted(folder.iterdir())]
    tasks[deadly] = DeadlyTask(tasks[deadly].path, tasks[deadly].uri)
    pieces = [tasks[start : start + 16] for start in range(0, 64, 16)]
    outcomes = [outcome for piece in read_pieces(pieces, 2) for outcome in piece]
    assert [outcome.task.uri for outcome in outcomes] == [task.uri for task in tasks]
    kinds = [isinstance(outcome, ingest_reader.Accepted) for outcome in outcomes]
    assert [number for number, accepted in enumerate(kinds) if not accepted] == [deadly]
    assert "killed" in getattr(outcomes[deadly], "detail", "")


def make_tree(folder: Path) -> None:
    (folder / "b" / "c").mkdir(parents=True)
    for name in ("z", "b/2", "b/10", "b/c/x", "a"):
        (folder / name).write_text(name)
    (folder / "b" / "loop").symlink_to(folder)
    (folder / "b" / "own").symlink_to("own")


CASES: dict[str, tuple[Callable[[Path], list[str]], list[str]]] = {
    "folder": (lambda f: [str(f)], ["a", "b/10", "b/2", "b/c/x", "b/own", "z"]),
    "file": (lambda f: [str(f / "z")], ["z"]),
    "folder and what is in it": (
        lambda f: [str(f / "b" / "2"), str(f)],
        ["a", "b/10", "b/2", "b/c/x", "b/own", "z"],
    ),
    "twice the same": (lambda f: [str(f / "z"), str(f / "b" / ".." / "z")], ["z"]),
    "pattern": (lambda f: [str(f / "b" / "[0-9]*")], ["b/10", "b/2"]),
    "deep pattern": (lambda f: [str(f / "**" / "x")], ["b/c/x"]),
}


@pytest.mark.parametrize("case", CASES)
def test_each_file_is_found_once_in_the_same_order(case: str, folder: Path) -> None:
    make_tree(folder)
    arguments, expected = CASES[case]
    tree = FileTree(arguments(folder))
    found = [str(Path(path).relative_to(folder)) for path in tree]
    assert found == expected
    assert tree.count() == len(expected)


def test_path_that_is_not_there_is_an_error(folder: Path) -> None:
    with pytest.raises(InputError, match="no file or folder"):
        FileTree([str(folder / "nothing")])
    with pytest.raises(InputError, match="nothing matches"):
        FileTree([str(folder / "*.fits")])


@pytest.mark.shared_data
def test_all_real_files_are_ingested(database: Engine, store: PixelStore, shared_data: Path) -> None:
    summary = ingest(database, store, "dr10-sample", [str(shared_data / "lamost")], processes=2)
    assert counts(summary) == {"found": 605, "accepted": 600, "rejected": 4, "conflicts": 1}
    assert summary.reasons == {"not_fits": 2, "medium_resolution": 1, "other_survey": 1}
    assert "obsid 101001" in summary.conflict_list[0].detail  # once in DR7 and once in DR9
    assert every_row_has_its_pixels(database, store) == 600
    with database.connect() as connection:
        stars = connection.execute(text("SELECT count(gaia_source_id) FROM phdl.spectrum")).scalar_one()
        spread = connection.execute(select(Spectrum.healpix_29).where(Spectrum.state == "accepted")).scalars()
        assert np.unique(list(spread)).size > 400
    assert stars == 71
