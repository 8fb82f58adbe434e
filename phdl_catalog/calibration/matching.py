"""Which observed spectra are of which calibrator star: by Gaia source, by observation, or by position."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from phdl_catalog.errors import InputError

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

#: Epoch of the calibrators' positions: Gaia DR3's [yr].
CATALOGUE_EPOCH = 2016.0

#: Epochs a survey's target positions may be of: input catalogues are 2MASS, SDSS, UCAC or Gaia [yr].
_TARGET_EPOCHS = (2000.0, 2008.0, 2016.0)

_NO_IDENTIFIER = -1


@dataclass(frozen=True)
class Stars:
    """Calibrator stars.

    Parameters
    ----------
    gaia_source_id, obsid : (n,) int64 arrays
        -1 where unknown.
    ra, dec : (n,) arrays
        ICRS position at epoch 2016.0 [deg]; NaN where unknown.
    pmra, pmdec : (n,) arrays
        Proper motion [mas/yr], pmra times cos(dec); NaN counts as none.
    """

    gaia_source_id: Integers
    obsid: Integers
    ra: Floats
    dec: Floats
    pmra: Floats
    pmdec: Floats

    def __len__(self) -> int:
        return len(self.gaia_source_id)

    def taken(self, rows: Integers) -> Stars:
        """Some of the stars."""
        return Stars(*(getattr(self, entry.name)[rows] for entry in fields(self)))


@dataclass(frozen=True)
class Observations:
    """Spectra with a usable fit.

    Parameters
    ----------
    gaia_source_id, obsid : (m,) int64 arrays
        -1 where unknown.
    ra, dec : (m,) arrays
        Position [deg]; NaN where unknown.
    snr : (m,) array
        What decides between several spectra of a star; NaN is the least.
    """

    gaia_source_id: Integers
    obsid: Integers
    ra: Floats
    dec: Floats
    snr: Floats

    def __len__(self) -> int:
        return len(self.gaia_source_id)

    def taken(self, rows: Integers) -> Observations:
        """Some of the observations."""
        return Observations(*(getattr(self, entry.name)[rows] for entry in fields(self)))


def match_stars(stars: Stars, observations: Observations, radius: float = 3.0) -> Integers:
    """The best spectrum of each star: of those of its Gaia source, else its observation, else near it.

    Parameters
    ----------
    stars : Stars
        n calibrator stars.
    observations : Observations
        m spectra.
    radius : float
        Largest distance of a match by position [arcsec]; the star is moved along its proper motion, as the
        epoch of a survey's target position is not known.  Where both have a Gaia source, only that counts.

    Returns
    -------
    (n,) int64 array
        Number of the spectrum with the highest S/N; -1 where there is none.

    Raises
    ------
    InputError
        If the radius is not positive.
    """
    if not radius > 0:
        raise InputError(f"the matching radius must be positive [arcsec], not {radius}")
    # Ascending S/N: a later spectrum of the same star replaces an earlier one.
    order = np.argsort(np.nan_to_num(observations.snr, nan=-np.inf), kind="stable")
    best = np.full(len(stars), -1, dtype=np.int64)
    for field in ("obsid", "gaia_source_id"):
        found = _last_of_each(getattr(stars, field), getattr(observations, field)[order], order)
        best = np.where(found >= 0, found, best)
    lost = np.flatnonzero((best < 0) & np.isfinite(stars.ra) & np.isfinite(stars.dec))
    located = np.flatnonzero(np.isfinite(observations.ra) & np.isfinite(observations.dec))
    if lost.size and located.size:
        best[lost] = _by_position(stars, observations, lost, located, radius)
    return best


def what_was_tried(stars: Stars, observations: Observations, radius: float) -> str:
    """By which keys stars were looked for and how near the nearest came: for the message that none was found.

    Parameters
    ----------
    stars, observations, radius
        As for `match_stars`.
    """
    if not len(observations):
        return "there is no usable fit to match them with"
    keys = []
    for field, word in (("gaia_source_id", "Gaia source"), ("obsid", "obsid")):
        have, offered = (
            np.count_nonzero(getattr(side, field) != _NO_IDENTIFIER) for side in (stars, observations)
        )
        keys.append(f"by {word} ({have:,} stars and {offered:,} fits have one)")
    located, fitted = (
        np.flatnonzero(np.isfinite(side.ra) & np.isfinite(side.dec)) for side in (stars, observations)
    )
    position = f"by position ({len(located):,} stars and {len(fitted):,} fits have one"
    if len(located) and len(fitted):
        tree = cKDTree(_unit_vectors(observations.ra[fitted], observations.dec[fitted]))
        chord = float(tree.query(_unit_vectors(stars.ra[located], stars.dec[located]))[0].min())
        nearest = 3600 * np.rad2deg(2 * np.arcsin(min(chord / 2, 1.0)))
        position += f"; the nearest two are {_angle(nearest)} apart, {radius:g} arcsec are allowed"
    return "tried " + ", ".join((*keys, position + ")"))


def _angle(arcsec: float) -> str:
    return f"{arcsec:.1f} arcsec" if arcsec < 600 else f"{arcsec / 3600:.2f} degrees"


def _last_of_each(wanted: Integers, offered: Integers, rows: Integers) -> Integers:
    """(n,) the last of (m,) rows whose identifier is the one wanted; -1 where there is none.

    Only the wanted are sorted: they are some thousand calibrators, the others spectra of a whole survey.
    """
    known = np.unique(wanted[wanted != _NO_IDENTIFIER])
    if not len(known) or not len(rows):
        return np.full(len(wanted), -1, dtype=np.int64)
    places = np.minimum(np.searchsorted(known, offered), len(known) - 1)
    same = known[places] == offered
    last = np.full(len(known), -1, dtype=np.int64)
    np.maximum.at(last, places[same], np.flatnonzero(same))
    found = last[np.minimum(np.searchsorted(known, wanted), len(known) - 1)]
    there = (wanted != _NO_IDENTIFIER) & (found >= 0)
    return np.where(there, rows[found], -1)


def find_repeats(observations: Observations, radius: float = 3.0) -> Integers:
    """Two observations of one star each: of one Gaia source, or else nearer than the radius.

    The same observation in two releases, which has the same obsid, is no repeat.

    Parameters
    ----------
    observations : Observations
        m spectra.
    radius : float
        Largest distance of spectra without a Gaia source [arcsec].

    Returns
    -------
    (R, 2) int64 array
        Of a star with n observations, n - 1 rows: each with the next, by obsid.
    """
    star = _star_numbers(observations, radius)
    order = np.lexsort((observations.obsid, star))
    first, second = order[:-1], order[1:]
    same = (star[first] == star[second]) & (star[first] != _NO_IDENTIFIER)
    one, other = observations.obsid[first], observations.obsid[second]
    same &= (one != other) | (one == _NO_IDENTIFIER)
    return np.stack([first[same], second[same]], axis=1).astype(np.int64)


def _star_numbers(observations: Observations, radius: float) -> Integers:
    """(m,) a number that observations of one star have in common; -1 where nothing is known of it."""
    gaia = observations.gaia_source_id
    known = gaia != _NO_IDENTIFIER
    star = np.full(len(observations), _NO_IDENTIFIER, dtype=np.int64)
    star[known] = np.unique(gaia[known], return_inverse=True)[1]
    rest = np.flatnonzero(~known & np.isfinite(observations.ra) & np.isfinite(observations.dec))
    if rest.size:
        tree = cKDTree(_unit_vectors(observations.ra[rest], observations.dec[rest]))
        near = tree.query_pairs(2 * np.sin(np.deg2rad(radius / 3600) / 2), output_type="ndarray")
        links = coo_matrix((np.ones(len(near)), tuple(near.T)), shape=(rest.size, rest.size))
        groups = connected_components(links, directed=False)[1]
        star[rest] = groups + (star.max() + 1)
    return star


def _by_position(
    stars: Stars, observations: Observations, lost: Integers, located: Integers, radius: float
) -> Integers:
    tree = cKDTree(_unit_vectors(observations.ra[located], observations.dec[located]))
    chord = 2 * np.sin(np.deg2rad(radius / 3600) / 2)
    best = np.full(lost.size, -1, dtype=np.int64)
    best_snr = np.full(lost.size, -np.inf)
    moving = np.nan_to_num(np.hypot(stars.pmra[lost], stars.pmdec[lost])) > 0
    for epoch in _TARGET_EPOCHS:
        # A star that does not move is looked for once.
        chosen = np.flatnonzero(moving | (epoch == CATALOGUE_EPOCH))
        points = _unit_vectors(*_moved(stars, lost[chosen], epoch))
        for number, near in zip(chosen.tolist(), tree.query_ball_point(points, chord), strict=True):
            for candidate in located[near].tolist():
                source = observations.gaia_source_id[candidate]
                own = stars.gaia_source_id[lost[number]]
                if _NO_IDENTIFIER not in (source, own) and source != own:
                    continue
                snr = float(np.nan_to_num(observations.snr[candidate], nan=-1.0))
                if snr > best_snr[number]:
                    best[number], best_snr[number] = candidate, snr
    return best


def _moved(stars: Stars, rows: Integers, epoch: float) -> tuple[Floats, Floats]:
    """Positions [deg] at another epoch; linear, good to a milliarcsecond away from the poles."""
    years = epoch - CATALOGUE_EPOCH
    dec = stars.dec[rows] + np.nan_to_num(stars.pmdec[rows]) * years / 3.6e6
    scale = np.maximum(np.cos(np.deg2rad(stars.dec[rows])), 1e-6)
    ra = stars.ra[rows] + np.nan_to_num(stars.pmra[rows]) * years / 3.6e6 / scale
    return ra, dec


def _unit_vectors(ra: Floats, dec: Floats) -> Floats:
    longitude, latitude = np.deg2rad(ra), np.deg2rad(dec)
    return np.stack(
        [np.cos(latitude) * np.cos(longitude), np.cos(latitude) * np.sin(longitude), np.sin(latitude)], axis=1
    )
