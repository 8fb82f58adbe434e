"""Tables of calibrators as other people publish them: read without losing a digit, columns found by name."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from phdl_catalog.errors import InputError

if TYPE_CHECKING:
    from astropy.table import Table

Floats = NDArray[np.float64]

#: Above this a double no longer holds every integer.
_LARGEST_EXACT = 2**53

#: Values that stand for "none" in published tables; of a float32 column, rounded as it rounds them.
_SENTINELS = (-9999.0, -9999.99, -9999.9, -999.0, -999.9, -99.0, -99.9, -99.99, 99.99, 999.9, 9999.0, 99999.0)

#: A column of a mapping: 15*RA is a multiple, X_H[12] the thirteenth number of a column of arrays.
_TERM = re.compile(r"(?:(?P<factor>\d+(?:\.\d+)?)\s*\*\s*)?(?P<name>.+?)(?:\[(?P<index>\d+)\])?")

_FORMATS = {
    ".csv": "ascii.csv",
    ".ecsv": "ascii.ecsv",
    ".fits": "fits",
    ".fit": "fits",
    ".vot": "votable",
    ".votable": "votable",
    ".xml": "votable",
    ".parquet": "parquet",
    ".pq": "parquet",
}


@dataclass(frozen=True)
class Term:
    """A column, one number of its arrays if `index` is given, times a factor."""

    name: str
    factor: float = 1.0
    index: int | None = None


@dataclass(frozen=True, eq=False)
class PublishedTable:
    """A table whose columns are found whatever case and synonym they are written in.

    Parameters
    ----------
    path : Path
        File it is from.
    table : astropy.table.Table
        Its content.
    given : mapping
        Columns named by the user: our name to theirs, or to a multiple (``15*RA``), an element
        (``X_H[12]``) or a difference (``MG_H-FE_H``) of theirs; these win over any synonym.
    """

    path: Path
    table: Table
    given: Mapping[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.table)

    @property
    def names(self) -> list[str]:
        """Column names as written."""
        return list(self.table.colnames)

    def find(self, ours: str, synonyms: Sequence[str] = ()) -> str | None:
        """The file's name of one of our columns, None if it has none.

        Raises
        ------
        InputError
            If the user named a column that the file does not have.
        """
        if ours in self.given:
            theirs = self.given[ours]
            if not self.terms(theirs):
                raise InputError(
                    f"{self.path.name} has no column '{theirs}' (wanted for {ours}); "
                    f"it has {', '.join(self.names)}"
                )
            return theirs
        by_lower = {name.lower(): name for name in reversed(self.names)}
        return next((by_lower[name.lower()] for name in (ours, *synonyms) if name.lower() in by_lower), None)

    def terms(self, theirs: str) -> tuple[Term, ...]:
        """What a mapping asks for: one term, or two, the second to be subtracted; none: no such column."""
        whole = self._term(theirs)
        if whole is not None:
            return (whole,)
        for place in (match.start() for match in re.finditer("-", theirs)):
            parts = self._term(theirs[:place]), self._term(theirs[place + 1 :])
            if parts[0] is not None and parts[1] is not None:
                return (parts[0], parts[1])
        return ()

    def _term(self, text: str) -> Term | None:
        text = text.strip()
        if text in self.names:
            return Term(text)
        found = _TERM.fullmatch(text)
        if found is None or found["name"].strip() not in self.names:
            return None
        index = None if found["index"] is None else int(found["index"])
        return Term(found["name"].strip(), float(found["factor"] or 1), index)

    def numbers(self, name: str | None) -> Floats:
        """(N,) values of a column, or of what a mapping makes of columns.

        NaN where masked, infinite or a number that stands for none.

        Raises
        ------
        InputError
            If it holds no numbers, or several in a row of the table.
        """
        if name is None:
            return np.full(len(self), np.nan)
        first, *others = (self._values(term) for term in self.terms(name))
        return first - others[0] if others else first

    def _values(self, term: Term) -> Floats:
        column = self.table[term.name]
        if column.dtype.kind not in "iufb":
            if not any(self.texts(term.name)):
                return np.full(len(self), np.nan)
            raise InputError(f"column '{term.name}' of {self.path.name} is {column.dtype}, not numbers")
        if column.ndim > 1:
            width = int(np.prod(column.shape[1:]))
            if term.index is None or column.ndim > 2 or term.index >= width:
                raise InputError(
                    f"column '{term.name}' of {self.path.name} has {width} numbers in each row; choose one, "
                    f"of which the first is 0: --map OURS={term.name}[0]"
                )
            column = column[:, term.index]
        elif term.index is not None:
            raise InputError(f"column '{term.name}' of {self.path.name} has one number in each row")
        values = np.array(np.ma.getdata(column), dtype=np.float64)
        kind = column.dtype if column.dtype.kind == "f" else np.dtype(np.float64)
        values[np.isin(values, np.array(_SENTINELS).astype(kind).astype(np.float64))] = np.nan
        values[np.ma.getmaskarray(np.ma.asarray(column)) | ~np.isfinite(values)] = np.nan
        return values * term.factor

    def set_bits(self, name: str, bits: int = -1) -> NDArray[np.bool_] | None:
        """(N,) rows in which a column of flags has one of some bits; None if it holds no numbers.

        A flag that is missing counts as set; one that went through a table of floats is still a number.
        """
        column = self.table[name]
        if column.dtype.kind not in "iufb" or column.ndim > 1:
            return None
        values = np.ma.getdata(column)
        missing = np.ma.getmaskarray(np.ma.asarray(column)) | ~np.isfinite(values)
        whole = np.where(missing, 0, values).astype(np.int64)
        return np.asarray((whole & bits != 0) | missing)

    def identifiers(self, name: str | None) -> list[int | None]:
        """N identifiers, exactly; None where masked, empty, zero or negative one.

        Raises
        ------
        InputError
            If they were stored as floats and have lost digits, or are no integers.
        """
        if name is None:
            return [None] * len(self)
        column = self.table[name]
        masked = np.ma.getmaskarray(np.ma.asarray(column)).tolist()
        values = np.ma.getdata(column)
        if values.dtype.kind == "f":
            finite = np.isfinite(values)
            if np.any(np.abs(values[finite]) > _LARGEST_EXACT):
                raise InputError(
                    f"column '{name}' of {self.path.name} has identifiers as floats: "
                    "their last digits are lost; use a table that stores them as int64 or text"
                )
            listed = [
                int(value) if ok else None for value, ok in zip(values.tolist(), finite.tolist(), strict=True)
            ]
        else:
            listed = [self._identifier(name, value) for value in values.tolist()]
        return [
            None if hidden or not value or value < 0 else value
            for value, hidden in zip(listed, masked, strict=True)
        ]

    def _identifier(self, name: str, value: Any) -> int | None:
        if isinstance(value, int):
            return value
        text = value.decode() if isinstance(value, bytes) else str(value)
        # "Gaia DR3 4472832130942575872": the number is the last word.
        words = text.split()
        if not words or words[-1].lower() in {"nan", "none", "null", "--"}:
            return None
        try:
            return int(words[-1])
        except ValueError:
            raise InputError(
                f"column '{name}' of {self.path.name} has '{text}' where an identifier is expected"
            ) from None

    def texts(self, name: str | None) -> list[str | None]:
        """N texts, stripped; None where masked or empty."""
        if name is None:
            return [None] * len(self)
        column = self.table[name]
        masked = np.ma.getmaskarray(np.ma.asarray(column)).tolist()
        words = [
            (value.decode() if isinstance(value, bytes) else str(value)).strip()
            for value in np.ma.getdata(column).tolist()
        ]
        return [None if hidden or not word else word for word, hidden in zip(words, masked, strict=True)]


def read_published(path: Path, given: Mapping[str, str] | None = None) -> PublishedTable:
    """Read a FITS, CSV, ECSV, VOTable or Parquet file, compressed or not.

    Parameters
    ----------
    path : Path
        File.
    given : mapping, optional
        Columns named by the user: our name to theirs.

    Raises
    ------
    InputError
        If the file is missing, of another kind, or cannot be read.
    """
    import warnings

    from astropy.table import Table

    if not path.is_file():
        raise InputError(f"there is no file {path}")
    suffixes = [suffix.lower() for suffix in path.suffixes if suffix.lower() not in {".gz", ".bz2", ".xz"}]
    kind = _FORMATS.get(suffixes[-1] if suffixes else "")
    if kind is None:
        raise InputError(
            f"{path.name}: cannot tell the format; known endings: {', '.join(_FORMATS)}, also with .gz"
        )
    try:
        with warnings.catch_warnings():
            # Units that astropy does not know are of no concern here.
            warnings.simplefilter("ignore")
            if kind == "parquet":
                table = _read_parquet(path)
            elif kind == "fits":
                table = _read_fits(path)
            else:
                table = Table.read(path, format=kind)
    except (OSError, ValueError, TypeError, IndexError, KeyError) as error:
        raise InputError(f"{path.name} cannot be read as {kind}: {str(error).splitlines()[0]}") from error
    return PublishedTable(path, table, given or {})


def _read_fits(path: Path) -> Table:
    """The first table that has rows: SDSS DR19 puts an empty one before that of APOGEE."""
    from astropy.io import fits
    from astropy.table import Table

    with fits.open(path) as units:
        tables = [
            number
            for number, unit in enumerate(units)
            if isinstance(unit, fits.BinTableHDU | fits.TableHDU) and unit.header["NAXIS2"]
        ]
    return Table.read(path, format="fits", hdu=tables[0] if tables else None, unit_parse_strict="silent")


def _read_parquet(path: Path) -> Table:
    """Through arrow, which keeps integers with missing values exact."""
    import pyarrow.parquet
    from astropy.table import MaskedColumn, Table

    content = pyarrow.parquet.read_table(path)
    table = Table()
    for name in content.column_names:
        column = content.column(name).combine_chunks()
        missing = column.is_null().to_numpy(zero_copy_only=False)
        if pyarrow.types.is_integer(column.type):
            values = column.fill_null(0).to_numpy(zero_copy_only=False)
        elif pyarrow.types.is_floating(column.type):
            values = column.to_numpy(zero_copy_only=False)
        elif pyarrow.types.is_string(column.type) or pyarrow.types.is_large_string(column.type):
            values = np.array([value or "" for value in column.to_pylist()])
        elif pyarrow.types.is_boolean(column.type):
            values = column.fill_null(False).to_numpy(zero_copy_only=False)
        else:
            continue
        table[name] = MaskedColumn(values, mask=missing)
    return table
