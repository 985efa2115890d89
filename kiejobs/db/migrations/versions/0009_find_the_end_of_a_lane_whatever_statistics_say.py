"""Find the end of a lane, whatever the statistics say"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"

LANE = ["account", "tenant", "priority", "line_at"]


def upgrade() -> None:
    _again(sa.text("state = 'queued' AND due_at IS NULL"))


def downgrade() -> None:
    _again(sa.text("state = 'queued' AND line_at IS NOT NULL"))


def _again(where: sa.TextClause) -> None:
    op.drop_index("ix_jobs_lane", table_name="jobs")
    op.create_index("ix_jobs_lane", "jobs", LANE, postgresql_where=where, sqlite_where=where)
