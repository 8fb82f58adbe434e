"""How patient the jobs are, from the environment (prefix ``PHDL_JOB_``)."""

from __future__ import annotations

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict


class JobSettings(BaseSettings):
    """Times of a job's life; all in seconds.  The defaults suit chunks of seconds to minutes."""

    model_config = SettingsConfigDict(env_prefix="PHDL_JOB_", env_file=".env", extra="ignore")

    lease: float = Field(
        default=60.0,
        gt=0,
        description="A chunk belongs to a silent worker for so long; then it is queued again.",
    )
    heartbeat: float = Field(default=15.0, gt=0, description="Time between two heartbeats of a worker.")
    longest_chunk: float = Field(
        default=1800.0, gt=0, description="A chunk that takes longer hangs: its worker process is killed."
    )
    tick: float = Field(default=1.0, gt=0, description="Time between two rounds of the dispatcher.")
    republish: float = Field(
        default=60.0,
        gt=0,
        description="A published chunk that nobody claimed is published again after so long.",
    )
    republish_empty: float = Field(
        default=5.0, gt=0, description="The same where the broker's queue is empty: the message was lost."
    )
    grace: float = Field(
        default=20.0, ge=0, description="On a stop, time to finish a chunk before it is handed back."
    )
    stuck: float = Field(
        default=120.0,
        gt=0,
        description="Jobs wait in the broker and this machine's processes do nothing for so long: its "
        "worker is started again.",
    )
    patience: float = Field(
        default=600.0, gt=0, description="How long a worker tries to write labels while the database is away."
    )

    @model_validator(mode="after")
    def _heartbeats_fit_into_the_lease(self) -> JobSettings:
        if self.heartbeat * 2 > self.lease:
            raise ValueError(
                f"PHDL_JOB_HEARTBEAT ({self.heartbeat} s) must be at most half of "
                f"PHDL_JOB_LEASE ({self.lease} s)"
            )
        return self
