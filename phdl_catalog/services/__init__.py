"""The embedded PostgreSQL and Redis: Unix sockets only, no TCP port, data under ``PHDL_DATA_DIR``."""

from phdl_catalog.services.redis_server import broker_url, connect_broker
from phdl_catalog.services.stack import ServiceStatus, down, embedded_postgres, embedded_redis, status, up

__all__ = [
    "ServiceStatus",
    "broker_url",
    "connect_broker",
    "down",
    "embedded_postgres",
    "embedded_redis",
    "status",
    "up",
]
