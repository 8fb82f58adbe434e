"""Where real stars differ from ab initio spectra: a correction of the lines, and the error that is left.

Line lists have wrong strengths and missing lines.  At R = 1800 that changes the solar spectrum by 0.3 to 3 %
of the continuum, in the same places in all similar stars, and no exposure time averages it down.

The correction says for each pixel how much absorption is missing, as a fraction of the absorption of the
lines around it: ``corrected = flux + correction * S(1 - flux)``, where S is a smooth mean over some 90
Angstrom that leaves hydrogen out.  So it grows and fades with the lines of a star, from metal-poor to
metal-rich and from hot to cool, and it is one number a pixel: it cannot tell one star from another.  The
operation is linear in the flux, hence in the emulator's basis, and costs a fit nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d
from torch import Tensor

from phdl_catalog.emulator.checkpoint import read_model, write_model
from phdl_catalog.errors import ModelError

#: Width of the mean S, one sigma [pixels]: 35 Angstrom at 5000.
_SMOOTHING = 30.0

#: Hydrogen lines, whose strength goes its own way [Angstrom], and the half width that S leaves out.
_HYDROGEN = (
    (6564.6, 60.0), (4862.7, 50.0), (4341.7, 40.0), (4102.9, 40.0), (3971.2, 30.0), (3890.2, 25.0),
    (3836.5, 20.0),
)  # fmt: skip

#: Mean absorption is taken where lines are many, and where most spectra have some S/N [Angstrom].
_AMPLITUDE_RANGE = (4150.0, 5700.0)


def smooth_absorption(
    wavelength: NDArray[np.float64], absorption: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The smooth mean S of line absorption.

    Parameters
    ----------
    wavelength : (P,) float64
        On the survey's grid [Angstrom].
    absorption : (..., P) float64
        One minus normalised flux.
    """
    keep = np.ones(wavelength.shape)
    for line, half_width in _HYDROGEN:
        keep[np.abs(wavelength - line) < half_width] = 0.0
    total = gaussian_filter1d(absorption * keep, _SMOOTHING, axis=-1)
    return np.asarray(total / np.maximum(gaussian_filter1d(keep, _SMOOTHING), 1e-3))


def absorption_amplitude(wavelength: NDArray[np.float64], flux: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean absorption (N,) of normalised spectra (N, P) where metal lines are many."""
    lower, upper = _AMPLITUDE_RANGE
    there = (wavelength >= lower) & (wavelength <= upper)
    return np.asarray(smooth_absorption(wavelength, 1.0 - flux)[..., there].mean(axis=-1))


@dataclass(frozen=True)
class Imperfection:
    """What a model lacks, learnt from stars of known labels.

    Parameters
    ----------
    wavelength : (P,) float64
        The model's [Angstrom].
    correction : (P,) float64
        What is to be added to the flux, in units of the smooth absorption around.
    error : (P,) float64
        One sigma of the corrected flux of a star with the mean absorption `reference`; it grows with the
        star's mean absorption.
    reference : float
        Mean absorption of the reference star.
    """

    wavelength: NDArray[np.float64]
    correction: NDArray[np.float64]
    error: NDArray[np.float64]
    reference: float

    def __post_init__(self) -> None:
        for name in ("correction", "error"):
            values = getattr(self, name)
            if values.shape != self.wavelength.shape or not np.all(np.isfinite(values)):
                raise ModelError(
                    f"the model's imperfection.{name} has shape {values.shape}, or is not finite; "
                    f"it must be {self.wavelength.shape}"
                )
        if not self.reference > 0:
            raise ModelError(f"the model's imperfection.reference must be positive, not {self.reference}")

    @classmethod
    def from_tensors(
        cls, wavelength: NDArray[np.float64], tensors: Mapping[str, Tensor]
    ) -> Imperfection | None:
        """From the tensors of a model file, whose names begin with ``imperfection.``; None without any."""
        if not tensors:
            return None
        try:
            correction, error, reference = (tensors[name] for name in ("correction", "error", "reference"))
        except KeyError as missing:
            raise ModelError(f"the model file has an imperfection without {missing}") from None
        return cls(
            wavelength, correction.double().numpy(), error.double().numpy(), float(reference.double().item())
        )

    def tensors(self) -> dict[str, Tensor]:
        """For a model file; one dimension each, which keeps full precision."""
        return {
            "imperfection.correction": torch.as_tensor(self.correction, dtype=torch.float32),
            "imperfection.error": torch.as_tensor(self.error, dtype=torch.float32),
            "imperfection.reference": torch.tensor([self.reference], dtype=torch.float32),
        }

    def correct(self, flux: NDArray[np.float64]) -> NDArray[np.float64]:
        """Corrected normalised spectra, of spectra (..., P)."""
        return np.asarray(flux + self.correction * smooth_absorption(self.wavelength, 1.0 - flux))

    def correct_basis(self, basis: Tensor) -> Tensor:
        """The basis (K + 1, P) of corrected spectra: its first row is a spectrum, the others are changes."""
        rows = basis.detach().double().cpu().numpy()
        changed = rows - self.correction * smooth_absorption(self.wavelength, rows)
        changed[0] = self.correct(rows[0])
        return torch.as_tensor(changed, dtype=basis.dtype, device=basis.device)

    def amplitude(self, flux: NDArray[np.float64]) -> NDArray[np.float64]:
        """By how much the error of spectra (N, P) is larger than that of the reference star: (N,)."""
        return np.clip(absorption_amplitude(self.wavelength, flux) / self.reference, 0.0, None)


def write_revised_model(
    source: Path, target: Path, name: str, imperfection: Imperfection, provenance: dict[str, Any]
) -> None:
    """Write a model file again, with an imperfection; weights and everything else stay as they are.

    Parameters
    ----------
    source, target : Path
        Model files; they may be the same.
    name : str
        Of the new version.
    imperfection : Imperfection
        Replaces what the model had.
    provenance : dict
        What it was learnt from and how well it does: ``metadata["imperfection"]`` of the file.
    """
    header, tensors = read_model(source)
    metadata = {**header.metadata, "imperfection": provenance}
    write_model(target, replace(header, name=name, metadata=metadata), {**tensors, **imperfection.tensors()})
