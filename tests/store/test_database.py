import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import insert, select, update
from sqlalchemy.exc import IntegrityError

from mcp_server.errors import BackendUnavailableError
from mcp_server.store import KernelLock, Store
from mcp_server.store.schema import plans, workspace_info

PLAN = {"id": "p-1", "owner": "me", "spec": {"n": 1}, "created_at": 1.0}


def test_what_one_store_commits_another_one_reads(tmp_path: Path) -> None:
    with Store(tmp_path).write(durable=True) as connection:
        connection.execute(insert(plans).values(**PLAN))

    with Store(tmp_path).read() as connection:
        assert connection.scalar(select(plans.c.spec)) == {"n": 1}


def test_a_block_that_raises_commits_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path)

    def interrupted() -> None:
        with store.write() as connection:
            connection.execute(insert(plans).values(**PLAN))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        interrupted()

    with store.read() as connection:
        assert connection.scalar(select(plans.c.id)) is None


@pytest.mark.parametrize(("durable", "synchronous"), [(True, 2), (False, 1)])
def test_a_durable_transaction_waits_for_the_disk(tmp_path: Path, durable: bool, synchronous: int) -> None:
    with Store(tmp_path).write(durable=durable) as connection:
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == synchronous


def test_foreign_keys_are_enforced_and_a_broken_one_is_a_bug(tmp_path: Path) -> None:
    from mcp_server.store.schema import commands

    row = {"study_id": "nobody", "action": "a", "arguments": {}, "owner": "me", "created_at": 1.0}
    with pytest.raises(IntegrityError), Store(tmp_path).write() as connection:
        connection.execute(insert(commands).values(**row))


def test_a_damaged_database_is_said_to_be_one(tmp_path: Path) -> None:
    (tmp_path / "workspace.db").write_bytes(b"this is not a database at all" * 100)

    with pytest.raises(BackendUnavailableError, match=r"file is not a database.*doctor"), Store(tmp_path).read():
        pass


def test_a_workspace_of_a_newer_version_is_not_touched(tmp_path: Path) -> None:
    with Store(tmp_path).write() as connection:
        connection.execute(update(workspace_info).where(workspace_info.c.key == "schema_version").values(value="99"))

    with pytest.raises(BackendUnavailableError, match="newer version"), Store(tmp_path).read():
        pass


def test_a_lock_has_one_holder_also_within_a_process(tmp_path: Path) -> None:
    one, two = KernelLock(tmp_path / "x.lock"), KernelLock(tmp_path / "x.lock")

    assert one.acquire()
    assert not two.acquire()
    assert not two.is_free()
    one.release()
    assert two.is_free()
    assert two.acquire()


def test_a_process_with_a_store_has_all_of_sqlalchemy_so_that_no_thread_meets_half_of_it() -> None:
    # Optuna's storage imports the ORM in the mirror's thread; a query of the runner's then met half a module.
    code = "import sys, mcp_server.store; print('sqlalchemy.orm' in sys.modules)"

    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert loaded.stdout.strip() == "True", loaded.stderr
