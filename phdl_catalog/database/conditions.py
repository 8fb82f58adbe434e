"""Conditions on spectra as a person types them: ``snr_g > 20 and class = 'STAR' and not subclass like 'A%'``.

The text is parsed here and becomes an expression of SQLAlchemy over columns that are listed here, with bound
values: no part of it is ever pasted into SQL.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from sqlalchemy import ColumnElement, and_, not_, or_

from phdl_catalog.database.models import Spectrum
from phdl_catalog.errors import InputError

#: Columns of ``spectrum`` that a condition may name.
COLUMNS: dict[str, Any] = {
    name: getattr(Spectrum, "spectral_class" if name == "class" else name)
    for name in (
        "obsid", "gaia_source_id", "ra", "dec", "mjd", "lmjd", "redshift", "redshift_error", "snr_u", "snr_g",
        "snr_r", "snr_i", "snr_z", "spectrograph_id", "fiber_id", "n_pixels", "layout", "designation",
        "plan_id", "object_name", "data_version", "class", "subclass",
    )
}  # fmt: skip

_TOKEN = re.compile(
    r"\s*(?:(?P<number>[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)|(?P<text>'(?:[^']|'')*')"
    r"|(?P<word>[A-Za-z_][A-Za-z_0-9]*)|(?P<sign><=|>=|<>|!=|==|[=<>(),]))"
)

_COMPARE: dict[str, Callable[[Any, Any], ColumnElement[bool]]] = {
    "=": lambda column, value: column == value,
    "==": lambda column, value: column == value,
    "!=": lambda column, value: column != value,
    "<>": lambda column, value: column != value,
    "<": lambda column, value: column < value,
    ">": lambda column, value: column > value,
    "<=": lambda column, value: column <= value,
    ">=": lambda column, value: column >= value,
}

#: More than anyone types, few enough that no text can exhaust the stack.
_MOST_TOKENS = 500


def parse_condition(text: str) -> ColumnElement[bool]:
    """Parse a condition.

    Understood are comparisons, ``between .. and ..``, ``in (..)``, ``like '..'``, ``is null``, each with
    ``not`` where SQL has it, joined by ``and``, ``or``, ``not`` and parentheses.

    Raises
    ------
    InputError
        Saying where the text stops making sense, or which columns there are.
    """
    parser = _Parser(text)
    condition = parser.disjunction()
    parser.expect_end()
    return condition


class _Parser:
    """Recursive descent over the tokens of one condition."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens: list[tuple[str, str]] = []
        position = 0
        while text[position:].strip():
            match = _TOKEN.match(text, position)
            if match is None or len(self._tokens) >= _MOST_TOKENS:
                raise InputError(
                    f"the condition {text!r} is not understood from {text[position:].strip()!r} on"
                )
            kind = str(match.lastgroup)
            token = match.group(kind)
            self._tokens.append((kind, token.lower() if kind == "word" else token))
            position = match.end()
        self._next = 0

    def disjunction(self) -> ColumnElement[bool]:
        parts = [self._conjunction()]
        while self._accept("or"):
            parts.append(self._conjunction())
        return or_(*parts)

    def expect_end(self) -> None:
        if self._next < len(self._tokens):
            raise self._error("'and', 'or' or the end")

    def _conjunction(self) -> ColumnElement[bool]:
        parts = [self._term()]
        while self._accept("and"):
            parts.append(self._term())
        return and_(*parts)

    def _term(self) -> ColumnElement[bool]:
        if self._accept("not"):
            return not_(self._term())
        if self._accept("("):
            inside = self.disjunction()
            self._expect(")")
            return inside
        return self._comparison()

    def _comparison(self) -> ColumnElement[bool]:
        column = self._column()
        kind, token = self._peek()
        if kind == "sign" and token in _COMPARE:
            self._next += 1
            return _COMPARE[token](column, self._value(column))
        if self._accept("is"):
            negated = self._accept("not")
            self._expect("null")
            return column.is_not(None) if negated else column.is_(None)
        negated = self._accept("not")
        if self._accept("between"):
            low = self._value(column)
            self._expect("and")
            condition = column.between(low, self._value(column))
        elif self._accept("in"):
            self._expect("(")
            values = [self._value(column)]
            while self._accept(","):
                values.append(self._value(column))
            self._expect(")")
            condition = column.in_(values)
        elif self._accept("like"):
            condition = column.like(self._value(column))
        else:
            raise self._error("a comparison (=, <, between, in, like, is null)")
        return not_(condition) if negated else condition

    def _column(self) -> Any:
        kind, token = self._peek()
        if kind != "word" or token not in COLUMNS:
            raise self._error(f"a column ({', '.join(COLUMNS)})")
        self._next += 1
        return COLUMNS[token]

    def _value(self, column: Any) -> int | float | str:
        kind, token = self._peek()
        textual = column.type.python_type is str
        if kind != ("text" if textual else "number"):
            raise self._error("a text in single quotes" if textual else "a number")
        self._next += 1
        if textual:
            return token[1:-1].replace("''", "'")
        return int(token) if token.lstrip("+-").isdigit() else float(token)

    def _peek(self) -> tuple[str, str]:
        return self._tokens[self._next] if self._next < len(self._tokens) else ("end", "the end")

    def _accept(self, token: str) -> bool:
        if self._peek()[0] in ("word", "sign") and self._peek()[1] == token:
            self._next += 1
            return True
        return False

    def _expect(self, token: str) -> None:
        if not self._accept(token):
            raise self._error(f"'{token}'")

    def _error(self, wanted: str) -> InputError:
        return InputError(f"in the condition {self._text!r}: expected {wanted}, found {self._peek()[1]}")
