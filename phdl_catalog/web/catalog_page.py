"""The page of one catalogue release: what it is, how good its labels are, what its calibration rests on."""

from __future__ import annotations

from html import escape
from urllib.parse import quote

from phdl_catalog.calibration import CalibrationReport, LabelReport, Scatter
from phdl_catalog.calibration.figures import symbol
from phdl_catalog.catalog.describing import LabelQuality, ReleaseDescription, dates, selection_sentences
from phdl_catalog.database.calibration_figures import ERRORS, OVERVIEW
from phdl_catalog.labels import LABELS
from phdl_catalog.web.html import page, row, table

_STATES = {
    "draft": "a draft: not checked, nobody should use it",
    "candidate": "a candidate: checked, not published",
    "published": "published",
    "superseded": "superseded: another one is published",
}

_FIXED_BY = {
    "pairs_and_references": "both",
    "references_only": "references",
    "pairs_only": "pairs alone",
    "nothing": "nothing",
}

_LABELS_NOTE = (
    "Stars with a value; median value and median error, that of the calibration included; part of the "
    "stars that is outside the validity range of the correction, or not calibrated at all (both have a "
    "flag). Scatter: root mean square difference of wide binaries, and from reference stars, with raw and "
    "with corrected labels, and what noise and intrinsic scatter allow; of calibrators that the solution "
    "never saw, or, where none were held out, of those used (numbers in parentheses). Errors: by how much "
    "those of the fits are multiplied at S/N 50, and their floor, by repeated observations."
)


def catalog_page(description: ReleaseDescription) -> str:
    """HTML of the page."""
    release = description.release
    parts = [_facts(description), "<h2>Labels</h2>", _labels(description)]
    if description.report is not None:
        parts += ["<h2>What is not constrained</h2>", _not_constrained(description.report)]
    if description.calibration is not None:
        parts += ["<h2>Calibration</h2>", _figures(description)]
    return page(f"Catalogue {release.name}", "\n".join(parts))


def _facts(description: ReleaseDescription) -> str:
    release, calibration = description.release, description.calibration
    stars = "not counted yet" if release.n_rows is None else f"{release.n_rows:,} subgiants"
    facts = [
        ("stars", escape(stars)),
        ("table", f"<code>{escape(release.full_name)}</code>"),
        ("model", escape(release.model.name)),
    ]
    if calibration is None:
        facts.append(("calibration", "none: labels are as fitted"))
    else:
        used = [
            f"{calibration.report[key].get('used', 0)} {word} used, "
            f"{calibration.report[key].get('held_out', 0)} held out"
            for key, word in (("pair_use", "pairs"), ("reference_use", "references"))
        ]
        facts.append(
            ("calibration set", f"{escape(calibration.name)}, {calibration.state}: {escape('; '.join(used))}")
        )
        facts.append(("its input", f"<code>sha256 {escape(calibration.input_hash or 'unknown')}</code>"))
    facts += [
        ("selection", "<br>".join(escape(line) for line in selection_sentences(release.selection))),
        (
            "dates",
            "; ".join(f"{what} {moment:%Y-%m-%d %H:%M}" for what, moment in dates(release, calibration)),
        ),
        ("checksum", f"<code>sha256 {escape(release.checksum or 'none before it is checked')}</code>"),
        ("made with", escape(f"phdl-catalog {release.code_version}, columns {release.schema_version}")),
    ]
    rows = [f"<tr><th>{name}</th><td>{value}</td></tr>" for name, value in facts]
    state = release.state.value
    return f"<p>This catalogue is {_STATES[state]}.</p>" + table("", rows)


def _labels(description: ReleaseDescription) -> str:
    head = (
        "<tr><th></th>"
        '<th colspan="4">published</th><th></th>'
        '<th colspan="4">scatter of pairs</th><th colspan="4">scatter against references</th>'
        '<th colspan="2">errors</th></tr>'
    )
    names = (
        "label", "stars", "median", "error", "outside", "fixed by",
        *("n", "raw", "corrected", "expected") * 2, "times", "floor",
    )  # fmt: skip
    head += row(names, numeric_from=1, tag="th")
    release = description.release.name
    return table(head, (_label(entry, release) for entry in description.labels)) + (
        f'<p class="note">{escape(_LABELS_NOTE)}</p>'
    )


def _label(entry: LabelQuality, release: str) -> str:
    known = LABELS.get(entry.label)
    digits = 0 if entry.label == "teff" else 3
    published, report, errors = entry.published, entry.calibration, entry.errors
    unit = _unit(known.unit) if known else ""
    name = escape(symbol(entry.label))
    if report is not None and report.form != "none":
        # Figures of all labels at once would take the server a minute to draw.
        name = f'<a href="{_figure(release, entry.label)}">{name}</a>'
    cells = [name + (f" ({escape(unit)})" if unit not in ("", "dex") else "")]
    if published is None or not published.n_rows:
        cells += [""] * 4
    else:
        outside = (published.n_outside_calibration + published.n_not_calibrated) / published.n_rows
        cells += [
            f"{published.n_rows - published.n_null:,}", _number(published.median, digits),
            _number(published.median_error, digits), f"{outside:.0%}",
        ]  # fmt: skip
    cells.append(escape(_FIXED_BY[report.constraint.value]) if report else "")
    cells += _scatter(report, "pairs", digits) + _scatter(report, "references", digits)
    if errors is None or not errors.count:
        cells += ["", ""]
    else:
        cells += [f"{errors.scale:.2f}", _number(errors.floor, digits)]
    return row(cells, numeric_from=1)


def _scatter(report: LabelReport | None, kind: str, digits: int) -> list[str]:
    held: Scatter = getattr(report, f"held_out_{kind}") if report else Scatter()
    used: Scatter = getattr(report, kind) if report else Scatter()
    shown = held if held.count else used
    if not shown.count:
        return [""] * 4
    count = f"{shown.count:,}" if held.count else f"({shown.count:,})"
    return [count, *(_number(value, digits) for value in (shown.before, shown.after, shown.expected))]


def _not_constrained(report: CalibrationReport) -> str:
    """Directions and the labels of which they are not seen, and what else the set says of labels."""
    head = row(
        (
            "of the correction",
            "rests on reference stars alone",
            "a guess: no calibrator sees it",
        ),
        tag="th",
    )
    rows = (
        row([escape(entry.words), _symbols(entry.by_pairs), _symbols(entry.by_all)])
        for entry in report.blind_directions()
    )
    said = [(None, note) for note in report.notes] + report.statements()
    lines = "".join(
        f"<li>{_symbols(labels) + ': ' if labels else ''}{escape(sentence)}</li>" for labels, sentence in said
    )
    note = '<p class="note">Guesses are small and smooth, and the error of the correction says so.</p>'
    return table(head, rows) + note + (f"<ul>{lines}</ul>" if lines else "")


def _symbols(labels: tuple[str, ...]) -> str:
    return escape(", ".join(symbol(label) for label in labels))


def _figures(description: ReleaseDescription) -> str:
    release, calibration = description.release, description.calibration
    assert calibration is not None
    captions = {
        OVERVIEW: "Scatter of pairs and of reference stars, with raw and with corrected labels.",
        ERRORS: "Scatter of repeated observations over their errors, against S/N.",
    }
    parts = [
        f'<figure><img loading="lazy" src="{_figure(release.name, name)}" alt="{caption}">'
        f"<figcaption>{caption}</figcaption></figure>"
        for name, caption in captions.items()
    ]
    parts.append(
        '<p class="note">Pairs and references before and after, the correction and the pulls of one label: '
        "follow its name in the table above. All of them for a paper: "
        f"<code>phdl calibration plot {escape(calibration.name)} --format pdf</code>.</p>"
    )
    return "\n".join(parts)


def _figure(release: str, name: str) -> str:
    return f"/catalog/{quote(release)}/{quote(name)}.png"


def _unit(unit: str) -> str:
    return {"dex(cm.s**-2)": "dex", "km.s**-1": "km/s"}.get(unit, unit)


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"
