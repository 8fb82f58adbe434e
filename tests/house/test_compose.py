"""docker-compose.yml: every process is who it should be, knows its own password alone, and opens no port."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from phdl_catalog.database.roles import DISPATCHER, PAGES, READER, ROLES, WORKER
from tests.house.test_documents import wrong_with

ROOT = Path(__file__).resolve().parents[2]
SERVICES = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))["services"]
OPEN = yaml.safe_load((ROOT / "docker-compose.open.yml").read_text(encoding="utf-8"))["services"]

#: Whom each service is to the database.
USERS = {
    "migrate": "phdl",
    "phdl": "phdl",
    "dispatcher": DISPATCHER,
    "worker-cpu": WORKER,
    "worker-gpu": WORKER,
    "web": PAGES,
}

#: Passwords in the environment of a service: its own, and for a broker's client the broker's.
PASSWORDS = {
    "postgres": {"OWNER"},
    "redis": {"BROKER"},
    "flower": {"BROKER"},
    "migrate": {"OWNER", "WORKER", "DISPATCHER", "PAGES", "READER"},
    "phdl": {"OWNER", "READER", "BROKER"},
    "dispatcher": {"DISPATCHER", "BROKER"},
    "worker-cpu": {"WORKER", "BROKER"},
    "worker-gpu": {"WORKER", "BROKER"},
    "web": {"PAGES"},
}


def environment(service: str) -> dict[str, str]:
    return dict(SERVICES[service].get("environment", {}))


def test_every_service_is_to_the_database_who_it_should_be() -> None:
    urls = {name: environment(name).get("PHDL_DATABASE_URL") for name in SERVICES}
    users = {name: re.match(r"postgresql://([a-z_]+):", url) for name, url in urls.items() if url}
    assert {name: found and found[1] for name, found in users.items()} == USERS
    assert environment("phdl")["PHDL_READER_URL"].startswith(f"postgresql://{READER}:")


def test_every_service_knows_its_own_passwords_and_no_others() -> None:
    found = {name: set(re.findall(r"PHDL_([A-Z]+)_PASSWORD:", str(environment(name)))) for name in SERVICES}
    assert found == PASSWORDS


def test_every_role_is_given_a_password_where_the_schema_is_made() -> None:
    given = {f"PHDL_{role.removeprefix('phdl_').upper()}_PASSWORD" for role in ROLES}
    assert given <= environment("migrate").keys()


def test_no_password_is_in_a_command() -> None:
    assert not [name for name, service in SERVICES.items() if "PASSWORD" in str(service["command"])]


def test_the_database_and_the_broker_have_no_port_until_the_other_file_is_asked_for() -> None:
    assert not [name for name in ("postgres", "redis") if "ports" in SERVICES[name]]
    assert OPEN.keys() == {"postgres", "redis"}
    assert all(port.startswith("${PHDL_BIND:?") for service in OPEN.values() for port in service["ports"])


def test_what_listens_does_so_if_asked_for_and_on_this_machine_alone() -> None:
    listening = {name: service for name, service in SERVICES.items() if "ports" in service}
    assert all(service["profiles"] == [name] for name, service in listening.items())
    ports = [port for service in listening.values() for port in service["ports"]]
    assert all(port.startswith("${PHDL_WEB_BIND:-127.0.0.1}:") for port in ports)


@pytest.mark.parametrize("name", SERVICES)
def test_every_image_is_pinned_and_every_command_exists(name: str) -> None:
    service: dict[str, Any] = SERVICES[name]
    assert re.search(r":\d+\.\d+", service["image"]), f"{service['image']} is not pinned"
    words = [*service.get("entrypoint", ()), *service["command"]]
    if words[0] == "phdl":
        assert wrong_with(shlex.join(words)) is None
