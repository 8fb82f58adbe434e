"""PySME, the optional package whose compiled library forms the lines: imported here, quietly, when needed.

PySME downloads atmospheres and departure coefficients where it lacks them.  Nothing here uses those parts.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import warnings
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from typing import Any

from phdl_catalog.errors import SynthesisError


def require_pysme() -> None:
    """Raise unless PySME is installed.

    Raises
    ------
    SynthesisError
        Saying how to install it.
    """
    if find_spec("pysme") is None:
        raise SynthesisError(
            "computing spectra needs PySME, which is not installed: pip install 'phdl-catalog[synthesis]'"
        )


@contextlib.contextmanager
def quiet_pysme() -> Iterator[None]:
    """PySME without its messages on stdout, its log lines below an error, and its warnings.

    Raises
    ------
    SynthesisError
        If it is not installed.
    """
    require_pysme()
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        import pysme

        logger = logging.getLogger(pysme.__name__)
        logger.setLevel(logging.ERROR)
        yield


@cache
def _library(process: int) -> Any:
    with quiet_pysme():
        from pysme.smelib import libtools

        # Without its library PySME would fetch one from the net, unasked.
        path = libtools.get_full_libfile()
        if not os.path.exists(path):
            raise SynthesisError(
                f"PySME was installed without its compiled library ({path}): install the wheel of "
                "pysme-astro for this system"
            )
        from pysme.sme_synth import SME_DLL

        return SME_DLL()


def library() -> Any:
    """The compiled library, one a process: it has a state of its own, which no two threads may share."""
    require_pysme()
    return _library(os.getpid())


def library_version() -> str:
    """Versions of PySME and of its library, for the record."""
    from importlib.metadata import version

    return f"pysme-astro {version('pysme-astro')}, {' '.join(str(library().SMELibraryVersion()).split())}"
