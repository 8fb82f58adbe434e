"""``phdl calibrate`` and ``phdl calibration``: calibration sets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from phdl_catalog.cli.output import JsonOption, print_json, print_table, stderr, stdout

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from phdl_catalog.calibration import CalibrationReport, LabelReport
    from phdl_catalog.calibration.repeats import ErrorScale
    from phdl_catalog.database.calibration_sets import CalibrationSetRow

_sets = typer.Typer(help="Calibration sets: draft, certified, superseded.", no_args_is_help=True)

#: Words for `Constraint`.
_FIXED_BY = {
    "pairs_and_references": "both", "references_only": "references", "pairs_only": "pairs",
    "nothing": "nothing",
}  # fmt: skip

NameArgument = Annotated[str, typer.Argument(metavar="SET", help="Name of the calibration set.")]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    from phdl_catalog.cli import calibration_check, calibration_plot

    app.command("calibrate")(calibrate)
    _sets.command("plot")(calibration_plot.plot)
    calibration_check.register(_sets)
    app.add_typer(_sets, name="calibration")


def calibrate(
    model: Annotated[str, typer.Option(help="Model whose fits are calibrated.")],
    release: Annotated[
        str | None, typer.Option(help="Only spectra of this release; default: of all.")
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Name of the new set; default: MODEL-cal1, -cal2, ...")
    ] = None,
    min_snr: Annotated[float, typer.Option(help="Least S/N of a fit that is used.")] = 20.0,
    max_chance: Annotated[float, typer.Option(help="Largest chance probability of a pair.")] = 0.1,
    radius: Annotated[float, typer.Option(help="Largest distance of a match by position [arcsec].")] = 3.0,
    held_out: Annotated[float, typer.Option(help="Part of the calibrators kept out, to test with.")] = 0.2,
    scale_survey: Annotated[
        str | None, typer.Option(help="Survey whose scale the labels get; default: the mean of all.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the choice of held-out calibrators.")] = 0,
    local: Annotated[bool, typer.Option("--local", help="Compute here, without a worker.")] = False,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until the worker is done.")] = True,
    timeout: Annotated[float, typer.Option(help="Longest time to wait for a worker [s].")] = 600.0,
    json: JsonOption = False,
) -> None:
    """Compute a calibration set from pairs and references; it is a draft until it is certified.

    A worker does it, if one is running; this process otherwise.
    """
    from phdl_catalog.database.calibration_inputs import CalibratorCuts
    from phdl_catalog.database.calibration_run import CalibrationRequest, run_calibration
    from phdl_catalog.database.session import connect

    request = CalibrationRequest(
        model=model,
        cuts=CalibratorCuts(release=release, min_snr=min_snr, max_chance=max_chance, radius=radius),
        held_out_fraction=held_out,
        scale_survey=scale_survey,
        seed=seed,
        name=name,
    )
    engine = connect(pooled=False)
    if not local and wait:
        from phdl_catalog.services.calibration_request import a_worker_listens

        if not a_worker_listens():
            stderr.print("no worker is running: computing here", highlight=False)
            local = True
    if local:
        with stderr.status("calibrating") as status:
            outcome = run_calibration(engine, request, status.update)
    else:
        from phdl_catalog.services.calibration_request import send_calibration, wait_for_calibration

        sent = send_calibration(engine, request)
        if not wait:
            if json:
                print_json({"request": sent, "set": None})
            else:
                stdout.print(
                    f"request {sent} is with the workers; `phdl calibration requests` shows what it came to",
                    highlight=False,
                )
            return
        with stderr.status("waiting for a worker") as status:
            outcome = wait_for_calibration(engine, sent, timeout, status.update)
    if not json and not outcome.new:
        stderr.print(f"nothing has changed since set {outcome.name}", highlight=False)
    _show(engine, outcome.name, json, new=outcome.new)


@_sets.command("list")
def list_(
    model: Annotated[str | None, typer.Option(help="Only sets of this model.")] = None,
    json: JsonOption = False,
) -> None:
    """List the calibration sets."""
    from phdl_catalog.database.calibration_sets import list_sets
    from phdl_catalog.database.session import connect

    with connect(pooled=False).connect() as connection:
        rows = list_sets(connection, model=model)
    if json:
        print_json({"sets": [_summary(row) for row in rows]})
        return
    print_table(
        "Calibration sets",
        ("set", "model", "state", "pairs", "references", "computed", "code"),
        [
            (
                row.name,
                row.model,
                row.state,
                row.report["pair_use"].get("used", 0),
                row.report["reference_use"].get("used", 0),
                f"{row.created_at:%Y-%m-%d %H:%M}",
                row.code_version,
            )
            for row in rows
        ],
    )


@_sets.command("requests")
def requests(json: JsonOption = False) -> None:
    """List the calibrations that were asked for: waiting for a run, running, done, failed and why."""
    from dataclasses import asdict

    from phdl_catalog.database.calibration_requests import list_requests
    from phdl_catalog.database.session import connect

    with connect(pooled=False).connect() as connection:
        rows = list_requests(connection)
    if json:
        print_json({"requests": [asdict(row) for row in rows]})
        return
    print_table(
        "Requests for calibrations",
        ("request", "model", "after run", "state", "set", "worker", "error"),
        [
            (row.number, row.model, row.run, row.state.value, row.calibration_set, row.worker, row.error_text)
            for row in rows
        ],
    )


@_sets.command("show")
def show(name: NameArgument, json: JsonOption = False) -> None:
    """Show a set: calibrators used and not, scatter before and after, what is not constrained."""
    from phdl_catalog.database.session import connect

    _show(connect(pooled=False), name, json)


@_sets.command("diff")
def diff(
    first: Annotated[str, typer.Argument(metavar="A", help="Name of a calibration set.")],
    second: Annotated[str, typer.Argument(metavar="B", help="Name of the set compared with it.")],
    json: JsonOption = False,
) -> None:
    """Compare two sets, of one model or two, label by label and by population: B minus A."""
    from dataclasses import asdict

    from phdl_catalog.database.calibration_diff import diff_sets
    from phdl_catalog.database.session import connect

    with connect(pooled=False).connect() as connection:
        differences = diff_sets(connection, first, second)
    if json:
        print_json({"a": first, "b": second, "differences": [asdict(entry) for entry in differences]})
        return
    print_table(
        f"{second} minus {first}: medians; sigma: corrections over their errors",
        ("label", "population", "stars", "raw", "corr.", "calibr.", "scatter", "sigma"),
        [
            (
                entry.label,
                entry.population,
                entry.stars,
                _number(entry.raw),
                _number(entry.correction),
                _number(entry.calibrated),
                _number(entry.scatter),
                None if entry.in_sigma is None else f"{entry.in_sigma:.1f}",
            )
            for entry in differences
        ],
    )
    moved = [
        (entry.label, entry.population, f"{entry.valid_a:.2f}", f"{entry.valid_b:.2f}")
        for entry in differences
        if abs(entry.valid_a - entry.valid_b) >= 0.01
    ]
    if moved:
        title = "Part of the stars inside the validity range, where it changed"
        print_table(title, ("label", "population", first, second), moved)


@_sets.command("certify")
def certify(name: NameArgument, json: JsonOption = False) -> None:
    """Certify a draft; the set of the same model that was certified before is superseded."""
    from phdl_catalog.database.calibration_sets import certify_set
    from phdl_catalog.database.session import connect

    with connect(pooled=False).begin() as connection:
        superseded = certify_set(connection, name)
    if json:
        print_json({"set": name, "state": "certified", "superseded": superseded})
    else:
        after = f"; {superseded} is superseded" if superseded else ""
        stdout.print(f"{name} is certified{after}", highlight=False)


def _show(engine: Engine, name: str, as_json: bool, **more: Any) -> None:
    from phdl_catalog.database.calibration_sets import find_set, load_solution

    with engine.connect() as connection:
        row = find_set(connection, name)
        solution = load_solution(connection, name)
    report = solution.report()
    calibrated = tuple(entry.label for entry in report.labels if entry.form != "none")
    if as_json:
        document = {**_summary(row), **more, "configuration": row.configuration, "report": row.report}
        document["labels"] = report.to_dict()["labels"]
        document["error_scales"] = [entry.error_scale.to_dict() for entry in solution.corrections]
        print_json(document)
        return
    stdout.print(f"{row.name}: model {row.model}, {row.state}", highlight=False)
    stdout.print(f"labels of any fit: view phdl.{row.view_name}", highlight=False)
    print_table("Calibrators", ("", "", "count"), _count_rows(row.report["calibrators"], report))
    for kind, words in row.report.get("tried", {}).items():
        stdout.print(f"no usable fit is of any of the {kind}: {words}", highlight=False)
    for note in report.notes:
        stdout.print(note, highlight=False)
    print_table(
        "Labels: scatter of the correction over the calibrators, its median error",
        ("label", "fixed by", "form", "smoothing", "correction", "error", "bootstrap"),
        [
            (
                entry.label,
                _FIXED_BY[entry.constraint.value],
                entry.form,
                f"{entry.strength:g}",
                _number(entry.amplitude),
                _number(entry.median_error),
                f"{entry.bootstrap:.2f}",
            )
            for entry in report.labels
            if entry.form != "none"
        ],
    )
    _print_surveys(report)
    columns = ("label", "number", "bad", "raw", "corrected", "expected", "held out")
    print_table("Scatter of pairs", columns, _scatter_rows(report.labels, "pairs"))
    print_table("Scatter against references", columns, _scatter_rows(report.labels, "references"))
    scales = [entry.error_scale for entry in solution.corrections if entry.error_scale.count]
    if scales:
        print_table(
            "Errors: scale (snr / 50)^slope times quoted, and floor; scatter of repeats over error",
            ("label", "repeats", "scale", "slope", "floor", "by S/N", "quoted", "set"),
            [row for entry in scales for row in _error_rows(entry)],
        )
    else:
        stdout.print("too few repeated observations: the quoted errors of the fits stand")
    print_table(
        "What calibrators do not see: where references alone do, and where the correction is a guess",
        ("of each correction", "pairs do not", "nobody does"),
        [
            (entry.words, _labels(entry.by_pairs, calibrated), _labels(entry.by_all, calibrated))
            for entry in report.blind_directions()
        ],
    )
    for labels, sentence in report.statements():
        stdout.print(f"{', '.join(labels)}: {sentence}", highlight=False)


def _count_rows(counts: Mapping[str, Mapping[str, int]], report: CalibrationReport) -> list[tuple[Any, ...]]:
    """What there is, what was not used and why, what was; reasons that did not occur are left out."""
    rows = []
    for kind, use in (("pairs", report.pair_use), ("references", report.reference_use), ("repeats", {})):
        known = counts.get(kind, {})
        first = [key for key in known if key in ("in the database", "two observations of one star")]
        usable = sorted(key for key in known if key.startswith("usable"))
        reasons = [key for key in known if key not in (*first, *usable) and known[key]]
        lines = [(key, known[key]) for key in (*first, *reasons, *usable)]
        # Among the usable ones, what the solution made of them.
        lines += [(f"  {key.replace('_', ' ')}", count) for key, count in use.items() if count]
        rows += [(kind if number == 0 else None, *line) for number, line in enumerate(lines)]
    return rows


def _scatter_rows(labels: Sequence[LabelReport], kind: str) -> list[tuple[Any, ...]]:
    """Scatter of held-out calibrators where there are any, else of used ones; labels without any left out."""
    rows = []
    for entry in labels:
        held, used = getattr(entry, f"held_out_{kind}"), getattr(entry, kind)
        shown = held if held.count else used
        if shown.count:
            numbers = (_number(value) for value in (shown.before, shown.after, shown.expected))
            rows.append((entry.label, shown.count, shown.rejected, *numbers, "yes" if held.count else "no"))
    return rows


def _print_surveys(report: CalibrationReport) -> None:
    """Zero-points and scales of the surveys, where there are two or more: one alone sets the scale."""
    rows = [
        (entry.label, survey, _number(zero), _number(error), *_scale(entry, survey))
        for entry in report.labels
        if len(entry.zero_points) > 1
        for survey, (zero, error) in entry.zero_points.items()
    ]
    if rows:
        title = "Surveys: zero-point above the common scale, and scale"
        print_table(title, ("label", "survey", "zero-point", "error", "scale", "error"), rows)


def _scale(entry: LabelReport, survey: str) -> tuple[str | None, str | None]:
    known = entry.survey_scales.get(survey)
    return (None, None) if known is None else (f"{1 + known[0]:.3f}", f"{known[1]:.3f}")


def _error_rows(scale: ErrorScale) -> list[tuple[Any, ...]]:
    """The scale of one label's errors, and a line for each range of S/N: how right they were, and are."""
    whole = (
        scale.label, scale.count, f"{scale.scale:.2f}", f"{scale.slope:.2f}", _number(scale.floor)
    )  # fmt: skip
    rows = [(f"{entry.low:.0f}+", f"{entry.quoted:.2f}", f"{entry.scaled:.2f}") for entry in scale.bins]
    first, *others = rows or [("", "", "")]
    return [(*whole, *first), *((None,) * len(whole) + line for line in others)]


def _labels(names: tuple[str, ...], every: tuple[str, ...]) -> str:
    return f"all {len(every)}" if names == every and len(every) > 3 else ", ".join(names)


def _number(value: float | None) -> str | None:
    return None if value is None else f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"


def _summary(row: CalibrationSetRow) -> dict[str, Any]:
    return {
        "set": row.name,
        "model": row.model,
        "state": row.state,
        "created_at": row.created_at.isoformat(),
        "certified_at": row.certified_at.isoformat() if row.certified_at else None,
        "superseded_at": row.superseded_at.isoformat() if row.superseded_at else None,
        "code_version": row.code_version,
        "input_hash": row.input_hash,
        "configuration_hash": row.configuration_hash,
        "pairs": row.report["pair_use"],
        "references": row.report["reference_use"],
    }
