"""Damage done to files: bytes anywhere, cards of a header, and headers that lie about what follows them."""

from __future__ import annotations

import gzip
import random
import struct
from collections.abc import Callable
from dataclasses import dataclass

_CARD, _BLOCK = 80, 2880


@dataclass(frozen=True)
class Lie:
    """A card of the first or the second header with a value that is not true.

    Parameters
    ----------
    key, value : str
        What the card says, as it stands in the file.
    unit : int
        0 is the first header, 1 that of the table.
    """

    key: str
    value: str
    unit: int = 0

    def __str__(self) -> str:
        return f"{self.key}={self.value}"


_TERA, _HUGE = str(10**12), str(10**29)
_PIXELS = ("0", "1", "-5", "3910", "1000000", _TERA, _HUGE, "T", "'3909'", "3909.5", "")
_BITS = ("0", "7", "8", "12", "16", "64", "-16", "-64", "-32", _HUGE)
_FACTS = ("NaN", "1E400", "-Infinity", "1_0", "'\xff'")
_POINTERS = ("TSCAL1", "TZERO1", "TNULL1", "TDIM1", "THEAP")
_FORMATS = (
    "'1PE(3909)'", "'1QE(99999999)'", "'3909P'", "'999999999E'", "'9999999999E'", "'0E'", "'E'", "'-1E'",
    "'3909A'", "'3909X'", "'3909C'", "'3909L'", "'3909D'", "'3909J'", "''", "'\u00e9'", "3909",
)  # fmt: skip

#: What headers claim; every one is tried on every layout.
LIES: tuple[Lie, ...] = (
    *(Lie("SIMPLE", value) for value in ("F", "0", "'T'", "")),
    *(Lie("NAXIS", value) for value in ("-1", "0", "1", "3", "4", "5", "999", _TERA, "2.0", "'2'")),
    *(Lie(key, value) for key in ("NAXIS1", "NAXIS2", "NAXIS3") for value in _PIXELS),
    *(Lie("BITPIX", value) for value in _BITS),
    *(Lie(key, value) for key in ("PCOUNT", "GCOUNT") for value in ("-1", "0", "1", "2", _TERA)),
    *(Lie(key, value) for key in ("BSCALE", "BZERO", "BLANK") for value in ("2", "0", "NaN", "1E400", "'x'")),
    *(Lie(key, value) for key in ("COEFF0", "COEFF1") for value in ("NaN", "1E400", "-1", "'x'", "3.5")),
    *(Lie("OBSID", value) for value in (_HUGE, "-" + "9" * 25, "1.5", "NaN", "'1 2'", "T", "1E300")),
    *(Lie(key, value) for key in ("RA", "DEC", "Z", "SNRG") for value in _FACTS),
    *(Lie("XTENSION", value, 1) for value in ("'IMAGE   '", "'TABLE   '", "'BINTABLE", "1")),
    *(Lie(key, value, 1) for key in ("NAXIS1", "NAXIS2", "TFIELDS") for value in _PIXELS),
    *(Lie("NAXIS", value, 1) for value in ("0", "1", "3", "999")),
    *(Lie("BITPIX", value, 1) for value in ("16", "-32", "7")),
    *(Lie(key, value, 1) for key in ("PCOUNT", "GCOUNT") for value in ("-1", "0", "2", "2880", _TERA)),
    *(Lie(key, value, 1) for key in ("TFORM1", "TFORM3", "TFORM6") for value in _FORMATS),
    *(Lie("TTYPE1", value, 1) for value in ("'IVAR'", "''", "'LOGLAM'", "'\u00e9\n\0'", "1")),
    *(Lie(key, value, 1) for key in _POINTERS for value in ("2", "NaN", "-1")),
)  # fmt: skip


def tell(data: bytes, *lies: Lie) -> bytes:
    """A file whose headers lie: the cards are replaced, or put before END where there are none."""
    content = bytearray(data)
    for lie in lies:
        start = 0 if lie.unit == 0 else content.find(b"XTENSION=")
        end = content.find(b"END".ljust(_CARD), max(start, 0))
        if start < 0 or end < 0:
            continue
        card = f"{lie.key:<8}= {lie.value:>20}".encode()[:_CARD].ljust(_CARD)
        there = [
            place for place in range(start, end, _CARD)
            if content[place : place + 10] == f"{lie.key:<8}= ".encode()
        ]  # fmt: skip
        if there:
            content[there[0] : there[0] + _CARD] = card
        elif (end + _CARD - start) % _BLOCK:
            # The blank behind END makes room: what follows stays where it is.
            content[end : end + 2 * _CARD] = card + b"END".ljust(_CARD)
    return bytes(content)


def with_heap_pointers(data: bytes) -> bytes:
    """A table of one column of variable length whose pointer leads out of the heap."""
    primary = data[: data.index(b"XTENSION=")]
    cards = (
        "XTENSION= 'BINTABLE'", "BITPIX  =                    8", "NAXIS   =                    2",
        "NAXIS1  =                    8", "NAXIS2  =                    1", "PCOUNT  =                 2872",
        "GCOUNT  =                    1", "TFIELDS =                    1", "TTYPE1  = 'FLUX'",
        "TFORM1  = '1PE(3909)'", "END",
    )  # fmt: skip
    header = b"".join(card.encode().ljust(_CARD) for card in cards).ljust(_BLOCK)
    return primary + header + struct.pack(">II", 3909, 2**31).ljust(_BLOCK, b"\0")


def _flip_bits(data: bytearray, chance: random.Random) -> None:
    for _ in range(chance.randint(1, 40)):
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)


def _flip_header_bits(data: bytearray, chance: random.Random) -> None:
    for _ in range(chance.randint(1, 40)):
        data[chance.randrange(min(11520, len(data)))] ^= 1 << chance.randrange(8)


def _cut(data: bytearray, chance: random.Random) -> None:
    del data[chance.randrange(len(data)) :]


def _remove_a_stretch(data: bytearray, chance: random.Random) -> None:
    start = chance.randrange(len(data))
    del data[start : start + chance.choice((1, 79, 80, 2880, 10000))]


def _repeat_a_stretch(data: bytearray, chance: random.Random) -> None:
    start = chance.randrange(len(data))
    data[start:start] = data[start : start + chance.choice((1, 80, 2880, 20000))]


def _overwrite(data: bytearray, chance: random.Random) -> None:
    start, length = chance.randrange(len(data)), chance.choice((1, 8, 80, 500, 2880))
    length = min(length, len(data) - start)
    data[start : start + length] = chance.choice((bytes(length), b"\xff" * length, chance.randbytes(length)))


def _rewrite_a_card(data: bytearray, chance: random.Random) -> None:
    cards = [start for start in range(0, min(len(data), 14400), 80) if data[start + 8 : start + 10] == b"= "]
    start = chance.choice(cards or [0])
    values = (
        "1000000000000", "-1", "0", "1E400", "NaN", "''", "'unclosed", "T", "1.5", "9" * 25, "-9999",
        "'" + "''" * 30, "(1.0, 2.0)", "'\0\xff\n'", "1D5", "99999999999999999999E-5", "/", "= = =",
    )  # fmt: skip
    data[start + 10 : start + 80] = chance.choice(values).encode("latin-1").ljust(70)[:70]


def _lie(data: bytearray, chance: random.Random) -> None:
    data[:] = tell(bytes(data), *chance.sample(LIES, chance.randint(1, 4)))


MUTATIONS: tuple[Callable[[bytearray, random.Random], None], ...] = (
    _flip_bits, _flip_header_bits, _cut, _remove_a_stretch, _repeat_a_stretch, _overwrite, _rewrite_a_card,
    _lie,
)  # fmt: skip


def mutated(data: bytes, chance: random.Random) -> bytes:
    """A file damaged in one to three ways, before or after it was packed, or not packed."""
    if data.startswith(b"\x1f\x8b") and chance.random() < 0.8:
        data = gzip.decompress(data)
        if data.startswith(b"\x1f\x8b"):
            data = gzip.decompress(data)
    content = bytearray(data)
    for _ in range(chance.randint(1, 3)):
        if len(content) > 200:
            chance.choice(MUTATIONS)(content, chance)
    if chance.random() < 0.2:
        packed = bytearray(gzip.compress(bytes(content), 1))
        if chance.random() < 0.5:
            chance.choice((_flip_bits, _cut, _overwrite))(packed, chance)
        return bytes(packed)
    return bytes(content)
