"""The list of a chunk's spectra is stored as it is

Revision: 0006
Revises: 0005

PostgreSQL tried to compress the list first, which took up to 1.3 ms a chunk (ascending numbers are the worst case of
its method).  Lists that are there already stay as they are.
"""

from collections.abc import Sequence

from alembic import op

from phdl_catalog.errors import SchemaError

revision: str = "0006"
down_revision: str | Sequence[str] | None = "0005"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.execute("ALTER TABLE phdl.fit_chunk ALTER COLUMN spectrum_ids SET STORAGE EXTERNAL")


def downgrade() -> None:
    raise SchemaError("migrations go forwards; restore a backup that was made before the upgrade")
