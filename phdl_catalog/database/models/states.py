"""The states of everything that has a life, as the values that stand in the tables."""

from __future__ import annotations

from enum import StrEnum


class SpectrumState(StrEnum):
    """Whether an ingested file is a usable spectrum."""

    ACCEPTED = "accepted"
    REJECTED = "rejected"


class RunState(StrEnum):
    """The life of a fit run."""

    PLANNED = "planned"
    RUNNING = "running"
    PAUSED = "paused"
    DONE = "done"
    CANCELLED = "cancelled"


class ChunkState(StrEnum):
    """The life of a fit job."""

    PLANNED = "planned"
    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    SPLIT = "split"
    QUARANTINED = "quarantined"
    CANCELLED = "cancelled"


#: States a chunk never leaves.
FINAL_CHUNK_STATES = (ChunkState.DONE, ChunkState.SPLIT, ChunkState.QUARANTINED, ChunkState.CANCELLED)


class CalibrationState(StrEnum):
    """The life of a calibration set."""

    DRAFT = "draft"
    CERTIFIED = "certified"
    SUPERSEDED = "superseded"


class RequestState(StrEnum):
    """The life of a request for a calibration."""

    PLANNED = "planned"
    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


class MemberKind(StrEnum):
    """What a calibrator is."""

    PAIR = "pair"
    REFERENCE = "reference"
    REPEAT = "repeat"


class PolynomialPart(StrEnum):
    """What of a tabulated correction a polynomial is of."""

    SURFACE = "surface"
    CURVE = "curve"


class ReleaseState(StrEnum):
    """The life of a catalogue release."""

    DRAFT = "draft"
    CANDIDATE = "candidate"
    PUBLISHED = "published"
    SUPERSEDED = "superseded"
