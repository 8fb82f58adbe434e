"""The exceptions of phdl-catalog: one small tree.

The docstring of a class is its message where none is given; where one is given it must say what happened
and what to do next.  Exceptions carry their data as attributes, so that callers need not parse text.
"""

from __future__ import annotations


class PhdlError(Exception):
    """Something phdl-catalog was asked to do could not be done."""

    def __init__(self, message: str | None = None, **data: object) -> None:
        super().__init__(message or (type(self).__doc__ or "").strip())
        for name, value in data.items():
            setattr(self, name, value)


class InputError(PhdlError, ValueError):
    """An argument has the wrong shape, type or value."""


class RejectedSpectrum(PhdlError):
    """A file is not a usable low-resolution spectrum.

    Attributes
    ----------
    reason : str
        A short machine-readable word, the same in the database, in JSON and in the documentation.
    detail : str
        What was found, for a person.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail

    def __reduce__(self) -> tuple[type, tuple[str, str]]:
        return type(self), (self.reason, self.detail)


class GridError(PhdlError):
    """A file is not a valid ab initio grid."""


class SynthesisError(PhdlError):
    """A spectrum cannot be computed: the line-formation code is missing, or it failed."""


class ModelError(PhdlError):
    """A model cannot be loaded or does not fit the data it is asked about."""


class NotFoundError(PhdlError):
    """Nothing of that name exists."""


class ConflictError(PhdlError):
    """Different content already exists under the same key; nothing was changed."""


class StateError(PhdlError):
    """The object is not in a state that allows this."""


class ServiceError(PhdlError):
    """A server that is needed does not answer; `phdl status` shows what runs, `phdl up` starts it."""


class StorageError(PhdlError):
    """Pixels cannot be written to the store or read from it."""


class SchemaError(PhdlError):
    """The database schema is not the one this version of the code expects; run `phdl db upgrade`."""


class CalibrationError(InputError):
    """The calibrators do not allow a solution."""
