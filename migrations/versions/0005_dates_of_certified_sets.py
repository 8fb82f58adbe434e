"""A certified calibration set keeps its dates, and no table of sets can be emptied

Revision: 0005
Revises: 0004
"""

from collections.abc import Sequence

from alembic import op

from phdl_catalog.database.migrate import sql_file
from phdl_catalog.database.queries import run_script
from phdl_catalog.errors import SchemaError

revision: str = "0005"
down_revision: str | Sequence[str] | None = "0004"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    run_script(op.get_bind(), sql_file("0005_guards.sql"))


def downgrade() -> None:
    raise SchemaError("migrations go forwards; restore a backup that was made before the upgrade")
