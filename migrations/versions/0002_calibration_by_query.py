"""Calibrated labels by query; requests for calibrations; errors from repeats

Revision: 0002_calibration_by_query
Revises: 0001
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from phdl_catalog.database.migrate import sql_file
from phdl_catalog.database.queries import run_script
from phdl_catalog.errors import SchemaError

revision: str = "0002_calibration_by_query"
down_revision: str | Sequence[str] | None = "0001"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

#: A set made before has a basis that does not say what its functions are, and no cells: it has no view.
_SCHEMA = {"schema": "phdl"}


def upgrade() -> None:
    for name, comment in {
        "pmra": "Proper motion, times cos(dec) [mas/yr]",
        "pmdec": "Proper motion in declination [mas/yr]",
    }.items():
        op.add_column("reference_label", sa.Column(name, sa.Double(), comment=comment), **_SCHEMA)
        op.create_check_constraint(
            op.f(f"ck_reference_label_{name}_finite"),
            "reference_label",
            f"{name} > '-Infinity' AND {name} < 'Infinity'",
            **_SCHEMA,
        )
    op.create_check_constraint(
        op.f("ck_calibration_set_name_plain"),
        "calibration_set",
        "name ~ '^[A-Za-z0-9][A-Za-z0-9_.-]{0,47}$'",
        **_SCHEMA,
    )
    op.add_column(
        "calibration_set",
        sa.Column(
            "view_name",
            sa.Text(),
            sa.Computed("'calibrated_' || lower(translate(name, '.-', '__'))", persisted=True),
            nullable=False,
            comment="View of schema phdl with every fit of the model as this set corrects it",
        ),
        **_SCHEMA,
    )
    op.create_unique_constraint(
        op.f("uq_calibration_set_view_name"), "calibration_set", ["view_name"], **_SCHEMA
    )
    for column in (
        sa.Column("n_repeats", sa.Integer(), server_default=sa.text("0"), nullable=False,
                  comment="Repeated observations that the errors' scale is from"),
        sa.Column("error_scale", sa.Double(), server_default=sa.text("1"), nullable=False,
                  comment="Quoted errors times this times (snr/50)**error_slope, and error_floor, are right"),
        sa.Column("error_slope", sa.Double(), server_default=sa.text("0"), nullable=False,
                  comment="How the scale of the errors changes with S/N"),
        sa.Column("error_floor", sa.Double(), server_default=sa.text("0"), nullable=False,
                  comment="Added to the error in quadrature, in the label's unit"),
    ):
        op.add_column("calibration_offset", column, **_SCHEMA)
    op.drop_constraint(op.f("ck_calibration_offset_counts_positive"), "calibration_offset", **_SCHEMA)
    for name, condition in {
        "counts_positive": "n_pairs >= 0 AND n_references >= 0 AND n_repeats >= 0",
        "error_scale_range": "error_scale > 0 AND error_scale < 'Infinity'",
        "error_floor_range": "error_floor >= 0 AND error_floor < 'Infinity'",
        "error_slope_finite": "error_slope > '-Infinity' AND error_slope < 'Infinity'",
    }.items():
        op.create_check_constraint(
            op.f(f"ck_calibration_offset_{name}"), "calibration_offset", condition, **_SCHEMA
        )
    _create_cells()
    _create_requests()
    run_script(op.get_bind(), sql_file("0002_calibration.sql"))


def _create_cells() -> None:
    arrays = {
        "error": "One sigma of each label's correction; NULL: not calibrated",
        "slope_teff": "Derivative of each correction by teff [label unit/K]",
        "slope_logg": "Derivative of each correction by logg",
        "slope_fe_h": "Derivative of each correction by fe_h",
    }
    op.create_table(
        "calibration_cell",
        sa.Column("calibration_set_id", sa.Integer(), nullable=False, comment="Set it belongs to"),
        sa.Column("cell", sa.Integer(), autoincrement=False, nullable=False,
                  comment="Number of the cell in the set's grid"),
        *(sa.Column(name, postgresql.ARRAY(sa.REAL()), nullable=False, comment=comment)
          for name, comment in arrays.items()),
        sa.Column("valid", postgresql.ARRAY(sa.Boolean()), nullable=False,
                  comment="Whether each correction may be used here"),
        sa.CheckConstraint("cell >= 0", name=op.f("ck_calibration_cell_cell_positive")),
        *(sa.CheckConstraint(f"'Infinity'::real > ALL ({name}) AND '-Infinity'::real < ALL ({name})",
                             name=op.f(f"ck_calibration_cell_{name}_finite")) for name in arrays),
        sa.CheckConstraint(
            "cardinality(error) = cardinality(valid) AND cardinality(slope_teff) = cardinality(valid) "
            "AND cardinality(slope_logg) = cardinality(valid) AND cardinality(slope_fe_h) = cardinality(valid)",
            name=op.f("ck_calibration_cell_lengths_agree"),
        ),
        sa.ForeignKeyConstraint(["calibration_set_id"], ["phdl.calibration_set.calibration_set_id"],
                                name=op.f("fk_calibration_cell_calibration_set_id")),
        sa.PrimaryKeyConstraint("calibration_set_id", "cell", name=op.f("pk_calibration_cell")),
        schema="phdl",
        comment="Errors, slopes and validity of one set's corrections in a cell of teff, logg and fe_h",
    )


def _create_requests() -> None:
    states = "'planned', 'queued', 'running', 'done', 'failed'"
    unfinished = sa.text("state IN ('planned', 'queued', 'running')")
    checks = {
        "state_known": f"state IN ({states})",
        "running_has_lease": "(state = 'running') = (lease_until IS NOT NULL)",
        "final_has_end": "(state IN ('done', 'failed')) = (finished_at IS NOT NULL)",
        "done_has_set": "(state = 'done') = (calibration_set_id IS NOT NULL) AND "
        "(state = 'done') = (is_new IS NOT NULL)",
        "failed_has_text": "(state = 'failed') = (error_text IS NOT NULL)",
        "attempt_positive": "attempt >= 0",
    }
    time = sa.DateTime(timezone=True)
    op.create_table(
        "calibration_request",
        sa.Column("calibration_request_id", sa.BigInteger(), sa.Identity(always=True), nullable=False,
                  comment="Key of the request; the only content of a message"),
        sa.Column("request", postgresql.JSONB(astext_type=sa.Text()), nullable=False,
                  comment="Model, cuts and options"),
        sa.Column("after_fit_run_id", sa.Integer(), comment="Not before this run is done"),
        sa.Column("state", sa.Text(), server_default="planned", nullable=False,
                  comment="planned, queued, running, done or failed"),
        sa.Column("attempt", sa.Integer(), server_default=sa.text("0"), nullable=False,
                  comment="Times it was claimed; a writer must still own this number"),
        sa.Column("published_at", time, comment="When the broker was last told of it"),
        sa.Column("lease_until", time, comment="The worker owns it until then; only if running"),
        sa.Column("worker", sa.Text(), comment="Worker that has it, or had it last"),
        sa.Column("calibration_set_id", sa.Integer(), comment="The set it came to; only if done"),
        sa.Column("is_new", sa.Boolean(),
                  comment="False if the same input, options and code had made the set before"),
        sa.Column("error_text", sa.Text(), comment="Why it failed; only if it did"),
        sa.Column("created_at", time, server_default=sa.text("now()"), nullable=False,
                  comment="When it was asked for"),
        sa.Column("finished_at", time, comment="When it was done or had failed"),
        *(sa.CheckConstraint(condition, name=op.f(f"ck_calibration_request_{name}"))
          for name, condition in checks.items()),
        sa.ForeignKeyConstraint(["after_fit_run_id"], ["phdl.fit_run.fit_run_id"],
                                name=op.f("fk_calibration_request_after_fit_run_id")),
        sa.ForeignKeyConstraint(["calibration_set_id"], ["phdl.calibration_set.calibration_set_id"],
                                name=op.f("fk_calibration_request_calibration_set_id")),
        sa.PrimaryKeyConstraint("calibration_request_id", name=op.f("pk_calibration_request")),
        schema="phdl",
        comment="A calibration that was asked for; the broker is told its number and nothing else",
    )
    op.create_index("uq_calibration_request_open", "calibration_request", ["after_fit_run_id"], unique=True,
                    postgresql_where=unfinished, **_SCHEMA)
    op.create_index("ix_calibration_request_state", "calibration_request", ["state"],
                    postgresql_where=unfinished, **_SCHEMA)


def downgrade() -> None:
    raise SchemaError("this migration is not undone: restore a backup instead")
