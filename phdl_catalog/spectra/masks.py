"""The mask policy: which pixels of an observed spectrum may be fitted.  This is its one place.

LAMOST marks pixels with bits in two masks: ANDMASK, set in every exposure that was added up, and ORMASK, set
in at least one.  A pixel is **good** if

1. its flux and its inverse variance are finite numbers,
2. its inverse variance is positive (LAMOST writes 0 where it has no data),
3. neither is absurd (over 1e10 in size; real ones stay under 1e7): that is damage, and would overflow sums,
4. no bit is set in ANDMASK: nothing good was left to add up, and
5. ORMASK has none of the bits that spoil a sum even if one exposure alone had them: `FATAL_IN_ANY`.

Rules 1 to 3 are applied once, when a file is read (`clean_pixels`): what breaks them gets flux 0 and inverse
variance 0, so that no NaN travels further.  Rules 4 and 5 are applied when pixels are used (`good_pixels`,
`good_stored_pixels`), so that they may change without a new ingest.

Bits of ORMASK other than those are ignored: the pipeline left the bad exposure out of the sum, and the
inverse variance says how much is left.
"""

from __future__ import annotations

from enum import IntFlag

import numpy as np
from numpy.typing import NDArray


class MaskBit(IntFlag):
    """Bits of ANDMASK and ORMASK (LAMOST DR10 data description, and the files themselves)."""

    BAD_PIXEL = 1
    """Bad pixel of the CCD."""

    BAD_PROFILE = 2
    """Bad profile in the extraction."""

    NO_SKY = 4
    """No sky information at this wavelength."""

    BRIGHT_SKY = 8
    """Sky level too high."""

    TRACE_OFF_CCD = 16
    """The fibre's trace is outside the CCD."""

    NO_DATA = 32
    """No good data."""

    UNDOCUMENTED = 64
    """Occurs in DR1 to DR3 only, where no document explains it."""


#: Bits that make a pixel bad even if only one exposure had them: without a sky there is no flux, and no
#: data is no data.
FATAL_IN_ANY = MaskBit.NO_SKY | MaskBit.TRACE_OFF_CCD | MaskBit.NO_DATA

#: Largest believable flux, and inverse variance; real ones stay under 1e7.
LARGEST_VALUE = 1e10

#: Bit of a stored mask that says that ANDMASK was not zero.
_STORED_AND = 0x80

#: Bits of a stored mask that are ORMASK's.
_STORED_OR = 0x7F


def clean_pixels(
    flux: NDArray[np.float32], ivar: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Apply rules 1 to 3: zero inverse variance, and zero flux, where the numbers are unusable.

    A finite flux with inverse variance 0 is kept: it does no harm, and a plot may show it.

    Parameters
    ----------
    flux, ivar : (..., P) float32
        As the file has them.

    Returns
    -------
    flux, ivar : (..., P) float32
        New arrays, finite everywhere, `ivar` nowhere negative.
    """
    # Comparisons with NaN are False, so NaN falls out without a test of its own.
    believable = np.abs(flux) < LARGEST_VALUE
    usable = believable & (ivar > 0) & (ivar < LARGEST_VALUE)
    zero = np.float32(0)
    return np.where(believable, flux, zero), np.where(usable, ivar, zero)


def stored_mask(andmask: NDArray[np.uint8], ormask: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Pack both masks into the one byte a pixel has in the store.

    The seven low bits are those of ORMASK; bit 128 says that ANDMASK is not zero.  Nothing the policy looks
    at is lost.
    """
    return np.asarray((ormask & _STORED_OR) | np.where(andmask != 0, _STORED_AND, 0), dtype=np.uint8)


def good_stored_pixels(ivar: NDArray[np.float32], mask: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Apply the mask policy to pixels as they are stored, `mask` from `stored_mask`; shapes (..., P)."""
    fatal = np.uint8(_STORED_AND | int(FATAL_IN_ANY))
    return (ivar > 0) & ((mask & fatal) == 0)


def good_pixels(
    ivar: NDArray[np.float32], andmask: NDArray[np.uint8], ormask: NDArray[np.uint8]
) -> NDArray[np.bool_]:
    """Apply the mask policy to the pixels of a `phdl_catalog.spectra.Spectrum`.

    Parameters
    ----------
    ivar : (..., P) float32
        Inverse variance, cleaned as the readers do.
    andmask, ormask : (..., P) uint8
        Mask bits.

    Returns
    -------
    (..., P) bool
        True where a pixel may be fitted.
    """
    return good_stored_pixels(ivar, stored_mask(andmask, ormask))
