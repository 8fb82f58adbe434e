"""A lean reader of the FITS structures LAMOST uses, bounded in time and memory whatever it is given.

``astropy.io.fits`` reads everything FITS allows and takes 5 ms a file; a release has ten million of them, and
some are damaged.  This module knows plain headers, images and binary tables of fixed-width columns, and works
on bytes already in memory, so a header that claims 10^12 pixels costs nothing: the claim is compared with the
bytes there are.  Tests compare it with astropy on every real file.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from phdl_catalog.errors import RejectedSpectrum
from phdl_catalog.spectra.spectrum import RejectionReason

#: FITS files are made of blocks of this many bytes (FITS standard 4.0, section 3.1).
BLOCK_BYTES = 2880

_CARD_BYTES = 80

#: A value follows the keyword of eight bytes and "= ".
_KEY_BYTES = 8
_VALUE_START = 10

#: Longest header taken seriously: 1,440 cards; LAMOST has 150.
_MOST_HEADER_BLOCKS = 40

#: Most axes taken seriously; the standard allows 999.
_MOST_AXES = 4

#: Most columns of a table taken seriously.
_MOST_COLUMNS = 64

CardValue = str | int | float | bool | None

# What follows "= " in a card: a string in quotes (doubled inside), or a plain word; then a comment.
_VALUE = re.compile(rb" *(?:'(?P<text>(?:[^']|'')*)'|(?P<word>[^ /']+))? *(?:/.*)?$", re.DOTALL)
#: Bytes that are no printable ASCII become a question mark.
_PRINTABLE = bytes(code if 32 <= code < 127 else 63 for code in range(256))

_INTEGER = re.compile(r"[+-]?\d{1,30}$")
_FORMAT = re.compile(r"(\d{0,9})([LXBIJKAEDCMPQ])")

#: numpy type of one element of a column, by the letter of its TFORM.
_ELEMENT = {"L": "i1", "B": "u1", "I": ">i2", "J": ">i4", "K": ">i8", "A": "S1", "E": ">f4", "D": ">f8"}

_IMAGE_TYPE = {8: "u1", 16: ">i2", 32: ">i4", 64: ">i8", -32: ">f4", -64: ">f8"}


class Cards(Mapping[str, CardValue]):
    """The cards of one header by keyword: of a keyword that is repeated, the first.

    A value is made out when it is asked for: of 150 cards a reader wants 40.
    """

    def __init__(self, cards: dict[str, bytes]) -> None:
        self._cards = cards

    def __getitem__(self, key: str) -> CardValue:
        card = self._cards[key]
        matched = _VALUE.match(card, _VALUE_START)
        return None if matched is None else parse_value(matched["text"], matched["word"])

    def __iter__(self) -> Iterator[str]:
        return iter(self._cards)

    def __len__(self) -> int:
        return len(self._cards)


@dataclass(frozen=True)
class HeaderUnit:
    """One header and where its data lie.

    Parameters
    ----------
    cards : Cards
        Value of each keyword.
    data_start, data_bytes : int
        Where the data lie in the file, by what the header says; they may end after the file does.
    """

    cards: Cards
    data_start: int
    data_bytes: int

    def integer(self, key: str, default: int | None = None) -> int:
        """A keyword that must be a whole number.

        Raises
        ------
        RejectedSpectrum
            As corrupt, if it is not there and there is no default, or if it is something else.
        """
        value = self.cards.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int):
            raise RejectedSpectrum(
                RejectionReason.CORRUPT, f"header card {key} is {value!r}, not a whole number"
            )
        return value

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the data in numpy's order, () if there are none."""
        axes = self.integer("NAXIS")
        return tuple(self.integer(f"NAXIS{axis}") for axis in range(axes, 0, -1))

    @property
    def extension_name(self) -> str:
        """EXTNAME in capitals, "" if there is none."""
        return str(self.cards.get("EXTNAME", "")).strip().upper()


def parse_value(text: bytes | None, word: bytes | None) -> CardValue:
    """The value of one card: a string, a logical, a number, or None if it is undefined or malformed."""
    if text is not None:
        return text.replace(b"''", b"'").translate(_PRINTABLE).decode("ascii").rstrip()
    if word is None:
        return None
    plain = word.decode("ascii", "replace")
    if plain in ("T", "F"):
        return plain == "T"
    if _INTEGER.match(plain):
        return int(plain)
    try:
        return float(plain.upper().replace("D", "E"))
    except ValueError:
        return None


def read_header(data: bytes, start: int) -> HeaderUnit:
    """Read the header that begins at byte `start`.

    Raises
    ------
    RejectedSpectrum
        As truncated or corrupt, if there is no END or no size can be made out.
    """
    cards: dict[str, bytes] = {}
    limit = start + _MOST_HEADER_BLOCKS * BLOCK_BYTES
    position = start
    while True:
        card = data[position : position + _CARD_BYTES]
        if len(card) < _CARD_BYTES:
            raise RejectedSpectrum(RejectionReason.TRUNCATED, "the file ends inside a header")
        position += _CARD_BYTES
        if card.startswith(b"END     "):
            break
        if position >= limit:
            raise RejectedSpectrum(
                RejectionReason.CORRUPT, f"no END card in {_MOST_HEADER_BLOCKS} blocks of header"
            )
        if card[_KEY_BYTES:_VALUE_START] == b"= ":
            cards.setdefault(card[:_KEY_BYTES].rstrip().decode("latin-1"), card)
    data_start = start + -(-(position - start) // BLOCK_BYTES) * BLOCK_BYTES
    unit = HeaderUnit(Cards(cards), data_start, 0)
    return replace(unit, data_bytes=_data_bytes(unit))


def _data_bytes(unit: HeaderUnit) -> int:
    """Size of the data a header announces (FITS standard 4.0, equation 2), an exact Python integer."""
    axes = unit.integer("NAXIS")
    if not 0 <= axes <= _MOST_AXES:
        raise RejectedSpectrum(
            RejectionReason.WRONG_SHAPE, f"NAXIS is {axes}; a spectrum has 0 to {_MOST_AXES} axes"
        )
    bits = unit.integer("BITPIX")
    if bits not in _IMAGE_TYPE:
        raise RejectedSpectrum(RejectionReason.CORRUPT, f"BITPIX is {bits}, which FITS does not know")
    if axes == 0:
        return 0
    elements = 1
    for length in unit.shape:
        if length < 0:
            raise RejectedSpectrum(RejectionReason.CORRUPT, f"an axis has the length {length}")
        elements *= length
    groups = unit.integer("GCOUNT", 1)
    parameters = unit.integer("PCOUNT", 0)
    if groups < 0 or parameters < 0:
        raise RejectedSpectrum(RejectionReason.CORRUPT, f"PCOUNT is {parameters} and GCOUNT is {groups}")
    return abs(bits) // 8 * groups * (parameters + elements)


def next_start(unit: HeaderUnit) -> int:
    """Byte where the header after this unit begins."""
    return unit.data_start + -(-unit.data_bytes // BLOCK_BYTES) * BLOCK_BYTES


def image(data: bytes, unit: HeaderUnit) -> NDArray[np.generic]:
    """The image of a unit, a read-only view in the file's byte order.

    Raises
    ------
    RejectedSpectrum
        As truncated, if the file ends before the image does; as wrong shape, if it has no pixels.
    """
    _require_bytes(data, unit)
    flat = np.frombuffer(
        data,
        dtype=_IMAGE_TYPE[unit.integer("BITPIX")],
        count=int(np.prod(unit.shape)),
        offset=unit.data_start,
    )
    return flat.reshape(unit.shape)


def table(data: bytes, unit: HeaderUnit) -> dict[str, NDArray[np.generic]]:
    """The columns of a binary table, by name in capitals; read-only views (rows, elements), big-endian.

    Raises
    ------
    RejectedSpectrum
        As truncated, if the file ends before the table does; as wrong shape, if its columns do not add up
        to its rows or are of variable length.
    """
    _require_bytes(data, unit)
    if len(unit.shape) != 2 or unit.integer("BITPIX") != 8:
        raise RejectedSpectrum(RejectionReason.WRONG_SHAPE, f"a table of shape {unit.shape}")
    rows, row_bytes = unit.shape
    fields = unit.integer("TFIELDS")
    if not 0 <= fields <= _MOST_COLUMNS:
        raise RejectedSpectrum(RejectionReason.WRONG_SHAPE, f"a table of {fields} columns")
    names, formats, offsets, offset = [], [], [], 0
    for number in range(1, fields + 1):
        name = str(unit.cards.get(f"TTYPE{number}", "")).strip().upper()
        form = str(unit.cards.get(f"TFORM{number}", "")).strip()
        matched = _FORMAT.match(form)
        if matched is None or matched[2] not in _ELEMENT:
            raise RejectedSpectrum(RejectionReason.WRONG_SHAPE, f"column {number} has the format {form!r}")
        element = _ELEMENT[matched[2]]
        repeat = int(matched[1] or 1)
        if name and name not in names and repeat:
            names.append(name)
            formats.append((element, (repeat,)))
            offsets.append(offset)
        offset += np.dtype(element).itemsize * repeat
        if offset > row_bytes:
            break
    if offset != row_bytes:
        raise RejectedSpectrum(
            RejectionReason.WRONG_SHAPE, f"the columns take {offset} bytes or more, a row has {row_bytes}"
        )
    kind = np.dtype({"names": names, "formats": formats, "offsets": offsets, "itemsize": row_bytes})
    records = np.frombuffer(data, dtype=kind, count=rows, offset=unit.data_start)
    return {name: records[name] for name in names}


def _require_bytes(data: bytes, unit: HeaderUnit) -> None:
    # Bytes there may be without a pixel: PCOUNT claims them beside an axis of no length.
    if unit.data_bytes == 0 or 0 in unit.shape:
        raise RejectedSpectrum(RejectionReason.WRONG_SHAPE, f"no data: the shape is {unit.shape}")
    there = len(data) - unit.data_start
    if there < unit.data_bytes:
        raise RejectedSpectrum(
            RejectionReason.TRUNCATED,
            f"the header announces {unit.data_bytes:,} bytes of data, the file has {max(there, 0):,}",
        )
