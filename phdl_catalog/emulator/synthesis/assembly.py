"""From the finished spectra of a plan to a grid file."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from phdl_catalog.emulator.grid import MODEL_GRID
from phdl_catalog.emulator.grid_files import GridWriter
from phdl_catalog.emulator.synthesis.library import library_version
from phdl_catalog.emulator.synthesis.plan import Spectrum, SynthesisFolder, SynthesisPlan
from phdl_catalog.errors import ConflictError, SynthesisError
from phdl_catalog.spectra.grid import LOG10_STEP, PixelGrid

#: Spectra that are written at once.
_ROWS = 64

#: Free wavelength beyond the first and last pixel, for the line spread [pixels].
_MARGIN = 15


def served_pixels(plan: SynthesisPlan) -> PixelGrid:
    """The pixels of the survey that a grid can serve: those of models, or what its range allows."""
    low, high = np.log10(plan.settings.stored_wavelength[[0, -1]]) / LOG10_STEP
    first, last = int(np.ceil(low)) + _MARGIN, int(np.floor(high)) - _MARGIN
    if first <= MODEL_GRID.first and last >= MODEL_GRID.stop - 1:
        return MODEL_GRID
    return PixelGrid(first, max(last - first, 2))


def write_grid(
    folder: SynthesisFolder, output: Path, skip_failed: bool = False, overwrite: bool = False
) -> tuple[str, ...]:
    """Write the grid of a finished plan.

    Parameters
    ----------
    folder : SynthesisFolder
        With its plan and its spectra.
    output : Path
        Grid file to make.
    skip_failed : bool
        Leave out stars whose spectra failed.
    overwrite : bool
        Replace a file that is there.

    Returns
    -------
    tuple of str
        Remarks on the grid, for its owner.

    Raises
    ------
    SynthesisError
        If spectra are missing.
    GridError, ConflictError
        If the grid cannot be written.
    """
    plan = folder.plan()
    names, steps = plan.design.label_names, plan.design.steps
    done = folder.finished()
    lacking = [s for s in plan.spectra() if s.name not in done]
    if lacking and not skip_failed:
        raise SynthesisError(
            f"{len(lacking)} of the spectra are missing, the first is {lacking[0].name}; the same command "
            "computes them, --skip-failed leaves their stars out"
        )
    expected = plan.design.stars(plan.stars)
    stars = [i for i in range(plan.stars) if Spectrum("star", i).name in done]
    spoilt = {(s.kind, s.index) for s in lacking}
    references = [i for i in range(plan.gradients) if ("reference", i) not in spoilt]
    with GridWriter(
        output,
        names,
        plan.settings.stored_wavelength,
        plan.settings.resolution,
        step=steps,
        attributes=_attributes(plan),
        seed=plan.seed,
        pixels=served_pixels(plan),
        overwrite=overwrite,
    ) as writer:
        for start in range(0, len(stars), _ROWS):
            part = stars[start : start + _ROWS]
            loaded = [folder.load(Spectrum("star", index)) for index in part]
            labels = np.stack([row for row, _ in loaded])
            if not np.allclose(labels, expected[part], atol=1e-6):
                raise ConflictError(
                    f"the spectra in {folder.path} are of another design than this version of the package "
                    "makes; remove the folder and compute them again"
                )
            writer.append(labels, np.stack([flux for _, flux in loaded]), star=np.array(part))
        for index in references:
            labels, flux = folder.load(Spectrum("reference", index))
            moved = [folder.load(Spectrum("reference", index, name))[1] for name in names]
            gradient = np.stack(
                [(m.astype(np.float64) - flux) / step for m, step in zip(moved, steps, strict=True)]
            )
            writer.append_gradients(labels[None], flux[None], gradient[None])
    return writer.remarks


def _attributes(plan: SynthesisPlan) -> dict[str, str | float]:
    lines = ", ".join(
        f"{Path(path).name} ({digest[:12]})"
        for path, digest in zip(plan.lines, plan.line_hashes, strict=True)
    )
    return {
        "code": f"{library_version()}; LTE, plane-parallel, sampled at R = {plan.settings.sampling:g}",
        "abundances": "Asplund et al. 2009",
        "atmospheres": f"ATLAS9 decks of {Path(plan.atmospheres).name}, interpolated in log at fe_h",
        "linelist": lines,
        "design": f"scrambled Sobol, seed {plan.seed}",
    }
