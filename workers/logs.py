"""Logs: one line an event on stderr, for a person or, with ``PHDL_LOG_JSON=1``, as JSON.

What a line is about (run, chunk, attempt, ...) is given as ``extra={"job": {...}}`` and printed with it.
Passwords are not logged: URLs of servers never are, and what an error quotes of them is blotted out.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
from datetime import UTC, datetime

_PASSWORD = re.compile(r"(?P<head>[a-z+]+://[^\s:/@]*:)[^\s@]+@")
_KEYWORD = re.compile(r"(?i)\b(password\s*=\s*)[^\s\"')]+")

#: Libraries that say too much at INFO.
_QUIET = ("celery.worker.strategy", "celery.app.trace", "kombu", "amqp", "fsspec", "matplotlib")


def without_secrets(text: str) -> str:
    """A text with the passwords in its URLs blotted out."""
    return _KEYWORD.sub(r"\1***", _PASSWORD.sub(r"\g<head>***@", text))


class _PlainFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        job = getattr(record, "job", None) or {}
        about = "".join(f" {name}={value}" for name, value in job.items())
        return without_secrets(super().format(record) + about)


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        document = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "process": record.process,
            "message": without_secrets(record.getMessage()),
            **(getattr(record, "job", None) or {}),
        }
        if record.exc_info:
            document["exception"] = without_secrets(self.formatException(record.exc_info))
        return json.dumps(document, default=str)


def configure(level: int | str = "INFO") -> None:
    """Send the logs of this process to stderr."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        _JsonFormatter()
        if os.environ.get("PHDL_LOG_JSON", "").lower() in ("1", "true", "yes")
        else _PlainFormatter("%(asctime)s %(levelname)s %(process)d %(name)s: %(message)s")
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
