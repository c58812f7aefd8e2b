"""Where runs go: the MLflow store that the settings name."""

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit

from mcp_server.errors import InvalidRequestError
from mcp_server.logs import redact
from mcp_server.settings import Settings
from mcp_server.types import shown

_SQL_SCHEMES = frozenset({"postgresql", "mysql", "mssql"})
_MESSAGE_LIMIT = 300


@dataclass(frozen=True, slots=True)
class TrackingTarget:
    """An MLflow store; `database` is there when it is a SQLite file, `artifacts` when they lie on this machine."""

    uri: str
    backend: str
    workspace: Path
    database: Path | None = None
    artifacts: Path | None = None

    def cleaned(self, text: str) -> str:
        """The first line of an error, short and without credentials, as users may see it."""
        password = urlsplit(self.uri).password
        for secret in filter(None, {password, unquote(password or "")}):
            text = text.replace(secret, "***")
        return shown(redact(text.strip()).split("\n", 1)[0], _MESSAGE_LIMIT)

    @property
    def place(self) -> str:
        """The store as a message names it."""
        return str(self.database) if self.database else f"{urlsplit(self.uri).scheme}://{_host(urlsplit(self.uri))}"


def tracking_target(settings: Settings) -> TrackingTarget:
    """The store that `settings.tracking_uri` names, by default `<workspace>/mlflow.db`.

    Raises:
        InvalidRequestError: If MLflow has no such store, or an http address carries a password.
    """
    workspace = settings.workspace
    uri = settings.tracking_uri or f"sqlite:///{workspace / 'mlflow.db'}"
    parts = urlsplit(uri)
    scheme = parts.scheme.split("+")[0]
    artifacts = workspace / "artifacts"
    if scheme == "sqlite":
        return TrackingTarget(uri, "sqlite", workspace, _database(uri), artifacts)
    if scheme in {"http", "https"}:
        _check_no_password(parts)
        return TrackingTarget(uri, "http", workspace)
    if scheme in _SQL_SCHEMES:
        return TrackingTarget(uri, scheme, workspace, artifacts=artifacts)
    raise InvalidRequestError(
        f"The tracking URI {shown(redact(uri))!r} names no store that can be used.",
        hint="Use sqlite:////absolute/path.db, http(s)://server or postgresql://...; move an mlruns folder with "
        "`mlflow migrate-filestore`.",
    )


def _database(uri: str) -> Path:
    path = Path(re.sub(r"^sqlite(\+\w+)?:///", "", uri).split("?")[0])
    if not path.is_absolute():
        raise InvalidRequestError(
            f"The tracking URI {shown(uri)!r} has no absolute path.", hint="Write sqlite:////absolute/path/mlflow.db."
        )
    return path


def _check_no_password(parts: SplitResult) -> None:
    if parts.username is None and parts.password is None:
        return
    raise InvalidRequestError(
        f"The tracking URI of {_host(parts)} carries a user name or password, which would end up in logs.",
        hint="Leave them out and set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN.",
    )


def _host(parts: SplitResult) -> str:
    return parts.netloc.rsplit("@", 1)[-1]
