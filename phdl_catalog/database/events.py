"""The log of what happened: append-only, in the same transaction as what it tells of."""

from __future__ import annotations

import getpass
import json
import socket
from collections.abc import Mapping
from functools import cache
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.orm import Session

from phdl_catalog.database.queries import statement


@cache
def default_actor() -> str:
    """``user@host`` of this process."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        user = "unknown"
    return f"{user}@{socket.gethostname()}"


def record_event(
    connection: Connection | Session,
    subject: str,
    action: str,
    detail: Mapping[str, Any] | None = None,
    *,
    actor: str | None = None,
) -> None:
    """Add one event; it is kept if the caller's transaction is.

    Parameters
    ----------
    connection : Connection or Session
        Transaction in which the thing happens.
    subject : str
        What it happened to, ``kind:key``: ``fit_chunk:17``, ``model_version:default``.
    action : str
        What happened, one word in the past: ``enqueued``, ``claimed``, ``quarantined``, ``published``.
    detail : mapping, optional
        All else there is to say; must be JSON.
    actor : str, optional
        Who did it; `default_actor` by default.
    """
    connection.execute(
        statement("events", "record"),
        {
            "actor": actor or default_actor(),
            "subject": subject,
            "action": action,
            "detail": json.dumps(dict(detail or {}), allow_nan=False),
        },
    )
