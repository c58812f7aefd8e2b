"""Every knob of an installation: command line before environment before `<workspace>/tuning.toml`."""

import ipaddress
import os
import re
import shlex
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationError, field_validator

from mcp_server.errors import InvalidRequestError
from mcp_server.types import Name

PREFIX = "TUNING_"
SECRETS = frozenset({"database_url", "http_token", "notify_webhook", "notify_secret"})
PLACEHOLDERS = frozenset({"id", "title", "message", "study", "state", "reason", "best"})
_PLACEHOLDER = re.compile(r"\{(\w+)\}")
DEFAULT_WORKSPACE = Path("~/.tuning-mcp")


def _listed(value: object) -> object:
    """Environment variables hold lists as text: folders separated as in PATH, names by commas."""
    if not isinstance(value, str):
        return value
    separator = os.pathsep if os.pathsep in value or os.sep in value else ","
    return [part.strip() for part in value.split(separator) if part.strip()]


def _names(value: object) -> object:
    """Names in an environment variable are separated by commas."""
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def _words(value: object) -> object:
    """An environment variable holds a command as one would type it; it is split once, and no shell ever sees it."""
    return shlex.split(value) if isinstance(value, str) else value


VariableName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*\*?$", max_length=100)]


class Settings(BaseModel):
    """The configuration of one server, runner or command."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    workspace: Path = Field(default=DEFAULT_WORKSPACE, description="Folder of the databases, logs and artifacts.")
    data_roots: Annotated[tuple[Path, ...], BeforeValidator(_listed)] = Field(
        default=(), description="Folders that data may be read from."
    )
    transport: Literal["stdio", "http", "sse"] = Field(default="stdio", description="How clients connect.")
    host: str = Field(default="127.0.0.1", description="Address for http and sse; loopback only.")
    port: int = Field(default=8765, ge=0, le=65535, description="Port for http and sse; 0 picks a free one.")
    role: Literal["viewer", "operator", "admin"] = Field(default="operator", description="Role of the local caller.")
    toolsets: Annotated[tuple[str, ...], BeforeValidator(_listed)] = Field(
        default=(), description="Toolsets to offer; empty means the default ones."
    )
    read_only: bool = Field(default=False, description="Offer only tools that change nothing.")
    http_token: SecretStr | None = Field(
        default=None, description="Bearer token for http and sse; generated when unset."
    )
    parallel: int | None = Field(default=None, ge=1, description="Trials at a time; the number of cores when unset.")
    gpus: Annotated[tuple[Annotated[str, Field(pattern=r"^[\w:-]{1,80}$")], ...], BeforeValidator(_names)] | None = (
        Field(default=None, description="Ids of the GPUs that trials may use; those that are found when unset.")
    )
    usd_per_cpu_hour: float = Field(default=0.0, ge=0, allow_inf_nan=False, description="Price of a core for an hour.")
    team: Annotated[Name, Field(max_length=60)] | None = Field(
        default=None, description="Who bears the cost of the studies that are started here."
    )
    database_url: SecretStr | None = Field(
        default=None, description="PostgreSQL database of the workspace; a SQLite file in its folder when unset."
    )
    tracking_uri: str | None = Field(
        default=None,
        description="MLflow store; `<workspace>/mlflow.db` when unset.",
    )
    experiment: str = Field(default="{study}", description="MLflow experiment name; {study} and {agent} are filled in.")
    agent: str = Field(default="tuning", max_length=60, description="Tag `agent` on every run.")
    notify_webhook: SecretStr | None = Field(
        default=None,
        description="Address that is told by a POST of JSON when a study ends: https, or http on loopback.",
    )
    notify_secret: SecretStr | None = Field(
        default=None, description="Key of the HMAC-SHA256 in X-Tuning-Signature of that POST."
    )
    notify_command: Annotated[tuple[str, ...], BeforeValidator(_words)] = Field(
        default=(),
        description='Program that is run when a study ends, e.g. ["notify-send", "{title}", "{message}"]; '
        "{study}, {state}, {reason}, {best} and {id} are filled in too. No shell.",
    )
    trial_environment: Annotated[tuple[VariableName, ...], BeforeValidator(_listed)] = Field(
        default=(),
        description="Environment variables that trials get besides the usual ones; `HF_*` means all that begin so.",
    )
    keep_trial_files: bool = Field(
        default=False, description="Keep what trials wrote into their folders also when they completed."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="What goes to stderr.")

    @field_validator("workspace", mode="after")
    @classmethod
    def _absolute(cls, path: Path) -> Path:
        path = path.expanduser().absolute()
        if "?" in str(path):  # it ends the path in the address of a database, which then lies elsewhere
            raise ValueError("the path must not contain '?'")
        return path

    @field_validator("data_roots", mode="after")
    @classmethod
    def _absolute_roots(cls, roots: tuple[Path, ...]) -> tuple[Path, ...]:
        return tuple(root.expanduser().absolute() for root in roots)

    @field_validator("database_url", mode="after")
    @classmethod
    def _team_database(cls, address: SecretStr | None) -> SecretStr | None:
        if address is not None and not address.get_secret_value().startswith(("postgresql://", "postgres://")):
            raise ValueError("the address must begin with postgresql://")
        return address

    @field_validator("notify_webhook", mode="after")
    @classmethod
    def _safe_address(cls, address: SecretStr | None) -> SecretStr | None:
        if address is None:
            return None
        parts = urlsplit(address.get_secret_value())
        if parts.scheme != "https" and not (parts.scheme == "http" and _is_loopback(parts.hostname)):
            raise ValueError("the address must begin with https://, or with http:// of this machine")
        if not parts.hostname or parts.username is not None or not address.get_secret_value().isprintable():
            raise ValueError("the address needs a host, and must not carry a user name")
        return address

    @field_validator("notify_command", mode="after")
    @classmethod
    def _known_placeholders(cls, words: tuple[str, ...]) -> tuple[str, ...]:
        if unknown := sorted({name for word in words for name in _PLACEHOLDER.findall(word)} - PLACEHOLDERS):
            raise ValueError(f"{{{unknown[0]}}} is filled by nothing; known are {', '.join(sorted(PLACEHOLDERS))}")
        return words

    def environment(self) -> dict[str, str]:
        """The variables by which another process of the workspace works as this one was told to."""
        names = ("parallel", "usd_per_cpu_hour", "tracking_uri", "experiment", "agent", "log_level", "keep_trial_files")
        values = {name: getattr(self, name) for name in names}
        for name in ("database_url", "notify_webhook", "notify_secret"):
            secret = getattr(self, name)
            values[name] = None if secret is None else secret.get_secret_value()
        values["gpus"] = None if self.gpus is None else ",".join(self.gpus)
        values["trial_environment"] = ",".join(self.trial_environment) or None
        values["notify_command"] = shlex.join(self.notify_command) or None
        return {PREFIX + name.upper(): str(value) for name, value in values.items() if value is not None}

    @classmethod
    def load(cls, environment: Mapping[str, str] = os.environ, **given: Any) -> "Settings":  # noqa: ANN401 - CLI values
        """The settings in force; a value in `given` beats the environment, which beats the file.

        Raises:
            InvalidRequestError: If a value is not allowed, or the file has an unknown key.
        """
        given = {key: value for key, value in given.items() if value is not None and value != ()}
        from_environment = {
            name: environment[PREFIX + name.upper()]
            for name in cls.model_fields
            if environment.get(PREFIX + name.upper())
        }
        if role := environment.get("MCP_SERVER_ROLE"):
            from_environment.setdefault("role", role)
        workspace = Path(given.get("workspace") or from_environment.get("workspace") or DEFAULT_WORKSPACE).expanduser()
        try:
            return cls(**{**_file(workspace / "tuning.toml"), **from_environment, **given})
        except ValidationError as exc:
            first = exc.errors(include_url=False)[0]
            name = ".".join(map(str, first["loc"]))
            raise InvalidRequestError(
                f"Setting {name!r}: {first['msg']}"
                + ("." if name.split(".")[0] in SECRETS else f" (got {first['input']!r})."),
                hint=f"Set it by --{name.replace('_', '-')}, {PREFIX}{name.upper()} or {workspace / 'tuning.toml'}.",
            ) from exc


def _is_loopback(host: str | None) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return False


def _file(path: Path) -> dict[str, object]:
    if not path.is_file():
        return {}
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as exc:
        raise InvalidRequestError(
            f"{path} is not valid TOML: {exc}.", hint="Correct the file and start again."
        ) from exc
