"""Tell whose fault a failed copy was"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.add_column("outputs", sa.Column("refused_url", sa.Text(), nullable=True))
    op.add_column("outputs", sa.Column("storage_troubles", sa.Integer(), nullable=False, server_default="0"))
    pending = sa.text("state = 'pending'")
    op.create_index("ix_outputs_dying", "outputs", ["expires_at"], postgresql_where=pending, sqlite_where=pending)


def downgrade() -> None:
    op.drop_index("ix_outputs_dying", table_name="outputs")
    op.drop_column("outputs", "storage_troubles")
    op.drop_column("outputs", "refused_url")
