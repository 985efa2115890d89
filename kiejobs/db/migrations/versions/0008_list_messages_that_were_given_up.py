"""List messages that were given up"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    given_up = sa.text("state = 'gave_up'")
    op.create_index(
        "ix_deliveries_gave_up", "deliveries", ["created_at"], postgresql_where=given_up, sqlite_where=given_up
    )


def downgrade() -> None:
    op.drop_index("ix_deliveries_gave_up", table_name="deliveries")
