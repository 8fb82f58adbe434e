"""``phdl explain``: why a star is in the catalogue, out of it, or flagged."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from phdl_catalog.cli.output import JsonOption, print_json, print_table, stdout

if TYPE_CHECKING:
    from phdl_catalog.catalog.explanation import Explanation


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    # An obsid may be negative, and is no option then.
    app.command("explain", context_settings={"ignore_unknown_options": True})(explain)


def explain(
    obsid: Annotated[int, typer.Argument(help="Observation, as in the catalogue's column obsid.")],
    catalog: Annotated[
        str | None, typer.Option(help="Catalogue release; the published one, else the newest, if left out.")
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="Look at releases and fits of this model.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Say why a star is in, out or flagged: spectrum, job, fit, calibration, selection, releases."""
    from phdl_catalog.catalog.explaining import explain as gather
    from phdl_catalog.database.session import connect

    with connect(pooled=False).connect() as connection:
        found = gather(connection, obsid, release=catalog, model=model)
    if json:
        print_json(found.to_dict())
    else:
        _print(found)


def _print(found: Explanation) -> None:
    against = f"release {found.release}" if found.release else "a release built now"
    stdout.print(Text.assemble(f"obsid {found.obsid}: ", (found.verdict.value, "bold"), f" ({against})"))
    for reason in found.reasons:
        stdout.print(f"  {reason}", highlight=False, markup=False)
    print_table(
        "Spectra",
        ("data release", "state", "snr_g", "ra", "dec", "gaia_source_id", "class", "file"),
        [
            (
                spectrum.data_release,
                spectrum.state if spectrum.reason is None else f"{spectrum.state}: {spectrum.reason}",
                _number(spectrum.snr_g, 1),
                _number(spectrum.ra, 5),
                _number(spectrum.dec, 5),
                spectrum.gaia_source_id,
                spectrum.subclass,
                spectrum.uri,
            )
            for spectrum in found.spectra
        ],
    )
    if found.jobs:
        print_table(
            "Jobs",
            ("run", "chunk", "model", "state", "attempt", "worker", "error"),
            [
                (
                    job.fit_run_id,
                    job.fit_chunk_id,
                    job.model,
                    job.state,
                    job.attempt,
                    job.worker,
                    job.error_text,
                )
                for job in found.jobs
            ],
        )
    _print_fit(found)
    if found.star is not None:
        others = ", ".join(map(str, found.star.obsids))
        stdout.print(
            f"star: {found.star.n_obs} usable observations ({others}), best {found.star.best_obsid}",
            highlight=False,
        )
    if found.memberships:
        print_table(
            "Catalogue releases",
            ("release", "state", "row of this star"),
            [(entry.release, entry.state, entry.obsid or "none") for entry in found.memberships],
        )


def _print_fit(found: Explanation) -> None:
    fit = found.fit
    if fit is None:
        return
    stdout.print(
        f"fit: model {fit.model}, run {fit.fit_run_id}, "
        f"rv {_number(fit.rv, 2)} +- {_number(fit.e_rv, 2)} km/s, chi2 {_number(fit.chi2, 2)}, "
        f"{fit.n_pixels} pixels, flags {', '.join(fit.flags) or 'none'}",
        highlight=False,
    )
    if found.labels:
        print_table(
            f"Labels (calibration {found.calibration_set or 'none'})",
            ("label", "raw", "e_fit", "correction", "e_cal", "published", "error", "flags"),
            [
                (
                    entry.label,
                    *(
                        _number(value, 0 if entry.label == "teff" else 3)
                        for value in (
                            entry.raw,
                            entry.e_fit,
                            entry.correction,
                            entry.e_cal,
                            entry.value,
                            entry.error,
                        )
                    ),
                    ", ".join(entry.flags),
                )
                for entry in found.labels
            ],
        )
    if found.terms:
        print_table(
            "Selection",
            ("term", "passed", "numbers"),
            [(term.name, "yes" if term.passed else "NO", term.text) for term in found.terms],
        )


def _number(value: float | None, decimals: int) -> str | None:
    return None if value is None else f"{value:.{decimals}f}"
