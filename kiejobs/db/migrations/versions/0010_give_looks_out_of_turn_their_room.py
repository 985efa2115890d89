"""Give looks out of turn their room"""

import sqlalchemy as sa
from alembic import op

from kiejobs.db.clock import UtcTime

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    op.add_column("accounts", sa.Column("asked_look_at", UtcTime(), nullable=True))


def downgrade() -> None:
    with op.batch_alter_table("accounts") as batch_op:
        batch_op.drop_column("asked_look_at")
