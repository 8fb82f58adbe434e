"""A whole simulated release in one folder: files, calibrators, truth, and a manifest of what was made how.

release/spectra/60000/spec-60000-MOCK01_sp01-001.fits.gz ...
release/wide_binaries.csv   release/references.csv   release/truth.csv   release/release.json
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from phdl_catalog import __version__
from phdl_catalog.spectra.mock_broken import EXPECTED_REASON
from phdl_catalog.spectra.mock_stars import Stage
from phdl_catalog.spectra.mock_survey import SurveyPlan, plan_survey, write_survey
from phdl_catalog.spectra.mock_tables import write_pairs, write_references, write_truth

#: Changed when the same plan gives other files.
_RECIPE = 1


class SimulatingModel(Protocol):
    """What is asked of a model: `phdl_catalog.emulator.Emulator` is one."""

    @property
    def label_names(self) -> tuple[str, ...]: ...

    @property
    def label_range(self) -> NDArray[np.float64]: ...

    @property
    def wavelength(self) -> NDArray[np.float64]: ...

    sha256: str

    def predict(self, labels: NDArray[np.float64]) -> NDArray[np.float32]: ...


@dataclass(frozen=True)
class ReleaseFolder:
    """Where the parts of a simulated release are."""

    path: Path

    @property
    def spectra(self) -> Path:
        """Folder of the spectra, broken ones included."""
        return self.path / "spectra"

    @property
    def pairs(self) -> Path:
        """Table of the wide binaries."""
        return self.path / "wide_binaries.csv"

    @property
    def references(self) -> Path:
        """Table of the high-resolution stars."""
        return self.path / "references.csv"

    @property
    def truth(self) -> Path:
        """Table of the true labels."""
        return self.path / "truth.csv"

    @property
    def manifest(self) -> Path:
        """What was made, and how."""
        return self.path / "release.json"


@dataclass(frozen=True)
class Manifest:
    """What a simulated release is.

    Parameters
    ----------
    origin : dict
        The plan, the model and the recipe; two releases of one origin are the same.
    stars, subgiants, pairs, references : int
        Stars of each kind.
    spectra : int
        Files that are good.
    broken : dict
        Files that are not, by the reason they must be rejected for.
    code_version : str
        Version of phdl-catalog that made it.
    """

    origin: dict[str, Any]
    stars: int
    subgiants: int
    pairs: int
    references: int
    spectra: int
    broken: dict[str, int] = field(default_factory=dict)
    code_version: str = __version__

    @classmethod
    def read(cls, folder: ReleaseFolder) -> Manifest | None:
        """The manifest of a folder; None if no release was finished there."""
        if not folder.manifest.is_file():
            return None
        return cls(**json.loads(folder.manifest.read_text(encoding="utf-8")))


def origin_of(plan: SurveyPlan, model: SimulatingModel) -> dict[str, Any]:
    """What decides how a release looks."""
    document = {"recipe": _RECIPE, "model_sha256": model.sha256, "plan": asdict(plan)}
    plain: dict[str, Any] = json.loads(json.dumps(document))
    return plain


def simulate_release(
    folder: ReleaseFolder,
    plan: SurveyPlan,
    model: SimulatingModel,
    progress: Callable[[int], None] = lambda done: None,
) -> Manifest:
    """Make a release; the manifest is written last, so that a release that has one is whole.

    Parameters
    ----------
    folder : ReleaseFolder
        Made if need be; files of an interrupted run are written again.
    plan : SurveyPlan
        What to simulate.
    model : SimulatingModel
        What makes spectra of labels.
    progress : callable
        Told the number of spectra written so far.
    """
    survey = plan_survey(plan, model.label_names, model.label_range)
    # Real stars differ from ab initio spectra as the model says they do; fits expect it.
    predict = getattr(model, "predict_corrected", model.predict)
    files = write_survey(folder.spectra, survey, plan, model.wavelength, predict, progress)
    write_pairs(folder.pairs, survey, np.random.default_rng([plan.seed, 2]))
    write_references(folder.references, survey, np.random.default_rng([plan.seed, 3]))
    write_truth(folder.truth, survey)
    damages = [damage for damage in files.values() if damage is not None]
    manifest = Manifest(
        origin=origin_of(plan, model),
        stars=len(survey.stars.labels),
        subgiants=int(np.sum(survey.stars.stages == Stage.SUBGIANT.value)),
        pairs=len(survey.stars.pairs),
        references=len(survey.stars.references),
        spectra=len(files) - len(damages),
        broken=dict(Counter(EXPECTED_REASON[damage].value for damage in damages)),
    )
    folder.manifest.write_text(json.dumps(asdict(manifest), indent=2) + "\n", encoding="utf-8")
    return manifest
