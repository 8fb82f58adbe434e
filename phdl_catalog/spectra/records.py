"""One spectrum as a record of fixed width: what the pixel store holds.

A record has the whole survey grid, whatever the spectrum covers, so that row n of a shard lies at a known
place and 256 rows are one read.  Fluxes and inverse variances stay the float32 they are in the files; both
masks share one byte (see `phdl_catalog.spectra.masks.stored_mask`).  That is 35,320 bytes a spectrum, 353 GB
for ten million: less than the gzipped files they come from (57 KB each).
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from phdl_catalog.errors import InputError, StorageError
from phdl_catalog.spectra.grid import SURVEY_GRID, PixelGrid
from phdl_catalog.spectra.masks import good_stored_pixels, stored_mask
from phdl_catalog.spectra.spectrum import Spectrum

#: Little-endian, without gaps but for the end; `crc32` is that of all bytes after it.
RECORD = np.dtype(
    [
        ("crc32", "<u4"),
        ("first_pixel", "<u4"),
        ("n_pixels", "<u4"),
        ("reserved", "<u4"),
        ("obsid", "<i8"),
        ("flux", "<f4", (SURVEY_GRID.size,)),
        ("ivar", "<f4", (SURVEY_GRID.size,)),
        ("mask", "u1", (SURVEY_GRID.size,)),
        ("padding", "u1", (7,)),
    ]
)

RECORD_BYTES = RECORD.itemsize

_CRC_BYTES = 4


@dataclass(frozen=True)
class PixelBlock:
    """Pixels of many spectra on one grid, mask policy applied.

    Parameters
    ----------
    grid : PixelGrid
        The grid of the P pixels.
    obsid : (N,) int64
        Whose pixels these are.
    flux : (N, P) float32
        Flux; 0 where a spectrum has no data.
    ivar : (N, P) float32
        Inverse variance; 0 wherever a pixel must not be used.
    mask : (N, P) bool
        True where a pixel must not be used.
    """

    grid: PixelGrid
    obsid: NDArray[np.int64]
    flux: NDArray[np.float32]
    ivar: NDArray[np.float32]
    mask: NDArray[np.bool_]


def pack(spectrum: Spectrum) -> bytes:
    """A spectrum as one record.

    Raises
    ------
    InputError
        If the spectrum does not lie inside the survey's grid.
    """
    where = SURVEY_GRID.slice_of(spectrum.grid)
    record = np.zeros(1, dtype=RECORD)
    record["first_pixel"] = spectrum.first_pixel
    record["n_pixels"] = spectrum.flux.size
    record["obsid"] = spectrum.header.obsid
    record["flux"][0, where] = spectrum.flux
    record["ivar"][0, where] = spectrum.ivar
    record["mask"][0, where] = stored_mask(spectrum.andmask, spectrum.ormask)
    body = record.tobytes()[_CRC_BYTES:]
    return zlib.crc32(body).to_bytes(_CRC_BYTES, "little") + body


def unpack(records: NDArray[np.void]) -> PixelBlock:
    """The pixels of records, mask policy applied.

    Parameters
    ----------
    records : (N,) of `RECORD`
        Records whose checksums were verified.
    """
    if records.dtype != RECORD or records.ndim != 1:
        raise InputError(f"records must have shape (N,) and the type RECORD, not {records.shape}")
    ivar = np.ascontiguousarray(records["ivar"], dtype=np.float32)
    good = good_stored_pixels(ivar, records["mask"])
    ivar[~good] = 0.0
    return PixelBlock(
        grid=SURVEY_GRID,
        obsid=records["obsid"].astype(np.int64),
        flux=np.ascontiguousarray(records["flux"], dtype=np.float32),
        ivar=ivar,
        mask=~good,
    )


def verify(records: bytes | bytearray | memoryview, where: str) -> None:
    """Compare the checksum of each record with its bytes.

    Raises
    ------
    StorageError
        Naming `where` and the first row that is damaged.
    """
    view = memoryview(records)
    for row, start in enumerate(range(0, len(view), RECORD_BYTES)):
        stored = int.from_bytes(view[start : start + _CRC_BYTES], "little")
        if zlib.crc32(view[start + _CRC_BYTES : start + RECORD_BYTES]) != stored:
            raise StorageError(
                f"row {row} of {where} is damaged: its checksum does not fit; restore the shard from a copy, "
                "or ingest its files again"
            )
