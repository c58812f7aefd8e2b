"""From a table on disk to arrays with fixed splits, once for all trials, studies and processes."""

from collections.abc import Sequence
from pathlib import Path

from mcp_server.data.bundled import PREFIX
from mcp_server.data.cache import SEALED, PreparedCache, key_of
from mcp_server.data.draft import drafted
from mcp_server.data.gate import DataGate
from mcp_server.data.limits import Limits
from mcp_server.data.readers import DEFAULT_LIMITS, read_table
from mcp_server.data.spec import DataSpec, PreparedData
from mcp_server.data.table import Table
from mcp_server.errors import InvalidRequestError

_LAYOUT = 2
_PLACES = {"data", "validation_data"}


def prepare(spec: DataSpec, gate: DataGate, cache: Path, *, limits: Limits = DEFAULT_LIMITS) -> PreparedData:
    """The table of `spec` as arrays with its splits fixed; the same request on an unchanged file is answered at once.

    Args:
        spec: The table, its target, and how rows are kept apart.
        gate: Opens the files.
        cache: Folder that all studies share.
        limits: How large a table may be.

    Raises:
        InvalidRequestError: If `spec` names no table, or asks for what cannot be combined.
        DataError: If the table cannot be learned from as asked; the text names the column, the class or the line.
        DatasetNotFoundError: If there is no such file.
    """
    if not spec.data:
        raise InvalidRequestError("No table was named.", hint='Pass data="churn.csv" or data="sklearn:iris".')
    if spec.time and spec.group:
        raise InvalidRequestError("time and group cannot be combined.", hint="Pass the one that matters more.")
    shelf = PreparedCache(cache)
    options = spec.model_dump(mode="json", include=set(DataSpec.model_fields) - _PLACES)
    stamps, mtime_ns = _stamps([spec.data, spec.validation_data], gate)
    request = key_of(_LAYOUT, [*stamps], options)
    if found := shelf.seen(request):
        return found.model_copy(update={"source": spec.data})
    table = _read(spec, spec.data, gate, limits)
    validation = _read(spec, spec.validation_data, gate, limits, like=table) if spec.validation_data else None
    key = key_of(_LAYOUT, table.digest, validation.digest if validation else None, options)
    prepared = shelf.load(key) or shelf.store(key, lambda folder: _written(folder, spec, table, validation))
    shelf.remember(request, key, mtime_ns)
    return prepared.model_copy(update={"source": spec.data})


def _read(spec: DataSpec, source: str, gate: DataGate, limits: Limits, *, like: Table | None = None) -> Table:
    return read_table(source, gate, encoding=spec.encoding, separator=spec.separator, limits=limits, like=like)


def _stamps(sources: Sequence[str | None], gate: DataGate) -> tuple[list[str], int]:
    """What changes when a source does, and when the youngest was written."""
    stamps, mtime_ns = [], 0
    for source in sources:
        if source is None or source.startswith(PREFIX):
            stamps.append(source or "")
            continue
        with gate.open(source) as opened:
            stamps.append(f"{opened.path}:{opened.stamp}")
            mtime_ns = max(mtime_ns, opened.mtime_ns)
    return stamps, mtime_ns


def _written(folder: Path, spec: DataSpec, table: Table, validation: Table | None) -> PreparedData:
    import numpy as np

    draft = drafted(spec, table, validation)
    (folder / SEALED).mkdir()
    for place, arrays in ((folder, draft.development), (folder / SEALED, draft.sealed)):
        for name, array in arrays.items():
            np.save(place / f"{name}.npy", array, allow_pickle=False)
    counts = np.bincount(draft.development["y"]) if draft.classes else None
    return PreparedData(
        folder=str(folder),
        source=table.source,
        digest=table.digest,
        task=draft.rows.task,
        target=draft.roles.target,
        classes=draft.classes,
        columns=draft.columns,
        n_rows=len(draft.development["y"]),
        n_sealed=len(draft.sealed["y"]),
        n_folds=draft.n_folds,
        fold_kind=draft.fold_kind,
        imbalance=None if counts is None else round(float(counts.max() / max(int(counts.min()), 1)), 3),
        notes=draft.notes,
        warnings=draft.warnings,
    )
