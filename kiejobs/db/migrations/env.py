"""Alembic's entry: runs the history on the connection that `kiejobs.db.migrate` hands over."""

from alembic import context

from kiejobs.db.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata, render_as_batch=True)
with context.begin_transaction():
    context.run_migrations()
