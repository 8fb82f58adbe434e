"""The file of an ab initio grid: its format, its checks, writing it, importing arrays into it."""

from phdl_catalog.emulator.grid_files.families import split_by_family
from phdl_catalog.emulator.grid_files.importing import ImportedGrid, import_grid
from phdl_catalog.emulator.grid_files.mapping import GridMapping
from phdl_catalog.emulator.grid_files.reading import GridContents, open_grid
from phdl_catalog.emulator.grid_files.writer import GridWriter

__all__ = [
    "GridContents",
    "GridMapping",
    "GridWriter",
    "ImportedGrid",
    "import_grid",
    "open_grid",
    "split_by_family",
]
