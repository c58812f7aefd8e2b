"""`python -m mcp_server.store.migrations "what changed"`: write the next revision, from what they lack."""

import sys

from sqlalchemy import create_engine

from mcp_server.store.migrations import apply, configuration, known


def main() -> None:
    """Write the revision; whoever asked for it reads and corrects it."""
    from alembic import command

    with create_engine("sqlite://").connect() as connection:
        if known():
            apply(connection)
        number = f"{len(known()) + 1:04d}"
        command.revision(configuration(connection), sys.argv[1], autogenerate=True, rev_id=number)


if __name__ == "__main__":
    main()
