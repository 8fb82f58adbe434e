"""Plausible mistakes in tables of calibrators: they are told, and nothing is changed because of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from phdl_catalog.database.calibrator_files import PublishedTable
from phdl_catalog.labels import LABELS

Floats = NDArray[np.float64]

#: Values from which a mistake is told, and scatter of fe_h that they must have [dex].
_LEAST_VALUES, _LEAST_SPREAD = 30, 0.1

#: [X/H] goes with [Fe/H] one to one, [X/Fe] stays or falls: slope and correlation that tell them apart.
_LEAST_SLOPE, _LEAST_CORRELATION = 0.6, 0.7

#: [X/Fe] of a sample of stars is near 0; A(X) = 12 + log N(X)/N(H) is not [dex].
_MOST_MEDIAN = 1.0

#: Right ascensions below 24 that span more than this are hours rather than one field in degrees.
_LEAST_HOURS = 6.0


def suspicious_labels(
    values: Mapping[str, Floats], sources: Mapping[str, str], outside: Mapping[str, int]
) -> Iterator[str]:
    """What looks like another unit or another quantity.

    Parameters
    ----------
    values : mapping of (N,) arrays
        Labels, those outside physical bounds NaN.
    sources : mapping
        Of each label, the column it is from.
    outside : mapping
        Of each label, how many values were outside.
    """
    for label, value in values.items():
        column, count = sources[label], int(np.isfinite(value).sum())
        if outside[label] > max(count, _LEAST_VALUES):
            known = LABELS[label]
            yield (
                f"{outside[label]} of {outside[label] + count} values of {label} (column '{column}') are "
                f"outside {known.lower:g} to {known.upper:g} {known.unit}: another unit, or another quantity?"
            )
        if label.endswith("_fe") and count >= _LEAST_VALUES:
            yield from _suspicious_abundance(label, value, column, values.get("fe_h"), sources.get("fe_h"))


def _suspicious_abundance(
    label: str, value: Floats, column: str, fe_h: Floats | None, iron: str | None
) -> Iterator[str]:
    symbol = label.removesuffix("_fe").capitalize()
    median = float(np.nanmedian(value))
    if abs(median) > _MOST_MEDIAN:
        yield (
            f"{label} (column '{column}') has a median of {median:.2f}, while [{symbol}/Fe] of stars is near "
            f"0: is it A({symbol})?"
        )
        return
    if fe_h is None:
        return
    both = np.isfinite(value) & np.isfinite(fe_h)
    if np.count_nonzero(both) < _LEAST_VALUES or np.std(fe_h[both]) < _LEAST_SPREAD:
        return
    slope = float(np.polyfit(fe_h[both], value[both], 1)[0])
    if slope > _LEAST_SLOPE and np.corrcoef(fe_h[both], value[both])[0, 1] > _LEAST_CORRELATION:
        yield (
            f"{label} (column '{column}') goes with fe_h (slope {slope:.2f}), as [{symbol}/H] does and "
            f"[{symbol}/Fe] does not; if it is that, import again with --map {label}={column}-{iron}"
        )


def suspicious_positions(table: PublishedTable, ra: str | None) -> tuple[str, ...]:
    """A warning where right ascension looks like hours.

    Parameters
    ----------
    table : PublishedTable
        The table.
    ra : str or None
        Its column of right ascension, which is taken as degrees.
    """
    values = table.numbers(ra)
    known = values[np.isfinite(values)]
    if len(known) < _LEAST_VALUES or known.max() >= 24 or np.ptp(known) < _LEAST_HOURS:
        return ()
    return (
        f"ra (column '{ra}') is between {known.min():.1f} and {known.max():.1f} in all {len(known)} rows, "
        f"and is taken as degrees; if it is hours, import again with --map ra=15*{ra} (pairs: ra_a, ra_b)",
    )
