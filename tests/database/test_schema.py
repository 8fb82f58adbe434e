"""The migrated schema, the models and the documentation in the database are one."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import Connection, Engine, text

from phdl_catalog.database import migrate
from phdl_catalog.database.models import SCHEMA, Base
from phdl_catalog.errors import SchemaError

#: What a schema is made of, as PostgreSQL itself writes it down; `alembic_version` is Alembic's own.
_PARTS = {
    "columns": """
        SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity,
               a.attgenerated, pg_get_expr(d.adbin, d.adrelid), col_description(c.oid, a.attnum)
        FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
        LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
        WHERE c.relnamespace = 'phdl'::regnamespace AND c.relkind IN ('r', 'p') AND a.attnum > 0
          AND c.relname <> 'alembic_version'""",
    "tables": """
        SELECT relname, relkind, pg_get_partkeydef(oid), obj_description(oid, 'pg_class')
        FROM pg_class
        WHERE relnamespace = 'phdl'::regnamespace AND relkind IN ('r', 'p')
          AND relname <> 'alembic_version'""",
    "constraints": """
        SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint
        WHERE connamespace = 'phdl'::regnamespace AND conrelid::regclass::text <> 'phdl.alembic_version'""",
    "indexes": """
        SELECT tablename, indexname, indexdef FROM pg_indexes
        WHERE schemaname = 'phdl' AND tablename <> 'alembic_version'""",
}


def _parts(connection: Connection) -> dict[str, set[tuple[object, ...]]]:
    return {name: {tuple(row) for row in connection.execute(text(query))} for name, query in _PARTS.items()}


def test_schema_from_the_migrations_equals_the_one_from_the_models(
    database: Engine, empty_database: Engine
) -> None:
    with empty_database.begin() as connection:
        connection.execute(text(f"CREATE SCHEMA {SCHEMA}"))
        Base.metadata.create_all(connection)
        from_models = _parts(connection)
    with database.connect() as connection:
        from_migrations = _parts(connection)
    for name in _PARTS:
        assert from_models[name], name
        assert from_migrations[name] == from_models[name], name


def test_alembic_sees_no_difference_from_the_models(database: Engine) -> None:
    migrate.check(database, deep=True)


def test_a_change_by_hand_is_found_by_the_deep_check_alone(database: Engine) -> None:
    with database.begin() as connection:
        connection.execute(text("ALTER TABLE phdl.spectrum DROP COLUMN snr_u"))
    migrate.check(database)
    with pytest.raises(SchemaError, match="differs from the models"):
        migrate.check(database, deep=True)


def test_partitions_of_models_are_no_difference(database: Engine) -> None:
    from database_rows import add_model

    with database.begin() as connection:
        add_model(connection)
    migrate.check(database, deep=True)


def test_every_table_and_column_has_a_comment(database: Engine) -> None:
    with database.connect() as connection:
        columns = connection.execute(text(_PARTS["columns"])).all()
        tables = connection.execute(text(_PARTS["tables"])).all()
    assert [row[:2] for row in columns if not row[-1]] == []
    assert [row[0] for row in tables if not row[-1]] == []


def test_check_of_an_empty_database_says_what_to_run(empty_database: Engine) -> None:
    with pytest.raises(SchemaError, match=r"revision none .*run `phdl db upgrade`"):
        migrate.check(empty_database)


def test_a_database_of_newer_code_is_refused(database: Engine) -> None:
    with database.begin() as connection:
        connection.execute(text("UPDATE phdl.alembic_version SET version_num = 'future'"))
    with pytest.raises(SchemaError, match="install the newer phdl-catalog"):
        migrate.check(database)
    with pytest.raises(SchemaError, match="install the newer phdl-catalog"):
        migrate.upgrade(database)


def test_upgrade_of_an_upgraded_database_does_nothing(database: Engine) -> None:
    assert migrate.upgrade(database) is False


def test_two_upgrades_at_once_are_harmless(empty_database: Engine) -> None:
    with ThreadPoolExecutor(2) as pool:
        changed = list(pool.map(migrate.upgrade, [empty_database, empty_database]))
    assert sorted(changed) == [False, True]
    migrate.check(empty_database)


def test_an_upgrade_gives_rights_back_that_were_lost(database: Engine) -> None:
    with database.begin() as connection:
        connection.execute(text("REVOKE ALL ON phdl.label_long FROM phdl_reader"))
    migrate.upgrade(database)
    with database.connect() as connection:
        query = "SELECT has_table_privilege('phdl_reader', 'phdl.label_long', 'SELECT')"
        assert connection.scalar(text(query)) is True
