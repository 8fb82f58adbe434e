"""What a spectrum is: the survey's pixel grid, the LAMOST readers, the mask policy, the packed store."""

from phdl_catalog.spectra.grid import SURVEY_GRID, PixelGrid
from phdl_catalog.spectra.lamost import parse_spectrum, read_spectrum
from phdl_catalog.spectra.masks import good_pixels
from phdl_catalog.spectra.records import PixelBlock
from phdl_catalog.spectra.spectrum import Layout, RejectionReason, Spectrum, SpectrumHeader
from phdl_catalog.spectra.store import PixelAddress, PixelStore, ShardWriter

__all__ = [
    "SURVEY_GRID",
    "Layout",
    "PixelAddress",
    "PixelBlock",
    "PixelGrid",
    "PixelStore",
    "RejectionReason",
    "ShardWriter",
    "Spectrum",
    "SpectrumHeader",
    "good_pixels",
    "parse_spectrum",
    "read_spectrum",
]
