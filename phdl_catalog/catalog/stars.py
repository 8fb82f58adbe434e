"""Which spectra are of the same star, and which of them is the best."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

Integers = NDArray[np.int64]
Floats = NDArray[np.float64]

#: Stands for a missing identifier in arrays; Gaia's and HEALPix's are never negative.
MISSING = -1


@dataclass(frozen=True, eq=False)
class SpectrumIndex:
    """What is needed of every usable spectrum to tell stars apart.

    Parameters
    ----------
    spectrum_id, obsid : (N,) int64 array
        Key and observation.
    gaia_source_id, healpix_29 : (N,) int64 array
        `MISSING` where unknown.
    ra, dec : (N,) float64 array
        Position [deg]; NaN where unknown.
    snr_g : (N,) float64 array
        Signal-to-noise ratio a pixel.
    release_id : (N,) int64 array
        Data release; of two equal spectra that of the later release is taken.
    """

    spectrum_id: Integers
    obsid: Integers
    gaia_source_id: Integers
    healpix_29: Integers
    ra: Floats
    dec: Floats
    snr_g: Floats
    release_id: Integers

    def __len__(self) -> int:
        return len(self.spectrum_id)

    @classmethod
    def of(cls, rows: Sequence[Sequence[Any]]) -> SpectrumIndex:
        """From rows of eight values, in the order of the fields; None is a missing identifier or position."""
        columns = list(zip(*rows, strict=True)) or [()] * 8
        spectrum_id, obsid, gaia_source_id, healpix_29, ra, dec, snr_g, release_id = columns
        return cls(
            spectrum_id=_whole(spectrum_id),
            obsid=_whole(obsid),
            gaia_source_id=_whole(gaia_source_id),
            healpix_29=_whole(healpix_29),
            ra=_real(ra),
            dec=_real(dec),
            snr_g=_real(snr_g),
            release_id=_whole(release_id),
        )

    @classmethod
    def join(cls, parts: Sequence[SpectrumIndex]) -> SpectrumIndex:
        """One index of several, one after the other."""
        return cls(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in _FIELDS})


_FIELDS = tuple(field.name for field in fields(SpectrumIndex))


@dataclass(frozen=True, eq=False)
class Stars:
    """The stars of a `SpectrumIndex`, in the order of the published table.

    Parameters
    ----------
    best : (S,) int64 array
        Row in the index of each star's best spectrum.
    n_obs : (S,) int64 array
        Number of different observations of each star.
    star : (N,) int64 array
        Star of each row of the index, a number into `best`.
    """

    best: Integers
    n_obs: Integers
    star: Integers


def group_by_star(index: SpectrumIndex, radius: float) -> Integers:
    """Number the stars.

    Spectra are of one star if they have the same obsid (one observation in two releases) or the same Gaia
    source.  A spectrum without a Gaia source belongs to the nearest star that has one within `radius`;
    those that have none so near belong together if a chain of steps smaller than `radius` joins them.  Two
    different Gaia sources stay two stars, however close.

    Parameters
    ----------
    index : SpectrumIndex
        Of N spectra.
    radius : float
        Greatest distance on the sky [arcsec].

    Returns
    -------
    (N,) int64 array
        Equal for spectra of the same star.
    """
    known = index.gaia_source_id != MISSING
    placed = np.isfinite(index.ra) & np.isfinite(index.dec)
    edges = [_first_of_each(index.obsid), _first_of_each(index.gaia_source_id, known)]
    with_gaia, without = np.flatnonzero(known & placed), np.flatnonzero(~known & placed)
    if len(without):
        chord = 2 * np.sin(np.deg2rad(radius / 3600) / 2)
        directions = unit_vectors(index.ra, index.dec)
        if len(with_gaia):
            distance, nearest = cKDTree(directions[with_gaia]).query(
                directions[without], distance_upper_bound=chord
            )
            near = np.isfinite(distance)
            edges.append(np.stack([without[near], with_gaia[nearest[near]]], axis=1))
            without = without[~near]
        pairs = cKDTree(directions[without]).query_pairs(chord, output_type="ndarray") if len(without) else []
        edges.append(without[np.asarray(pairs, dtype=np.int64).reshape(-1, 2)])
    rows, columns = np.concatenate(edges).T
    graph = coo_array((np.ones(len(rows), dtype=bool), (rows, columns)), shape=(len(index), len(index)))
    _, star = connected_components(graph, directed=False)
    return np.asarray(star, dtype=np.int64)


def find_stars(index: SpectrumIndex, radius: float) -> Stars:
    """The stars, each with its best spectrum: highest S/N in g, then the later release, then the lower obsid.

    Parameters
    ----------
    index : SpectrumIndex
        Of N spectra.
    radius : float
        As for `group_by_star` [arcsec].

    Returns
    -------
    Stars
        Ordered by HEALPix cell, those without one last, then by obsid.
    """
    number = group_by_star(index, radius)
    order = np.lexsort((index.obsid, -index.release_id, -index.snr_g, number))
    first = np.ones(len(order), dtype=bool)
    first[1:] = number[order][1:] != number[order][:-1]
    best = order[first]
    n_obs = _observations(number, index.obsid)
    cell = np.where(index.healpix_29[best] == MISSING, np.iinfo(np.int64).max, index.healpix_29[best])
    published = np.lexsort((index.obsid[best], cell))
    rank = np.empty(len(best), dtype=np.int64)
    rank[number[best[published]]] = np.arange(len(best))
    return Stars(best=best[published], n_obs=n_obs[number[best[published]]], star=rank[number])


def _observations(star: Integers, obsid: Integers) -> Integers:
    """(S,) number of different observations of each star."""
    order = np.lexsort((obsid, star))
    sorted_star, sorted_obsid = star[order], obsid[order]
    new = np.ones(len(order), dtype=bool)
    new[1:] = (sorted_star[1:] != sorted_star[:-1]) | (sorted_obsid[1:] != sorted_obsid[:-1])
    return np.bincount(sorted_star[new])


def second_best(index: SpectrumIndex, stars: Stars) -> Integers:
    """The best spectrum of each star that is of another observation than its very best.

    Returns
    -------
    (S,) int64 array
        Row in the index; `MISSING` for a star observed once.
    """
    order = np.lexsort((index.obsid, -index.release_id, -index.snr_g, stars.star))
    other = order[index.obsid[order] != index.obsid[stars.best][stars.star[order]]]
    numbers, first = np.unique(stars.star[other], return_index=True)
    second = np.full(len(stars.best), MISSING, dtype=np.int64)
    second[numbers] = other[first]
    return second


def unit_vectors(ra: Floats, dec: Floats) -> Floats:
    """(N, 3) unit vectors; zero where the position is unknown."""
    a, d = np.deg2rad(np.nan_to_num(ra)), np.deg2rad(np.nan_to_num(dec))
    return np.stack([np.cos(d) * np.cos(a), np.cos(d) * np.sin(a), np.sin(d)], axis=1)


def _whole(values: Iterable[int | None]) -> Integers:
    return np.array([MISSING if value is None else value for value in values], dtype=np.int64)


def _real(values: Iterable[float | None]) -> Floats:
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)


def _first_of_each(values: Integers, mask: NDArray[np.bool_] | None = None) -> Integers:
    """(n, 2) edges from each row to the first row of the same value."""
    rows = np.arange(len(values)) if mask is None else np.flatnonzero(mask)
    _, first, inverse = np.unique(values[rows], return_index=True, return_inverse=True)
    return np.stack([rows, rows[first[inverse]]], axis=1)
