"""Which spectra of a release a run is about."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, and_, any_, bindparam, cast, func
from sqlalchemy.dialects.postgresql import ARRAY

from phdl_catalog.database.conditions import parse_condition
from phdl_catalog.database.models import Spectrum, SpectrumState
from phdl_catalog.errors import InputError

_INTEGER = re.compile(r"[+-]?\d+")


@dataclass(frozen=True)
class Cone:
    """A circle on the sky [deg]."""

    ra: float
    dec: float
    radius: float

    def __post_init__(self) -> None:
        if not (0 <= self.ra < 360 and -90 <= self.dec <= 90 and 0 < self.radius <= 180):
            raise InputError(
                f"no circle on the sky: ra {self.ra}, dec {self.dec}, radius {self.radius} degrees; "
                "0 <= ra < 360, -90 <= dec <= 90, 0 < radius <= 180"
            )


@dataclass(frozen=True)
class Selection:
    """Which accepted spectra of a release are fitted; the default is all.

    Parameters
    ----------
    min_snr_g : float, optional
        Least signal to noise in the g band; spectra without one are left out.
    classes : tuple of str
        Classes of the survey's pipeline, ``STAR`` for one; empty: any.
    cone : Cone, optional
        Circle on the sky.
    obsids : tuple of int, optional
        Only these observations.
    where : str, optional
        Any other condition, see `phdl_catalog.database.conditions`.
    """

    min_snr_g: float | None = None
    classes: tuple[str, ...] = ()
    cone: Cone | None = None
    obsids: tuple[int, ...] | None = None
    where: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """What is chosen, as plain values for JSON; the same choice always gives the same."""
        chosen: dict[str, Any] = {}
        if self.min_snr_g is not None:
            if not math.isfinite(self.min_snr_g):
                raise InputError(f"the least S/N must be a number, not {self.min_snr_g}")
            chosen["min_snr_g"] = float(self.min_snr_g)
        if self.classes:
            chosen["classes"] = sorted(set(self.classes))
        if self.cone is not None:
            chosen["cone"] = [float(self.cone.ra), float(self.cone.dec), float(self.cone.radius)]
        if self.obsids is not None:
            chosen["obsids"] = sorted(set(self.obsids))
        if self.where is not None:
            chosen["where"] = " ".join(self.where.split())
        return chosen

    def summary(self) -> dict[str, Any]:
        """The same for a person or a program to look at: of a list of obsids, which may be long, how many."""
        chosen = self.as_dict()
        if "obsids" in chosen:
            chosen["n_obsids"] = len(chosen.pop("obsids"))
        return chosen

    def condition(self, release_id: int) -> ColumnElement[bool]:
        """The same as an expression over the table ``spectrum``.

        Raises
        ------
        InputError
            If the text of `where` is not understood.
        """
        parts = [Spectrum.release_id == release_id, Spectrum.state == SpectrumState.ACCEPTED.value]
        if self.min_snr_g is not None:
            parts.append(Spectrum.snr_g >= self.min_snr_g)
        if self.classes:
            parts.append(func.upper(Spectrum.spectral_class).in_([name.upper() for name in self.classes]))
        if self.cone is not None:
            parts.append(_inside(self.cone))
        if self.obsids is not None:
            listed = bindparam("obsids", sorted(set(self.obsids)), type_=ARRAY(BigInteger))
            parts.append(Spectrum.obsid == any_(cast(listed, ARRAY(BigInteger))))
        if self.where is not None:
            parts.append(parse_condition(self.where))
        return and_(*parts)


def _inside(cone: Cone) -> ColumnElement[bool]:
    """Angular distance by the haversine formula, after a cut in declination."""
    sine_dec = func.sin(func.radians(Spectrum.dec - cone.dec) / 2)
    sine_ra = func.sin(func.radians(Spectrum.ra - cone.ra) / 2)
    haversine = sine_dec * sine_dec + sine_ra * sine_ra * func.cos(func.radians(Spectrum.dec)) * math.cos(
        math.radians(cone.dec)
    )
    return and_(
        Spectrum.dec.between(cone.dec - cone.radius, cone.dec + cone.radius),
        haversine <= math.sin(math.radians(cone.radius) / 2) ** 2,
    )


def read_obsids(path: Path) -> tuple[int, ...]:
    """Observations listed in a text file: the first word of each line, or a CSV's first column.

    Empty lines, lines that begin with ``#`` and a heading in the first line are passed over.

    Raises
    ------
    InputError
        If the file cannot be read, has no number, or a line that is none.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read the list of obsids: {error}") from error
    words = [(number, line.replace(",", " ").split()) for number, line in enumerate(lines, start=1)]
    listed = [(number, line[0]) for number, line in words if line and not line[0].startswith("#")]
    if listed and not _INTEGER.fullmatch(listed[0][1]):
        listed = listed[1:]
    for number, word in listed:
        if not _INTEGER.fullmatch(word) or abs(int(word)) >= 2**63:
            raise InputError(f"{path}, line {number}: {word!r} is no obsid")
    if not listed:
        raise InputError(f"{path} lists no obsid")
    return tuple(sorted({int(word) for _, word in listed}))
