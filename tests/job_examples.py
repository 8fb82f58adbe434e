"""What the tests of the jobs work with: a small real model, a release with pixels, runs and benches."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from job_fits import LABELS
from sqlalchemy import Engine, insert, text

from phdl_catalog.database.fit_runs import Enqueued, RunRequest, enqueue
from phdl_catalog.database.model_versions import find_model, sync_model
from phdl_catalog.database.models import DataRelease, Spectrum
from phdl_catalog.database.selection import Selection
from phdl_catalog.database.session import connect
from phdl_catalog.emulator.checkpoint import ModelHeader, write_model
from phdl_catalog.emulator.compiled import CompiledNetwork
from phdl_catalog.emulator.expected_error import ExpectedError
from phdl_catalog.emulator.model import Emulator, TransformerModel
from phdl_catalog.emulator.network import NetworkConfig, SpectrumTransformer
from phdl_catalog.emulator.region import TrainingRegion
from phdl_catalog.emulator.registry import load_model
from phdl_catalog.emulator.transforms import LabelTransform
from phdl_catalog.fitting import FitOptions
from phdl_catalog.spectra.grid import PixelGrid
from phdl_catalog.spectra.spectrum import Layout, SpectrumHeader
from phdl_catalog.spectra.spectrum import Spectrum as ObservedSpectrum
from phdl_catalog.spectra.store import PixelStore
from workers.fitting import Bench, FitFunction
from workers.job_settings import JobSettings

_LOW = np.array([4500.0, 1.0, -2.0, -0.3])
_HIGH = np.array([7000.0, 5.0, 0.4, 0.6])
_PIXELS = PixelGrid(35740, 3801)
_COMPONENTS = 6
RELEASE = "dr10"

#: Short times, so that a test of silence is short.
QUICK = JobSettings(
    lease=2.0, heartbeat=0.5, tick=0.1, republish=2.0, republish_empty=0.5, grace=2.0, patience=20.0
)


def small_model(folder: Path, name: str = "small") -> Path:
    """Write a model file whose spectra are lines that grow with the labels."""
    generator = np.random.default_rng(7)
    labels = generator.uniform(_LOW, _HIGH, (200, len(LABELS)))
    transform = LabelTransform.fitted(LABELS, labels)
    network = NetworkConfig(
        patch=256, width=8, depth=1, heads=1, feed_forward=1, label_features=4,
        components=_COMPONENTS, direct_hidden=8,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        transformer = TransformerModel(
            transform,
            SpectrumTransformer(transform.n_inputs, _PIXELS.size, transform.abundance_columns, network),
        )
        compiled = CompiledNetwork(transform, _PIXELS.size, _COMPONENTS, 8)
    with torch.no_grad():
        small = compiled.network
        torch.nn.init.zeros_(small.last.weight)
        torch.nn.init.zeros_(small.last.bias)
        torch.nn.init.zeros_(small.linear.bias)
        # Coefficients follow the labels, and nothing of what a layer of gas makes of them.
        torch.nn.init.zeros_(small.linear.weight)
        slopes = generator.normal(size=(_COMPONENTS, len(LABELS)))
        small.linear.weight[:, : len(LABELS)] = torch.as_tensor(slopes, dtype=torch.float32)
        transformer.network.basis.copy_(torch.as_tensor(_lines(generator)))
    header = ModelHeader(
        name=name,
        label_names=LABELS,
        pixel_first=_PIXELS.first,
        pixel_size=_PIXELS.size,
        resolution=1800.0,
        network=network.as_dict(),
        compiled={"components": _COMPONENTS, "hidden": 8},
        metadata={"code_version": "0.1.0", "metrics": {"rms": 0.001}},
    )
    region = TrainingRegion.from_labels(LABELS, labels)
    tensors = {f"transformer.{key}": value for key, value in transformer.state_dict().items()}
    tensors |= {
        f"compiled.{key}": value.clone() for key, value in compiled.state_dict().items() if key != "basis"
    }
    tensors["region.atmospheres"] = torch.as_tensor(region.atmospheres)
    tensors["region.label_range"] = torch.as_tensor(region.label_range)
    no_patterns = np.zeros((0, _PIXELS.size))
    error = ExpectedError(LABELS, np.ones(_PIXELS.size), np.zeros(4), np.full(2, 1e-3), no_patterns)
    tensors |= error.tensors()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.safetensors"
    write_model(path, header, tensors)
    return path


def _lines(generator: np.random.Generator) -> np.ndarray:
    """(K + 1, P): continuum with lines, and how each component changes the depths of its own lines."""
    pixel = np.arange(_PIXELS.size)
    basis = np.zeros((_COMPONENTS + 1, _PIXELS.size))
    basis[0] = 1.0
    for component in range(1, _COMPONENTS + 1):
        for centre in generator.uniform(50, _PIXELS.size - 50, 60):
            line = np.exp(-0.5 * ((pixel - centre) / 3.0) ** 2)
            basis[0] -= 0.05 * line
            basis[component] -= 0.02 * line
    return basis.astype(np.float32)


def add_observations(
    engine: Engine, model: Emulator, n: int, first_obsid: int = 1, snr: float = 60.0
) -> list[int]:
    """Add `n` spectra of known labels to the release, rows and pixels; returns their keys."""
    generator = np.random.default_rng(first_obsid)
    labels = generator.uniform(_LOW + 0.2 * (_HIGH - _LOW), _HIGH - 0.2 * (_HIGH - _LOW), (n, len(LABELS)))
    flux = model.compiled.predict(labels)
    noisy = (flux + generator.normal(scale=1 / snr, size=flux.shape)).astype(np.float32)
    store = PixelStore(_store_url())
    with store.open_shard(RELEASE) as shard:
        rows = [
            {
                "obsid": first_obsid + i,
                "uri": f"file:///data/{first_obsid + i}.fits",
                "sha256": f"{first_obsid + i:064x}",
                "state": "accepted",
                "shard": shard.name,
                "shard_row": shard.append(_observed(first_obsid + i, noisy[i], snr)).row,
                "first_pixel": _PIXELS.first,
                "n_pixels": _PIXELS.size,
                "ra": 10.0 + i % 50,
                "dec": -3.0,
                "healpix_29": i,
                "snr_g": float(i % 100),
                "class": "STAR" if i % 4 else "GALAXY",
            }
            for i in range(n)
        ]
    with engine.begin() as connection:
        release = connection.execute(
            text(
                "INSERT INTO phdl.data_release (name) VALUES (:name) "
                "ON CONFLICT (name) DO UPDATE SET name = :name RETURNING release_id"
            ),
            {"name": RELEASE},
        ).scalar_one()
        assert DataRelease.__tablename__ == "data_release"
        rows = [{"release_id": release, **row} for row in rows]
        statement = insert(Spectrum).returning(Spectrum.spectrum_id, sort_by_parameter_order=True)
        return list(connection.scalars(statement, rows))


def _observed(obsid: int, flux: np.ndarray, snr: float) -> ObservedSpectrum:
    header = SpectrumHeader(obsid=obsid, layout=next(iter(Layout)), ra=10.0, dec=-3.0)
    clean = np.zeros(flux.size, dtype=np.uint8)
    ivar = np.full(flux.size, snr**2, dtype=np.float32)
    return ObservedSpectrum(header, _PIXELS.first, flux, ivar, clean, clean)


def _store_url() -> str:
    from phdl_catalog.settings import get_settings

    return get_settings().pixel_store_url


def enqueue_all(
    engine: Engine, model: Emulator, path: Path, chunk_size: int = 8, selection: Selection | None = None
) -> Enqueued:
    """Register the model and enqueue the release."""
    with engine.begin() as connection:
        row = sync_model(connection, model, uri=str(path))
        request = RunRequest(
            RELEASE, row, selection or Selection(), FitOptions().as_dict(), chunk_size=chunk_size
        )
        return enqueue(connection, request)


def enqueue_again(engine: Engine, chunk_size: int = 4) -> Enqueued:
    """The same request once more, after the release has grown."""
    with engine.begin() as connection:
        row = find_model(connection, "small")
        request = RunRequest(RELEASE, row, Selection(), FitOptions().as_dict(), chunk_size=chunk_size)
        return enqueue(connection, request)


def bench(fit: FitFunction, worker: str = "host:1", jobs: JobSettings = QUICK) -> Bench:
    """A worker process of a test, with its own connections."""
    return Bench(connect(pooled=False), PixelStore(_store_url()), fit, worker, jobs)


def load(path: Path) -> Emulator:
    return load_model(path)


def counts(engine: Engine) -> dict[str, int]:
    """Exact counts by SQL: rows of fit, distinct spectra, those with labels, spectra, open chunks."""
    with engine.connect() as connection:
        row = connection.execute(
            text(
                "SELECT (SELECT count(*) FROM phdl.fit) AS fits, "
                "(SELECT count(DISTINCT spectrum_id) FROM phdl.fit) AS spectra_fitted, "
                "(SELECT count(*) FROM phdl.fit WHERE label_values IS NOT NULL) AS labelled, "
                "(SELECT count(*) FROM phdl.spectrum WHERE state = 'accepted') AS spectra, "
                "(SELECT count(*) FROM phdl.fit_chunk WHERE state IN ('planned', 'queued', 'running')) "
                "AS open"
            )
        ).one()
        return dict(row._mapping)
