"""Which files are tables: told by the name and, since names lie, by the first bytes."""

from typing import Literal

from mcp_server.data.text import label
from mcp_server.errors import DataError

Format = Literal["delimited", "parquet"]

_READ = {
    ".csv": "delimited",
    ".tsv": "delimited",
    ".tab": "delimited",
    ".txt": "delimited",
    ".data": "delimited",
    ".parquet": "parquet",
    ".pq": "parquet",
}
_SUPPORTED = "Supported: .csv, .tsv, .txt (each also as .gz) and .parquet."
_RUNS_CODE = frozenset(
    {".pkl", ".pickle", ".p", ".joblib", ".npy", ".npz", ".pt", ".pth", ".ckpt", ".dill", ".mat", ".skops", ".model"}
)
_ARCHIVES = frozenset({".zip", ".tar", ".tgz", ".7z", ".rar", ".bz2", ".xz", ".zst", ".lz4", ".jar", ".whl", ".gz"})
_MAGIC: tuple[tuple[bytes, str], ...] = (
    (b"PK\x03\x04", "a zip archive or an Excel workbook"),
    (b"PK\x05\x06", "an empty zip archive"),
    (b"\x1f\x8b", "compressed with gzip"),
    (b"BZh", "compressed with bzip2"),
    (b"\xfd7zXZ\x00", "compressed with xz"),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"Rar!\x1a\x07", "a rar archive"),
    (b"\x93NUMPY", "a NumPy file, which can hold code"),
    (b"\x89HDF", "an HDF5 file"),
    (b"PAR1", "a Parquet file"),
    (b"ARROW1", "an Arrow file"),
    (b"ORC", "an ORC file"),
    (b"SQLite format 3\x00", "an SQLite database"),
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook"),
    (b"%PDF", "a PDF"),
    (b"\x7fELF", "a program"),
    (b"\x89PNG", "an image"),
    (b"\xff\xd8\xff", "an image"),
)
_TAR_OFFSET = 257
_TEXT_CONTROLS = frozenset(b"\t\n\r\x0b\x0c\x1b")
_SPACE = 32


def format_of(name: str) -> tuple[Format, bool]:
    """How a file with this name is read, and whether it is compressed with gzip.

    Raises:
        DataError: If it is not read at all: archives, files that can run code when they are loaded, anything unknown.
    """
    stem = name.casefold()
    gzipped = stem.endswith(".gz")
    stem = stem.removesuffix(".gz")
    suffix = "." + stem.rsplit(".", 1)[-1] if "." in stem else ""
    if suffix in _RUNS_CODE:
        raise DataError(
            f"{label(name)} is refused: loading a {suffix} file can run code that somebody put into it.",
            hint=f"Save the table as CSV or Parquet. {_SUPPORTED}",
        )
    if suffix in _ARCHIVES or (gzipped and _READ.get(suffix) != "delimited"):
        raise DataError(
            f"{label(name)} is an archive; one file with one table is read.", hint=f"Unpack it. {_SUPPORTED}"
        )
    if suffix not in _READ:
        raise DataError(f"{label(name)} is not a table that can be read.", hint=_SUPPORTED)
    return ("parquet" if _READ[suffix] == "parquet" else "delimited"), gzipped


def check_text(head: bytes, name: str) -> None:
    """Nothing, when `head` may be the beginning of a text file.

    Raises:
        DataError: If it is the beginning of something else, which is named.
    """
    kind = next((kind for magic, kind in _MAGIC if head.startswith(magic)), None)
    if head[_TAR_OFFSET : _TAR_OFFSET + 5] == b"ustar":
        kind = "a tar archive"
    if len(head) > 2 and head[0] == 0x80 and 2 <= head[1] <= 5:  # noqa: PLR2004 - PROTO opcode and its versions
        kind = "a pickle, and loading one can run code"
    if head.lstrip()[:15].lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        kind = "a web page or XML, perhaps an error page that was saved"
    if kind:
        raise DataError(f"{label(name)} is not a table in text form: it is {kind}.", hint=_SUPPORTED)


def is_binary(head: bytes) -> bool:
    """Whether `head` holds more control characters than any text does."""
    controls = sum(byte < _SPACE and byte not in _TEXT_CONTROLS for byte in head)
    return controls > max(len(head) / 50, 4)
