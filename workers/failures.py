"""Telling by its cause what an error means for a chunk."""

from __future__ import annotations

import errno

import psycopg
import redis
from kombu.exceptions import OperationalError as BrokerError
from psycopg import errors as postgres
from sqlalchemy.exc import DBAPIError, InterfaceError

from phdl_catalog.database.chunks import ErrorKind
from phdl_catalog.errors import ConflictError, ModelError, SchemaError, ServiceError

#: SQLSTATEs after which the same transaction may well succeed: deadlock, serialisation failure, and a session
#: that the server ended because this process was frozen in the middle of a transaction.
_TRY_AGAIN = (
    postgres.DeadlockDetected,
    postgres.SerializationFailure,
    postgres.LockNotAvailable,
    postgres.IdleInTransactionSessionTimeout,
)

#: Wrong rights, or a schema of another version: the same for every chunk.
_NEVER = (
    postgres.InsufficientPrivilege,
    postgres.UndefinedTable,
    postgres.UndefinedColumn,
    postgres.UndefinedFunction,
    postgres.InvalidPassword,
    postgres.InvalidAuthorizationSpecification,
)

#: The machine is short of something, or a disk or network is away; the spectra are not to blame.
_MACHINE_ERRORS = {
    errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.ENOTCONN, errno.EMFILE,
    errno.ENFILE, errno.ECONNREFUSED, errno.ECONNRESET, errno.EPIPE, errno.EHOSTUNREACH, errno.ENETUNREACH,
    errno.EHOSTDOWN, errno.EAGAIN, errno.EACCES, errno.EROFS,
}  # fmt: skip


#: Faults of the program or of its installation, whatever the spectra are.
_PROGRAM_ERRORS = (ModelError, SchemaError, ConflictError, ImportError, NameError, NotImplementedError)


class StoreUnavailableError(ServiceError):
    """The pixel store has nothing of the release; is PHDL_STORE_URL what it was ingested with?"""


def is_database_hiccup(error: BaseException) -> bool:
    """Whether the same transaction may succeed when tried again: connection lost, deadlock, restart."""
    if isinstance(error, ServiceError) and not isinstance(error, StoreUnavailableError):
        return True
    original = error.orig if isinstance(error, DBAPIError) else error
    if isinstance(original, _NEVER):
        return False
    if isinstance(original, _TRY_AGAIN):
        return True
    # OperationalError: lost connections, shutdown, too many connections, out of disk or memory at the server.
    return isinstance(original, (psycopg.OperationalError, psycopg.InterfaceError)) or isinstance(
        error, InterfaceError
    )


def classify(error: BaseException) -> ErrorKind:
    """What an error means for the chunk in which it was raised.

    Transient
        Database, broker, disk or network: tried again as often as it takes.
    Permanent
        Model, schema or rights: no chunk of the run can succeed here.
    Poison
        Anything else: something in these spectra.
    """
    for cause in _causes(error):
        original = cause.orig if isinstance(cause, DBAPIError) else cause
        if isinstance(original, (*_NEVER, *_PROGRAM_ERRORS)):
            return ErrorKind.PERMANENT
        if isinstance(cause, StoreUnavailableError):
            return ErrorKind.PERMANENT
        if is_database_hiccup(cause) or isinstance(cause, (redis.RedisError, BrokerError, ConnectionError)):
            return ErrorKind.TRANSIENT
        if isinstance(cause, TimeoutError) or (isinstance(cause, OSError) and cause.errno in _MACHINE_ERRORS):
            return ErrorKind.TRANSIENT
    return ErrorKind.POISON


def describe(error: BaseException) -> str:
    """Kind and message of an error in one line, of characters that the database can hold."""
    message = " ".join(str(error).split()).replace("\0", "\\0")
    message = message.encode("utf-8", "backslashreplace").decode("utf-8")
    return f"{type(error).__name__}: {message}" if message else type(error).__name__


def _causes(error: BaseException) -> list[BaseException]:
    chain: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and current not in chain:
        chain.append(current)
        current = current.__cause__
    return chain
