"""Loops over pixels as machine code.

A fit does little with each pixel, but many things one after the other.  As operations on whole batches each
of them reads and writes main memory; as one loop over the pixels of one star everything stays in the cache.
Such loops are compiled by numba when they are first called, which takes seconds, and kept on disk.  They are
for the processor; on other devices the same sums are done by torch.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
import numpy as np
import torch
from numpy.typing import NDArray
from platformdirs import user_cache_path
from torch import Tensor

#: Sums may be taken in any order; infinities and NaN mean what they always mean.
_OPTIONS: dict[str, Any] = {
    "nogil": True,
    "error_model": "numpy",
    "fastmath": {"reassoc", "contract", "arcp", "nsz"},
}

_CONFIG: Any = numba.config

Function = TypeVar("Function", bound=Callable[..., Any])


@cache
def _folder() -> str:
    """Where machine code is kept: elsewhere for other loops.

    Numba itself would not see that a loop has changed which is called from another file.
    """
    digest = sha256()
    for path in sorted(Path(__file__).parent.parent.rglob("*_loops.py")):
        digest.update(path.read_bytes())
    base = _CONFIG.CACHE_DIR or user_cache_path("phdl-catalog") / "loops"
    return str(Path(base) / digest.hexdigest()[:16])


def compiled(function: Function) -> Function:
    """Compile a function of numbers and arrays; sums may be taken in any order, locks are not held."""
    given = _CONFIG.CACHE_DIR
    _CONFIG.CACHE_DIR = _folder()
    try:
        return cast(Function, numba.njit(cache=True, **_OPTIONS)(function))
    except RuntimeError:  # nothing can be written there: it is compiled again by every process
        return cast(Function, numba.njit(**_OPTIONS)(function))
    finally:
        _CONFIG.CACHE_DIR = given


def wanted(device: torch.device) -> bool:
    """Whether work on a device is done by loops; for all else there are operations of torch."""
    return device.type == "cpu"


def _array(tensor: Tensor) -> NDArray[Any]:
    values: NDArray[Any] = tensor.detach().contiguous().numpy()
    return values


def empty(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Memory that a loop fills."""
    return torch.empty(shape, dtype=dtype)


@cache
def _threads(number: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(number, thread_name_prefix="stars")


def for_stars(loop: Callable[..., None], size: int, *arguments: object) -> None:
    """Call ``loop(first, stop, *arguments)`` for `size` stars, on as many threads as torch uses.

    Tensors become arrays of the same memory, in rows; what a loop writes to must be so already, as what
    `empty` returns.
    """
    given = [_array(argument) if isinstance(argument, Tensor) else argument for argument in arguments]
    threads = min(torch.get_num_threads(), size)
    if threads <= 1:
        loop(0, size, *given)
        return
    edges = np.linspace(0, size, threads + 1).astype(int).tolist()
    parts = [_threads(threads).submit(loop, first, stop, *given) for first, stop in itertools.pairwise(edges)]
    for part in parts:
        part.result()


def in_threads(function: Callable[[int], None], numbers: Iterable[int], threads: int) -> None:
    """Call a function for some numbers, in so many threads at a time; in each, torch uses but one.

    Threads that each do all of a small task wait for each other less than threads that share every one of
    its operations.
    """
    if threads == 1:
        for number in numbers:
            function(number)
        return
    before = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            for _ in pool.map(function, numbers):
                pass
    finally:
        torch.set_num_threads(before)
