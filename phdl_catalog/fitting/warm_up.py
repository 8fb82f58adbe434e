"""Compile the loops of a fit before one is waited for: ``python -m phdl_catalog.fitting.warm_up``."""

from __future__ import annotations

import numpy as np

from phdl_catalog.fitting.fit import Fitter
from phdl_catalog.fitting.forward import Model

#: S/N of the spectra that are fitted.
_SNR = 100.0


def warm_up(model: Model) -> None:
    """Fit two spectra of a model; what was compiled for it is there for all other fits.

    Parameters
    ----------
    model : Model
        An emulator, from `phdl_catalog.load_model`.
    """
    fitter = Fitter(model)
    flux = fitter.forward.full_template(fitter.forward.middle.expand(2, -1)).numpy()
    flux = flux + np.random.default_rng(0).normal(size=flux.shape) / _SNR
    fitter.fit(np.asarray(model.wavelength), flux, np.full(flux.shape, _SNR**2))


if __name__ == "__main__":
    from phdl_catalog.emulator import load_model

    warm_up(load_model("default"))
