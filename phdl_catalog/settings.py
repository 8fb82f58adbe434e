"""Settings, from the environment (prefix ``PHDL_``), a ``.env`` file, or files of secrets.

Nothing here has a side effect: no directory is made and no server is contacted by reading the settings.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path

from platformdirs import user_data_path
from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

#: Longest path a Unix socket may have (Linux: 108 bytes with the final NUL).
_LONGEST_SOCKET_PATH = 107


def _cores() -> int:
    """Cores that this process may use: fewer than the machine has in a job of Slurm or in a container."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on every system
        return os.cpu_count() or 1


class Settings(BaseSettings):
    """Where things are.  Every field is an environment variable with the prefix ``PHDL_``."""

    model_config = SettingsConfigDict(env_prefix="PHDL_", env_file=".env", extra="ignore")

    data_dir: Path = Field(
        default_factory=lambda: user_data_path("phdl-catalog"),
        description="Embedded servers, pixel shards and trained models live here.",
    )
    database_url: SecretStr | None = Field(
        default=None,
        description="PostgreSQL to use, postgresql://user:password@host/name; unset: the embedded one.",
    )
    reader_url: SecretStr | None = Field(
        default=None,
        description="The same PostgreSQL as the read-only role phdl_reader; unset: the embedded one, "
        "or DATABASE_URL with its rights given up.",
    )
    broker_url: SecretStr | None = Field(
        default=None, description="Redis to use, redis://host:6379/0; unset: the embedded one."
    )
    store_url: str | None = Field(
        default=None, description="Where pixel shards live, any fsspec URL; unset: DATA_DIR/shards."
    )
    worker_password: SecretStr | None = Field(
        default=None, description="Given to the role phdl_worker by `phdl db upgrade`; unset: as it is."
    )
    dispatcher_password: SecretStr | None = Field(
        default=None, description="The same for the role phdl_dispatcher."
    )
    pages_password: SecretStr | None = Field(default=None, description="The same for the role phdl_pages.")
    reader_password: SecretStr | None = Field(default=None, description="The same for the role phdl_reader.")
    threads: int = Field(default_factory=_cores, ge=1, description="Threads for numerical work.")

    @property
    def pixel_store_url(self) -> str:
        return self.store_url or str(self.data_dir / "shards")

    @property
    def models_dir(self) -> Path:
        return self.data_dir / "models"

    @property
    def socket_dir(self) -> Path:
        """Directory of the embedded servers' sockets: under ``data_dir`` if the path is short enough.

        The kernel refuses socket paths over 107 bytes, so a deep ``data_dir`` gets a short directory of its
        own in the temporary directory, named after a hash of ``data_dir`` and the user.
        """
        inside = self.data_dir.absolute() / "run"
        if len(os.fsencode(inside / ".s.PGSQL.5432")) <= _LONGEST_SOCKET_PATH:
            return inside
        digest = hashlib.sha256(os.fsencode(self.data_dir.absolute())).hexdigest()[:12]
        return Path(tempfile.gettempdir()) / f"phdl-{os.getuid()}-{digest}"


def get_settings() -> Settings:
    """Read the settings now; cheap, and never cached, so that tests and forks see their own environment.

    Where ``PHDL_SECRETS_DIR`` names a folder, such as ``/run/secrets`` in a container, a file
    ``phdl_database_url`` in it is the same as the variable ``PHDL_DATABASE_URL``; the variable comes first.
    """
    return Settings(_secrets_dir=os.environ.get("PHDL_SECRETS_DIR"))  # type: ignore[call-arg]
