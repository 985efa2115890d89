"""List every tenant's jobs"""

from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.create_index(op.f("ix_jobs_created"), "jobs", ["created_at", "id"])


def downgrade() -> None:
    op.drop_index(op.f("ix_jobs_created"), table_name="jobs")
