"""What a grid to be computed consists of: a plan in a folder, and one file a spectrum beside it.

The folder is all that the machines that compute have in common.  A spectrum's file appears whole or not at
all, so whoever is killed loses one spectrum, and whoever starts again goes on.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from phdl_catalog.emulator.grid import file_sha256
from phdl_catalog.emulator.synthesis.atmosphere import deck_files
from phdl_catalog.emulator.synthesis.design import DEFAULT_ELEMENTS, LabelDesign
from phdl_catalog.emulator.synthesis.engine import SynthesisSettings
from phdl_catalog.errors import ConflictError, InputError, NotFoundError

_PLAN = "plan.json"

#: Fields of a plan that may change when it is taken up again: a grid may grow, and its files may move.
_FREE = ("stars", "gradients", "lines", "atmospheres")

Kind = Literal["star", "reference"]


@dataclass(frozen=True)
class Spectrum:
    """One spectrum of a plan.

    Parameters
    ----------
    kind : {"star", "reference"}
        A star of the grid, or one with differential spectra.
    index : int
        Its number.
    moved : str, optional
        For a reference star: the label that is one step further.
    """

    kind: Kind
    index: int
    moved: str | None = None

    @property
    def name(self) -> str:
        """Name of its file, without suffix."""
        return f"{self.kind}-{self.index:06d}" + (f"-{self.moved}" if self.moved else "")


@dataclass(frozen=True)
class SynthesisPlan:
    """A grid to be computed.

    Parameters
    ----------
    lines : sequence of str
        Files of line lists.
    line_hashes : sequence of str
        Their sha256.
    atmospheres : str
        Folder of decks.
    atmospheres_hash : str
        sha256 of the decks.
    stars, gradients : int
        Number of stars, and of reference stars with differential spectra.
    seed : int
        Of the design.
    elements : sequence of str
        Whose abundances are labels.
    settings : SynthesisSettings
        How spectra are computed.
    """

    lines: Sequence[str]
    line_hashes: Sequence[str]
    atmospheres: str
    atmospheres_hash: str
    stars: int
    gradients: int
    seed: int = 0
    elements: Sequence[str] = DEFAULT_ELEMENTS
    settings: SynthesisSettings = field(default_factory=SynthesisSettings)

    @classmethod
    def make(
        cls,
        lines: Sequence[Path],
        atmospheres: Path,
        stars: int,
        gradients: int,
        seed: int = 0,
        elements: Sequence[str] = DEFAULT_ELEMENTS,
        settings: SynthesisSettings | None = None,
    ) -> SynthesisPlan:
        """A plan from files that are there.

        Raises
        ------
        NotFoundError
            If a file or the folder is not there.
        InputError
            If a number is negative.
        """
        for path in lines:
            if not path.is_file():
                raise NotFoundError(f"there is no line list {path}")
        if stars < 1 or gradients < 0:
            raise InputError(
                f"a grid needs at least one star, not {stars}, and {gradients} gradients is too few"
            )
        return cls(
            tuple(str(path.resolve()) for path in lines),
            tuple(file_sha256(path) for path in lines),
            str(atmospheres.resolve()),
            _hash_of(deck_files(atmospheres)),
            stars,
            gradients,
            seed,
            tuple(elements),
            settings or SynthesisSettings(),
        )

    @property
    def design(self) -> LabelDesign:
        """Which stars there are."""
        return LabelDesign(self.seed, tuple(self.elements))

    def spectra(self) -> Iterator[Spectrum]:
        """All spectra, the stars first."""
        for index in range(self.stars):
            yield Spectrum("star", index)
        for index in range(self.gradients):
            yield Spectrum("reference", index)
            for name in self.design.label_names:
                yield Spectrum("reference", index, name)

    def labels_of(self, spectrum: Spectrum) -> NDArray[np.float64]:
        """Label vector (L,) of a spectrum."""
        design, number = self.design, spectrum.index + 1
        if spectrum.kind == "star":
            return design.stars(number)[spectrum.index]
        labels = design.reference_stars(number)[spectrum.index]
        if spectrum.moved is not None:
            place = design.label_names.index(spectrum.moved)
            labels[place] += design.steps[place]
        return labels

    def as_dict(self) -> dict[str, Any]:
        """The plan as plain JSON."""
        return asdict(self)


def _hash_of(files: Sequence[Path]) -> str:
    digest = hashlib.sha256()
    for path in files:
        digest.update(bytes.fromhex(file_sha256(path)))
    return digest.hexdigest()


class SynthesisFolder:
    """The folder of a plan and its finished spectra.

    Parameters
    ----------
    path : Path
        The folder; seen by all machines that compute.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def plan(self) -> SynthesisPlan:
        """The plan that is in the folder.

        Raises
        ------
        NotFoundError
            If there is none.
        """
        file = self.path / _PLAN
        if not file.is_file():
            raise NotFoundError(
                f"there is no plan of a synthesis in {self.path}; is that folder seen from here?"
            )
        document = json.loads(file.read_text(encoding="utf-8"))
        settings = document.pop("settings")
        settings["wavelength"] = tuple(settings["wavelength"])
        values: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in document.items()
        }
        return SynthesisPlan(**values, settings=SynthesisSettings(**settings))

    def begin(self, plan: SynthesisPlan) -> None:
        """Put a plan into the folder, or take up the one that is there; stars may be added to it.

        Raises
        ------
        ConflictError
            If spectra of another plan are there.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        if (self.path / _PLAN).is_file():
            old, new = json.loads(json.dumps(self.plan().as_dict())), json.loads(json.dumps(plan.as_dict()))
            different = [name for name in new if name not in _FREE and old[name] != new[name]]
            if different:
                raise ConflictError(
                    f"{self.path} holds spectra of a synthesis with other {', '.join(different)}; finish "
                    "that one, give another --output, or remove the folder"
                )
        self._write(_PLAN, json.dumps(plan.as_dict(), indent=1).encode())

    def _write(self, name: str, content: bytes) -> None:
        partial = self.path / f".{name}.{uuid4().hex}"
        partial.write_bytes(content)
        os.replace(partial, self.path / name)

    def has(self, spectrum: Spectrum) -> bool:
        """Whether a spectrum is finished."""
        return (self.path / f"{spectrum.name}.npz").is_file()

    def finished(self) -> set[str]:
        """Names of the finished spectra."""
        return {path.stem for path in self.path.glob("*.npz") if not path.name.startswith(".")}

    def failures(self) -> dict[str, str]:
        """Names of the spectra that failed, and why."""
        return {path.stem: path.read_text(encoding="utf-8") for path in sorted(self.path.glob("*.failed"))}

    def save(self, spectrum: Spectrum, labels: NDArray[np.float64], flux: NDArray[np.float64]) -> None:
        """Store a finished spectrum; doing it twice is harmless."""
        content = io.BytesIO()
        np.savez(content, labels=labels, flux=flux.astype(np.float32))
        self._write(f"{spectrum.name}.npz", content.getvalue())
        (self.path / f"{spectrum.name}.failed").unlink(missing_ok=True)

    def save_failure(self, spectrum: Spectrum, reason: str) -> None:
        """Note that a spectrum could not be computed."""
        self._write(f"{spectrum.name}.failed", reason.encode())

    def forget_failures(self) -> None:
        """Let the spectra that failed be tried again."""
        for path in self.path.glob("*.failed"):
            path.unlink(missing_ok=True)

    def load(self, spectrum: Spectrum) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
        """Labels (L,) and flux (W,) of a finished spectrum."""
        with np.load(self.path / f"{spectrum.name}.npz") as file:
            return file["labels"], file["flux"]
