"""Named arrays in a file, npz, HDF5 or FITS, read whole or some rows at a time."""

from __future__ import annotations

import zipfile
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import h5py
import numpy as np
from numpy.typing import NDArray

from phdl_catalog.errors import GridError

if TYPE_CHECKING:
    from astropy.io.fits import HDUList

_LISTED = 30


class ArrayFile(ABC):
    """The arrays of one file; use `open_arrays`, as a context manager.

    Parameters
    ----------
    path : Path
    """

    #: Shape of every array, by name.
    shapes: dict[str, tuple[int, ...]]

    def __init__(self, path: Path) -> None:
        self.path = path
        self.shapes = {}

    def __enter__(self) -> ArrayFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @abstractmethod
    def close(self) -> None:
        """Close the file."""

    def find(self, name: str) -> str | None:
        """The array's name as the file spells it, or None."""
        wanted = name.strip("/")
        return wanted if wanted in self.shapes else None

    def require(self, name: str) -> str:
        """Like `find`.

        Raises
        ------
        GridError
            If there is none; the message lists what there is.
        """
        found = self.find(name)
        if found is None:
            listed = [f"{key} {shape}" for key, shape in self.shapes.items()]
            more = f" and {len(listed) - _LISTED} more" if len(listed) > _LISTED else ""
            raise GridError(
                f"{self.path.name} has no array '{name}'; it has {', '.join(listed[:_LISTED]) or 'none'}"
                f"{more}. Name it in the mapping (--mapping)"
            )
        return found

    @abstractmethod
    def read(self, name: str) -> NDArray[Any]:
        """A whole array, by its name in `shapes`."""

    @abstractmethod
    def blocks(self, name: str, rows: int) -> Iterator[NDArray[Any]]:
        """An array from its beginning, so many of its rows at a time."""

    def attribute(self, name: str, array: str | None = None) -> Any | None:
        """A fact that the file, or one of its arrays, carries beside numbers; None without it."""
        return None

    def facts(self) -> dict[str, str]:
        """Texts that the file carries beside its arrays."""
        return {}


class _Hdf5Arrays(ArrayFile):
    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._file = h5py.File(path, "r")
        self._file.visititems(self._note)

    def _note(self, name: str, item: h5py.HLObject) -> None:
        if isinstance(item, h5py.Dataset):
            self.shapes[name] = item.shape

    def close(self) -> None:
        self._file.close()

    def read(self, name: str) -> NDArray[Any]:
        return np.asarray(self._file[name][()])

    def blocks(self, name: str, rows: int) -> Iterator[NDArray[Any]]:
        data = self._file[name]
        for start in range(0, len(data), rows):
            yield data[start : start + rows]

    def attribute(self, name: str, array: str | None = None) -> Any | None:
        return (self._file if array is None else self._file[array]).attrs.get(name)

    def facts(self) -> dict[str, str]:
        return {key: value for key, value in self._file.attrs.items() if isinstance(value, str)}


class _NpzArrays(ArrayFile):
    """Arrays are streamed out of the archive: numpy itself would read one whole."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._archive = zipfile.ZipFile(path)
        self._kinds: dict[str, tuple[np.dtype[Any], bool]] = {}
        for member in self._archive.namelist():
            if member.endswith(".npy"):
                with self._archive.open(member) as stream:
                    shape, fortran, kind = _npy_header(stream, path)
                name = member.removesuffix(".npy")
                self.shapes[name] = shape
                self._kinds[name] = kind, fortran

    def close(self) -> None:
        self._archive.close()

    def read(self, name: str) -> NDArray[Any]:
        if self._kinds[name][0].hasobject:
            raise GridError(
                f"'{name}' in {self.path.name} holds Python objects, not numbers: save it as numbers"
            )
        with np.load(self.path, allow_pickle=False) as arrays:
            return np.asarray(arrays[name])

    def blocks(self, name: str, rows: int) -> Iterator[NDArray[Any]]:
        kind, fortran = self._kinds[name]
        shape = self.shapes[name]
        if fortran or kind.hasobject:  # columns first: rows cannot be had without the whole
            whole = self.read(name)
            yield from (whole[start : start + rows] for start in range(0, len(whole), rows))
            return
        with self._archive.open(f"{name}.npy") as stream:
            _npy_header(stream, self.path)
            row_bytes = int(np.prod(shape[1:], dtype=np.int64)) * kind.itemsize
            for start in range(0, shape[0], rows):
                count = min(rows, shape[0] - start)
                data = stream.read(count * row_bytes)
                if len(data) < count * row_bytes:
                    raise GridError(f"'{name}' in {self.path.name} ends after {start} rows of {shape[0]}")
                yield np.frombuffer(data, kind).reshape(count, *shape[1:])

    def attribute(self, name: str, array: str | None = None) -> Any | None:
        """Archives have no attributes: a small array of that name stands for one."""
        return self.read(name)[()] if array is None and name in self.shapes else None


def _npy_header(stream: IO[bytes], path: Path) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(stream)
    if version == (1, 0):
        return np.lib.format.read_array_header_1_0(stream)
    if version == (2, 0):
        return np.lib.format.read_array_header_2_0(stream)
    raise GridError(f"{path.name} holds an array with named fields: save each field as an array of its own")


class _FitsArrays(ArrayFile):
    """Images are called by their HDU, its name or number; columns of tables ``HDU/COLUMN``."""

    def __init__(self, path: Path) -> None:
        from astropy.io import fits

        super().__init__(path)
        self._file: HDUList = fits.open(path, memmap=True)
        self._where: dict[str, tuple[int, str | None]] = {}
        for number, hdu in enumerate(self._file):
            title = hdu.name or str(number)
            if isinstance(hdu, fits.BinTableHDU | fits.TableHDU) and not isinstance(hdu, fits.CompImageHDU):
                for column in hdu.columns:
                    size = (len(hdu.data), *hdu.data.dtype[column.name].shape)
                    self._note(f"{title}/{column.name}", size, (number, column.name))
            elif hdu.shape:
                self._note(title, tuple(hdu.shape), (number, None))

    def _note(self, name: str, shape: tuple[int, ...], where: tuple[int, str | None]) -> None:
        self.shapes[name] = shape
        self._where[name] = where

    def close(self) -> None:
        self._file.close()

    def find(self, name: str) -> str | None:
        hdu, _, column = name.strip("/").partition("/")
        if hdu.isdigit():
            wanted = (int(hdu), column.upper() or None)
            same = [key for key, (n, c) in self._where.items() if (n, c and c.upper()) == wanted]
        else:
            same = [key for key in self.shapes if key.upper() == name.strip("/").upper()]
        return same[0] if same else None

    def read(self, name: str) -> NDArray[Any]:
        number, column = self._where[name]
        data = self._file[number].data
        return np.array(data if column is None else data[column])

    def blocks(self, name: str, rows: int) -> Iterator[NDArray[Any]]:
        number, column = self._where[name]
        hdu = self._file[number]
        for start in range(0, self.shapes[name][0], rows):
            part = slice(start, start + rows)
            yield np.asarray(hdu.section[part] if column is None else hdu.data[column][part])

    def attribute(self, name: str, array: str | None = None) -> Any | None:
        header = self._file[0 if array is None else self._where[array][0]].header
        return header.get(name.upper()) if len(name) <= 8 else None


def open_arrays(path: Path) -> ArrayFile:
    """Open a file of arrays; its kind is recognised by its first bytes.

    Raises
    ------
    GridError
        If it is not there, or none of npz, HDF5 and FITS.
    """
    if not path.is_file():
        raise GridError(f"there is no file {path}")
    with path.open("rb") as stream:
        head = stream.read(10)
    try:
        if head.startswith(b"PK"):
            return _NpzArrays(path)
        if h5py.is_hdf5(path):
            return _Hdf5Arrays(path)
        if head.startswith((b"SIMPLE", b"\x1f\x8b")):
            return _FitsArrays(path)
    except (OSError, zipfile.BadZipFile, ValueError) as error:
        raise GridError(f"{path.name} cannot be read: {error}") from error
    raise GridError(f"{path.name} is neither npz (numpy.savez), nor HDF5, nor FITS")
