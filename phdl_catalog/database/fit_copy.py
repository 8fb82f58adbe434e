"""Fits as the bytes of a binary COPY, made for all rows at once.

Every row has the same layout, so the whole stream is one structured array in network byte order: a few
array operations instead of a Python call for each value.  Missing numbers travel as NaN; the merge, which
reads them from the temporary table, turns them into NULL.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from phdl_catalog.database.covariance import pack_correlations, packed_size
from phdl_catalog.errors import InputError

if TYPE_CHECKING:
    from phdl_catalog.fitting import FitResult

#: Columns of the temporary table, in the order of the stream.
STAGED_COLUMNS = (
    ("spectrum_id", "bigint"),
    ("flags", "bigint"),
    ("fitted", "boolean"),
    ("rv", "real"),
    ("e_rv", "real"),
    ("chi2", "real"),
    ("snr", "real"),
    ("distance", "real"),
    ("n_pixels", "integer"),
    ("n_iterations", "smallint"),
    ("label_values", "real[]"),
    ("label_errors", "real[]"),
    ("label_flags", "integer[]"),
    ("label_covariance", "bytea"),
)

# File format of COPY ... (FORMAT BINARY): PostgreSQL documentation, "COPY", "Binary Format".
_HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_TRAILER = b"\xff\xff"

#: Object identifiers of the element types, fixed in pg_type.
_REAL_OID, _INTEGER_OID = 700, 23

_SCALARS = {"bigint": ">i8", "real": ">f4", "integer": ">i4", "smallint": ">i2", "boolean": "u1"}

#: FitFlag.FAILED: set where there are no labels and no flag says why.
_FAILED = 2


def fitted_rows(result: FitResult) -> NDArray[np.bool_]:
    """(N,) True where a fit has labels that can be stored: a value, an error and a chi2."""
    chi2 = np.asarray(result.chi2)
    usable = np.isfinite(result.labels).any(axis=1) & np.isfinite(chi2) & (chi2 >= 0)
    return np.asarray(usable & ~np.asarray(result.failed))


def encode_fits(spectrum_ids: NDArray[np.int64], result: FitResult) -> bytes:
    """The stream for ``COPY ... FROM STDIN (FORMAT BINARY)`` with the columns `STAGED_COLUMNS`.

    Parameters
    ----------
    spectrum_ids : (N,) int64
        Whose fits these are.
    result : FitResult
        N fits of L labels.

    Raises
    ------
    InputError
        If the numbers of spectra and fits differ.
    """
    ids = np.asarray(spectrum_ids, dtype=np.int64)
    n_labels = len(result.label_names)
    if ids.shape != (len(result),):
        raise InputError(f"there are {len(result)} fits but spectrum_ids has shape {ids.shape}")
    fitted = fitted_rows(result)
    flags = np.asarray(result.flags, dtype=np.int64)
    values: dict[str, Any] = {
        "spectrum_id": ids,
        "flags": np.where(fitted | (flags != 0), flags, _FAILED),
        "fitted": fitted,
        "rv": _real(result.rv),
        "e_rv": _real(result.e_rv),
        "chi2": _real(result.chi2),
        "snr": _real(result.snr),
        "distance": _real(result.distance),
        "n_pixels": result.n_pixels,
        "n_iterations": np.clip(result.n_iterations, 0, np.iinfo(np.int16).max),
        "label_values": _real(result.labels),
        "label_errors": _real(result.errors),
        "label_flags": result.label_flags,
        "label_covariance": pack_correlations(result.covariance, result.errors),
    }
    return _HEADER + _records(values, len(ids), n_labels).tobytes() + _TRAILER


def _real(values: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """Single precision, with NaN for all that is missing or too large."""
    with np.errstate(over="ignore"):
        single = np.asarray(values).astype(np.float32)
    single[~np.isfinite(single)] = np.nan
    return single


def _records(values: dict[str, Any], n_rows: int, n_labels: int) -> NDArray[np.void]:
    fields: list[tuple[Any, ...]] = [("n_fields", ">i2")]
    constants: dict[str, Any] = {"n_fields": len(STAGED_COLUMNS)}
    for name, kind in STAGED_COLUMNS:
        fields.append((f"{name}.length", ">i4"))
        if kind.endswith("[]"):
            element = np.dtype([("length", ">i4"), ("value", _SCALARS[kind.removesuffix("[]")])])
            # Dimensions, no NULLs, type, number of elements, first index.
            fields += [(f"{name}.head", ">i4", (5,)), (name, element, (n_labels,))]
            oid = _REAL_OID if kind == "real[]" else _INTEGER_OID
            constants[f"{name}.head"] = (1, 0, oid, n_labels, 1)
            constants[f"{name}.length"] = 20 + element.itemsize * n_labels
        elif kind == "bytea":
            fields.append((name, "u1", (packed_size(n_labels),)))
            constants[f"{name}.length"] = packed_size(n_labels)
        else:
            fields.append((name, _SCALARS[kind]))
            constants[f"{name}.length"] = np.dtype(_SCALARS[kind]).itemsize
    records = np.empty(n_rows, dtype=np.dtype(fields))
    for field, constant in constants.items():
        records[field] = constant
    for name, kind in STAGED_COLUMNS:
        if kind.endswith("[]"):
            records[name]["length"] = 4
            records[name]["value"] = values[name]
        else:
            records[name] = values[name]
    return records
