"""Corrections as polynomials in cells: calibrated labels of ten million stars by query in two minutes

Revision: 0004
Revises: 0003

The view of a set that is there already evaluates the smooth functions themselves, slower and as right; it stays.
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from phdl_catalog.database.migrate import sql_file
from phdl_catalog.database.queries import run_script
from phdl_catalog.errors import SchemaError

revision: str = "0004"
down_revision: str | Sequence[str] | None = "0003"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.create_table(
        "calibration_polynomial",
        sa.Column("calibration_set_id", sa.Integer(), nullable=False, comment="Set it belongs to"),
        sa.Column("part", sa.Text(), nullable=False,
                  comment="surface: of teff and logg, and x times it; curve: of fe_h"),
        sa.Column("cell", sa.Integer(), autoincrement=False, nullable=False,
                  comment="Number of the cell, logg fastest; the first is at the lower wall of the basis"),
        sa.Column("coefficients", postgresql.ARRAY(sa.REAL()), nullable=False,
                  comment="Of each label in turn: 16 of a surface, 3 of a curve"),
        sa.CheckConstraint("part IN ('surface', 'curve')",
                           name=op.f("ck_calibration_polynomial_part_known")),
        sa.CheckConstraint("cell >= 0", name=op.f("ck_calibration_polynomial_cell_positive")),
        sa.CheckConstraint("'Infinity'::real > ALL (coefficients) AND '-Infinity'::real < ALL (coefficients)",
                           name=op.f("ck_calibration_polynomial_coefficients_finite")),
        sa.ForeignKeyConstraint(["calibration_set_id"], ["phdl.calibration_set.calibration_set_id"],
                                name=op.f("fk_calibration_polynomial_calibration_set_id")),
        sa.PrimaryKeyConstraint("calibration_set_id", "part", "cell",
                                name=op.f("pk_calibration_polynomial")),
        schema="phdl",
        comment="One set's corrections as polynomials in small cells: what a query evaluates",
    )  # fmt: skip
    # A row is read whole and often: it stays in one place.
    op.execute("ALTER TABLE phdl.calibration_polynomial SET (toast_tuple_target = 8160)")
    run_script(op.get_bind(), sql_file("0004_calibration.sql"))


def downgrade() -> None:
    raise SchemaError("migrations go forwards; restore a backup that was made before the upgrade")
