"""What can be said about one observation: plain facts, from the file to the catalogue."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from phdl_catalog.catalog.selection import Term


class Verdict(StrEnum):
    """Whether a star is in a release."""

    IN = "in"
    FLAGGED = "flagged"
    OUT = "out"


@dataclass(frozen=True)
class SpectrumFacts:
    """One file of the observation; S/N a pixel, position in degrees."""

    spectrum_id: int
    data_release: str
    state: str
    reason: str | None
    detail: str | None
    uri: str
    sha256: str | None
    gaia_source_id: int | None
    ra: float | None
    dec: float | None
    mjd: float | None
    snr_g: float | None
    subclass: str | None


@dataclass(frozen=True)
class JobFacts:
    """One job the spectrum was in."""

    fit_chunk_id: int
    fit_run_id: int
    model: str
    state: str
    attempt: int
    worker: str | None
    error_kind: str | None
    error_text: str | None
    finished_at: datetime | None


@dataclass(frozen=True)
class FitFacts:
    """The fit by the model; rv in km/s."""

    model: str
    fit_run_id: int
    fitted_at: datetime
    flags: tuple[str, ...]
    rv: float | None
    e_rv: float | None
    chi2: float | None
    snr: float | None
    distance: float | None
    n_pixels: int
    has_labels: bool


@dataclass(frozen=True)
class LabelFacts:
    """One label, from the fit to what is published; in the label's unit."""

    label: str
    raw: float | None
    e_fit: float | None
    correction: float | None
    e_cal: float | None
    value: float | None
    error: float | None
    flags: tuple[str, ...]


@dataclass(frozen=True)
class StarFacts:
    """The star the spectrum is of: its usable spectra."""

    best_obsid: int
    n_obs: int
    obsids: tuple[int, ...]


@dataclass(frozen=True)
class Membership:
    """One catalogue release and what it has of the star.

    Parameters
    ----------
    release, state : str
        The release.
    obsid : int or None
        obsid of the star's row; None if the star is not in it.
    """

    release: str
    state: str
    obsid: int | None


@dataclass(frozen=True)
class Explanation:
    """Why an observation is in a release, out of it, or flagged.

    Parameters
    ----------
    obsid : int
        The observation.
    release : str or None
        Catalogue release that is explained; None if there is none yet, and then what a build now would do.
    model, calibration_set : str or None
        What the release is made with.
    verdict : Verdict
        The answer.
    reasons : tuple of str
        Why, in whole sentences.
    spectra, jobs, fit, labels, terms, star, memberships
        The facts; None and empty where there are none.
    """

    obsid: int
    release: str | None
    model: str | None
    calibration_set: str | None
    verdict: Verdict
    reasons: tuple[str, ...]
    spectra: tuple[SpectrumFacts, ...]
    jobs: tuple[JobFacts, ...]
    fit: FitFacts | None
    labels: tuple[LabelFacts, ...]
    terms: tuple[Term, ...]
    star: StarFacts | None
    memberships: tuple[Membership, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types; identifiers of 64 bits are strings."""
        document = asdict(self)
        document["obsid"] = str(self.obsid)
        for spectrum in document["spectra"]:
            if spectrum["gaia_source_id"] is not None:
                spectrum["gaia_source_id"] = str(spectrum["gaia_source_id"])
        if self.star is not None:
            document["star"]["best_obsid"] = str(self.star.best_obsid)
            document["star"]["obsids"] = [str(obsid) for obsid in self.star.obsids]
        for membership in document["memberships"]:
            if membership["obsid"] is not None:
                membership["obsid"] = str(membership["obsid"])
        document["labels"] = {entry.pop("label"): entry for entry in document["labels"]}
        return document
