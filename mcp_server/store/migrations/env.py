"""What Alembic runs to reach the database: the connection that it is given, in the caller's transaction."""

from alembic import context

from mcp_server.store.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
    transactional_ddl=True,
    compare_server_default=True,
)
with context.begin_transaction():
    context.run_migrations()
