"""The mapping of an import: which array is what, in which units; a small TOML or JSON file."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from phdl_catalog.emulator.grid_files.families import DEFAULT_SEED, DEFAULT_SHARE
from phdl_catalog.errors import InputError
from phdl_catalog.labels import Label, declare_label

#: Angstrom in one of each unit of wavelength.
WAVELENGTH_UNITS = {"Angstrom": 1.0, "nm": 10.0, "um": 1e4}

_Positive = Annotated[float, Field(gt=0)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class WavelengthMapping(_Section):
    """Wavelengths: an array, or a start and a step."""

    array: str = "wavelength"
    start: float | None = None
    step: float | None = None
    log10: bool = False
    unit: Literal["Angstrom", "nm", "um"] = "Angstrom"
    medium: Literal["vacuum", "air"] = "vacuum"

    @model_validator(mode="after")
    def _both_or_none(self) -> WavelengthMapping:
        if (self.start is None) != (self.step is None):
            raise ValueError("give both start and step, or an array")
        return self


class FluxMapping(_Section):
    """Flux over continuum: stored values times `scale` (default: the array's own attribute, or 1)."""

    array: str = "flux"
    scale: _Positive | None = None


class LabelsMapping(_Section):
    """The (N, L) array of labels, and the names of its columns."""

    array: str = "labels"
    names: tuple[str, ...] | None = None


class LabelMapping(_Section):
    """What is to be said of one label."""

    array: str | None = Field(default=None, description="an array (N,) of its own")
    unit: str | None = Field(default=None, description="unit in the source, if not the label's own")
    log10: bool = Field(default=False, description="the source has its logarithm")
    lower: float | None = Field(default=None, description="with upper and description: declares the label")
    upper: float | None = None
    description: str | None = None
    symbol: str | None = None
    decimals: int | None = None

    @property
    def is_declaration(self) -> bool:
        return not (self.lower is None and self.upper is None and self.description is None)


class SplitMapping(_Section):
    """Training and validation: an array and the value that means validation, or a share drawn by family."""

    array: str = "split"
    validation: int = 1
    share: Annotated[float, Field(ge=0, lt=1)] = DEFAULT_SHARE
    seed: int = DEFAULT_SEED


class GradientsMapping(_Section):
    """Differential spectra of reference stars, in the labels, units and wavelengths of the grid."""

    labels: str = "gradients/labels"
    flux: str = "gradients/flux"
    gradient: str = "gradients/gradient"
    step: str | dict[str, _Positive] = "gradients/step"
    star: str = "gradients/star"
    split: str = "gradients/split"
    teff_per: _Positive | None = Field(default=None, description="the gradient by teff is per so many K")


class GridMapping(_Section):
    """Which array of a source is what.  The defaults are the names in the grid file itself."""

    resolution: _Positive | None = None
    attributes: dict[str, str | float] = {}
    star: str = "star"
    wavelength: WavelengthMapping = WavelengthMapping()
    flux: FluxMapping = FluxMapping()
    labels: LabelsMapping = LabelsMapping()
    label: dict[str, LabelMapping] = {}
    split: SplitMapping = SplitMapping()
    gradients: GradientsMapping = GradientsMapping()

    @classmethod
    def from_file(cls, path: Path) -> GridMapping:
        """Read a TOML or JSON file; unknown keys are errors.

        Raises
        ------
        InputError
            If it cannot be read or does not fit; the message names each key at fault.
        """
        try:
            text = path.read_text(encoding="utf-8")
            document = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
        except (OSError, ValueError) as error:
            raise InputError(f"the mapping {path} cannot be read: {error}") from error
        try:
            return cls.model_validate(document)
        except ValidationError as error:
            told = "; ".join(
                f"{'.'.join(map(str, item['loc'])) or 'the file'}: {item['msg']}" for item in error.errors()
            )
            raise InputError(f"the mapping {path.name} does not fit: {told}") from error

    def with_options(
        self,
        label_names: tuple[str, ...] | None = None,
        resolution: float | None = None,
        air: bool = False,
        share: float | None = None,
        seed: int | None = None,
    ) -> GridMapping:
        """This mapping with what was said on the command line; None leaves as it is.

        Raises
        ------
        InputError
            If a value does not fit.
        """
        document: dict[str, Any] = self.model_dump(exclude_unset=True)
        if label_names:
            document["labels"] = {**document.get("labels", {}), "names": label_names}
        if resolution is not None:
            document["resolution"] = resolution
        if air:
            document["wavelength"] = {**document.get("wavelength", {}), "medium": "air"}
        for key, value in (("share", share), ("seed", seed)):
            if value is not None:
                document["split"] = {**document.get("split", {}), key: value}
        try:
            return type(self).model_validate(document)
        except ValidationError as error:
            told = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())
            raise InputError(told) from error

    def asked_for(self, *path: str) -> bool:
        """Whether the mapping names an array itself, so that it must be there: ``("split", "array")``."""
        section: Any = self
        for key in path:
            if key not in section.model_fields_set:
                return False
            section = getattr(section, key)
        return True

    def declared(self) -> tuple[Label, ...]:
        """Labels that the mapping declares.

        Raises
        ------
        InputError
            If a declaration is incomplete.
        """
        return tuple(
            declare_label(
                name, entry.model_dump(include=entry.model_fields_set - {"array", "log10"}, exclude_none=True)
            )
            for name, entry in self.label.items()
            if entry.is_declaration
        )
