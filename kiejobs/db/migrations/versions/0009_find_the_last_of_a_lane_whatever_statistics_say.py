"""Find the last of a lane, whatever the statistics say

The new index is made before the old one goes, so that nothing but writers wait, for as long as it takes to read `jobs`
once. Processes of the version before run on; with a long line they enqueue slowly until they are replaced.
"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"

LANE = ["account", "tenant", "priority", "line_at"]


def upgrade() -> None:
    _index("ix_jobs_lane_last", "state = 'queued' AND due_at IS NULL")
    op.drop_index("ix_jobs_lane", table_name="jobs")


def downgrade() -> None:
    _index("ix_jobs_lane", "state = 'queued' AND line_at IS NOT NULL")
    op.drop_index("ix_jobs_lane_last", table_name="jobs")


def _index(name: str, rows: str) -> None:
    op.create_index(name, "jobs", LANE, postgresql_where=sa.text(rows), sqlite_where=sa.text(rows))
