"""How a notification reaches somebody. A channel raises `BackendUnavailableError` when it did not."""

import hashlib
import hmac
import socket
import subprocess
import threading
from contextlib import suppress
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Protocol
from urllib.parse import urlsplit

from mcp_server.errors import BackendUnavailableError
from mcp_server.notifications.message import Channel, StudyEnded
from mcp_server.settings import Settings

WEBHOOK_TIMEOUT_S = 3.0
COMMAND_TIMEOUT_S = 10.0
ID_HEADER = "X-Tuning-Delivery"
SIGNATURE_HEADER = "X-Tuning-Signature"


class Sender(Protocol):
    """A way to tell somebody."""

    def send(self, message: StudyEnded) -> None:
        """Return when it was received.

        Raises:
            BackendUnavailableError: If it was not; its text holds no secret.
        """


class Webhook:
    """Posts JSON to an address; any answer but 2xx is a failure, and no redirect is followed."""

    def __init__(self, url: str, secret: str | None = None, *, timeout_s: float = WEBHOOK_TIMEOUT_S) -> None:
        self._parts = urlsplit(url)
        self._secret = secret
        self._timeout_s = timeout_s

    def send(self, message: StudyEnded) -> None:
        """See `Sender`."""
        connection = self._connection()
        late = threading.Timer(self._timeout_s, _hang_up, (connection,))  # the socket's own limit is for one read
        late.start()
        try:
            status = self._post(connection, message)
        except (OSError, HTTPException) as exc:
            raise self._failed(str(exc) or type(exc).__name__) from exc
        finally:
            late.cancel()
            connection.close()
        if not 200 <= status < 300:  # noqa: PLR2004 - the class of success
            raise self._failed(f"it answered {status}")

    def _post(self, connection: HTTPConnection, message: StudyEnded) -> int:
        body = message.model_dump_json().encode()
        headers = {"Content-Type": "application/json", "User-Agent": "tuning-mcp", ID_HEADER: message.id}
        if self._secret is not None:
            signature = hmac.new(self._secret.encode(), body, hashlib.sha256).hexdigest()
            headers[SIGNATURE_HEADER] = f"sha256={signature}"
        path = (self._parts.path or "/") + (f"?{self._parts.query}" if self._parts.query else "")
        connection.request("POST", path, body, headers)
        return connection.getresponse().status

    def _connection(self) -> HTTPConnection:
        kind = HTTPSConnection if self._parts.scheme == "https" else HTTPConnection
        return kind(self._parts.hostname or "", self._parts.port, timeout=self._timeout_s)

    def _failed(self, why: str) -> BackendUnavailableError:
        # The path and the query of a webhook's address are its password.
        return BackendUnavailableError(f"The webhook at {self._parts.hostname} did not take it: {why}.")


class Command:
    """Runs a program of this machine with the notification in its arguments."""

    def __init__(self, words: tuple[str, ...], *, timeout_s: float = COMMAND_TIMEOUT_S) -> None:
        self._words = words
        self._timeout_s = timeout_s

    def send(self, message: StudyEnded) -> None:
        """See `Sender`."""
        program = self._words[0]
        try:
            done = subprocess.run(  # noqa: S603 - the words come from the configuration only
                message.filled(self._words),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                timeout=self._timeout_s,
                check=False,
            )
        except subprocess.TimeoutExpired as exc:
            raise BackendUnavailableError(f"{program} took longer than {self._timeout_s:g} s.") from exc
        except OSError as exc:
            raise BackendUnavailableError(f"{program} cannot be run: {exc.strerror}.") from exc
        if done.returncode:
            raise BackendUnavailableError(f"{program} ended with exit code {done.returncode}.")


def senders(settings: Settings) -> dict[Channel, Sender]:
    """The channels that are configured."""
    found: dict[Channel, Sender] = {}
    if settings.notify_webhook is not None:
        secret = settings.notify_secret
        found["webhook"] = Webhook(
            settings.notify_webhook.get_secret_value(), None if secret is None else secret.get_secret_value()
        )
    if settings.notify_command:
        found["command"] = Command(settings.notify_command)
    return found


def _hang_up(connection: HTTPConnection) -> None:
    if connection.sock is not None:
        with suppress(OSError):
            connection.sock.shutdown(socket.SHUT_RDWR)
