"""The reference of the published catalogue, ``docs/reference/catalog.md``, written from ``schema.yaml``.

``python -m phdl_catalog.catalog.reference FILE`` writes it; a test fails while it is stale.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from phdl_catalog.catalog.flags import BitKind, published_bits
from phdl_catalog.catalog.schema import Column, LabelColumns, load_schema
from phdl_catalog.catalog.selection import Line, SubgiantSelection
from phdl_catalog.labels import LABELS

_INTRODUCTION = """# The published catalogue

Written by `make docs` from `phdl_catalog/catalog/schema.yaml`, the single source of every published column;
the database carries the same text as comments (`\\d+ catalog.subgiant` in psql, `phdl catalog columns`).

`catalog.subgiant` is the release that is published now. Every release stays under a name of its own, such as
`catalog.subgiant__2026_1` for release `2026.1`, and never changes: quote that one in a paper.
"""

_RULES = """- A missing value is NULL, never NaN: `mg_fe > -0.5` finds no star without magnesium.
- Identifiers are integers of 64 bits; in JSON they are strings.
- An error is one sigma. The error of the fit alone is `sqrt(e_mg_fe^2 - e_cal_mg_fe^2)`.
- A flag is a sum of bits: `flag_mg_fe & 4 <> 0` is true where bit 4 is set, `flag_mg_fe = 0` is a good value.
"""


def catalog_reference() -> str:
    """The whole page, Markdown."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    schema = load_schema()
    yield _INTRODUCTION
    yield f"{schema.description}. Version {schema.version} of the columns.\n"
    yield _RULES
    yield "## Columns\n"
    yield "`<label>` stands for each label of the model, in the model's order; the labels are below.\n"
    yield "| column | type | unit | what it is | UCD |\n| --- | --- | --- | --- | --- |"
    for entry in schema.columns:
        if isinstance(entry, Column):
            yield _row(entry)
        else:
            yield from _label_rows(entry)
    yield "\n## Labels\n"
    yield "A model has some of these; `phdl model show NAME` lists those of a model.\n"
    yield "| label | unit | what it is | UCD |\n| --- | --- | --- | --- |"
    for label in LABELS.values():
        yield f"| `{label.name}` | {label.unit} | {label.description} | `{label.ucd}` |"
    yield from _bits("fit", "`flag`: the fit as a whole")
    yield from _bits("label", "`flag_<label>`: one label")
    yield from _selection(SubgiantSelection())


def _row(column: Column) -> str:
    null = "" if column.nullable else "; never missing"
    cells = (f"`{column.name}`", column.type, column.unit or "", column.description + null, f"`{column.ucd}`")
    return f"| {' | '.join(cells)} |"


def _label_rows(group: LabelColumns) -> Iterator[str]:
    words = {
        "name": "<label>",
        "unit": "of the label",
        "ucd": "UCD of the label",
        "symbol": "",
        "description": "The label",
    }
    for column in group.columns:
        yield _row(column.filled(words))


def _bits(kind: BitKind, title: str) -> Iterator[str]:
    yield f"\n## Bits of {title}\n"
    yield "| value | name | what it means |\n| --- | --- | --- |"
    for bit in published_bits(kind):
        yield f"| {bit.value} | `{bit.name}` | {bit.meaning} |"


def _selection(rule: SubgiantSelection) -> Iterator[str]:
    yield "\n## Selection\n"
    yield (
        "What a release takes unless it was built with `--selection` or `--snr-min`; what it did take is in "
        "`phdl catalog list --json`. Why these lines: "
        "[which stars are subgiants](../explanation/selection.md).\n"
    )
    yield "| term | what must hold |\n| --- | --- |"
    yield f"| snr_g | snr_g >= {rule.snr_g_min:g} |"
    yield f"| flags | none of {', '.join(f'`{name}`' for name in rule.rejecting_flags)} |"
    yield f"| teff_window | {rule.teff_min:g} <= teff <= {rule.teff_max:g} |"
    yield (
        f"| turn_off | logg <= line in teff + {rule.turn_off_shift:g} fe_h through {_points(rule.turn_off)}, "
        "constant outside |"
    )
    yield f"| floor | logg >= {rule.logg_min:g} |"
    yield f"| giant_branch | teff >= line in fe_h through {_points(rule.giant_branch)}, constant outside |"
    yield f"| metallicity | fe_h >= {rule.fe_h_min:g} |"
    yield (
        f"\nSpectra of one star are those of one observation, of one Gaia source, or within "
        f"{rule.same_star_arcsec:g} arcsec where there is none."
    )


def _points(line: Line) -> str:
    return ", ".join(f"({x:g}, {y:g})" for x, y in line.points)


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(catalog_reference(), encoding="utf-8")
