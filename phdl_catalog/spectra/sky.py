"""Positions on the sky as integers."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

#: Order of the HEALPix cells that stand for positions: 0.4 mas wide, exact enough to be the position.
HEALPIX_ORDER = 29

#: A Gaia source id begins with the order-12 cell of the source, shifted by this many bits (Gaia DR3
#: documentation, section 20.1.1, source_id).
_GAIA_CELL_SHIFT = 35
_GAIA_ORDER = 12


def healpix_29(ra: ArrayLike, dec: ArrayLike) -> NDArray[np.int64]:
    """HEALPix cells of order 29, nested.

    Parameters
    ----------
    ra, dec : (N,) array_like
        Position [deg].

    Returns
    -------
    (N,) int64
    """
    from astropy import units
    from astropy_healpix import lonlat_to_healpix

    cells = lonlat_to_healpix(
        np.asarray(ra, dtype=np.float64) * units.deg,
        np.asarray(dec, dtype=np.float64) * units.deg,
        nside=2**HEALPIX_ORDER,
        order="nested",
    )
    return np.asarray(cells, dtype=np.int64)


def is_gaia_source(source_id: int, cell: int) -> bool:
    """Whether a number can be the Gaia source id of a star in an order-29 cell.

    The id holds its source's order-12 cell (50 arcsec wide), so a number that is no Gaia id agrees by
    chance once in 200 million.

    Parameters
    ----------
    source_id : int
        What may be a Gaia source id.
    cell : int
        Order-29 cell of the star, from `healpix_29`.
    """
    return source_id >> _GAIA_CELL_SHIFT == cell >> 2 * (HEALPIX_ORDER - _GAIA_ORDER)
