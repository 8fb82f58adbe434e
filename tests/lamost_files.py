"""Small genuine LAMOST files of all four layouts, written with astropy, for tests of readers and ingest."""

from __future__ import annotations

import gzip
import io
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

FIRST_PIXEL = 35682


@dataclass
class FileContent:
    """What a test wants to find in a file; change a field to make another file."""

    obsid: int = 101001
    n_pixels: int = 3909
    first_pixel: int = FIRST_PIXEL
    seed: int = 1
    cards: dict[str, Any] = field(default_factory=dict)
    flux: NDArray[np.float64] = field(init=False)
    ivar: NDArray[np.float64] = field(init=False)
    andmask: NDArray[np.float64] = field(init=False)
    ormask: NDArray[np.float64] = field(init=False)

    def __post_init__(self) -> None:
        random = np.random.default_rng(self.seed)
        self.flux = 1000.0 + 50.0 * random.standard_normal(self.n_pixels)
        self.ivar = np.full(self.n_pixels, 4e-4)
        self.andmask = np.zeros(self.n_pixels)
        self.ormask = np.zeros(self.n_pixels)
        self.ivar[:7] = 0.0
        self.flux[:7] = 0.0
        self.andmask[100:103] = 1
        self.ormask[100:110] = 1
        self.ormask[200] = 4

    @property
    def wavelength(self) -> NDArray[np.float64]:
        return 10.0 ** ((self.first_pixel + np.arange(self.n_pixels)) * 1e-4)


def header_cards(content: FileContent, *, old_names: bool) -> fits.Header:
    header = fits.Header()
    header["COMMENT"] = "--------FILE INFORMATION"
    if not old_names:
        header["OBSID"] = (content.obsid, "Unique number ID of this spectrum")
        header["DATA_V"] = ("LAMOST DR10", "Data release version")
    header["ORIGIN"] = ("NAOC-LAMOST", "Organization responsible for creating this file")
    header["TELESCOP"] = ("LAMOST", "GuoShouJing Telescope")
    header["LMJD"] = (55862, "Local Modified Julian Day")
    header["MJD"] = (55861, "Modified Julian Day")
    header["PLANID"] = ("B6202", "Plan ID in use")
    header["RA"] = (66.43298, "[deg] Right ascension of object")
    header["DEC"] = (32.625089, "[deg] Declination of object")
    header["DESIG"] = ("LAMOST J042543.91+323730.3", "Designation of LAMOST target")
    header["SPID"] = (6, "Spectrograph ID")
    header["FIBERID"] = ("126" if old_names else 126, "Fiber ID of Object")
    header["OBJNAME"] = ("G172478915877176704", "Name of object")
    header["VERSPIPE"] = ("v2.9.8", "Version of Pipeline")
    header["COEFF0"] = (content.first_pixel * 1e-4, "Central wavelength (log10) of first pixel")
    header["COEFF1"] = (0.0001, "Log10 dispersion per pixel")
    header["CLASS"] = ("STAR", "Class of object")
    header["SUBCLASS"] = ("G5", "Subclass of object")
    header["Z"] = (4.19e-5, "Redshift of object")
    header["Z_ERR"] = (1.428e-5, "Redshift error of object")
    for number, band in enumerate("UGRIZ"):
        header[f"SN_{band}" if old_names else f"SNR{band}"] = (20.5 + number, f"SNR of {band} filter")
    for key, value in content.cards.items():
        header[key] = value
    return header


def make_file(layout: str, content: FileContent | None = None, *, packed: bool = False) -> bytes:
    """The bytes of one file; `layout` is pilot, dr1, dr5 or dr9."""
    content = content or FileContent()
    header = header_cards(content, old_names=layout in ("pilot", "dr1"))
    if layout == "dr9":
        primary = fits.PrimaryHDU(header=header)
        names = ("FLUX", "IVAR", "WAVELENGTH", "ANDMASK", "ORMASK", "NORMALIZATION")
        values = (
            content.flux,
            content.ivar,
            content.wavelength,
            content.andmask,
            content.ormask,
            content.flux,
        )
        columns = [
            fits.Column(name, f"{content.n_pixels}E", array=value.astype(">f4")[None])
            for name, value in zip(names, values, strict=True)
        ]
        units = fits.HDUList([primary, fits.BinTableHDU.from_columns(columns, name="COADD")])
    else:
        third = content.flux / 1000.0 if layout == "pilot" else content.wavelength
        image = np.array([content.flux, content.ivar, third, content.andmask, content.ormask])
        units = fits.HDUList([fits.PrimaryHDU(image.astype(">f8" if layout == "dr1" else ">f4"), header)])
    buffer = io.BytesIO()
    units.writeto(buffer)
    data = buffer.getvalue()
    if layout == "dr9":
        # The real ones have cards left over of an image that is not there any more; astropy would drop them.
        axes = b"NAXIS   =                    0 / number of array dimensions".ljust(80)
        stale = b"NAXIS1  =                 3909 /".ljust(80) + b"NAXIS2  =                    5 /".ljust(80)
        data = data.replace(axes, axes + stale, 1)
        blanks = data.index(b"END".ljust(80)) + 80
        data = data[:blanks] + data[blanks + 160 :]
    return gzip.compress(data, mtime=0) if packed else data
