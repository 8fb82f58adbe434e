"""The tables that come with a simulated release: its truth, its wide binaries, its high-resolution stars.

The wide binaries have the columns of El-Badry, Rix & Heintz 2021 (MNRAS 506, 2269), so that they are imported
like the real ones.  The truth is for judging a catalogue afterwards; nothing on the way to it reads it.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from phdl_catalog.spectra.mock_survey import MockSurvey

#: Errors of a high-resolution survey: teff [K], logg, v_micro [km/s], and every abundance [dex].
_REFERENCE_ERRORS = {"teff": 40.0, "logg": 0.06, "v_micro": 0.1}
_ABUNDANCE_ERROR = 0.03


def write_truth(path: Path, survey: MockSurvey) -> None:
    """One row a star: identifiers, kind, role, velocity, true labels, and the error that was injected."""
    stars = survey.stars
    role = np.full(len(stars.labels), "field", dtype="U9")
    role[stars.pairs.ravel()] = "pair"
    role[stars.references] = "reference"
    injected = survey.distortion(stars.column("teff"))
    header = ["gaia_source_id", "obsid", "stage", "role", "rv", *stars.label_names]
    header += [f"injected_{name}" for name in stars.label_names]
    rows = (
        [
            int(survey.source_ids[row]),
            int(survey.obsids[row]),
            str(stars.stages[row]),
            str(role[row]),
            f"{survey.rv[row]:.3f}",
            *_numbers(stars.labels[row]),
            *_numbers(injected[row]),
        ]
        for row in range(len(stars.labels))
    )
    _write(path, header, rows)


def write_pairs(path: Path, survey: MockSurvey, rng: np.random.Generator) -> None:
    """One row a wide binary, with the column names of El-Badry, Rix & Heintz 2021."""
    header = ["source_id1", "source_id2", "ra1", "dec1", "ra2", "dec2"]
    header += ["parallax1", "parallax2", "pmra1", "pmdec1", "pmra2", "pmdec2", "sep_AU", "R_chance_align"]
    rows = []
    for first, second in survey.stars.pairs:
        parallax = float(rng.uniform(1.0, 8.0))
        motion = 25.0 * rng.standard_normal(2)
        offset = np.hypot(
            (survey.ra[first] - survey.ra[second]) * np.cos(np.radians(survey.dec[first])),
            survey.dec[first] - survey.dec[second],
        )
        rows.append(
            [
                int(survey.source_ids[first]),
                int(survey.source_ids[second]),
                *(
                    f"{value:.6f}"
                    for star in (first, second)
                    for value in (survey.ra[star], survey.dec[star])
                ),
                *(f"{parallax + 0.02 * rng.standard_normal():.4f}" for _ in range(2)),
                *(f"{value + 0.05 * rng.standard_normal():.3f}" for _ in range(2) for value in motion),
                f"{offset * 3600.0 * 1000.0 / parallax:.1f}",
                f"{10 ** rng.uniform(-5.0, -2.0):.2e}",
            ]
        )
    _write(path, header, rows)


def write_references(path: Path, survey: MockSurvey, rng: np.random.Generator) -> None:
    """One row a reference star: true labels blurred by the errors of high-resolution work, and these."""
    stars = survey.stars
    errors = np.array([_REFERENCE_ERRORS.get(name, _ABUNDANCE_ERROR) for name in stars.label_names])
    header = ["star_name", "gaia_source_id", "ra", "dec"]
    header += [column for name in stars.label_names for column in (name, f"e_{name}")]
    rows = []
    for number, row in enumerate(stars.references, start=1):
        measured = stars.labels[row] + errors * rng.standard_normal(errors.size)
        pairs = zip(_numbers(measured), _numbers(errors), strict=True)
        position = [f"{survey.ra[row]:.6f}", f"{survey.dec[row]:.6f}"]
        identity = [f"hires-{number:03d}", int(survey.source_ids[row])]
        rows.append([*identity, *position, *(value for pair in pairs for value in pair)])
    _write(path, header, rows)


def _numbers(values: NDArray[np.float64]) -> list[str]:
    return [f"{value:.5g}" if abs(value) >= 100 else f"{value:.5f}" for value in values]


def _write(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
