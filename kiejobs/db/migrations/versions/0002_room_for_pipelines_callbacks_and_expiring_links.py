"""Room for pipelines, callbacks and expiring links"""

import sqlalchemy as sa
from alembic import op

from kiejobs.db.clock import UtcTime

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.create_table(
        "endpoints",
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("is_default", sa.Boolean(), nullable=False),
        sa.Column("disabled_at", UtcTime(), nullable=True),
        sa.PrimaryKeyConstraint("tenant", "url", name=op.f("pk_endpoints")),
    )
    op.create_table(
        "parents",
        sa.Column("job_id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("parent_id", sa.Uuid(as_uuid=False), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_parents_job_id_jobs"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job_id", "parent_id", name=op.f("pk_parents")),
    )
    with op.batch_alter_table("parents", schema=None) as batch_op:
        batch_op.create_index("ix_parents_parent", ["parent_id"], unique=False)

    with op.batch_alter_table("callbacks", schema=None) as batch_op:
        batch_op.add_column(sa.Column("verdict", sa.Text(), nullable=True))
        batch_op.create_index("ix_callbacks_submission", ["submission_id"], unique=False)

    with op.batch_alter_table("jobs", schema=None) as batch_op:
        batch_op.add_column(sa.Column("found_by", sa.Text(), nullable=True))
        batch_op.add_column(sa.Column("input_hash", sa.Text(), nullable=True))
        batch_op.create_index("ix_jobs_same", ["tenant", "input_hash", "created_at"], unique=False)

    with op.batch_alter_table("outputs", schema=None) as batch_op:
        batch_op.add_column(sa.Column("ref", sa.Text(), nullable=True))
        batch_op.add_column(sa.Column("expires_at", UtcTime(), nullable=True))

    with op.batch_alter_table("payloads", schema=None) as batch_op:
        batch_op.add_column(sa.Column("prepared", sa.JSON(), nullable=True))


def downgrade() -> None:
    with op.batch_alter_table("payloads", schema=None) as batch_op:
        batch_op.drop_column("prepared")

    with op.batch_alter_table("outputs", schema=None) as batch_op:
        batch_op.drop_column("expires_at")
        batch_op.drop_column("ref")

    with op.batch_alter_table("jobs", schema=None) as batch_op:
        batch_op.drop_index("ix_jobs_same")
        batch_op.drop_column("input_hash")
        batch_op.drop_column("found_by")

    with op.batch_alter_table("callbacks", schema=None) as batch_op:
        batch_op.drop_index("ix_callbacks_submission")
        batch_op.drop_column("verdict")

    with op.batch_alter_table("parents", schema=None) as batch_op:
        batch_op.drop_index("ix_parents_parent")

    op.drop_table("parents")
    op.drop_table("endpoints")
