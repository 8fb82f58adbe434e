"""Ab initio spectra of one's own: line lists, model atmospheres, and LTE line formation by PySME."""

from phdl_catalog.emulator.synthesis.atmosphere import Atmosphere, AtmosphereGrid
from phdl_catalog.emulator.synthesis.design import LabelDesign
from phdl_catalog.emulator.synthesis.engine import (
    SynthesisSettings,
    Synthesizer,
    differential_spectra,
    spectrum_of,
)
from phdl_catalog.emulator.synthesis.line_list import LineList
from phdl_catalog.emulator.synthesis.reading import read_lines

__all__ = [
    "Atmosphere",
    "AtmosphereGrid",
    "LabelDesign",
    "LineList",
    "SynthesisSettings",
    "Synthesizer",
    "differential_spectra",
    "read_lines",
    "spectrum_of",
]
