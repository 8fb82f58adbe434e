"""What the tests of ingest share: files to ingest, and what must hold after it."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Engine, func, select

from phdl_catalog.database.ingest import IngestSummary
from phdl_catalog.database.models import Spectrum
from phdl_catalog.spectra import PixelAddress, PixelStore
from tests.lamost_files import FileContent, make_file


def write_files(folder: Path, count: int, *, first_obsid: int = 1000) -> None:
    """Many files soon: the same one with another obsid."""
    data = make_file("dr9", FileContent(obsid=999999999))
    for obsid in range(first_obsid, first_obsid + count):
        changed = data.replace(b"999999999", str(obsid).encode().rjust(9), 1)
        (folder / f"spec-{obsid}.fits").write_bytes(changed)


def counts(summary: IngestSummary) -> dict[str, int]:
    assert summary.found == summary.accepted + summary.rejected + summary.unchanged + summary.conflicts
    assert sum(summary.reasons.values()) == summary.rejected
    names = ("found", "accepted", "rejected", "unchanged", "conflicts")
    return {name: getattr(summary, name) for name in names if getattr(summary, name)}


def rows_by_state(engine: Engine) -> dict[str, int]:
    with engine.connect() as connection:
        grouped = select(Spectrum.state, func.count()).group_by(Spectrum.state)
        return dict(iter(connection.execute(grouped)))


def every_row_has_its_pixels(engine: Engine, store: PixelStore) -> int:
    with engine.connect() as connection:
        found = connection.execute(
            select(Spectrum.obsid, Spectrum.shard, Spectrum.shard_row)
            .where(Spectrum.state == "accepted")
            .order_by(Spectrum.spectrum_id)
        ).all()
    block = store.read([PixelAddress(row.shard, row.shard_row) for row in found])
    assert block.obsid.tolist() == [row.obsid for row in found]
    return len(found)
