"""What looks at every fit of a survey holds a batch of rows at a time, and not all of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from simulated_fits import add_fits
from sqlalchemy import Connection
from sqlalchemy.engine import CursorResult

from phdl_catalog.calibration.simulation import simulate_calibrators
from phdl_catalog.catalog import reading
from phdl_catalog.catalog.selection import SubgiantSelection
from phdl_catalog.database import calibration_inputs
from phdl_catalog.database.model_versions import find_model

BATCH = 8


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Numbers of rows that came together, of every result that is read in parts."""
    sizes: list[int] = []
    partitions = CursorResult.partitions

    def counted(self: CursorResult[Any], size: int | None = None) -> Iterator[Any]:
        for rows in partitions(self, size):
            sizes.append(len(rows))
            yield rows

    monkeypatch.setattr(CursorResult, "partitions", counted)
    monkeypatch.setattr(calibration_inputs, "_BATCH", BATCH)
    monkeypatch.setattr(reading, "BATCH", BATCH)
    return sizes


@pytest.mark.parametrize("reader", ["calibration", "catalogue"])
def test_fits_of_a_survey_are_read_in_batches(
    transaction: Connection, batches: list[int], reader: str
) -> None:
    stars = simulate_calibrators(("teff", "logg", "fe_h"), pairs=4, references=4, targets=8)
    add_fits(transaction, stars, "streamed")
    model = find_model(transaction, "streamed")
    if reader == "calibration":
        cuts = calibration_inputs.CalibratorCuts()
        found = len(calibration_inputs.usable_observations(transaction, model, cuts)[0])
    else:
        found = len(reading.read_index(transaction, model.model_version_id, SubgiantSelection()))
    assert found == len(stars.labels) > 2 * BATCH
    assert sum(batches) == found
    assert max(batches) == BATCH
