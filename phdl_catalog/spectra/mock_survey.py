"""A simulated data release on disk: LAMOST DR10 files of stars whose labels are known.

The spectra are those of a model for labels that differ from the truth by a smooth function of teff, the
`Distortion`: an error such as real models have, which a fit with the same model cannot see and which only
calibrators can show.  A catalogue made from the release is right if calibration takes it out again.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from phdl_catalog.spectra.mock import Conditions, observe
from phdl_catalog.spectra.mock_broken import NOT_PACKED, Damage, broken_file
from phdl_catalog.spectra.mock_file import file_name, redshift_of, write_dr10
from phdl_catalog.spectra.mock_stars import Census, Stars, draw_stars
from phdl_catalog.spectra.spectrum import Layout, Spectrum, SpectrumHeader

#: First night [d], and first obsid, of a simulated release; no real obsid of LAMOST is this large.
_FIRST_NIGHT, _FIRST_OBSID = 60000, 900_000_000_001

#: Fibres of one spectrograph, and spectrographs of one plate, that are used.
_FIBRES, _SPECTROGRAPHS = 40, 4

#: Median S/N of the g band, its scatter in ln, and its bounds.
_SNR_MEDIAN, _SNR_SPREAD, _SNR_BOUNDS = 75.0, 0.45, (25.0, 250.0)

#: Scatter of radial velocities, and error of the velocity in the header [km/s].
_RV_SPREAD, _RV_ERROR = 45.0, 5.0

#: Labels that are not distorted: their zero-points are not what pairs can show.
_UNDISTORTED = ("teff", "logg", "v_micro")

_PIVOT, _SCALE = 5600.0, 800.0

Progress = Callable[[int], None]
Predict = Callable[[NDArray[np.float64]], NDArray[np.generic]]


@dataclass(frozen=True)
class Distortion:
    """What is added to the true labels before the model makes a spectrum of them.

    ``offset + slope t + bend t**2`` with ``t = (teff - 5600 K) / 800 K``, for each label.

    Parameters
    ----------
    offset, slope, bend : (L,) float64
        In the labels' units; zero for teff, logg and v_micro.
    """

    offset: NDArray[np.float64]
    slope: NDArray[np.float64]
    bend: NDArray[np.float64]

    def __call__(self, teff: NDArray[np.float64]) -> NDArray[np.float64]:
        """Amount added at each temperature: (N,) [K] -> (N, L)."""
        t = ((np.asarray(teff) - _PIVOT) / _SCALE)[:, None]
        return np.asarray(self.offset + self.slope * t + self.bend * t**2)

    @classmethod
    def draw(cls, label_names: Sequence[str], size: float, rng: np.random.Generator) -> Distortion:
        """Draw one: offsets up to `size` [dex], slopes of 0.5 to 1 `size` of either sign, bends up to 0.3."""
        count = len(label_names)
        wanted = np.array([name not in _UNDISTORTED for name in label_names], dtype=np.float64)
        # Iron is what every other abundance is relative to; half the size is much for it.
        wanted[[name == "fe_h" for name in label_names]] = 0.5
        sign = rng.choice([-1.0, 1.0], count)
        return cls(
            offset=size * wanted * rng.uniform(-1.0, 1.0, count),
            slope=size * wanted * sign * rng.uniform(0.5, 1.0, count),
            bend=size * wanted * rng.uniform(-0.3, 0.3, count),
        )


@dataclass(frozen=True)
class SurveyPlan:
    """What to simulate.

    Parameters
    ----------
    census : Census
        Stars of each kind.
    repeats : int
        Stars that are observed a second time.
    damages : tuple of Damage
        One broken file each.
    distortion : float
        Size of the error injected into the abundances [dex].
    seed : int
        Of everything that is drawn.
    """

    census: Census = field(default_factory=Census)
    repeats: int = 40
    damages: tuple[Damage, ...] = tuple(Damage)
    distortion: float = 0.10
    seed: int = 20260202


@dataclass(frozen=True)
class MockSurvey:
    """A simulated release.

    Parameters
    ----------
    stars : Stars
        True labels.
    distortion : Distortion
        The error that was injected.
    source_ids : (N,) int64
        A Gaia-like identifier of each star, with its position in the high bits as Gaia's have.
    ra, dec : (N,) float64
        Positions [deg].
    rv : (N,) float64
        Radial velocities [km/s].
    obsids : (M,) int64
        The spectra.
    star_of : (M,) int64
        Row of the star that each spectrum is of.
    """

    stars: Stars
    distortion: Distortion
    source_ids: NDArray[np.int64]
    ra: NDArray[np.float64]
    dec: NDArray[np.float64]
    rv: NDArray[np.float64]
    obsids: NDArray[np.int64]
    star_of: NDArray[np.int64]


def plan_survey(plan: SurveyPlan, label_names: Sequence[str], label_range: NDArray[np.float64]) -> MockSurvey:
    """Draw stars, positions, velocities and the order of observation; nothing is written.

    The same plan and the same model range give the same survey on every machine.
    """
    rng = np.random.default_rng(plan.seed)
    stars = draw_stars(label_names, label_range, plan.census, rng)
    count = len(stars.labels)
    ra, dec = rng.uniform(0.0, 360.0, count), np.degrees(np.arcsin(rng.uniform(-0.1, 0.85, count)))
    rv = _RV_SPREAD * rng.standard_normal(count)
    first, second = stars.pairs[:, 0], stars.pairs[:, 1]
    ra[second] = (ra[first] + rng.uniform(0.001, 0.01, first.size)) % 360.0
    dec[second] = dec[first] + rng.uniform(-0.005, 0.005, first.size)
    rv[second] = rv[first] + rng.standard_normal(first.size)
    # Files state positions to 1e-6 degree, and so does everything else that is written about these stars.
    ra, dec = np.round(ra % 360.0, 6).astype(np.float64), np.round(dec, 6).astype(np.float64)
    again = np.sort(rng.choice(count, plan.repeats, replace=False))
    star_of = np.concatenate([np.arange(count), again]).astype(np.int64)
    return MockSurvey(
        stars=stars,
        distortion=Distortion.draw(label_names, plan.distortion, rng),
        source_ids=_source_ids(ra, dec),
        ra=ra,
        dec=dec,
        rv=rv,
        obsids=_FIRST_OBSID + np.arange(star_of.size, dtype=np.int64),
        star_of=star_of,
    )


def write_survey(
    directory: Path,
    survey: MockSurvey,
    plan: SurveyPlan,
    wavelength: NDArray[np.float64],
    predict: Predict,
    progress: Progress = lambda done: None,
) -> dict[Path, Damage | None]:
    """Observe every star and write the files of the release.

    Parameters
    ----------
    directory : Path
        Made if need be; files go into one folder a night, packed as the survey's archive has them.
    survey : MockSurvey
        From `plan_survey`.
    plan : SurveyPlan
        The same plan.
    wavelength : (P,) ndarray
        The model's wavelengths [Angstrom].
    predict : callable
        The model: labels (N, L) -> normalised flux (N, P).
    progress : callable
        Told the number of files written so far.

    Returns
    -------
    dict
        Each file, and what is wrong with it: None for the good ones.
    """
    rng = np.random.default_rng([plan.seed, 1])
    truth = survey.stars.labels
    seen = truth + survey.distortion(survey.stars.column("teff"))
    flux = np.asarray(predict(seen), dtype=np.float64)
    written: dict[Path, Damage | None] = {}
    spectrum: Spectrum | None = None
    for number, row in enumerate(survey.star_of):
        header = _header(survey, number, rng)
        snr = float(np.clip(_SNR_MEDIAN * np.exp(_SNR_SPREAD * rng.standard_normal()), *_SNR_BOUNDS))
        conditions = Conditions(snr_g=snr, rv=float(survey.rv[row]))
        spectrum = observe(wavelength, flux[row], header, conditions, rng)
        path = directory / str(header.lmjd) / f"{file_name(header)}.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_dr10(path, spectrum)
        written[path] = None
        progress(len(written))
    for number, damage in enumerate(plan.damages):
        assert spectrum is not None
        header = _header(survey, survey.star_of.size + number, rng)
        path = directory / str(header.lmjd) / f"{file_name(header)}.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        content = broken_file(_renamed(spectrum, header), damage)
        if damage not in NOT_PACKED:
            content = gzip.compress(content, compresslevel=1, mtime=0)
        path.write_bytes(content)
        written[path] = damage
        progress(len(written))
    return written


def _renamed(spectrum: Spectrum, header: SpectrumHeader) -> Spectrum:
    return Spectrum(
        header, spectrum.first_pixel, spectrum.flux, spectrum.ivar, spectrum.andmask, spectrum.ormask
    )


def _header(survey: MockSurvey, number: int, rng: np.random.Generator) -> SpectrumHeader:
    """Header facts of spectrum `number`: its place in the order gives its night, spectrograph and fibre."""
    plate, fibre = divmod(number, _FIBRES * _SPECTROGRAPHS)
    row = int(survey.star_of[number % survey.star_of.size])
    measured_rv = float(survey.rv[row]) + _RV_ERROR * float(rng.standard_normal())
    ra, dec = float(survey.ra[row]), float(survey.dec[row])
    return SpectrumHeader(
        obsid=_FIRST_OBSID + number,
        layout=Layout.DR9,
        ra=ra,
        dec=dec,
        designation=designation(ra, dec),
        object_name=f"G{survey.source_ids[row]}",
        mjd=_FIRST_NIGHT + plate - 1,
        lmjd=_FIRST_NIGHT + plate,
        plan_id=f"MOCK{plate + 1:02d}",
        spectrograph_id=fibre // _FIBRES + 1,
        fiber_id=fibre % _FIBRES + 1,
        data_version="LAMOST DR10 mock",
        object_class="STAR",
        object_subclass=_subclass(float(survey.stars.column("teff")[row])),
        redshift=redshift_of(measured_rv),
        redshift_error=redshift_of(_RV_ERROR),
    )


def designation(ra: float, dec: float) -> str:
    """Name by position as the survey writes it, truncated and not rounded: ``LAMOST Jhhmmss.ss+ddmmss.s``."""
    hundredths, tenths = int(ra / 15.0 * 360_000), int(abs(dec) * 36_000)
    hours, minutes, seconds = hundredths // 360_000, hundredths // 6000 % 60, hundredths % 6000 / 100
    degrees, arcmin, arcsec = tenths // 36_000, tenths // 600 % 60, tenths % 600 / 10
    sign = "-" if dec < 0 else "+"
    return f"LAMOST J{hours:02d}{minutes:02d}{seconds:05.2f}{sign}{degrees:02d}{arcmin:02d}{arcsec:04.1f}"


def _subclass(teff: float) -> str:
    """Rough spectral type for the header."""
    for lowest, kind in ((7200.0, "F0"), (6600.0, "F5"), (6050.0, "F9"), (5650.0, "G2"), (5250.0, "G8")):
        if teff >= lowest:
            return kind
    return "K3"


def _source_ids(ra: NDArray[np.float64], dec: NDArray[np.float64]) -> NDArray[np.int64]:
    """Identifiers built like Gaia's: HEALPix cell of order 12, nested, times 2**35, plus a running number."""
    from astropy import units
    from astropy_healpix import HEALPix

    cells = HEALPix(nside=4096, order="nested").lonlat_to_healpix(ra * units.deg, dec * units.deg)
    return np.asarray(cells, dtype=np.int64) * 2**35 + np.arange(1, ra.size + 1, dtype=np.int64)
