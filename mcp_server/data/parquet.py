"""Parquet, judged by its footer before a row is decoded."""

from typing import TYPE_CHECKING

from mcp_server.data.delimited import check_distinct
from mcp_server.data.gate import OpenedFile
from mcp_server.data.limits import Limits, check_size
from mcp_server.data.text import label, listed
from mcp_server.errors import DataError

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

_BATCH_ROWS = 16_384
_OFFSET_BYTES = 8


def read_parquet(opened: OpenedFile, limits: Limits) -> tuple["pd.DataFrame", list[str]]:
    """The rows, and notes on columns that no table of numbers and text can hold.

    Raises:
        DataError: If the file is damaged, beyond the limits, or has a column name twice.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    name = opened.path.name
    opened.handle.seek(0)
    try:
        schema = pq.read_schema(opened.handle)
        texts = [
            field.name for field in schema if pa.types.is_string(field.type) or pa.types.is_large_string(field.type)
        ]
        # Dictionaries stay dictionaries: a few bytes on disk can stand for gigabytes of repeated text.
        file = pq.ParquetFile(opened.handle, read_dictionary=texts)
        check_size(name, file.metadata.num_rows, len(schema.names), limits)
        check_distinct(list(schema.names), name)
        _check_expanded(file.metadata, name, limits)
        kept, dropped = _readable(schema)
        table = _loaded(file, kept, name, limits)
        frame = table.to_pandas(ignore_metadata=True, date_as_object=False)
    except (pa.ArrowException, OSError, EOFError) as exc:
        raise DataError(
            f"{label(name)} is not a readable Parquet file: {label(exc, 160)}.", hint="Write it again."
        ) from exc
    return frame, [f"Left out, because lists, structures and bytes are not values: {listed(dropped)}."] * bool(dropped)


def _check_expanded(footer: "pa.FileMetaData", name: str, limits: Limits) -> None:
    expanded = sum(footer.row_group(index).total_byte_size for index in range(footer.num_row_groups))
    if expanded > limits.table_bytes:
        raise DataError(
            f"{label(name)} expands to {expanded / 1e9:,.1f} GB; the limit is {limits.table_bytes / 1e9:,.1f} GB.",
            hint="Pass a sample of the rows, or fewer columns.",
        )


def _readable(schema: "pa.Schema") -> tuple[list[str], list[str]]:
    from pyarrow import types

    def holds_values(kind: "pa.DataType") -> bool:
        if types.is_dictionary(kind):
            return holds_values(kind.value_type)
        return not (types.is_nested(kind) or types.is_binary(kind) or types.is_large_binary(kind)) and not (
            types.is_fixed_size_binary(kind) or isinstance(kind, types.lib.BaseExtensionType)
        )

    kept = [field.name for field in schema if holds_values(field.type)]
    return kept, [field.name for field in schema if field.name not in set(kept)]


def _loaded(file: "pa.ParquetFile", names: list[str], file_name: str, limits: Limits) -> "pa.Table":
    """All rows, in small batches so that what decoding really takes is seen before it takes too much."""
    import pyarrow as pa

    batches, size = [], 0
    for batch in file.iter_batches(batch_size=_BATCH_ROWS, columns=names):
        size += sum(_plain_bytes(array) for array in batch.columns)
        if size > limits.table_bytes:
            raise DataError(
                f"{label(file_name)} takes more than {limits.table_bytes / 1e9:,.1f} GB in memory.",
                hint="Pass a sample of the rows, or fewer columns.",
            )
        batches.append(batch)
    if not batches:
        return file.schema_arrow.empty_table().select(names)
    return pa.Table.from_batches([_plain(batch) for batch in batches])


def _plain_bytes(array: "pa.Array") -> int:
    """What the values take when each is written out."""
    import pyarrow.compute as pc
    from pyarrow import types

    if not types.is_dictionary(array.type):
        return int(array.nbytes)
    if not (types.is_string(array.dictionary.type) or types.is_large_string(array.dictionary.type)):
        return _OFFSET_BYTES * len(array)
    lengths = pc.binary_length(array.dictionary)
    return int(pc.sum(pc.take(lengths, array.indices)).as_py() or 0) + _OFFSET_BYTES * len(array)


def _plain(batch: "pa.RecordBatch") -> "pa.RecordBatch":
    """Dictionaries written out; decimals as floats and times as text, which pandas would hold as Python objects."""
    import pyarrow as pa
    from pyarrow import types

    def plain(array: "pa.Array") -> "pa.Array":
        if types.is_dictionary(array.type):
            return array.dictionary_decode()
        if types.is_decimal(array.type):
            return array.cast(pa.float64())
        if types.is_duration(array.type):
            return array.cast(pa.int64())
        return array.cast(pa.string()) if types.is_time(array.type) or types.is_null(array.type) else array

    return pa.RecordBatch.from_arrays([plain(array) for array in batch.columns], names=batch.schema.names)
