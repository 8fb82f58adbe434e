"""What a solution says about itself, label by label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

#: Fields of a label's report that are numbers by survey, and lists.
_BY_SURVEY = ("zero_points", "survey_scales")
_LISTS = ("unseen_by_pairs", "unseen", "notes")


class Constraint(StrEnum):
    """What fixes the correction of a label."""

    PAIRS_AND_REFERENCES = "pairs_and_references"
    REFERENCES_ONLY = "references_only"
    #: The shape is known, a constant is not.
    PAIRS_ONLY = "pairs_only"
    NOTHING = "nothing"


@dataclass(frozen=True)
class Scatter:
    """Scatter of calibrators about zero, in label units, weighted by their noise, bad ones weighted out.

    Parameters
    ----------
    count : int
        Number of calibrators.
    rejected : int
        How many of them are more likely bad than good.
    before, after : float or None
        Root mean square difference with raw and with corrected labels.
    expected : float or None
        Quoted noise and intrinsic scatter together: what `after` should be.
    """

    count: int = 0
    rejected: int = 0
    before: float | None = None
    after: float | None = None
    expected: float | None = None

    @property
    def worse(self) -> bool:
        """Whether the correction increased the scatter by more than counting noise, two sigma."""
        if self.before is None or self.after is None or self.count < 2:
            return False
        return self.after > self.before * (1 + 2 / (2 * self.count) ** 0.5)


@dataclass(frozen=True)
class LabelReport:
    """One label of a `CalibrationReport`.

    Parameters
    ----------
    label : str
        Label name.
    constraint : Constraint
        What fixes the correction.
    pairs, references : Scatter
        Calibrators the solution was fitted to.
    held_out_pairs, held_out_references : Scatter
        Calibrators it never saw.
    pair_scatter, reference_scatter : float or None
        Intrinsic scatter of a pair's difference and of a reference's difference [label units].
    amplitude : float or None
        Standard deviation of the correction over the calibrator stars [label units].
    median_error : float or None
        Median of its error over them [label units].
    zero_points : dict
        Of each survey: (zero-point, error), reference minus the common scale [label units].
    survey_scales : dict
        Of each survey: (scale minus one, error), about the median of the reference labels.
    strength : float
        Of the regularisation, against that of largest marginal likelihood; chosen by cross-validation.
    bootstrap : float
        Scatter of the correction when calibrators are drawn again, over what its covariance would have been;
        where it is above one the covariance was widened by it.
    unseen_by_pairs, unseen : tuple of str
        Directions that pairs alone, and that all calibrators together, do not see.
    form : str
        ``smooth``; ``constant`` or ``none`` where cross-validation preferred that.
    notes : tuple of str
        What is not constrained or looks wrong, in sentences.
    """

    label: str
    constraint: Constraint
    pairs: Scatter = field(default_factory=Scatter)
    references: Scatter = field(default_factory=Scatter)
    held_out_pairs: Scatter = field(default_factory=Scatter)
    held_out_references: Scatter = field(default_factory=Scatter)
    pair_scatter: float | None = None
    reference_scatter: float | None = None
    amplitude: float | None = None
    median_error: float | None = None
    zero_points: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    survey_scales: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    strength: float = 1.0
    bootstrap: float = 1.0
    unseen_by_pairs: tuple[str, ...] = ()
    unseen: tuple[str, ...] = ()
    form: str = "none"
    notes: tuple[str, ...] = ()

    @property
    def blind_spots(self) -> tuple[str, ...]:
        """What pairs, and what all calibrators, do not tell of the correction, as sentences."""
        if self.constraint is Constraint.NOTHING:
            return ()
        sentences = []
        if not self.pairs.count:
            sentences.append("no pair tells anything of it: reference stars alone fix the correction")
        elif fixed := [name for name in self.unseen_by_pairs if name not in self.unseen]:
            sentences.append(f"pairs do not see {_listed(fixed)}: there it rests on the reference stars")
        if self.unseen:
            sentences.append(
                f"no calibrator sees {_listed(self.unseen)}: there it is a guess, small and smooth, and its "
                "error says so"
            )
        return tuple(sentences)

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> LabelReport:
        """Inverse of ``asdict``."""
        values = dict(document)
        for name in ("pairs", "references", "held_out_pairs", "held_out_references"):
            values[name] = Scatter(**values[name])
        values["constraint"] = Constraint(values["constraint"])
        for name in _BY_SURVEY:
            values[name] = {key: (pair[0], pair[1]) for key, pair in values[name].items()}
        for name in _LISTS:
            values[name] = tuple(values[name])
        return cls(**values)


@dataclass(frozen=True)
class BlindDirection:
    """A direction that not all calibrators see, and of which labels.

    Parameters
    ----------
    words : str
        The direction: its zero-point, how it changes with fe_h, ...
    by_pairs : tuple of str
        Labels of which only reference stars see it.
    by_all : tuple of str
        Labels of which no calibrator sees it: there the correction is a guess, and its error says so.
    """

    words: str
    by_pairs: tuple[str, ...]
    by_all: tuple[str, ...]


@dataclass(frozen=True)
class CalibrationReport:
    """What a solution says about itself.

    Parameters
    ----------
    stars : int
        Rows given.
    failed_stars : int
        Rows without usable teff, logg and fe_h.
    pair_use, reference_use : dict
        How many pairs and references were used, held out, or left out, and why.
    populations : dict
        Of each population: stars in used pairs, and used references.
    labels : tuple of LabelReport
        One entry a label, in label order.
    notes : tuple of str
        What concerns all labels.
    """

    stars: int
    failed_stars: int
    pair_use: Mapping[str, int]
    reference_use: Mapping[str, int]
    populations: Mapping[str, Mapping[str, int]]
    labels: tuple[LabelReport, ...]
    notes: tuple[str, ...] = ()

    def __getitem__(self, label: str) -> LabelReport:
        for entry in self.labels:
            if entry.label == label:
                return entry
        raise KeyError(label)

    def statements(self) -> list[tuple[tuple[str, ...], str]]:
        """What is missing or looks wrong: labels, and a sentence that is true of all of them."""
        found: dict[str, list[str]] = {}
        for entry in self.labels:
            for sentence in entry.notes:
                found.setdefault(sentence, []).append(entry.label)
        return [(tuple(labels), sentence) for sentence, labels in found.items()]

    def blind_directions(self) -> list[BlindDirection]:
        """The directions that not all calibrators see."""
        known = [entry for entry in self.labels if entry.form != "none"]
        names = dict.fromkeys(name for entry in known for name in (*entry.unseen_by_pairs, *entry.unseen))
        return [
            BlindDirection(
                _listed([name]),
                tuple(e.label for e in known if name in e.unseen_by_pairs and name not in e.unseen),
                tuple(e.label for e in known if name in e.unseen),
            )
            for name in names
        ]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types; floats survive exactly."""
        document = asdict(self)
        document["labels"] = [_plain(asdict(entry)) for entry in self.labels]
        document["notes"] = list(self.notes)
        return document

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> CalibrationReport:
        """Inverse of `to_dict`."""
        values = dict(document)
        values["labels"] = tuple(LabelReport.from_dict(entry) for entry in values["labels"])
        values["notes"] = tuple(values["notes"])
        return cls(**values)

    def __str__(self) -> str:
        lines = [
            f"{self.stars} stars, {self.failed_stars} without a usable fit",
            "pairs: " + _counts(self.pair_use),
            "references: " + _counts(self.reference_use),
            *self.notes,
            f"{'label':<8} {'constraint':<21} {'form':<9} "
            f"{'pairs':>6} {'before':>8} {'after':>8} {'expected':>8} "
            f"{'refs':>6} {'before':>8} {'after':>8} {'expected':>8}   (held-out calibrators)",
        ]
        for entry in self.labels:
            pairs, references = entry.held_out_pairs, entry.held_out_references
            lines.append(
                f"{entry.label:<8} {entry.constraint:<21} {entry.form:<9} "
                f"{pairs.count:>6} {_number(pairs.before)} {_number(pairs.after)} {_number(pairs.expected)} "
                f"{references.count:>6} {_number(references.before)} {_number(references.after)} "
                f"{_number(references.expected)}"
            )
        for direction in self.blind_directions():
            if direction.by_pairs:
                lines.append(f"pairs do not see {direction.words}: {', '.join(direction.by_pairs)}")
            if direction.by_all:
                lines.append(f"no calibrator sees {direction.words}: {', '.join(direction.by_all)}")
        lines += [f"{', '.join(labels)}: {sentence}" for labels, sentence in self.statements()]
        return "\n".join(lines)


def _listed(directions: Sequence[str]) -> str:
    """Directions in words: its zero-point, how it changes with teff among dwarfs, ... and ..."""
    words = []
    for name in directions:
        if name == "constant":
            words.append("its zero-point")
        elif name == "fe_h":
            words.append("how it changes with fe_h")
        elif " of " in name:
            coordinate, population = name.split(" of ")
            words.append(f"how it changes with {coordinate} among {population}")
        else:
            one, other = name.split(" against ")
            words.append(f"how {one} differ from {other}")
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _plain(document: dict[str, Any]) -> dict[str, Any]:
    document["constraint"] = str(document["constraint"])
    for name in _BY_SURVEY:
        document[name] = {key: list(pair) for key, pair in document[name].items()}
    for name in _LISTS:
        document[name] = list(document[name])
    return document


def _counts(use: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in use.items()) or "none"


def _number(value: float | None) -> str:
    return f"{'':>8}" if value is None else f"{value:8.3f}" if abs(value) < 10 else f"{value:8.1f}"
