"""The published columns, read from ``schema.yaml``, the single source of every one of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field

from phdl_catalog.catalog.flags import BitKind, published_bits
from phdl_catalog.errors import InputError
from phdl_catalog.labels import Label, get_label

SqlType = Literal["bigint", "integer", "real", "double precision", "text"]

#: Types a NaN or an infinity could hide in.
FLOAT_TYPES: frozenset[SqlType] = frozenset({"real", "double precision"})


class Column(BaseModel):
    """One published column.

    Parameters
    ----------
    name : str
        Name in SQL and in every file.
    type : str
        SQL type.
    unit : str, optional
        Unit in the VOUnits syntax; None for a column without one.
    ucd : str
        Unified Content Descriptor (IVOA UCD1+).
    description : str
        One line: what a value is.
    nullable : bool
        Whether a value may be missing.
    minimum : float, optional
        Smallest allowed value.
    index : bool
        Whether the column is indexed.
    bits : {"fit", "label"}, optional
        Of a column of flags: which bits it has.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    type: SqlType
    unit: str | None = None
    ucd: str
    description: str
    nullable: bool = True
    minimum: float | None = None
    index: bool = False
    bits: BitKind | None = None

    @property
    def comment(self) -> str:
        """Comment of the column in SQL: the unit if there is one, the description, what its bits mean."""
        parts = [f"[{self.unit}] {self.description}" if self.unit else self.description]
        if self.bits is not None:
            parts.append(", ".join(f"{bit.value} {bit.name}" for bit in published_bits(self.bits)))
        return ": ".join(parts)

    @property
    def is_float(self) -> bool:
        """Whether a NaN could hide in it."""
        return self.type in FLOAT_TYPES

    def for_label(self, label: Label) -> Column:
        """The column of one label: the placeholders of a template filled in."""
        return self.filled(
            {
                "name": label.name,
                "unit": label.unit,
                "ucd": label.ucd,
                "symbol": label.symbol,
                "description": label.description,
            }
        )

    def filled(self, words: Mapping[str, str]) -> Column:
        """The column with its placeholders replaced by words."""
        texts = {field: getattr(self, field) for field in ("name", "unit", "ucd", "description")}
        return self.model_copy(
            update={field: text.format(**words) for field, text in texts.items() if text is not None}
        )


class LabelColumns(BaseModel):
    """A group of columns that is repeated for each label of the model."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    for_each: Literal["label"]
    columns: tuple[Column, ...]


class CatalogSchema(BaseModel):
    """The content of ``schema.yaml``.

    Parameters
    ----------
    version : str
        Version of the published columns.
    table : str
        Name of the published table, in schema ``catalog``.
    description : str
        What a row is.
    primary_key : str
        Column that identifies a row.
    columns : tuple
        Columns, and groups of columns for each label, in published order.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Annotated[str, Field(pattern=r"^\d+\.\d+$")]
    table: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
    description: str
    primary_key: str
    columns: tuple[Column | LabelColumns, ...]

    def expand(self, label_names: Sequence[str]) -> tuple[Column, ...]:
        """All columns for a model.

        Parameters
        ----------
        label_names : (L,) sequence of str
            Labels of the model, in its order.

        Returns
        -------
        tuple of Column
            In published order.

        Raises
        ------
        InputError
            If a label is unknown, or two columns have the same name.
        """
        labels = [get_label(name) for name in label_names]
        columns = tuple(self._expanded(labels))
        names = [column.name for column in columns]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise InputError(
                f"two published columns are called {', '.join(twice)}: rename one in schema.yaml, or the "
                f"model has a label twice"
            )
        return columns

    def _expanded(self, labels: Sequence[Label]) -> Iterator[Column]:
        for entry in self.columns:
            if isinstance(entry, Column):
                yield entry
            else:
                yield from (column.for_label(label) for label in labels for column in entry.columns)


@dataclass(frozen=True)
class LabelColumnNames:
    """Names of the columns of one label."""

    value: str
    error: str
    calibration_error: str
    raw: str
    flag: str

    @classmethod
    def of(cls, label: str) -> LabelColumnNames:
        """Names by convention: ``mg_fe``, ``e_mg_fe``, ``e_cal_mg_fe``, ``raw_mg_fe``, ``flag_mg_fe``."""
        return cls(label, f"e_{label}", f"e_cal_{label}", f"raw_{label}", f"flag_{label}")


@cache
def load_schema() -> CatalogSchema:
    """Read ``schema.yaml``.

    Raises
    ------
    pydantic.ValidationError
        If the file does not say what it has to.
    """
    text = (files(__package__) / "schema.yaml").read_text(encoding="utf-8")
    return CatalogSchema.model_validate(yaml.safe_load(text))
