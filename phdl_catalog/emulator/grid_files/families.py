"""Dividing a grid into training and validation, by family and never by row.

Spectra of one atmosphere form a family (``star``): they differ in some abundances only, and a model that saw
one of them has nearly seen the others.
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import ArrayLike, NDArray

from phdl_catalog.errors import InputError

#: Share of the families that validate a model, and the seed that picks them, where nobody says otherwise.
DEFAULT_SHARE, DEFAULT_SEED = 0.1, 0


def _lot(family: int, seed: int) -> float:
    """A number in [0, 1) that depends on the family and the seed alone."""
    digest = hashlib.blake2b(f"{seed}:{family}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2.0**64


def split_by_family(
    star: ArrayLike, share: float = DEFAULT_SHARE, seed: int = DEFAULT_SEED
) -> NDArray[np.bool_]:
    """Which spectra validate: whole families, drawn by lot.

    The lot of a family depends on its number and on `seed` alone, so a grid that grows keeps the split of
    the families it had.  Where no lot falls below `share`, the family with the lowest one validates, so
    that there is one; a single family all trains.

    Parameters
    ----------
    star : (N,) array_like of int
        Family numbers.
    share : float
        Share of the families that is wanted for validation, 0 to below 1; 0: none.
    seed : int

    Returns
    -------
    (N,) ndarray of bool

    Raises
    ------
    InputError
        If `share` is not in [0, 1).
    """
    if not 0.0 <= share < 1.0:
        raise InputError(f"the share of validation families must be in [0, 1), not {share}")
    families, row_family = np.unique(np.asarray(star, dtype=np.int64), return_inverse=True)
    if share == 0.0 or families.size < 2:
        return np.zeros(row_family.shape, dtype=np.bool_)
    lots = np.array([_lot(int(family), seed) for family in families])
    chosen = lots < share
    chosen[lots.argmin()] = True
    if chosen.all():
        chosen[lots.argmax()] = False
    return np.asarray(chosen[row_family])
