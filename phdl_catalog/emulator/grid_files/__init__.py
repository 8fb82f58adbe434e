"""The file of an ab initio grid: its format, its checks, writing it, importing arrays into it."""

from phdl_catalog.emulator.grid_files.families import split_by_family
from phdl_catalog.emulator.grid_files.writer import GridWriter

__all__ = ["GridWriter", "split_by_family"]
