"""``phdl spectrum``: one spectrum, all that is known of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from phdl_catalog.cli.output import JsonOption, print_json, print_table, stderr, stdout

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from phdl_catalog.database.spectrum_record import FitRecord, SpectrumRecord

_commands = typer.Typer(help="One spectrum.", no_args_is_help=True)

#: Obsids may be negative, and would be taken for options.
_NEGATIVE_ARGUMENTS = {"ignore_unknown_options": True}

#: Columns that are whole numbers of 64 bits, which JavaScript cannot hold: strings in JSON.
_LONG_INTEGERS = ("obsid", "gaia_source_id", "healpix_29", "spectrum_id")

Obsid = Annotated[int, typer.Argument(help="Number of the observation; may be negative.")]
ReleaseOption = Annotated[
    str | None, typer.Option("--release", help="Release to look in; by default all, the latest first.")
]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.add_typer(_commands, name="spectrum")


@_commands.command("show", context_settings=_NEGATIVE_ARGUMENTS)
def show(obsid: Obsid, release: ReleaseOption = None, json: JsonOption = False) -> None:
    """Show all that is known of a spectrum: facts, star, fits."""
    from phdl_catalog.database.session import connect
    from phdl_catalog.database.spectrum_record import find_spectra

    records = find_spectra(connect(pooled=False), obsid, release)
    if json:
        print_json({"spectra": [_document(record) for record in records]})
        return
    for record in records:
        _print_record(obsid, record)


@_commands.command("plot", context_settings=_NEGATIVE_ARGUMENTS)
def plot(
    obsid: Obsid,
    output: Annotated[Path, typer.Option("--output", "-o", help="Picture to write: .png, .pdf or .svg.")],
    release: ReleaseOption = None,
    model: Annotated[
        str | None,
        typer.Option("--model", help="Model of the fit; by default that of the latest fit, else default."),
    ] = None,
    bare: Annotated[bool, typer.Option("--bare", help="The data alone, without a fit.")] = False,
    json: JsonOption = False,
) -> None:
    """Draw a spectrum with its fit: residuals, masked pixels, lines, labels with errors."""
    from phdl_catalog.database.session import connect
    from phdl_catalog.database.spectrum_record import find_spectra, only_accepted
    from phdl_catalog.settings import get_settings
    from phdl_catalog.spectra import PixelStore
    from phdl_catalog.spectra.figure import plot_spectrum

    if output.suffix.lower() not in (".png", ".pdf", ".svg"):
        raise typer.BadParameter(f"{output.name} does not end in .png, .pdf or .svg", param_hint="--output")
    if bare and model is not None:
        raise typer.BadParameter("--bare draws no fit, so there is nothing for --model", param_hint="--model")
    record, address = only_accepted(find_spectra(connect(pooled=False), obsid, release))
    pixels = PixelStore(get_settings().pixel_store_url).read([address])
    facts = record.facts
    start = facts["first_pixel"] - pixels.grid.first
    covered = slice(start, start + facts["n_pixels"])
    title = f"{obsid}  {facts['designation'] or ''}  {facts['subclass'] or ''}  S/N(g) {facts['snr_g']}"
    wavelength, flux, ivar = pixels.grid.wavelength[covered], pixels.flux[0, covered], pixels.ivar[0, covered]
    chosen = None if bare else model or (record.fits[0].model if record.fits else "default")
    figure = None if chosen is None else _fitted(chosen, wavelength, flux, ivar, title)
    if figure is None:
        if chosen is not None:
            stderr.print(f"nothing to fit in spectrum {obsid}: drawn without", highlight=False)
        chosen = None
        figure = plot_spectrum(wavelength, flux, ivar, title)
    figure.savefig(output, dpi=130)
    if json:
        document = {"obsid": str(obsid), "release": record.release, "output": str(output), "model": chosen}
        print_json(document)
    else:
        stdout.print(f"wrote {output}", highlight=False, soft_wrap=True)


def _fitted(model: str, wavelength: Any, flux: Any, ivar: Any, title: str) -> Figure | None:
    """The picture of a fit made now, as runs make theirs; None if there is nothing to fit."""
    from phdl_catalog.emulator import load_model
    from phdl_catalog.fitting import Fitter
    from phdl_catalog.fitting.figure import plot_fit

    result = Fitter(load_model(model)).fit(wavelength, flux, ivar, keep_pixels=True)
    if result.failed[0]:
        return None
    return plot_fit(flux, result, 0, f"{title}  model {model}")


def _print_record(obsid: int, record: SpectrumRecord) -> None:
    shown = [(name, value) for name, value in record.facts.items() if value is not None]
    print_table(f"Spectrum {obsid} of {record.release}", ("fact", "value"), [(n, str(v)) for n, v in shown])
    if record.source is not None:
        known = [(name, str(value)) for name, value in record.source.items() if value is not None]
        print_table(f"Source {record.facts['gaia_source_id']}", ("fact", "value"), known)
    for fit in record.fits:
        _print_fit(fit)


def _print_fit(fit: FitRecord) -> None:
    from phdl_catalog.fitting.flags import LabelFlag, flag_names
    from phdl_catalog.labels import LABELS

    flags = ", ".join(flag_names(fit.facts["flags"])) or "none"
    facts = ", ".join(f"{name} {fit.facts[name]}" for name in ("rv", "e_rv", "chi2", "snr", "n_pixels"))
    stdout.print(f"Fit by model {fit.model}: flags {flags}; {facts}", highlight=False)
    if fit.values is None or fit.errors is None or fit.label_flags is None:
        return
    rows = []
    for name, value, error, flag in zip(
        fit.label_names, fit.values, fit.errors, fit.label_flags, strict=True
    ):
        label = LABELS.get(name)
        decimals = 3 if label is None else label.decimals + 1
        numbers = ["" if number is None else f"{number:.{decimals}f}" for number in (value, error)]
        unit = "" if label is None else label.unit
        rows.append((name, *numbers, unit, ", ".join(flag_names(flag, LabelFlag))))
    print_table(
        f"Labels by model {fit.model}, uncalibrated", ("label", "value", "error", "unit", "flags"), rows
    )


def _document(record: SpectrumRecord) -> dict[str, Any]:
    return {
        "release": record.release,
        **_safe(record.facts),
        "source": None if record.source is None else _safe(record.source),
        "fits": [
            {
                "model": fit.model,
                **_safe(fit.facts),
                "labels": _by_label(fit, fit.values),
                "errors": _by_label(fit, fit.errors),
                "label_flags": _by_label(fit, fit.label_flags),
            }
            for fit in record.fits
        ],
    }


def _safe(facts: Any) -> dict[str, Any]:
    return {
        name: str(value) if name in _LONG_INTEGERS and value is not None else value
        for name, value in facts.items()
    }


def _by_label(fit: FitRecord, values: tuple[Any, ...] | None) -> dict[str, Any] | None:
    return None if values is None else dict(zip(fit.label_names, values, strict=True))
