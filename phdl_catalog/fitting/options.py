"""What can be chosen about a fit, with the reason for each default."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from phdl_catalog.errors import InputError
from phdl_catalog.fitting.prior import LabelPrior
from phdl_catalog.spectra.continuum import ARM_JOIN, KNOT_SPACING

#: Stars worked on together: enough for a few that take many steps to cost the others nothing; 0.7 GB.
_BATCH_SIZE = {"cpu": 256, "cuda": 1024}

#: Fewest stars that a thread works on together, if there are so many.
_LEAST_BATCH = 64


@dataclass(frozen=True)
class FitOptions:
    """Choices of a fit; recorded with every fit run.

    Parameters
    ----------
    mask_telluric : bool
        Leave out pixels in the absorption bands of the Earth's atmosphere.
    mask_interstellar : bool
        Leave out pixels at the cores of interstellar lines.
    mask_arm_overlap : bool
        Leave out pixels where the spectra of the two arms are joined.
    correct_model : bool, optional
        Whether to use what the model file says on its imperfection: correct the lines, and add the error that
        is left.  None: where that describes the spectrum better.  True and False: always and never.
    fit_line_width : bool
        Fit the width of the line-spread function, which varies from fibre to fibre, together with the labels.
    fit_error_floor : bool
        Where residuals exceed the noise, add an error proportional to the continuum, one in each of a few
        bands of wavelength, so that chi2 is one; else the labels of bright stars follow the model's faults.
    largest_velocity : float
        Velocities searched, to either side [km/s].
    velocity_floor : float
        Scatter of the survey's wavelength calibration from visit to visit, added to the velocity's error
        [km/s].  Repeats of 60 stars of DR8 scatter by 3.7 where photons explain 1.1.
    knot_spacing, arm_join : float
        Of the pseudo-continuum [Angstrom].
    outlier : float
        Deviation beyond which a pixel loses weight [sigma].  Of 3800 pixels of pure noise 0.2 exceed 4.
    tolerance : float
        A fit has converged when what is left of its way is shorter than this, in units of the error
        ellipsoid.
    margin : float
        How far a label may leave the training range, as a fraction of that range.
    low_snr : float
        Median S/N per pixel under which a fit is flagged.
    largest_floor : float
        Error floor, as a fraction of the continuum, over which a fit is flagged as poor.
    priors : tuple of LabelPrior
        Gaussian priors on labels; none by default.
    batch_size : int, optional
        Stars worked on together, by all threads; None: what suits the device.
    """

    mask_telluric: bool = True
    mask_interstellar: bool = True
    mask_arm_overlap: bool = True
    correct_model: bool | None = None
    fit_line_width: bool = True
    fit_error_floor: bool = True
    largest_velocity: float = 1000.0
    velocity_floor: float = 3.5
    knot_spacing: float = KNOT_SPACING
    arm_join: float = ARM_JOIN
    outlier: float = 4.0
    tolerance: float = 0.1
    margin: float = 0.05
    low_snr: float = 10.0
    largest_floor: float = 0.06
    priors: tuple[LabelPrior, ...] = ()
    batch_size: int | None = None

    def __post_init__(self) -> None:
        # Priors come back from JSON as dictionaries.
        priors = tuple(LabelPrior(**item) if isinstance(item, dict) else item for item in self.priors)
        object.__setattr__(self, "priors", priors)
        positive = ("largest_velocity", "knot_spacing", "outlier", "tolerance", "largest_floor")
        for name in positive:
            if not getattr(self, name) > 0:
                raise InputError(f"the option {name} of a fit must be positive, not {getattr(self, name)}")
        for name in ("margin", "velocity_floor"):
            if getattr(self, name) < 0:
                raise InputError(
                    f"the option {name} of a fit must not be negative, not {getattr(self, name)}"
                )
        if self.largest_velocity > 2000:
            raise InputError(
                f"largest_velocity is {self.largest_velocity} km/s; stars of the Galaxy stay under 1000, "
                "and more than 2000 km/s is not supported"
            )
        if self.batch_size is not None and self.batch_size < 1:
            raise InputError(f"the option batch_size of a fit must be at least 1, not {self.batch_size}")

    def together(self, device: str, number: int, threads: int) -> int:
        """How many of `number` stars each of some threads works on at one time, on a type of device."""
        batch = self.batch_size or _BATCH_SIZE.get(device, 32)
        return max(1, min(batch, max(batch // threads, _LEAST_BATCH), -(-number // threads)))

    def as_dict(self) -> dict[str, Any]:
        """The choices that can change a result, as plain values for JSON."""
        values = {name: value for name, value in asdict(self).items() if name != "batch_size"}
        return {**values, "priors": list(values["priors"])}
