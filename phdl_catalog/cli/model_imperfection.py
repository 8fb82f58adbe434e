"""``phdl model imperfection``: learns where real stars differ from a model, and writes it into its file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from phdl_catalog.cli.model import ModelArgument, model_app
from phdl_catalog.cli.output import JsonOption, print_json, print_table, progress_bar, stderr

if TYPE_CHECKING:
    from phdl_catalog.fitting.held_out import Comparison


def register(app: typer.Typer) -> None:
    """Add ``imperfection`` to the group ``model``."""
    model_app.command("imperfection")(imperfection)


def imperfection(
    model: ModelArgument,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Model file to write; may be the one that was read.")
    ],
    sun: Annotated[
        Path | None,
        typer.Option(help="Solar spectrum: text of vacuum wavelength [nm or Angstrom] and photon flux."),
    ] = None,
    spectra: Annotated[
        Path | None,
        typer.Option(help="CSV of survey spectra: file (relative to it), teff, logg, fe_h, snrg."),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Name of the new version; default: the output's file name.")
    ] = None,
    min_snr: Annotated[float, typer.Option(help="S/N in g from which on survey stars take part.")] = 60.0,
    teff_range: Annotated[
        tuple[float, float], typer.Option(help="Temperatures of survey stars that take part [K].")
    ] = (4800.0, 6800.0),
    figure: Annotated[
        Path | None, typer.Option(help="Figure of the correction to write: .png, .pdf or .svg.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Learn from the Sun and survey stars where a model is wrong, and write a new version that knows it.

    Each is tested on the other, and halves of the stars on each other; the table goes into the model file.
    """
    import torch

    from phdl_catalog import __version__
    from phdl_catalog.emulator import find_model, load_model
    from phdl_catalog.emulator.grid import file_sha256
    from phdl_catalog.emulator.imperfection import write_revised_model
    from phdl_catalog.fitting.held_out import learn_and_validate
    from phdl_catalog.fitting.known_stars import read_known_stars, the_sun
    from phdl_catalog.fitting.learning_figure import plot_imperfection
    from phdl_catalog.settings import get_settings
    from phdl_catalog.spectra.grid import PixelGrid
    from phdl_catalog.spectra.solar import read_solar_spectrum

    if sun is None and spectra is None:
        raise typer.BadParameter(
            "give a solar spectrum, survey spectra, or both", param_hint="--sun / --spectra"
        )
    if figure is not None and figure.suffix not in (".png", ".pdf", ".svg"):
        raise typer.BadParameter(f"{figure.name} does not end in .png, .pdf or .svg", param_hint="--figure")
    torch.set_num_threads(get_settings().threads)
    source = find_model(model)
    emulator = load_model(source)
    provenance: dict[str, Any] = {"code_version": __version__, "learnt_with_sha256": emulator.sha256}
    the_star = stars = None
    with progress_bar() as progress:
        task = progress.add_task("reading", total=None)
        if sun is not None:
            # A little more than the model's pixels, so that the ends are learnt too.
            grid = PixelGrid(emulator.pixels.first - 50, emulator.pixels.size + 100)
            the_star = the_sun(grid, read_solar_spectrum(sun, grid, emulator.resolution))
            provenance["sun"] = {"file": sun.name, "sha256": file_sha256(sun)}
        if spectra is not None:
            stars, files = read_known_stars(spectra, min_snr, teff_range)
            provenance["spectra"] = {
                "table": spectra.name, "sha256": file_sha256(spectra), "n": len(files), "min_snr": min_snr,
                "teff_range": list(teff_range),
            }  # fmt: skip
        learnt = learn_and_validate(
            emulator, the_star, stars, watch=lambda text: progress.update(task, description=text)
        )
    provenance["comparisons"] = [comparison.as_dict() for comparison in learnt.comparisons]
    version = name or output.stem
    output.parent.mkdir(parents=True, exist_ok=True)
    write_revised_model(source, output, version, learnt.imperfection, provenance)
    if figure is not None:
        plot_imperfection(emulator, learnt).savefig(figure, dpi=110)
    if as_json:
        sha256 = file_sha256(output)
        print_json({"model": version, "file": str(output), "sha256": sha256, "imperfection": provenance})
        return
    stderr.print(f"wrote {output}", highlight=False)
    _print(learnt.comparisons)


def _print(comparisons: tuple[Comparison, ...]) -> None:
    labels = ("teff", "logg", "fe_h")
    rows = []
    for item in comparisons:
        cells = [item.learnt_from, item.tested_on, str(item.n), str(item.flagged)]
        for label in labels:
            digits = 0 if label == "teff" else 3
            scatter = f" / {item.scatter[label]:.{digits}f}" if label in item.scatter else ""
            cells.append(f"{item.offset[label]:+.{digits}f}{scatter}")
        cells.append(" ".join(f"{k[:-3]} {v:+.2f}" for k, v in item.offset.items() if k not in labels))
        cells.append("yes" if item.took_part else "no")
        rows.append(cells)
    columns = (
        "corrected by", "fitted", "stars", "flagged", "teff [K]", "logg", "[Fe/H]", "[X/Fe]", "took part",
    )  # fmt: skip
    print_table("fitted minus known labels, median / scatter", columns, rows)
