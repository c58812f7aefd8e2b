"""An opened text file as a stream of UTF-8 that ends when it grows beyond its cap."""

import codecs
import gzip
import io
import zlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from mcp_server.data.gate import OpenedFile
from mcp_server.data.limits import Limits
from mcp_server.data.text import counted, label
from mcp_server.errors import DataError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

CHUNK = 1024 * 1024


class TextSource:
    """The text of one file, from the start as often as it is asked for, whatever its compression and encoding."""

    def __init__(self, opened: OpenedFile, *, gzipped: bool, encoding: str | None, limits: Limits) -> None:
        self.name = opened.path.name
        self._opened = opened
        self._gzipped = gzipped
        self._encoding = encoding
        self._old_line_ends = False
        self._limit = limits.text_bytes
        if gzipped:
            self._limit = min(self._limit, max(limits.expansion_floor, limits.expansion * opened.size))

    def use_old_line_ends(self) -> None:
        """Read carriage returns as line ends from now on."""
        self._old_line_ends = True

    def stream(self) -> io.BufferedIOBase:
        """The text in UTF-8; closing it leaves the file open."""
        self._opened.handle.seek(0)
        stream: io.BufferedIOBase = io.BufferedReader(_Shared(self._opened.handle), CHUNK)
        if self._gzipped:
            stream = gzip.GzipFile(fileobj=stream)
        if self._encoding or self._old_line_ends:
            recoded = _Recoded(stream, self._encoding or "utf-8", old_line_ends=self._old_line_ends)
            stream = io.BufferedReader(recoded, CHUNK)
        return stream

    def lines(self) -> Iterator[str]:
        """The text in lines with their ends."""
        return io.TextIOWrapper(self.stream(), encoding="utf-8-sig", newline="")  # type: ignore[type-var]  # typeshed wants more than it uses

    def chunks(self) -> Iterator[bytes]:
        """The text in pieces of about a megabyte.

        Raises:
            DataError: At the piece that passes the cap, or when the file is damaged or in another encoding.
        """
        stream = self.stream()
        size = 0
        while chunk := self._next(stream):
            size += len(chunk)
            if size > self._limit:
                packed = f" in a file of {counted(self._opened.size, 'byte')}" if self._gzipped else ""
                raise DataError(
                    f"{label(self.name)} holds more than {self._limit:,} bytes of text{packed}.",
                    hint="Pass a smaller table, or Parquet.",
                )
            yield chunk

    def _next(self, stream: io.BufferedIOBase) -> bytes:
        try:
            return stream.read(CHUNK)
        except (gzip.BadGzipFile, EOFError, zlib.error) as exc:
            raise DataError(
                f"{label(self.name)} is not a complete gzip file: {label(exc)}.", hint="Compress or download it again."
            ) from exc
        except UnicodeError as exc:
            raise DataError(
                f"{label(self.name)} is not text in {self._encoding}: {label(exc)}.", hint="Pass another `encoding`."
            ) from exc


class _Shared(io.RawIOBase):
    """Reads from a file that stays open when this is closed."""

    def __init__(self, handle: io.BufferedIOBase) -> None:
        self._handle = handle

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        return self._handle.readinto(buffer)


class _Recoded(io.RawIOBase):
    """The same text in UTF-8, with line feeds."""

    def __init__(self, stream: io.BufferedIOBase, encoding: str, *, old_line_ends: bool) -> None:
        self._stream = stream
        self._decoder = codecs.getincrementaldecoder(encoding)()
        self._old_line_ends = old_line_ends
        self._left = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        view = memoryview(buffer).cast("B")
        raw = b"-"
        while raw and not self._left:
            raw = self._stream.read(CHUNK)
            text = self._decoder.decode(raw, final=not raw)
            self._left = (text.replace("\r", "\n") if self._old_line_ends else text).encode("utf-8", "replace")
        data, self._left = self._left[: len(view)], self._left[len(view) :]
        view[: len(data)] = data
        return len(data)
