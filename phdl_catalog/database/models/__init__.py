"""The tables of schema ``phdl``, one class each (DESIGN: data model).

The comment of every table and column is its documentation; the database carries the same text.
"""

from phdl_catalog.database.models.base import CATALOG_SCHEMA, SCHEMA, Base
from phdl_catalog.database.models.calibration import (
    CalibrationCell,
    CalibrationMember,
    CalibrationOffset,
    CalibrationPolynomial,
    CalibrationRequest,
    CalibrationSet,
)
from phdl_catalog.database.models.calibrators import ReferenceLabel, WideBinary
from phdl_catalog.database.models.catalog import CatalogRelease, Event, FlagDefinition
from phdl_catalog.database.models.fitting import Fit, FitChunk, FitRun, ModelVersion
from phdl_catalog.database.models.states import (
    FINAL_CHUNK_STATES,
    CalibrationState,
    ChunkState,
    MemberKind,
    ReleaseState,
    RequestState,
    RunState,
    SpectrumState,
)
from phdl_catalog.database.models.survey import DataRelease, Source, Spectrum

__all__ = [
    "CATALOG_SCHEMA",
    "FINAL_CHUNK_STATES",
    "SCHEMA",
    "Base",
    "CalibrationCell",
    "CalibrationMember",
    "CalibrationOffset",
    "CalibrationPolynomial",
    "CalibrationRequest",
    "CalibrationSet",
    "CalibrationState",
    "CatalogRelease",
    "ChunkState",
    "DataRelease",
    "Event",
    "Fit",
    "FitChunk",
    "FitRun",
    "FlagDefinition",
    "MemberKind",
    "ModelVersion",
    "ReferenceLabel",
    "ReleaseState",
    "RequestState",
    "RunState",
    "Source",
    "Spectrum",
    "SpectrumState",
    "WideBinary",
]
