"""Models of a worker process: loaded after the fork, checked against their registration, kept."""

from __future__ import annotations

import json
import logging
import os
from collections import OrderedDict
from typing import TYPE_CHECKING

from phdl_catalog.database.chunks import Claim
from phdl_catalog.errors import ModelError, NotFoundError
from phdl_catalog.spectra.records import PixelBlock

if TYPE_CHECKING:
    from phdl_catalog.fitting import FitResult, Fitter

_log = logging.getLogger(__name__)

#: Set by `phdl worker`: threads of a process.  Stars of a batch share few large matrix products, and threads
#: that wait for each other cost more than they bring, the more so where other processes run.
THREADS = "PHDL_WORKER_THREADS"

#: Models kept at a time: two runs may take turns.
_KEPT = 2


class ModelFits:
    """Fits chunks on one device, with whatever model a chunk asks for.

    Parameters
    ----------
    device : str
        ``cpu``, ``cuda`` or ``cuda:1``.
    """

    def __init__(self, device: str = "cpu") -> None:
        self.device = device
        self._fitters: OrderedDict[tuple[int, str], Fitter] = OrderedDict()

    def __call__(self, claim: Claim, block: PixelBlock) -> FitResult:
        """Fit the pixels of a chunk.

        Raises
        ------
        ModelError
            If the model cannot be loaded, or its weights are not those that were registered.
        """
        return self._fitter(claim).fit(block.grid.wavelength, block.flux, block.ivar, block.mask)

    def _fitter(self, claim: Claim) -> Fitter:
        key = (claim.model_version_id, json.dumps(claim.configuration, sort_keys=True))
        if key not in self._fitters:
            self._fitters[key] = self._load(claim)
            while len(self._fitters) > _KEPT:
                self._fitters.popitem(last=False)
        self._fitters.move_to_end(key)
        return self._fitters[key]

    def _load(self, claim: Claim) -> Fitter:
        # These import torch: never in a process that forks.
        import torch

        from phdl_catalog.emulator import load_model
        from phdl_catalog.fitting import FitOptions, Fitter

        torch.set_num_threads(int(os.environ.get(THREADS, "1")))
        _log.info("loading model %s on %s", claim.model, self.device, extra={"job": {"run": claim.run}})
        try:
            model = load_model(claim.model_uri, device=self.device)
        except NotFoundError as error:
            raise ModelError(f"model '{claim.model}' is not on this machine: {error}") from error
        if model.sha256 != claim.model_sha256:
            raise ModelError(
                f"the weights of model '{claim.model}' at {claim.model_uri} are {model.sha256[:12]} on this "
                f"machine, registered are {claim.model_sha256[:12]}: install the same version everywhere"
            )
        try:
            options = FitOptions(**claim.configuration)
        except TypeError as error:
            raise ModelError(
                f"this version of the fit does not know an option of the run: {error}"
            ) from error
        return Fitter(model, options, self.device)
