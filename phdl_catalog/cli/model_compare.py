"""``phdl model compare``: two models on the spectra that both have fitted."""

from __future__ import annotations

from typing import Annotated

import typer

from phdl_catalog.cli.output import JsonOption, print_json, print_table, stdout


def register(app: typer.Typer) -> None:
    """Add the command to the group ``phdl model``."""
    from phdl_catalog.cli.model import model_app

    model_app.command("compare")(compare)


def compare(
    first: Annotated[str, typer.Argument(metavar="A", help="Name of a registered model.")],
    second: Annotated[str, typer.Argument(metavar="B", help="Name of the model compared with it.")],
    label: Annotated[
        list[str] | None, typer.Option("--label", "-l", help="Label to show; may be repeated; default: all.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Compare the fits of two models, label by label and by population: B minus A, uncalibrated.

    The spectra are those that both have fitted; `phdl calibration diff` compares calibrated labels.
    """
    from dataclasses import asdict

    from phdl_catalog.database.model_comparison import compare_models
    from phdl_catalog.database.session import connect

    with connect(pooled=False).connect() as connection:
        found = compare_models(connection, first, second)
    moves = [move for move in found.moves if not label or move.label in label]
    if json:
        print_json({**asdict(found), "moves": [asdict(move) for move in moves]})
        return
    stdout.print(
        f"{found.common} spectra fitted by both; usable: {found.usable_both} by both, {found.usable_a_only} "
        f"by {first} only, {found.usable_b_only} by {second} only",
        highlight=False,
    )
    if found.chi2_a is not None and found.chi2_b is not None:
        stdout.print(
            f"median reduced chi2: {first} {found.chi2_a:.3f}, {second} {found.chi2_b:.3f}", highlight=False
        )
    for name, labels in ((first, found.only_a), (second, found.only_b)):
        if labels:
            stdout.print(f"only {name} has {', '.join(labels)}", highlight=False)
    print_table(
        f"{second} (B) minus {first} (A)",
        ("label", "population", "stars", "median", "scatter", "sigma", "error A", "error B"),
        [
            (
                move.label, move.population, move.stars, _number(move.median), _number(move.scatter),
                f"{move.in_sigma:.2f}", _number(move.error_a), _number(move.error_b),
            )
            for move in moves
        ],
    )  # fmt: skip


def _number(value: float) -> str:
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"
