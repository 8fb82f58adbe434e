"""Calibrate a model: collect, solve, store.  The command and the Celery task both come here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from sqlalchemy import Engine

from phdl_catalog.calibration import calibrate
from phdl_catalog.database.calibration_inputs import CalibrationInputs, CalibratorCuts, collect_inputs
from phdl_catalog.database.calibration_sets import find_same_set, find_set
from phdl_catalog.database.calibration_store import store_solution
from phdl_catalog.database.model_versions import find_model
from phdl_catalog.database.releases import find_release
from phdl_catalog.errors import CalibrationError, ConflictError, NotFoundError


@dataclass(frozen=True)
class CalibrationRequest:
    """What to calibrate; survives JSON, so that a message can carry it.

    Parameters
    ----------
    model : str
        Model whose fits are calibrated.
    cuts : CalibratorCuts
        Which calibrators.
    held_out_fraction, scale_survey, seed
        As for `phdl_catalog.calibrate`.
    name : str or None
        Name of the new set; by default the model's with the next number.
    """

    model: str
    cuts: CalibratorCuts = field(default_factory=CalibratorCuts)
    held_out_fraction: float = 0.2
    scale_survey: str | None = None
    seed: int = 0
    name: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return asdict(self)

    @classmethod
    def from_dict(cls, document: dict[str, Any]) -> CalibrationRequest:
        """Inverse of `to_dict`."""
        return cls(**{**document, "cuts": CalibratorCuts(**document["cuts"])})

    @property
    def options(self) -> dict[str, Any]:
        """What the solution depends on, beside the calibrators."""
        return {
            "cuts": asdict(self.cuts),
            "held_out_fraction": self.held_out_fraction,
            "scale_survey": self.scale_survey,
            "seed": self.seed,
        }


@dataclass(frozen=True)
class CalibrationOutcome:
    """What a request came to.

    Parameters
    ----------
    name : str
        Name of the set.
    new : bool
        False if the same input, options and code had made it before.
    """

    name: str
    new: bool


def run_calibration(
    engine: Engine, request: CalibrationRequest, say: Callable[[str], None] = lambda line: None
) -> CalibrationOutcome:
    """Calibrate a model with the calibrators in the database; the new set is a draft.

    No transaction is open while the solution is computed.

    Parameters
    ----------
    engine : Engine
        Database.
    request : CalibrationRequest
        What to do.
    say : callable
        Told, in a line, what is being done.

    Raises
    ------
    NotFoundError
        If there is no such model or release.
    ConflictError
        If the name is taken.
    CalibrationError
        If the calibrators do not allow a solution.
    """
    with engine.connect() as connection:
        model = find_model(connection, request.model)
        if request.cuts.release is not None and find_release(connection, request.cuts.release) is None:
            raise NotFoundError(
                f"there is no release '{request.cuts.release}'; `phdl release list` shows those there are"
            )
        if request.name is not None and _exists(connection, request.name):
            raise ConflictError(f"there is a calibration set '{request.name}' already; choose another name")
        say("matching calibrators to fits")
        inputs = collect_inputs(connection, model, request.cuts)
        same = find_same_set(connection, model, inputs, request.options)
    if same is not None and request.name in (None, same):
        return CalibrationOutcome(same, new=False)
    if not len(inputs.pairs) and not len(inputs.reference_rows):
        raise CalibrationError(_nothing_usable(request, inputs), counts=inputs.counts)
    say(f"solving with {len(inputs.pairs)} pairs and {len(inputs.reference_rows)} reference stars")
    solution = calibrate(
        inputs.label_names,
        inputs.labels,
        inputs.errors,
        pairs=inputs.pairs,
        reference_rows=inputs.reference_rows,
        reference_labels=inputs.reference_labels,
        reference_errors=inputs.reference_errors,
        surveys=inputs.surveys,
        pair_chance=inputs.pair_chance,
        repeats=inputs.repeats,
        snr=inputs.snr,
        coordinate_covariance=inputs.coordinate_covariance,
        held_out_fraction=request.held_out_fraction,
        scale_survey=request.scale_survey,
        seed=request.seed,
    )
    say("storing")
    with engine.begin() as connection:
        name = store_solution(connection, model, inputs, solution, request.options, request.name)
    return CalibrationOutcome(name, new=True)


def _nothing_usable(request: CalibrationRequest, inputs: CalibrationInputs) -> str:
    pairs, references = (inputs.counts[kind]["in the database"] for kind in ("pairs", "references"))
    if not pairs and not references:
        return (
            "there is no wide binary and no reference star in the database: import some with "
            "`phdl pairs import` or `phdl references import`"
        )
    tried = "".join(f"; {kind}: {words}" for kind, words in inputs.tried.items())
    return (
        f"none of the {pairs:,} pairs and {references:,} reference stars in the database can be used with "
        f"the fits of '{request.model}' with S/N of {request.cuts.min_snr:g} or more{tried}; import more "
        "calibrators (`phdl pairs import`, `phdl references import`), fit more, or lower --min-snr"
    )


def _exists(connection: Any, name: str) -> bool:
    try:
        find_set(connection, name)
    except NotFoundError:
        return False
    return True
