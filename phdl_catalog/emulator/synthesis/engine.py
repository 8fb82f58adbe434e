"""One label vector in, one normalised spectrum out: 1D LTE synthesis with the compiled library of PySME."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from phdl_catalog.emulator.synthesis.atmosphere import Atmosphere, AtmosphereGrid
from phdl_catalog.emulator.synthesis.composition import SYMBOLS, abundances, number_fractions
from phdl_catalog.emulator.synthesis.hydrogen import HYDROGEN_REACH, hydrogen_lines
from phdl_catalog.emulator.synthesis.library import library, quiet_pysme
from phdl_catalog.emulator.synthesis.line_list import LineList, merge
from phdl_catalog.errors import InputError, SynthesisError
from phdl_catalog.spectra.resample import degrade, degrading_operator, kernel_sigma

#: Sources of continuous opacity, as ATLAS9 counts them: all but those that stand for lines.
_OPACITIES = np.array([1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 1, 0, 0, 0, 0, 0], dtype=np.int16)

#: Particle, electron and mass densities are those of the star's own composition, at the temperature and
#: pressure of the atmosphere: so the electrons of magnesium or silicon are part of their gradients.
_DENSITIES_FROM_COMPOSITION = 1 | 2 | 4

#: Half the length of a kernel, in standard deviations, that the computed range exceeds the stored one by.
_REACH = 6.0


@dataclass(frozen=True)
class SynthesisSettings:
    """How spectra are computed and stored.

    Parameters
    ----------
    wavelength : tuple of float
        First and last stored wavelength in vacuum [Angstrom].
    resolution : float
        Resolving power lambda / FWHM of stored spectra.
    log10_step : float
        Step of stored spectra in log10 wavelength; wavelengths are ``10 ** (k * log10_step)`` with integer k.
    sampling : float
        Computed points per unit of ln wavelength: 200,000 is 1.5 km/s, less than the width of any line.
    angles : int
        Directions of the integral over the disc (Gauss-Legendre).
    weakest : float
        Lines are left out where they add less than this to the continuous opacity, relative to it.
    chunk : float
        Length of the pieces that are computed at once [Angstrom].
    """

    wavelength: tuple[float, float] = (3707.0, 9015.0)
    resolution: float = 5000.0
    log10_step: float = 4e-5
    sampling: float = 200_000.0
    angles: int = 5
    weakest: float = 1e-4
    chunk: float = 200.0

    def __post_init__(self) -> None:
        first, last = self.wavelength
        if not 2000.0 < first < last < 30000.0:
            raise InputError(
                f"wavelengths must be between 2000 and 30000 Angstrom, not {first:g} to {last:g}"
            )
        for name in ("resolution", "log10_step", "sampling", "angles", "weakest", "chunk"):
            if not getattr(self, name) > 0:
                raise InputError(f"{name} must be positive, not {getattr(self, name):g}")
        if self.sampling < 10.0 * self.resolution:
            raise InputError(f"a sampling of {self.sampling:g} is too coarse for R = {self.resolution:g}")

    @cached_property
    def stored_wavelength(self) -> NDArray[np.float64]:
        """(W,) wavelengths of stored spectra, in vacuum [Angstrom]."""
        first = int(np.ceil(np.log10(self.wavelength[0]) / self.log10_step))
        last = int(np.floor(np.log10(self.wavelength[1]) / self.log10_step))
        return np.asarray(10.0 ** (np.arange(first, last + 1) * self.log10_step))

    @cached_property
    def computed_wavelength(self) -> NDArray[np.float64]:
        """(M,) wavelengths of the computation, beyond the stored ones by the reach of the line spread."""
        reach = _REACH * kernel_sigma(np.inf, self.resolution) * np.log(10.0)
        low, high = np.log(self.stored_wavelength[[0, -1]]) + np.array([-reach, reach])
        return np.exp(np.arange(low, high + 1.0 / self.sampling, 1.0 / self.sampling))

    @cached_property
    def line_spread(self) -> sparse.csr_array:
        """(W, M) operator from computed to stored spectra."""
        return degrading_operator(self.computed_wavelength, np.inf, self.stored_wavelength, self.resolution)


class _Rows:
    """A line list as the library's interface asks for it."""

    def __init__(self, lines: LineList) -> None:
        self._lines = lines

    def __len__(self) -> int:
        return len(self._lines)

    def __getitem__(self, key: Any) -> Any:
        lines = self._lines
        if not isinstance(key, str):
            return _Rows(lines.select(key))
        if key == "species":
            return lines.species
        stages = np.array([float(name.rsplit(" ", 1)[1]) for name in lines.species])
        if key == "ionization":
            return stages
        numbers = [SYMBOLS.index(s) + 1 if s in SYMBOLS else 1 for s in (n.split()[0] for n in lines.species)]
        return np.column_stack(
            [
                numbers, stages, lines.wavelength, lines.excitation, lines.log_gf, lines.gamma_rad,
                lines.gamma_stark, lines.gamma_vdw,
            ]
        )  # fmt: skip


class Synthesizer:
    """Computes spectra from a line list.

    The library has one state a process: make one of these a process, and use it in one thread.

    Parameters
    ----------
    lines : LineList
        Lines of all species but hydrogen, whose lines are added.
    settings : SynthesisSettings, optional
        How.
    hydrogen : bool
        Whether to add the lines of hydrogen: always, but to look at other lines alone.

    Raises
    ------
    SynthesisError
        If PySME is not installed.
    """

    def __init__(
        self, lines: LineList, settings: SynthesisSettings | None = None, hydrogen: bool = True
    ) -> None:
        self.settings = settings or SynthesisSettings()
        wavelength = self.settings.computed_wavelength
        limits = (float(wavelength[0]), float(wavelength[-1]))
        near = (lines.wavelength > limits[0] - 50.0) & (lines.wavelength < limits[1] + 50.0)
        metals = lines.select(near & ~lines.is_hydrogen)
        supported = np.ones(len(metals), dtype=bool)
        if len(metals):
            with quiet_pysme():
                supported = ~np.asarray(library().InputLineList(_Rows(metals)), dtype=bool)
        #: Species whose lines the library cannot form, for lack of partition functions; they are left out.
        self.unsupported = tuple(sorted(set(metals.species[~supported].tolist())))
        metals = metals.select(supported)
        self.lines = merge([metals, hydrogen_lines(limits)]) if hydrogen else metals

    def spectrum(self, labels: Mapping[str, float], atmosphere: Atmosphere) -> NDArray[np.float64]:
        """Flux over continuum, at the resolution and the wavelengths of the settings.

        Parameters
        ----------
        labels : mapping
            By name; ``fe_h`` and ``v_micro`` are needed, abundances ``<x>_fe`` are taken as 0 if absent.
        atmosphere : Atmosphere
            Structure.

        Returns
        -------
        (W,) ndarray
        """
        flux, continuum = self.fluxes(labels, atmosphere)
        return degrade(self.settings.line_spread, flux / continuum)

    def fluxes(
        self, labels: Mapping[str, float], atmosphere: Atmosphere
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Flux and its continuum as computed, neither degraded nor resampled.

        Returns
        -------
        flux, continuum : (M,) ndarray
            Per unit of wavelength [erg s^-1 cm^-2 A^-1], at ``settings.computed_wavelength``.

        Raises
        ------
        InputError
            If labels are missing.
        SynthesisError
            If the library fails, or gives no light.
        """
        if "v_micro" not in labels:
            raise InputError("the labels have no v_micro")
        fractions = number_fractions(abundances(labels))
        state = _State(atmosphere, fractions, float(labels["v_micro"]), self.settings)
        wavelength = self.settings.computed_wavelength
        edges = np.arange(wavelength[0], wavelength[-1] + self.settings.chunk, self.settings.chunk)
        cuts = np.searchsorted(wavelength, edges[1:-1])
        pieces = [piece for piece in np.split(wavelength, cuts) if piece.size]
        try:
            with quiet_pysme():
                if len(pieces) == 1:
                    results = [state.transfer(self.lines, pieces[0])]
                else:
                    low, high = self._ranges(state, edges)
                    results = [
                        state.transfer(self.lines.select((low < piece[-1]) & (high > piece[0])), piece)
                        for piece in pieces
                    ]
        except (RuntimeError, ValueError) as error:
            raise SynthesisError(f"the line-formation code failed at {dict(labels)}: {error}") from error
        flux, continuum = (np.concatenate(parts) for parts in zip(*results, strict=True))
        if not (np.all(np.isfinite(flux)) and np.all(continuum > 0) and np.all(flux > 0)):
            raise SynthesisError(f"the line-formation code gave no light at {dict(labels)}")
        return flux, continuum

    def _ranges(
        self, state: _State, edges: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(N,) first and last wavelength at which each line matters; empty for one that is too weak."""
        low, high = np.full(len(self.lines), np.inf), np.full(len(self.lines), -np.inf)
        for part in np.split(np.arange(len(self.lines)), np.searchsorted(self.lines.wavelength, edges[1:-1])):
            if part.size:
                rows = np.zeros(len(self.lines), dtype=bool)
                rows[part] = True
                low[part], high[part] = state.ranges(self.lines.select(rows))
        hydrogen = self.lines.is_hydrogen
        low[hydrogen] = self.lines.wavelength[hydrogen] - HYDROGEN_REACH
        high[hydrogen] = self.lines.wavelength[hydrogen] + HYDROGEN_REACH
        return low, high


def _no_line(wavelength: float) -> LineList:
    """A line that absorbs nothing, since the library wants one."""
    return LineList.from_columns("none", ["Fe 1"], [wavelength], [0.0], [-30.0], [8.0], [-6.0], [-7.5])


@dataclass(frozen=True)
class _State:
    """An atmosphere with a composition, given to the library with each set of lines."""

    atmosphere: Atmosphere
    fractions: NDArray[np.float64]
    v_micro: float
    settings: SynthesisSettings

    @cached_property
    def _quadrature(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Cosines of the directions and their weights in the flux."""
        nodes, weights = np.polynomial.legendre.leggauss(self.settings.angles)
        mu = 0.5 * (nodes + 1.0)
        return mu[::-1].copy(), (np.pi * weights * mu)[::-1].copy()

    def _prepare(self, lines: LineList, first: float, last: float) -> Any:
        code, model = library(), self.atmosphere
        code.SetContinuumOpacityGrid("adaptive")
        # With scattering in the source function the library treats flux and continuum differently: their
        # ratio is then 0.3 to 0.7 % below 1 where there are no lines, in metal-poor and in cool stars.
        code.SetContinuumScatteringSourceMode(False)
        code.InputLineList(_Rows(lines))
        code.InputModel(
            model.teff,
            model.logg,
            self.v_micro,
            {
                "depth": "RHOX",
                "RHOX": model.column_mass,
                "temp": model.temperature,
                "xne": model.electron_density,
                "xna": model.atom_density,
                "rho": model.atom_density * 2.1e-24,  # replaced by that of the composition
                "wlstd": 5000.0,
                "opflag": _OPACITIES,
                "geom": "PP",
            },
        )
        code.InputAbund(lambda kind, raw: self.fractions.copy())
        code.Ionization(_DENSITIES_FROM_COMPOSITION)
        code.SetVWscale(1.0)
        code.SetH2broad(True)
        code.InputWaveRange(first - 2.0, last + 2.0)
        code.Opacity()
        return code

    def ranges(self, lines: LineList) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(N,) where lines begin and end to matter."""
        code = self._prepare(lines, float(lines.wavelength[0]), float(lines.wavelength[-1]))
        strength, limits = code.ALMAXRange(accrt=self.settings.weakest)
        matters = np.asarray(strength) > self.settings.weakest
        limits = np.asarray(limits)
        return np.where(matters, limits[:, 0], np.inf), np.where(matters, limits[:, 1], -np.inf)

    def transfer(
        self, lines: LineList, wavelength: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Flux (m,) and continuum (m,) at some wavelengths."""
        if len(lines) == 0:
            lines = _no_line(float(wavelength.mean()))
        code = self._prepare(lines, float(wavelength[0]), float(wavelength[-1]))
        mu, weights = self._quadrature
        _, _, intensity, continuum = code.Transf(mu, wave=wavelength, accrt=self.settings.weakest)
        return weights @ intensity, weights @ continuum


def differential_spectra(
    engine: Synthesizer,
    atmospheres: AtmosphereGrid,
    label_names: Sequence[str],
    labels: ArrayLike,
    steps: ArrayLike,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """A spectrum and its derivatives by forward differences.

    Parameters
    ----------
    engine : Synthesizer
        What computes spectra.
    atmospheres : AtmosphereGrid
        Atmospheres; a step in teff, logg or fe_h changes the atmosphere too.
    label_names : (L,) sequence of str
        Labels.
    labels : (L,) array_like
        Their values, in label units.
    steps : (L,) array_like
        Steps, in label units.

    Returns
    -------
    flux : (W,) ndarray
        Over continuum.
    gradient : (L, W) ndarray
        Per label unit.
    """
    centre = np.asarray(labels, dtype=np.float64)
    size = np.asarray(steps, dtype=np.float64)
    if centre.shape != (len(label_names),) or size.shape != centre.shape:
        raise InputError(
            f"labels {centre.shape} and steps {size.shape} must have shape ({len(label_names)},)"
        )
    flux = spectrum_of(engine, atmospheres, label_names, centre)
    gradient = np.empty((len(centre), len(flux)))
    for index in range(len(centre)):
        moved = centre.copy()
        moved[index] += size[index]
        gradient[index] = (spectrum_of(engine, atmospheres, label_names, moved) - flux) / size[index]
    return flux, gradient


def spectrum_of(
    engine: Synthesizer, atmospheres: AtmosphereGrid, label_names: Sequence[str], labels: ArrayLike
) -> NDArray[np.float64]:
    """The spectrum (W,) of a label vector (L,), on the atmosphere of its teff, logg and fe_h.

    Raises
    ------
    InputError
        If the atmosphere is not within the grid.
    """
    values = dict(zip(label_names, np.asarray(labels, dtype=np.float64).tolist(), strict=True))
    atmosphere = atmospheres.at(values["teff"], values["logg"], values["fe_h"])
    return engine.spectrum(values, atmosphere)
