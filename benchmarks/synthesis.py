"""Speed against physics: ``python benchmarks/synthesis.py [--lines FILE --atmospheres FOLDER] [--json]``.

Seconds a spectrum of the synthesis engine and of the emulator in both forms, over the same wavelengths, in
one run, on one thread.  Times are processor time, so a busy machine does not count against either.
Without line lists the engine has random lines of iron, as strong as in a real list, and a grey
atmosphere: then only its time means anything.  The time grows with the number of lines, which is printed;
nothing is extrapolated.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from synthesis_data import grey_atmosphere

from phdl_catalog import load_model
from phdl_catalog.cli.output import print_json, print_table
from phdl_catalog.emulator.grid import MODEL_GRID
from phdl_catalog.emulator.synthesis import (
    AtmosphereGrid,
    LineList,
    SynthesisSettings,
    Synthesizer,
    read_lines,
)
from phdl_catalog.emulator.synthesis.atmosphere import Atmosphere

#: As many as a deck of ATLAS9 has.
LAYERS = 72

SUN = {"teff": 5777.0, "logg": 4.44, "v_micro": 1.0, "fe_h": 0.0}


def random_lines(number: int, seed: int = 0) -> LineList:
    """Lines of neutral and ionised iron whose strengths are spread as those of a real list."""
    generator = np.random.default_rng(seed)
    return LineList.from_columns(
        "random",
        generator.choice(["Fe 1", "Fe 2"], number),
        generator.uniform(3700.0, 9020.0, number),
        generator.uniform(1.0, 6.0, number),
        np.minimum(generator.normal(-4.0, 1.3, number), 0.0),
        np.full(number, 8.0),
        np.full(number, -6.0),
        np.full(number, -7.5),
    )


def solar_atmosphere(folder: Path | None) -> Atmosphere:
    """Of the Sun: between decks, or grey."""
    if folder is not None:
        return AtmosphereGrid.from_folder(folder).at(SUN["teff"], SUN["logg"], SUN["fe_h"])
    return Atmosphere(
        SUN["teff"],
        SUN["logg"],
        SUN["fe_h"],
        *grey_atmosphere(5777.0, 4.44, 0.0, LAYERS).T,
        source=f"grey, {LAYERS} layers",
    )


def processor_seconds(action: Callable[[], object], least: float = 1.0) -> float:
    """Processor time of one call; short ones are repeated."""
    calls, start = 0, time.process_time()
    while calls == 0 or time.process_time() - start < least:
        action()
        calls += 1
    return (time.process_time() - start) / calls


def main() -> None:
    """Time the three, and print the ratios."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--lines", type=Path, nargs="*", default=[], help="line lists; else random lines")
    parser.add_argument("--atmospheres", type=Path, help="folder of decks; else a grey atmosphere")
    parser.add_argument("--number", type=int, default=30_000, help="number of random lines")
    parser.add_argument("--model", default="default", help="model")
    parser.add_argument("--batch", type=int, default=64, help="spectra that the emulator predicts at once")
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")
    options = parser.parse_args()
    torch.set_num_threads(1)

    wavelength = MODEL_GRID.wavelength
    settings = SynthesisSettings((float(wavelength[0]) - 5.0, float(wavelength[-1]) + 5.0))
    lines = read_lines(options.lines) if options.lines else random_lines(options.number)
    engine, atmosphere = Synthesizer(lines, settings), solar_atmosphere(options.atmospheres)
    synthesis = processor_seconds(lambda: engine.spectrum(SUN, atmosphere))

    model = load_model(options.model)
    labels = np.tile(model.label_range.mean(axis=1), (options.batch, 1))
    with torch.inference_mode():
        transformer = processor_seconds(lambda: model.predict(labels)) / options.batch
        compiled = processor_seconds(lambda: model.compiled.predict(labels)) / options.batch

    document = {
        "lines": len(engine.lines), "points": settings.computed_wavelength.size,
        "atmosphere": atmosphere.source, "line_lists": lines.source,
        "model": model.name, "batch": options.batch,
        "seconds": {"synthesis": synthesis, "transformer": transformer, "compiled": compiled},
        "ratio": {"transformer": synthesis / transformer, "compiled": synthesis / compiled},
    }  # fmt: skip
    if options.json:
        print_json(document)
        return
    print_table(
        f"3745 to 9000 A: {len(engine.lines)} lines ({lines.source}), {settings.computed_wavelength.size} "
        f"computed points, atmosphere {atmosphere.source}; {model.name} in batches of {options.batch}; "
        "processor time, one thread",
        ("", "seconds a spectrum", "times faster"),
        [
            ("synthesis", f"{synthesis:.1f}", ""),
            ("transformer", f"{transformer:.2e}", f"{synthesis / transformer:,.0f}"),
            ("compiled form", f"{compiled:.2e}", f"{synthesis / compiled:,.0f}"),
        ],
    )


if __name__ == "__main__":
    main()
