"""``phdl calibration check``: a set against clusters, benchmark stars and the Sun."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from phdl_catalog.cli.output import JsonOption, print_json, print_table, stdout

if TYPE_CHECKING:
    from phdl_catalog.calibration.external import ClusterCheck, StarCheck, Trend


def register(group: typer.Typer) -> None:
    """Add the command to ``phdl calibration``."""
    group.command("check")(check)


def check(
    name: Annotated[str, typer.Argument(metavar="SET", help="Name of the calibration set.")],
    clusters: Annotated[
        Path | None, typer.Option(help="Members of open clusters: scatter and trend with teff inside each.")
    ] = None,
    benchmarks: Annotated[
        Path | None, typer.Option(help="Stars with well-known labels, such as the Gaia benchmark stars.")
    ] = None,
    sun: Annotated[
        int | None, typer.Option(metavar="OBSID", help="An observation of sunlight: twilight, an asteroid.")
    ] = None,
    min_snr: Annotated[float, typer.Option(help="Least S/N of a fit that is used.")] = 20.0,
    radius: Annotated[float, typer.Option(help="Largest distance of a match by position [arcsec].")] = 3.0,
    map_: Annotated[
        list[str] | None,
        typer.Option("--map", metavar="OURS=THEIRS", help="A column of a file that is not recognised."),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Compare a set with what was not used to make it: clusters, benchmark stars, the Sun."""
    from phdl_catalog.calibration.external import check_clusters, check_stars
    from phdl_catalog.cli.calibrators import mapping_of
    from phdl_catalog.database import calibration_checks as checks
    from phdl_catalog.database.calibration_inputs import CalibratorCuts
    from phdl_catalog.database.calibration_sets import find_set
    from phdl_catalog.database.session import connect

    if clusters is None and benchmarks is None and sun is None:
        raise typer.BadParameter("nothing to check against: give --clusters, --benchmarks or --sun")
    given, cuts = mapping_of(map_), CalibratorCuts(min_snr=min_snr, min_snr_repeats=min_snr, radius=radius)
    document: dict[str, Any] = {"set": name}
    with connect(pooled=False).connect() as connection:
        row = find_set(connection, name)
        labels = tuple(row.configuration["label_names"])
        if clusters is not None:
            members = checks.read_clusters(clusters, given)
            found, fits = checks.corrected_fits(connection, row, members.stars, cuts)
            result = check_clusters(fits, [members.clusters[number] for number in found.tolist()])
            document["clusters"] = [asdict(entry) for entry in result]
            if not json:
                _show_clusters(result, len(found), len(members.stars))
        for key, known in (
            ("benchmarks", checks.read_known_stars(benchmarks, labels, given) if benchmarks else None),
            ("sun", checks.the_sun(sun, labels) if sun is not None else None),
        ):
            if known is None:
                continue
            found, fits = checks.corrected_fits(connection, row, known.stars, cuts)
            stars = check_stars(fits, known.labels[found], known.errors[found])
            document[key] = [asdict(entry) for entry in stars]
            if not json:
                _show_stars(key, stars, len(found), len(known.stars))
    if json:
        print_json(document)


def _show_clusters(result: list[ClusterCheck], fitted: int, members: int) -> None:
    stdout.print(f"{fitted} of {members} members have a usable fit", highlight=False)
    print_table(
        "Inside clusters: robust scatter, and trend per 1000 K",
        ("cluster", "label", "stars", "outliers", "median", "scatter raw", "corrected", "errors allow",
         "trend raw", "corrected", "valid"),
        [
            (
                entry.cluster, entry.label, entry.stars, entry.outliers, round(entry.corrected.median, 3),
                round(entry.raw.scatter, 3), round(entry.corrected.scatter, 3), round(entry.expected, 3),
                _slope(entry.raw), _slope(entry.corrected), round(entry.valid, 2),
            )
            for entry in result
        ],
    )  # fmt: skip


def _slope(trend: Trend) -> str | None:
    return None if trend.slope is None else f"{trend.slope:+.3f} ± {trend.slope_error:.3f}"


def _show_stars(key: str, result: list[StarCheck], fitted: int, known: int) -> None:
    title = "The Sun" if key == "sun" else "Benchmark stars"
    stdout.print(f"{title}: {fitted} of {known} have a usable fit", highlight=False)
    print_table(
        f"{title}: ours minus known",
        ("label", "stars", "raw", "corrected", "scatter raw", "corrected", "in sigma", "valid"),
        [
            (
                entry.label, entry.stars, round(entry.raw, 3), round(entry.corrected, 3),
                None if entry.raw_scatter is None else round(entry.raw_scatter, 3),
                None if entry.corrected_scatter is None else round(entry.corrected_scatter, 3),
                round(entry.in_sigma, 1), round(entry.valid, 2),
            )
            for entry in result
        ],
    )  # fmt: skip
