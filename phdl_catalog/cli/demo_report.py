"""The end of the demo: three questions in SQL, and the catalogue against the truth."""

from __future__ import annotations

import csv
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from phdl_catalog.cli.output import print_table

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from phdl_catalog.catalog.recovery import Deviation
    from phdl_catalog.cli.demo_script import Script
    from phdl_catalog.spectra.mock_release import ReleaseFolder

#: What a user may ask: the question, and the query.
QUERIES = (
    (
        "How does [Mg/Fe] go with [Fe/H]?",
        "SELECT round((floor(fe_h * 4) / 4)::numeric, 2) AS fe_h_from, count(*) AS stars, "
        "round(avg(mg_fe)::numeric, 3) AS mg_fe, round(avg(e_mg_fe)::numeric, 3) AS e_mg_fe "
        "FROM catalog.subgiant WHERE flag = 0 GROUP BY 1 ORDER BY 1",
    ),
    (
        "Which stars are rich in magnesium beyond doubt?",
        "SELECT obsid, gaia_source_id, n_obs, snr_g, teff, fe_h, mg_fe, e_mg_fe "
        "FROM catalog.subgiant WHERE mg_fe - 3 * e_mg_fe > 0.05 ORDER BY mg_fe DESC LIMIT 5",
    ),
    (
        "What did calibration change, and which versions made these numbers?",
        "SELECT round((teff / 250)::numeric) * 250 AS around_teff, count(*) AS stars, "
        "round(avg(mg_fe - raw_mg_fe)::numeric, 3) AS change_of_mg_fe, "
        "round(avg(e_cal_mg_fe)::numeric, 3) AS e_cal_mg_fe, model_version, calibration_set, catalog_release "
        "FROM catalog.subgiant GROUP BY 1, 5, 6, 7 ORDER BY 1",
    ),
)

#: Abundances with smaller errors than this count as precise [dex].
_PRECISE = 0.1

#: Labels in the picture.
_DRAWN = ("fe_h", "c_fe", "mg_fe", "ca_fe", "ti_fe", "ni_fe")


def run_queries(script: Script) -> list[dict[str, Any]]:
    """Ask the questions, by the command and, for the document, once more as data."""
    from phdl_catalog.database.reading import open_query

    answers = []
    for question, query in QUERIES:
        script.say(f"\n[bold]{question}[/]")
        script.run("sql", query)
        with open_query(query) as result:
            rows = [dict(zip(result.columns, row, strict=True)) for row in result.rows]
        answers.append({"question": question, "sql": query, "rows": rows})
    return answers


@dataclass(frozen=True)
class Truth:
    """The stars of the simulation, by Gaia-like identifier."""

    label_names: tuple[str, ...]
    labels: dict[int, list[float]]
    injected: dict[int, list[float]]
    stage: dict[int, str]
    role: dict[int, str]

    @classmethod
    def read(cls, path: Path) -> Truth:
        """Read ``truth.csv``."""
        with path.open(encoding="utf-8", newline="") as stream:
            rows = list(csv.DictReader(stream))
        prefix = "injected_"
        names = tuple(key.removeprefix(prefix) for key in rows[0] if key.startswith(prefix))
        by_star = {int(row["gaia_source_id"]): row for row in rows}
        return cls(
            label_names=names,
            labels={star: [float(row[name]) for name in names] for star, row in by_star.items()},
            injected={star: [float(row[prefix + name]) for name in names] for star, row in by_star.items()},
            stage={star: row["stage"] for star, row in by_star.items()},
            role={star: row["role"] for star, row in by_star.items()},
        )


def report_recovery(folder: ReleaseFolder, results: Path, script: Script) -> dict[str, Any]:
    """Compare the published catalogue with the truth: a table, a file and a picture.

    Only stars that are no calibrators are compared: calibrators would flatter.
    """
    import numpy as np

    from phdl_catalog.catalog.recovery import compare_with_truth, draw_recovery

    truth = Truth.read(folder.truth)
    names = truth.label_names
    published = _published(names)
    stars = [star for star in published if truth.role[star] == "field"]
    known = np.array([truth.labels[star] for star in stars])
    raw, values, errors = (np.array([published[star][part] for star in stars]) for part in range(3))
    found = compare_with_truth(names, known, raw, values, errors)
    draw_recovery(results / "recovery.png", names, known, raw, values, _DRAWN)
    rows = [
        (
            row.name, row.n, *_deviation(row.raw, row.name), *_deviation(row.calibrated, row.name),
            _shown(row.error, row.name), f"{row.pull:.2f}",
        )
        for row in found
    ]  # fmt: skip
    columns = ("label", "stars", "fitted - true", "trend", "calibrated - true", "trend", "error", "ratio")
    print_table("Stars that are no calibrators: median and robust scatter; trend per 1000 K", columns, rows)
    script.say("ratio: robust scatter of (calibrated - true) / stated error; 1 if the errors are right")
    _write(results / "recovery.csv", columns, rows)
    right = sum(truth.stage[star] == "subgiant" for star in published)
    all_subgiants = sum(stage == "subgiant" for stage in truth.stage.values())
    precise = [row for row in found if row.name.endswith(("_fe", "fe_h")) and row.error < _PRECISE]
    before, after = (float(np.nanmedian(np.abs(sides))) for sides in _trends(precise))
    script.say(f"{len(published)} stars are published; {right} are subgiants in truth, of {all_subgiants}.")
    script.say(
        f"Median trend with Teff of the {len(precise)} abundances that have errors below {_PRECISE} dex: "
        f"{before:.3f} dex per 1000 K as fitted, {after:.3f} calibrated."
    )
    return {
        "published": len(published),
        "subgiants_published": right,
        "subgiants_true": all_subgiants,
        "trend_before": before,
        "trend_after": after,
        "recovery": [asdict(row) for row in found],
    }


def _trends(rows: list[Any]) -> tuple[list[float], list[float]]:
    return [row.raw.trend for row in rows], [row.calibrated.trend for row in rows]


def _published(names: tuple[str, ...]) -> dict[int, tuple[NDArray[np.float64], ...]]:
    """Raw labels, calibrated labels and errors of each published star, NaN for NULL."""
    import numpy as np

    from phdl_catalog.database.reading import open_query

    parts = [[f"raw_{name}" for name in names], list(names), [f"e_{name}" for name in names]]
    columns = [column for part in parts for column in part]
    query = f"SELECT gaia_source_id, {', '.join(columns)} FROM catalog.subgiant"  # noqa: S608 - names of labels
    with open_query(query) as result:
        rows = list(result.rows)
    table = np.array([row[1:] for row in rows], dtype=np.float64)
    return {
        int(row[0]): tuple(np.split(values, len(parts)))
        for row, values in zip(rows, table, strict=True)
        if row[0] is not None
    }


def _deviation(found: Deviation, label: str) -> tuple[str, str]:
    return f"{_shown(found.bias, label)} ± {_shown(found.scatter, label)}", _shown(found.trend, label)


def _shown(value: float, label: str) -> str:
    if value != value:
        return ""
    return f"{value:.0f}" if label == "teff" else f"{value:.3f}"


def _write(path: Path, columns: tuple[str, ...], rows: list[tuple[Any, ...]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)
