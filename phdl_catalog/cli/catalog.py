"""``phdl catalog``: building, checking, publishing and comparing catalogue releases."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from phdl_catalog.cli.output import JsonOption, print_json, print_table, progress_bar, stderr, stdout

if TYPE_CHECKING:
    from phdl_catalog.catalog.checking import CheckReport
    from phdl_catalog.catalog.comparing import ReleaseDifference
    from phdl_catalog.catalog.publishing import PublishReport
    from phdl_catalog.catalog.selection import SubgiantSelection

_commands = typer.Typer(help="Catalogue releases: build, check, publish, compare.", no_args_is_help=True)

_Name = Annotated[str, typer.Argument(help="Name of the catalogue release.")]

#: obsids that are in one release only, shown of each unless JSON is asked for.
_SHOWN = 10


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.add_typer(_commands, name="catalog")


@_commands.command("build")
def build(
    model: Annotated[str, typer.Option("--model", "-m", help="Registered model whose fits are published.")],
    calibration: Annotated[
        str, typer.Option(help="A calibration set's name, 'certified', or 'none'.")
    ] = "certified",
    name: Annotated[str | None, typer.Option(help="Name of the release; today's date if left out.")] = None,
    release: Annotated[
        list[str] | None,
        typer.Option(
            "--release", "-r", help="Data release to take spectra from; may be repeated; all if left out."
        ),
    ] = None,
    snr_min: Annotated[
        float | None, typer.Option("--snr-min", min=0, help="Lowest S/N a pixel in g of a usable spectrum.")
    ] = None,
    selection: Annotated[
        Path | None,
        typer.Option(
            help="JSON file with those parts of the selection that differ from the default.", exists=True
        ),
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Replace a release of that name that was never published.")
    ] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Check it at once: a good draft becomes candidate.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Build a catalogue release as a draft, beside the published one."""
    from phdl_catalog.catalog.building import build_release
    from phdl_catalog.catalog.checking import check_release, report_dict
    from phdl_catalog.database.session import connect

    rule = _selection(selection, snr_min)
    with progress_bar() as bar:
        task = bar.add_task("stars", total=None)
        report = build_release(
            connect(pooled=False),
            model,
            calibration=calibration,
            name=name,
            selection=rule,
            data_releases=tuple(release) if release else None,
            replace=replace,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    checked = check_release(connect(pooled=False), report.name) if check else None
    if json:
        document = {**vars(report), "state": "draft" if checked is None else checked.state.value}
        print_json(document if checked is None else {**document, "check": report_dict(checked)})
        _fail_unless_passed(checked)
        return
    stdout.print(
        f"built {report.name}: {report.n_rows} subgiants of {report.n_stars} stars with {report.n_spectra} "
        f"usable spectra, model {report.model}, calibration {report.calibration_set or 'none'}",
        highlight=False,
    )
    if checked is None:
        stderr.print(f"next: phdl catalog check {report.name}", highlight=False)
    else:
        _print_check(checked)
        _fail_unless_passed(checked)


def _fail_unless_passed(report: CheckReport | None) -> None:
    if report is not None and not report.passed:
        raise typer.Exit(1)


def _selection(path: Path | None, snr_min: float | None) -> SubgiantSelection:
    """The default selection with what a file and an option change in it."""
    import json

    from phdl_catalog.catalog.selection import SubgiantSelection
    from phdl_catalog.errors import InputError

    document = SubgiantSelection().to_dict()
    if path is not None:
        try:
            changes = json.loads(path.read_text(encoding="utf-8"))
        except json.JSONDecodeError as error:
            raise InputError(f"{path} is no JSON: {error}") from error
        if not isinstance(changes, dict):
            raise InputError(f'{path} must hold one JSON object, such as {{"snr_g_min": 30}}')
        document |= changes
    if snr_min is not None:
        document["snr_g_min"] = snr_min
    return SubgiantSelection.from_dict(document)


@_commands.command("check")
def check_(
    name: _Name,
    json: JsonOption = False,
) -> None:
    """Check a release: counts, ranges, duplicates, origin of every value; a good draft becomes candidate."""
    from phdl_catalog.catalog.checking import check_release, report_dict
    from phdl_catalog.database.session import connect

    report = check_release(connect(pooled=False), name)
    if json:
        print_json(report_dict(report))
    else:
        _print_check(report)
    _fail_unless_passed(report)


def _print_check(report: CheckReport) -> None:
    print_table(
        f"Release {report.name}: {report.n_rows} stars",
        ("check", "status", "found"),
        [(finding.name, finding.status, finding.text) for finding in report.findings],
    )
    repeats = {entry.label: entry for entry in report.repeats}
    references = {entry.label: entry for entry in report.references}
    print_table(
        "Labels (pulls: scatter in units of the errors, number of pairs)",
        ("label", "missing", "minimum", "median", "maximum", "error", "repeats", "references"),
        [
            (
                entry.label,
                f"{entry.null_fraction:.1%}",
                *(
                    _short(value)
                    for value in (entry.minimum, entry.median, entry.maximum, entry.median_error)
                ),
                *(_pull(pulls.get(entry.label)) for pulls in (repeats, references)),
            )
            for entry in report.labels
        ],
    )
    stdout.print(f"{report.name} is {report.state.value}", highlight=False)
    if report.passed and report.state.value == "candidate":
        stderr.print(f"next: phdl catalog publish {report.name}", highlight=False)


def _short(value: float | None) -> str | None:
    return None if value is None else f"{value:.4g}"


def _pull(pull: Any) -> str | None:
    return None if pull is None or pull.scatter is None else f"{pull.scatter:.2f} ({pull.n})"


@_commands.command("publish")
def publish(
    name: _Name,
    json: JsonOption = False,
) -> None:
    """Make a candidate, or a release that was published before, the one readers see."""
    from phdl_catalog.catalog.publishing import publish_release
    from phdl_catalog.database.session import connect

    _print_swap(publish_release(connect(pooled=False), name), json)


@_commands.command("rollback")
def rollback(json: JsonOption = False) -> None:
    """Go back to the release that was published before the present one."""
    from phdl_catalog.catalog.publishing import rollback_release
    from phdl_catalog.database.session import connect

    _print_swap(rollback_release(connect(pooled=False)), json)


def _print_swap(report: PublishReport, json: bool) -> None:
    if json:
        print_json(vars(report))
        return
    instead = f" instead of {report.superseded}" if report.superseded else ""
    stdout.print(f"{report.view} is now {report.published}{instead}: {report.n_rows} stars", highlight=False)


@_commands.command("list")
def list_(json: JsonOption = False) -> None:
    """List the catalogue releases, newest first."""
    from phdl_catalog.catalog.releases import list_catalog_releases
    from phdl_catalog.database.session import connect

    with connect(pooled=False).connect() as connection:
        releases = list_catalog_releases(connection)
    if json:
        print_json({"releases": [release.to_dict() for release in releases]})
        return
    print_table(
        "Catalogue releases",
        ("release", "state", "stars", "model", "calibration", "published"),
        [
            (
                release.name,
                release.state.value,
                release.n_rows,
                release.model.name,
                release.calibration_set or "none",
                f"{release.published_at:%Y-%m-%d %H:%M}" if release.published_at else None,
            )
            for release in releases
        ],
    )


@_commands.command("diff")
def diff(
    first: Annotated[str, typer.Argument(help="A catalogue release.")],
    second: Annotated[str, typer.Argument(help="Another one; differences are second minus first.")],
    json: JsonOption = False,
) -> None:
    """Compare two releases: stars in one only, and differences of each label of the common ones."""
    from phdl_catalog.catalog.comparing import compare_releases
    from phdl_catalog.database.session import connect

    with connect(pooled=False).connect() as connection:
        found = compare_releases(connection, first, second)
    if json:
        print_json(found.to_dict())
    else:
        _print_diff(found)


def _print_diff(found: ReleaseDifference) -> None:
    print_table(
        f"{found.second} minus {found.first}: {found.n_common} common stars",
        ("label", "stars", "median", "scatter", "largest", "lost", "gained", "flags changed"),
        [
            (
                entry.label,
                entry.n,
                *(_short(value) for value in (entry.median, entry.scatter, entry.largest)),
                entry.n_lost,
                entry.n_gained,
                entry.n_flags,
            )
            for entry in found.labels
        ],
    )
    if found.n_other_spectrum:
        stdout.print(f"{found.n_other_spectrum} common stars from another spectrum", highlight=False)
    for name, obsids in ((found.first, found.only_first), (found.second, found.only_second)):
        stdout.print(f"only in {name}: {len(obsids)}{_examples(obsids)}", highlight=False)


def _examples(obsids: Sequence[int]) -> str:
    if not obsids:
        return ""
    return f" (obsid {', '.join(map(str, obsids[:_SHOWN]))}{', ...' if len(obsids) > _SHOWN else ''})"


@_commands.command("columns")
def columns(
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", help="Registered model; the published release's if left out."),
    ] = None,
    json: JsonOption = False,
) -> None:
    """List every published column with its type, unit and description."""
    from phdl_catalog.catalog.releases import get_model, published_release
    from phdl_catalog.catalog.schema import load_schema
    from phdl_catalog.database.session import connect
    from phdl_catalog.errors import StateError

    with connect(pooled=False).connect() as connection:
        if model is not None:
            labels: Iterable[str] = get_model(connection, model).label_names
        elif (release := published_release(connection)) is not None:
            labels = release.model.label_names
        else:
            raise StateError("no catalogue release is published: name a model with --model")
    listed = load_schema().expand(tuple(labels))
    if json:
        print_json({"version": load_schema().version, "columns": [column.model_dump() for column in listed]})
        return
    print_table(
        f"Columns of {load_schema().table}, version {load_schema().version}",
        ("column", "type", "unit", "description"),
        [(column.name, column.type, column.unit, column.description) for column in listed],
    )
