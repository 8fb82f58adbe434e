"""Reading fits by the hundred thousand: streamed, arrays decoded without a Python object for each number."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection

from phdl_catalog.catalog.queries import statement
from phdl_catalog.catalog.selection import SubgiantSelection
from phdl_catalog.catalog.stars import SpectrumIndex
from phdl_catalog.errors import SchemaError

#: Spectra read at a time.
BATCH = 20_000

#: What PostgreSQL sends before the elements of an array: dimensions, flags, type, size and lower bound.
_ARRAY_HEADER_BYTES = 20


@dataclass(frozen=True, eq=False)
class FitBlock:
    """Fits of N spectra by one model of L labels.

    Parameters
    ----------
    spectrum_id, obsid, gaia_source_id, healpix_29, flags : (N,) int64 array
        `phdl_catalog.catalog.stars.MISSING` where an identifier is unknown.
    ra, dec : (N,) float64 array
        Position [deg]; NaN where unknown.
    data_release : tuple of str
        Name of each spectrum's release.
    snr_g, snr, rv, e_rv, chi2 : (N,) float32 array
        S/N by the survey, and of the pixels that were fitted; rv in km/s; NaN where missing.
    labels, errors : (N, L) float32 array
        As fitted; NaN where missing.
    label_flags : (N, L) int64 array
        Bits of `LabelFlag`.
    """

    spectrum_id: NDArray[np.int64]
    obsid: NDArray[np.int64]
    gaia_source_id: NDArray[np.int64]
    healpix_29: NDArray[np.int64]
    ra: NDArray[np.float64]
    dec: NDArray[np.float64]
    data_release: tuple[str, ...]
    snr_g: NDArray[np.float32]
    snr: NDArray[np.float32]
    rv: NDArray[np.float32]
    e_rv: NDArray[np.float32]
    chi2: NDArray[np.float32]
    flags: NDArray[np.int64]
    labels: NDArray[np.float32]
    errors: NDArray[np.float32]
    label_flags: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.spectrum_id)


#: Type of each array of a block that comes as one number a spectrum.
_SCALARS = {
    "spectrum_id": np.int64, "obsid": np.int64, "gaia_source_id": np.int64, "healpix_29": np.int64,
    "ra": np.float64, "dec": np.float64, "snr_g": np.float32, "snr": np.float32, "rv": np.float32,
    "e_rv": np.float32, "chi2": np.float32, "flags": np.int64,
}  # fmt: skip


def read_index(
    connection: Connection,
    model_version_id: int,
    selection: SubgiantSelection,
    release_ids: Sequence[int] | None = None,
    spectrum_ids: Sequence[int] | None = None,
) -> SpectrumIndex:
    """Every spectrum a catalogue may use: fitted by the model, good enough, of the releases asked for.

    Parameters
    ----------
    connection : Connection
        Rows are streamed.
    model_version_id : int
        Model whose fits are used.
    selection : SubgiantSelection
        Its terms about the spectrum are applied, those about the star are not.
    release_ids : sequence of int, optional
        Data releases; all by default.
    spectrum_ids : sequence of int, optional
        Look at these spectra only.
    """
    parameters = {
        "model_version_id": model_version_id,
        "rejecting_mask": selection.rejecting_mask,
        "snr_g_min": selection.snr_g_min,
        "release_ids": None if release_ids is None else list(release_ids),
        "spectrum_ids": None if spectrum_ids is None else list(spectrum_ids),
    }
    parts = [SpectrumIndex.of(())]
    query = statement("fits", "usable_spectra").execution_options(yield_per=BATCH)
    with connection.execute(query, parameters) as result:
        parts += [SpectrumIndex.of(rows) for rows in result.partitions(BATCH)]
    return SpectrumIndex.join(parts)


def read_fits(
    connection: Connection, model_version_id: int, spectrum_ids: NDArray[np.int64], n_labels: int
) -> Iterator[FitBlock]:
    """Fits of some spectra, block by block, in the order asked for.

    Parameters
    ----------
    connection : Connection
        One query a block.
    model_version_id : int
        Model whose fits are read.
    spectrum_ids : (N,) int64 array
        Spectra; each must have a fit with labels.
    n_labels : int
        Number of labels of the model.

    Raises
    ------
    SchemaError
        If a fit is missing, or has another number of labels.
    """
    for start in range(0, len(spectrum_ids), BATCH):
        wanted = spectrum_ids[start : start + BATCH]
        rows = connection.execute(
            statement("fits", "fits"),
            {"model_version_id": model_version_id, "spectrum_ids": wanted.tolist()},
        ).all()
        if len(rows) != len(wanted):
            raise SchemaError(f"{len(wanted) - len(rows)} of {len(wanted)} fits are gone: build again")
        # Rows come ordered by spectrum; the place of each wanted one among them:
        order = np.empty(len(wanted), dtype=np.int64)
        order[np.argsort(wanted)] = np.arange(len(wanted))
        yield _block([rows[place] for place in order.tolist()], n_labels)


def _block(rows: Sequence[Sequence[object]], n_labels: int) -> FitBlock:
    keys = [field.name for field in fields(FitBlock)]
    columns = dict(zip(keys, zip(*rows, strict=True), strict=True))
    return FitBlock(
        **{name: np.array(columns[name], dtype=kind) for name, kind in _SCALARS.items()},
        data_release=columns["data_release"],
        labels=_decode(columns["labels"], n_labels, ">f4").astype(np.float32),
        errors=_decode(columns["errors"], n_labels, ">f4").astype(np.float32),
        label_flags=_decode(columns["label_flags"], n_labels, ">i4").astype(np.int64),
    )


def _decode(arrays: Sequence[bytes], n_labels: int, element: str) -> NDArray[np.generic]:
    """(N, L) elements of N arrays in PostgreSQL's binary form, none of them NULL."""
    item = np.dtype([("length", ">i4"), ("value", element)])
    layout = np.dtype([("header", f"V{_ARRAY_HEADER_BYTES}"), ("items", item, (n_labels,))])
    wrong = {len(array) for array in arrays} - {layout.itemsize}
    if wrong:
        found = (wrong.pop() - _ARRAY_HEADER_BYTES) // item.itemsize
        raise SchemaError(
            f"a fit has {found} labels, the model {n_labels}: the fit was not written by this model"
        )
    return np.asarray(np.frombuffer(b"".join(arrays), dtype=layout)["items"]["value"])
