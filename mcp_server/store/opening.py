"""The workspace database that the settings name."""

from mcp_server.settings import Settings
from mcp_server.store.database import BUSY_TIMEOUT_S, Store
from mcp_server.store.patience import Patience


def open_store(
    settings: Settings, *, patience: Patience | None = None, busy_timeout_s: float = BUSY_TIMEOUT_S
) -> Store:
    """The store of a workspace; it connects when it is first used.

    Raises:
        InvalidRequestError: If the settings name no database that can hold a workspace.
    """
    url = settings.database_url
    return Store(
        settings.workspace,
        url=None if url is None else url.get_secret_value(),
        patience=patience,
        busy_timeout_s=busy_timeout_s,
    )
