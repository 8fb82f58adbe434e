"""Fits as the bytes of a binary COPY, made for all rows at once.

Every row begins with the same layout, so the stream is one structured array in network byte order: a few
array operations instead of a Python call for each value.  A missing value is a length of -1 and no bytes;
where there are any, the bytes of missing values are cut out of the array at the end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from phdl_catalog.database.covariance import pack_correlations, packed_size
from phdl_catalog.errors import InputError

if TYPE_CHECKING:
    from phdl_catalog.fitting import FitResult

#: Columns of ``fit`` that a writer gives, in the order of the stream.
FIT_COLUMNS = (
    ("spectrum_id", "bigint"),
    ("model_version_id", "integer"),
    ("fit_run_id", "integer"),
    ("flags", "bigint"),
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
_NULL = -1

#: Object identifiers of the element types, fixed in pg_type.
_REAL_OID, _INTEGER_OID = 700, 23

_SCALARS = {"bigint": ">i8", "real": ">f4", "integer": ">i4", "smallint": ">i2"}

#: FitFlag.FAILED: set where there are no labels and no flag says why.
_FAILED = 2


def fitted_rows(result: FitResult) -> NDArray[np.bool_]:
    """(N,) True where a fit has labels that can be stored: a value, an error and a chi2."""
    chi2 = np.asarray(result.chi2)
    usable = np.isfinite(result.labels).any(axis=1) & np.isfinite(chi2) & (chi2 >= 0)
    return np.asarray(usable & ~np.asarray(result.failed))


def encode_fits(
    spectrum_ids: NDArray[np.int64],
    run: int,
    model_version_id: int,
    result: FitResult,
    *,
    with_covariance: bool = True,
) -> bytes:
    """The stream for ``COPY ... FROM STDIN (FORMAT BINARY)`` with the columns `FIT_COLUMNS`.

    Parameters
    ----------
    spectrum_ids : (N,) int64
        Whose fits these are.
    run, model_version_id : int
        Run that writes them, and its model.
    result : FitResult
        N fits of L labels.
    with_covariance : bool
        False leaves the correlations out.

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
        "model_version_id": model_version_id,
        "fit_run_id": run,
        "flags": np.where(fitted | (flags != 0), flags, _FAILED),
        "rv": _single(result.rv),
        "e_rv": _single(result.e_rv),
        "chi2": _single(result.chi2),
        "snr": _single(result.snr),
        "distance": _single(result.distance),
        "n_pixels": result.n_pixels,
        "n_iterations": np.clip(result.n_iterations, 0, np.iinfo(np.int16).max),
        "label_values": _single(result.labels),
        "label_errors": _single(result.errors),
        "label_flags": result.label_flags,
        "label_covariance": pack_correlations(result.covariance, result.errors) if with_covariance else None,
    }
    records = _records(values, len(ids), n_labels)
    return _HEADER + _without_missing(records, values, fitted) + _TRAILER


def _single(values: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """Single precision, with NaN for all that is missing or too large."""
    with np.errstate(over="ignore"):
        single = np.asarray(values).astype(np.float32)
    single[~np.isfinite(single)] = np.nan
    return single


def _records(values: dict[str, Any], n_rows: int, n_labels: int) -> NDArray[np.void]:
    """All rows as if nothing were missing, but for a column that is missing from all."""
    fields: list[tuple[Any, ...]] = [("n_fields", ">i2")]
    constants: dict[str, Any] = {"n_fields": len(FIT_COLUMNS)}
    for name, kind in FIT_COLUMNS:
        fields.append((f"{name}.length", ">i4"))
        if kind.endswith("[]"):
            element = np.dtype([("length", ">i4"), ("value", _SCALARS[kind.removesuffix("[]")])])
            # Dimensions, whether there are NULLs, type, number of elements, first index.
            fields += [(f"{name}.head", ">i4", (5,)), (name, element, (n_labels,))]
            oid = _REAL_OID if kind == "real[]" else _INTEGER_OID
            constants[f"{name}.head"] = (1, 0, oid, n_labels, 1)
            constants[f"{name}.length"] = 20 + element.itemsize * n_labels
        elif values[name] is None:
            constants[f"{name}.length"] = _NULL
        elif kind == "bytea":
            fields.append((name, "u1", (packed_size(n_labels),)))
            constants[f"{name}.length"] = packed_size(n_labels)
        else:
            fields.append((name, _SCALARS[kind]))
            constants[f"{name}.length"] = np.dtype(_SCALARS[kind]).itemsize
    records = np.empty(n_rows, dtype=np.dtype(fields))
    for field, constant in constants.items():
        records[field] = constant
    for name, kind in FIT_COLUMNS:
        if kind.endswith("[]"):
            records[name]["length"] = 4
            records[name]["value"] = values[name]
        elif values[name] is not None:
            records[name] = values[name]
    return records


def _without_missing(records: NDArray[np.void], values: dict[str, Any], fitted: NDArray[np.bool_]) -> bytes:
    """The bytes of the records but those of missing values, which get the length -1."""
    missing: dict[str, NDArray[np.bool_]] = {}
    for name, kind in FIT_COLUMNS:
        if values[name] is None:
            continue
        if kind == "real" and (nan := np.isnan(values[name])).any():
            missing[name] = nan
        elif kind.endswith("[]") or kind == "bytea":
            if not fitted.all():
                missing[name] = ~fitted
            if kind == "real[]" and (nan := np.isnan(values[name])).any():
                missing[f"{name}.elements"] = nan
    if not missing:
        return records.tobytes()
    keep = np.ones((len(records), records.dtype.itemsize), dtype=bool)
    places = {name: place[1] for name, place in (records.dtype.fields or {}).items()}
    names = list(records.dtype.names or ())
    for name, where in missing.items():
        column = name.removesuffix(".elements")
        begin = places[column]
        if name == column:
            records[f"{column}.length"][where] = _NULL
            # From behind the length to the next column's length.
            following = names[names.index(column) + 1 :]
            first = places[f"{column}.length"] + 4
            last = places[following[0]] if following else records.dtype.itemsize
            keep[where, first:last] = False
        else:
            records[column]["length"][where] = _NULL
            records[f"{column}.length"] -= np.where(fitted, 4 * where.sum(axis=1), 0).astype(">i4")
            for element in range(where.shape[1]):
                value = begin + 8 * element + 4
                keep[where[:, element], value : value + 4] = False
    return records.view(np.uint8).reshape(keep.shape)[keep].tobytes()
