"""Constants of the grid file: what it is called, in which range it may lie, how finely it is stored."""

from __future__ import annotations

from phdl_catalog.spectra.grid import PixelGrid

#: The pixels on which models are trained: 3750 to 8995 Angstrom in vacuum.
MODEL_GRID = PixelGrid(35740, 3801)

#: Resolving power of LAMOST low-resolution spectra.
LAMOST_RESOLUTION = 1800.0

#: Labels without which there is no atmosphere.
REQUIRED_LABELS = ("teff", "logg", "fe_h")

#: Normalised flux that is accepted: a little below zero (interpolation makes such), twice the continuum.
FLUX_RANGE = (-0.05, 2.0)

#: A normalised spectrum comes near its continuum somewhere; one that stays below was never computed.
LOWEST_MAXIMUM = 0.3

#: Flux is stored in steps of this: 0 to 2 in 16 bits, rounded by 9e-6 rms.
FLUX_STEP = 2.0 / 65535

#: Gradients by teff are stored per 100 K, so that half precision holds them.
TEFF_SCALE = 100.0

#: Rows of spectra that are in memory at once.
ROWS_AT_ONCE = 512

#: Where the format is described.
DOCUMENT = "docs/reference/grid-format.md"
