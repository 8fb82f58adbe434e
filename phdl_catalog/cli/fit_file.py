"""``phdl fit file``: fits files here and now, without a database or a broker."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from phdl_catalog.cli.output import JsonOption, print_json, print_table, progress_bar, stderr
from phdl_catalog.errors import InputError, PhdlError, RejectedSpectrum

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from phdl_catalog.emulator import Emulator
    from phdl_catalog.fitting import FitResult, Fitter
    from phdl_catalog.spectra.spectrum import Spectrum

#: Files that are read and fitted together, at most: a few stars alone take longer each.
_FILES_AT_ONCE = 128

#: Endings of a spectrum's file in a folder.
_SUFFIXES = (".fits", ".fits.gz", ".fit", ".fit.gz")

#: Formats of figures.
_FORMATS = ("png", "pdf", "svg")

#: Labels shown in the table for a person; all of them are in the JSON.
_SHOWN = ("teff", "logg", "fe_h", "mg_fe")


def register(fit_app: typer.Typer) -> None:
    """Add ``file`` to the group ``fit``."""
    fit_app.command("file")(fit_file)


def fit_file(
    paths: Annotated[
        list[Path], typer.Argument(metavar="PATH...", help="Spectrum files, or folders of them.")
    ],
    model: Annotated[str, typer.Option("--model", help="Name or file of the model.")] = "default",
    device: Annotated[str, typer.Option("--device", help="Where to compute: cpu or cuda.")] = "cpu",
    plot: Annotated[
        Path | None,
        typer.Option(
            "--plot",
            help="Folder for a figure of each fit, made if it is not there; of one fit also a .png or .pdf.",
        ),
    ] = None,
    plot_format: Annotated[str, typer.Option("--format", help="Format of figures: png, pdf or svg.")] = "png",
    prior: Annotated[
        list[str] | None,
        typer.Option("--prior", help="Gaussian prior LABEL=MEAN:SIGMA, e.g. mg_fe=0.1:0.2; may be repeated."),
    ] = None,
    ab_initio: Annotated[
        bool, typer.Option("--ab-initio", help="Never correct the model for real stars.")
    ] = False,
    polish: Annotated[
        bool, typer.Option("--polish", help="Fit again with the transformer itself; a second a star.")
    ] = False,
    sample: Annotated[
        int | None,
        typer.Option("--sample", metavar="STEPS", help="Sample posteriors; 2000 is a minute each."),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Fit the labels of spectra in files, here and now: no database, no broker."""
    import torch

    from phdl_catalog.emulator import load_model
    from phdl_catalog.fitting import FitOptions, Fitter, LabelPrior
    from phdl_catalog.settings import get_settings

    if plot_format not in _FORMATS:
        raise typer.BadParameter(f"{plot_format} is none of png, pdf and svg", param_hint="--format")
    files = list(_files(paths))
    if plot is not None:
        _make_room(plot, len(files))
    _check_device(device)
    loaded = load_model(model, device)
    priors = tuple(LabelPrior.parse(text) for text in prior or ())
    fitter = Fitter(loaded, FitOptions(correct_model=False if ab_initio else None, priors=priors), device)
    wanted = _Wanted(plot, plot_format, polish, sample)
    threads = get_settings().threads
    together = min(_FILES_AT_ONCE, max(1, -(-len(files) // threads)))
    chunks = [files[start : start + together] for start in range(0, len(files), together)]
    results: list[dict[str, Any]] = []
    with progress_bar() as progress:
        task = progress.add_task("fitting", total=len(files))
        # A thread for each chunk is better than several for each of the small matrix products in it.
        with ThreadPoolExecutor(threads, initializer=partial(torch.set_num_threads, 1)) as pool:
            try:
                for part in pool.map(lambda chunk: _fit_files(chunk, loaded, fitter, wanted), chunks):
                    results.extend(part)
                    progress.advance(task, len(part))
            except KeyboardInterrupt:
                pool.shutdown(cancel_futures=True)
                raise
    if json:
        print_json({"model": loaded.name, "results": results})
    else:
        _print(loaded.name, results)
    if all(result["status"] == "rejected" for result in results):
        if json:
            raise typer.Exit(1)
        raise PhdlError(f"none of {len(results)} files is a usable spectrum; the reasons are in the table")


def _make_room(plot: Path, files: int) -> None:
    """Make the folder that figures go to."""
    if not _is_picture(plot):
        plot.mkdir(parents=True, exist_ok=True)
        return
    if files > 1:
        raise typer.BadParameter(
            f"{plot} is one picture and there are {files} spectra; name a folder", param_hint="--plot"
        )
    plot.parent.mkdir(parents=True, exist_ok=True)


def _is_picture(plot: Path) -> bool:
    return plot.suffix.lower().removeprefix(".") in _FORMATS and not plot.is_dir()


def _check_device(device: str) -> None:
    import torch

    try:
        kind = torch.device(device).type
    except RuntimeError:
        raise typer.BadParameter(f"{device} is none of cpu and cuda", param_hint="--device") from None
    if kind not in ("cpu", "cuda"):
        raise typer.BadParameter(f"{device} is none of cpu and cuda", param_hint="--device")
    if kind == "cuda" and not torch.cuda.is_available():
        raise PhdlError("there is no CUDA device here, or torch was built without CUDA; use --device cpu")


def _files(paths: list[Path]) -> Iterator[Path]:
    """The files named, and those in the folders named, which must have some."""
    for path in paths:
        if not path.is_dir():
            yield path
            continue
        inside = sorted(item for item in path.rglob("*") if item.name.lower().endswith(_SUFFIXES))
        if not inside:
            raise InputError(f"there is no file that ends in {', '.join(_SUFFIXES)} in the folder {path}")
        yield from inside


@dataclass(frozen=True)
class _Wanted:
    """What is wanted beside the fits."""

    plot: Path | None
    plot_format: str
    polish: bool
    sample: int | None


def _fit_files(files: list[Path], model: Emulator, fitter: Fitter, wanted: _Wanted) -> list[dict[str, Any]]:
    """Read and fit some files together; one document each, in their order."""
    import numpy as np

    from phdl_catalog.spectra.grid import SURVEY_GRID
    from phdl_catalog.spectra.lamost import read_spectrum
    from phdl_catalog.spectra.masks import good_pixels

    documents: list[dict[str, Any]] = []
    accepted: list[tuple[int, Spectrum]] = []
    for number, path in enumerate(files):
        try:
            spectrum = read_spectrum(path)
        except RejectedSpectrum as error:
            documents.append(_rejected(path, error))
            continue
        documents.append({"file": str(path)})
        accepted.append((number, spectrum))
    if not accepted:
        return documents
    flux = np.zeros((len(accepted), SURVEY_GRID.size), dtype=np.float32)
    ivar = np.zeros_like(flux)
    bad = np.ones(flux.shape, dtype=bool)
    for row, (_, spectrum) in enumerate(accepted):
        where = SURVEY_GRID.slice_of(spectrum.grid)
        flux[row, where], ivar[row, where] = spectrum.flux, spectrum.ivar
        bad[row, where] = ~good_pixels(spectrum.ivar, spectrum.andmask, spectrum.ormask)
    result = fitter.fit(SURVEY_GRID.wavelength, flux, ivar, bad, keep_pixels=wanted.plot is not None)
    moved = None
    if wanted.polish:
        from phdl_catalog.fitting.polish import polish

        result, moved = polish(
            model, result, SURVEY_GRID.wavelength, flux, ivar, bad, fitter.options,
            keep_pixels=wanted.plot is not None,
        )  # fmt: skip
    for row, (number, spectrum) in enumerate(accepted):
        document = documents[number]
        document.update(_document(spectrum, result, row))
        if document["status"] == "failed":
            continue
        if moved is not None:
            document["polished"] = dict(zip(result.label_names, moved[row].tolist(), strict=True))
        if wanted.sample is not None:
            rows = (SURVEY_GRID.wavelength, flux[row], ivar[row], bad[row])
            chosen = fitter if result.corrected[row] else fitter.uncorrected
            document["posterior"] = _posterior(chosen, *rows, wanted.sample)
        if wanted.plot is not None:
            document["figure"] = str(_plot(files[number], spectrum, flux[row], result, row, wanted))
    return documents


def _posterior(fitter: Fitter, wavelength: Any, flux: Any, ivar: Any, bad: Any, steps: int) -> dict[str, Any]:
    import numpy as np

    from phdl_catalog.fitting.sampling import sample_posterior

    found = sample_posterior(fitter, wavelength, flux, ivar, bad, steps=steps, rng=np.random.default_rng(0))
    return {
        "steps": steps,
        "acceptance": found.acceptance,
        "autocorrelation": found.autocorrelation,
        "labels": found.summary(),
    }


def _rejected(path: Path, error: RejectedSpectrum) -> dict[str, Any]:
    return {
        "file": str(path),
        "obsid": None,
        "status": "rejected",
        "reason": str(error.reason),
        "detail": error.detail,
        **dict.fromkeys(("rv", "e_rv", "chi2", "snr_g")),
        **{name: {} for name in ("labels", "errors", "bounds", "information", "contrast", "label_flags")},
        "flags": [],
    }


def _document(spectrum: Spectrum, result: FitResult, row: int) -> dict[str, Any]:
    """The JSON of one fit; obsid is a string, because JavaScript's numbers are not long enough."""
    from phdl_catalog.fitting import LabelFlag, flag_names

    names = result.label_names
    flags = flag_names(int(result.flags[row]))
    failed = bool(result.failed[row])

    def by_label(values: NDArray[np.float64]) -> dict[str, float]:
        return {} if failed else dict(zip(names, values[row].tolist(), strict=True))

    return {
        "obsid": str(spectrum.header.obsid),
        "status": "failed" if failed else "ok",
        "reason": ", ".join(flags) if failed else None,
        "rv": result.rv[row],
        "e_rv": result.e_rv[row],
        "chi2": result.chi2[row],
        "snr_g": spectrum.header.snr_g,
        "labels": by_label(result.labels),
        "errors": by_label(result.errors),
        "bounds": by_label(result.bounds),
        "information": by_label(result.information),
        "contrast": by_label(result.contrast),
        "flags": flags,
        "label_flags": {
            name: flag_names(int(bits), LabelFlag)
            for name, bits in zip(names, result.label_flags[row], strict=True)
            if bits
        },
        "snr": result.snr[row],
        "corrected": bool(result.corrected[row]),
        "n_pixels": result.n_pixels[row],
        "error_floor": result.error_floor[row],
        "line_variance": result.line_variance[row],
        "distance": result.distance[row],
    }


def _plot(path: Path, spectrum: Spectrum, flux: Any, result: FitResult, row: int, wanted: _Wanted) -> Path:
    from phdl_catalog.fitting.figure import plot_fit

    header = spectrum.header
    title = f"{header.designation or path.name}   obsid {header.obsid}   {header.object_subclass or ''}"
    assert wanted.plot is not None
    output = wanted.plot
    if not _is_picture(output):
        output /= f"{path.name.split('.fit')[0]}.{wanted.plot_format}"
    plot_fit(flux, result, row, title).savefig(output, dpi=130)
    return output


def _print(model: str, results: list[dict[str, Any]]) -> None:
    """A table for a person."""
    from phdl_catalog.labels import LABELS

    rows = []
    for result in results:
        cells = [Path(result["file"]).name, result["status"]]
        if result["status"] == "ok":
            cells.append(f"{result['rv']:.1f} ± {result['e_rv']:.1f}")
            for name in _SHOWN:
                decimals = LABELS[name].decimals
                known = name in result["labels"]
                cells.append(
                    f"{result['labels'][name]:.{decimals}f} ± {result['errors'][name]:.{decimals}f}"
                    if known
                    else ""
                )
            cells += [f"{result['chi2']:.2f}", ", ".join(result["flags"])]
        else:
            cells += [""] * (len(_SHOWN) + 2) + [result["reason"]]
        rows.append(cells)
    columns = [
        "file",
        "status",
        "rv [km/s]",
        *(LABELS[name].symbol for name in _SHOWN),
        "chi2",
        "flags or reason",
    ]
    print_table(f"Fits by model {model}, uncalibrated", columns, rows)
    counts = {
        status: sum(result["status"] == status for result in results)
        for status in ("ok", "failed", "rejected")
    }
    stderr.print(", ".join(f"{number} {status}" for status, number in counts.items()), highlight=False)
