"""The list of a chunk's spectra is stored apart

Revision: 0003
Revises: 0002_calibration_by_query

A chunk changes its state four times and keeps its spectra: without them its row is short, every change writes
a short row, and `fit status` reads little.  Rows that are there already are stored so when they next change.
"""

from collections.abc import Sequence

from alembic import op

from phdl_catalog.errors import SchemaError

revision: str = "0003"
down_revision: str | Sequence[str] | None = "0002_calibration_by_query"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.execute("ALTER TABLE phdl.fit_chunk SET (toast_tuple_target = 128)")


def downgrade() -> None:
    raise SchemaError("migrations go forwards; restore a backup that was made before the upgrade")
