"""Finding models by name: the packaged ones, those trained here, or any file."""

from __future__ import annotations

import shutil
from importlib.resources import files
from pathlib import Path

import torch

from phdl_catalog.emulator.model import Emulator
from phdl_catalog.errors import ConflictError, NotFoundError
from phdl_catalog.settings import get_settings

SUFFIX = ".safetensors"


def packaged_models() -> dict[str, Path]:
    """Name -> file of the models that come with the package."""
    folder = Path(str(files("phdl_catalog.emulator") / "weights"))
    return {path.stem: path for path in sorted(folder.glob(f"*{SUFFIX}"))}


def local_models(folder: Path | None = None) -> dict[str, Path]:
    """Name -> file of the models under ``PHDL_DATA_DIR/models`` (or `folder`)."""
    folder = folder or get_settings().models_dir
    return {path.stem: path for path in sorted(folder.glob(f"*{SUFFIX}"))}


def find_model(name_or_path: str | Path) -> Path:
    """The file of a model.

    Parameters
    ----------
    name_or_path : str or Path
        A path that exists, or the name of a packaged or locally trained model.

    Raises
    ------
    NotFoundError
        With the names that exist.
    """
    path = Path(name_or_path)
    if path.suffix == SUFFIX and path.is_file():
        return path
    known = packaged_models() | local_models()
    try:
        return known[str(name_or_path)]
    except KeyError:
        raise NotFoundError(
            f"there is no model '{name_or_path}': give the path of a {SUFFIX} file, or one of "
            f"{', '.join(known) or 'none (train one with `phdl model train`)'}"
        ) from None


def keep_model(name_or_path: str | Path, name: str) -> Path:
    """Copy a model file that lies elsewhere to where workers look for models of that name; others stay.

    Parameters
    ----------
    name_or_path : str or Path
        As for `find_model`.
    name : str
        Name of the model, as it stands in the file.

    Raises
    ------
    ConflictError
        If another model of that name is there.
    """
    source = find_model(name_or_path)
    known = (packaged_models() | local_models()).get(name)
    if known is None:
        folder = get_settings().models_dir
        folder.mkdir(parents=True, exist_ok=True)
        known = folder / f"{name}{SUFFIX}"
        half = known.with_suffix(".part")
        shutil.copyfile(source, half)
        half.replace(known)
    elif known.read_bytes() != source.read_bytes():
        raise ConflictError(f"there is another model '{name}' at {known}; give the new one another name")
    return known


def load_model(name_or_path: str | Path = "default", device: str | torch.device = "cpu") -> Emulator:
    """Load a model, by name or path; needs no server.

    Parameters
    ----------
    name_or_path : str or Path
        ``"default"`` is the packaged model.
    device : str or torch.device

    Raises
    ------
    NotFoundError
        If there is no such model.
    ModelError
        If the file is not a model.
    """
    return Emulator.from_file(find_model(name_or_path), device)
