"""Both forms of a model: spectra and full Jacobians a second, and the memory that a batch of 256 takes.

python benchmarks/compiled.py --model default --threads 2
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np
import torch

from phdl_catalog import load_model
from phdl_catalog.cli.output import print_table
from phdl_catalog.emulator.model import Emulator

BATCH = 256


def some_labels(model: Emulator, n: int) -> torch.Tensor:
    """(n, L) label vectors between training atmospheres, abundances within 0.2 dex of the middle."""
    generator = np.random.default_rng(0)
    labels = model.label_range.mean(axis=1) + generator.uniform(-0.2, 0.2, (n, len(model.label_names)))
    atmospheres = model.training_atmospheres
    labels[:, : atmospheres.shape[1]] = atmospheres[generator.integers(len(atmospheres), size=n)]
    return torch.as_tensor(labels)


def rate(function: Callable[[torch.Tensor], object], labels: torch.Tensor, seconds: float = 5.0) -> float:
    """Label vectors a second: the best of as many calls as fit into the time."""
    best = float("inf")
    with torch.no_grad():
        function(labels)
        stop = time.perf_counter() + seconds
        while time.perf_counter() < stop:
            start = time.perf_counter()
            function(labels)
            best = min(best, time.perf_counter() - start)
    return len(labels) / best


#: Run in a process of its own: by how many MiB the peak of its memory rises with the work.  The kernel's
#: high-water mark starts anew with the program, unlike that of `getrusage`.
_MEMORY = """
import sys, torch
sys.path.insert(0, {folder!r})
from compiled import some_labels, BATCH
from phdl_catalog import load_model
def peak():
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024
torch.set_num_threads(1)
model = load_model({model!r})
labels = some_labels(model, BATCH)
with torch.no_grad():
    model.compiled.flux(labels[:2])
    open("/proc/self/clear_refs", "w").write("5")
    before = peak()
    result = model.compiled.{call}(labels)
print(peak() - before)
"""


def memory(model: str, call: str) -> float:
    """MiB that one call on a batch adds to the peak of its process."""
    program = _MEMORY.format(folder=str(__file__).rsplit("/", 1)[0], model=model, call=call)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return float(done.stdout)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="default")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    model = load_model(options.model)
    labels = some_labels(model, BATCH)
    result = {
        "model": model.name,
        "components": len(model.compiled.basis) - 1,
        "threads": options.threads,
        "error_against_transformer": model.metadata["compile_error"],
        "transformer_spectra_per_s": rate(model.flux, labels),
        "compiled_spectra_per_s": rate(model.compiled.flux, labels),
        "transformer_jacobians_per_s": rate(model.flux_and_jacobian, labels[:4]),
        "compiled_jacobians_per_s": rate(model.compiled.flux_and_jacobian, labels),
        "compiled_coefficient_jacobians_per_s": rate(model.compiled.coefficients_and_jacobian, labels),
        "memory_mib_flux": memory(options.model, "flux"),
        "memory_mib_coefficients_and_jacobian": memory(options.model, "coefficients_and_jacobian"),
        "memory_mib_flux_and_jacobian": memory(options.model, "flux_and_jacobian"),
    }
    if options.json:
        print(json.dumps(result))
        return
    error = model.metadata["compile_error"]
    print_table(
        f"{model.name}: {result['components']} components, {options.threads} threads, batches of {BATCH}; "
        f"compiled from transformer: rms {error['rms']:.6f}",
        ("", "transformer", "compiled"),
        [
            (
                "spectra/s",
                f"{result['transformer_spectra_per_s']:,.0f}",
                f"{result['compiled_spectra_per_s']:,.0f}",
            ),
            (
                "Jacobians/s, of flux",
                f"{result['transformer_jacobians_per_s']:,.1f}",
                f"{result['compiled_jacobians_per_s']:,.0f}",
            ),
            (
                "Jacobians/s, of coefficients",
                "",
                f"{result['compiled_coefficient_jacobians_per_s']:,.0f}",
            ),
            ("MiB for a batch of spectra", "", f"{result['memory_mib_flux']:.0f}"),
            (
                "MiB for a batch of Jacobians of coefficients",
                "",
                f"{result['memory_mib_coefficients_and_jacobian']:.0f}",
            ),
            (
                "MiB for a batch of Jacobians of flux",
                "",
                f"{result['memory_mib_flux_and_jacobian']:.0f}",
            ),
        ],
    )


if __name__ == "__main__":
    main()
