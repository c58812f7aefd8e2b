import json
import os
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mcp_server.data import DataGate, DataSpec, Limits, PreparedData
from mcp_server.data.arrays import Arrays, load_development
from mcp_server.data.prepare import prepare
from mcp_server.data.sealed import load_sealed
from mcp_server.errors import DataError, DatasetNotFoundError, InvalidRequestError

N = 300
RANDOM = np.random.default_rng(3)
Prepare = Callable[..., PreparedData]


def table(**columns: object) -> pd.DataFrame:
    base = {
        "a": RANDOM.normal(size=N),
        "city": RANDOM.choice(["Oslo", "Rome", "Wien"], N),
        "y": RANDOM.permutation(["no"] * 220 + ["yes"] * 80),
    }
    return pd.DataFrame({**base, **columns})


def save(root: Path, frame: pd.DataFrame, name: str = "t.csv") -> None:
    frame.to_csv(root / name, index=False)
    os.utime(root / name, (1e9, 1e9))


def arrays(prepared: PreparedData) -> Arrays:
    return load_development(Path(prepared.folder))


def rows(prepared: PreparedData, place: str = "") -> np.ndarray:
    return np.load(Path(prepared.folder) / place / "rows.npy")


def test_columns_become_numbers_codes_and_days(root: Path, prepared: Prepare) -> None:
    days = pd.date_range("1970-01-02", periods=N).strftime("%Y-%m-%d")
    save(root, table(flag=RANDOM.choice([True, False], N), day=days))
    data = prepared(target="y", test_size=0)
    assert [(c.name, c.kind) for c in data.columns] == [
        ("a", "numeric"),
        ("city", "categorical"),
        ("flag", "categorical"),
        ("day", "datetime"),
    ]
    assert data.columns[1].categories == ["Oslo", "Rome", "Wien"]
    assert data.classes == ["no", "yes"]
    frame, loaded = pd.read_csv(root / "t.csv"), arrays(data)
    assert loaded.X.dtype == np.float64
    np.testing.assert_array_equal(loaded.X[:, 0], frame["a"])
    np.testing.assert_array_equal(loaded.X[:, 1], frame["city"].map({"Oslo": 0, "Rome": 1, "Wien": 2}))
    np.testing.assert_array_equal(loaded.X[:, 2], frame["flag"].astype(int))
    np.testing.assert_array_equal(loaded.X[:, 3], np.arange(N) + 1)
    np.testing.assert_array_equal(loaded.y, (frame["y"] == "yes").astype(int))


def test_folds_and_sealed_rows_are_stratified_disjoint_and_complete(root: Path, prepared: Prepare) -> None:
    save(root, table())
    data = prepared(target="y")
    loaded = arrays(data)
    _, sealed_y = load_sealed(Path(data.folder))
    assert (data.n_rows, data.n_sealed, data.fold_kind, data.n_folds) == (240, 60, "kfold", 5)
    assert data.imbalance == 2.75
    assert sealed_y.mean() == pytest.approx(80 / 300, abs=0.01)
    assert sorted([*rows(data), *rows(data, "sealed")]) == list(range(N))
    seen: list[int] = []
    for train, validation in loaded.splits():
        assert not set(train) & set(validation)
        assert len(train) + len(validation) == data.n_rows
        assert loaded.y[validation].mean() == pytest.approx(80 / 300, abs=0.02)
        seen.extend(validation)
    assert sorted(seen) == list(range(data.n_rows))


def test_poisoned_sealed_rows_change_nothing_that_a_search_loads(root: Path, prepared: Prepare) -> None:
    save(root, table())
    data = prepared(target="y")
    before = arrays(data)
    kept = (before.X.copy(), before.y.copy(), before.fold.copy(), before.data)
    for file in (Path(data.folder) / "sealed").iterdir():
        np.save(file, np.full_like(np.load(file), np.nan, dtype=float))
    after = arrays(prepared(target="y"))
    for old, new in zip(kept, (after.X, after.y, after.fold), strict=False):
        np.testing.assert_array_equal(old, new)
    assert after.data == before.data
    assert np.isnan(load_sealed(Path(data.folder))[0]).all()


def test_how_columns_are_read_is_decided_without_the_sealed_rows(root: Path, prepared: Prepare) -> None:
    frame = table(k=1)
    save(root, frame)
    first = prepared(target="y")
    frame.loc[rows(first, "sealed"), "k"] = range(first.n_sealed)
    frame.loc[rows(first, "sealed"), "city"] = "Atlantis"
    frame.loc[rows(first, "sealed"), "a"] = 1e9
    save(root, frame)
    second = prepared(target="y")
    assert second.digest != first.digest
    assert second.columns == first.columns
    np.testing.assert_array_equal(arrays(first).X, arrays(second).X)
    assert np.isnan(load_sealed(Path(second.folder))[0][:, 1]).all()


def test_time_splits_train_on_the_past_and_seal_the_latest(root: Path, prepared: Prepare) -> None:
    when = RANDOM.permutation(np.repeat(np.arange(N // 3), 3))
    save(root, table(when=when))
    data = prepared(target="y", time="when", cv_folds=4)
    assert (data.fold_kind, data.n_folds) == ("time", 4)
    assert "when" not in [column.name for column in data.columns]
    moments = when[rows(data)]
    assert moments.max() < when[rows(data, "sealed")].min()
    splits = arrays(data).splits()
    assert len(splits) == 4
    for train, validation in splits:
        assert moments[train].max() < moments[validation].min()
        assert len(validation) > 20


def test_groups_never_lie_on_both_sides(root: Path, prepared: Prepare) -> None:
    who = RANDOM.integers(0, 30, N)
    save(root, table(who=[f"u{i}" for i in who]))
    for task_target in ("y", "a"):
        data = prepared(target=task_target, group="who")
        groups = who[rows(data)]
        assert not set(groups) & set(who[rows(data, "sealed")])
        assert data.n_sealed > 20
        for train, validation in arrays(data).splits():
            assert not set(groups[train]) & set(groups[validation])
            assert len(validation) > 20


def test_a_validation_table_replaces_the_folds(root: Path, prepared: Prepare) -> None:
    save(root, table())
    other = table().head(50).assign(city="Atlantis")
    save(root, other, "v.csv")
    data = prepared(target="y", validation_data="v.csv")
    loaded = arrays(data)
    assert (data.fold_kind, data.n_folds, data.n_rows, data.n_sealed) == ("holdout", 1, 290, 60)
    ((train, validation),) = loaded.splits()
    assert (len(train), len(validation)) == (240, 50)
    np.testing.assert_array_equal(loaded.X[validation, 0], other["a"])
    assert np.isnan(loaded.X[validation, 1]).all()
    assert (rows(data)[validation] == -1).all()


def test_a_validation_table_must_fit(root: Path, prepared: Prepare) -> None:
    save(root, table())
    save(root, table().drop(columns="city"), "v.csv")
    with pytest.raises(DataError, match="'city' is not in the table"):
        prepared(target="y", validation_data="v.csv")
    save(root, table(y=["no", "yes", "maybe"] * 100), "v.csv")
    with pytest.raises(DataError, match="classes that the table does not have: maybe"):
        prepared(target="y", validation_data="v.csv")


def test_regression_keeps_numbers_and_leaves_out_infinite_targets(root: Path, prepared: Prepare) -> None:
    price = RANDOM.normal(size=N)
    price[:2] = [np.inf, np.nan]
    save(root, table(price=price))
    data = prepared(target="price", test_size=0)
    assert (data.task, data.classes, data.imbalance, data.n_rows) == ("regression", [], None, N - 2)
    np.testing.assert_array_equal(arrays(data).y, pd.read_csv(root / "t.csv")["price"][2:])
    assert "2 rows without a target left out." in data.notes
    with pytest.raises(DataError, match="No rows were sealed"):
        load_sealed(Path(data.folder))


def test_infinite_features_are_missing_ones_in_the_arrays(root: Path, prepared: Prepare) -> None:
    save(root, table(ratio=[np.inf, -np.inf, *range(N - 2)]))
    loaded = arrays(prepared(target="y", test_size=0))
    np.testing.assert_array_equal(loaded.X[:3, 2], [np.nan, np.nan, 0])


def test_the_task_is_inferred_from_the_values(root: Path, prepared: Prepare) -> None:
    save(
        root,
        table(grade=RANDOM.integers(1, 6, N), count=RANDOM.integers(0, 500, N), ok=RANDOM.choice([True, False], N)),
    )
    assert prepared(target="grade").task == "classification"
    assert prepared(target="grade", task="regression").task == "regression"
    assert prepared(target="count").task == "regression"
    assert prepared(target="ok").classes == [False, True]


def test_the_seed_decides_the_splits_and_nothing_else_does(
    root: Path, prepared: Prepare, gate: DataGate, tmp_path: Path
) -> None:
    save(root, table())
    first, other = prepared(target="y"), prepared(target="y", seed=1)
    again = prepare(DataSpec(data="t.csv", target="y"), gate, tmp_path / "elsewhere")
    np.testing.assert_array_equal(rows(first, "sealed"), rows(again, "sealed"))
    np.testing.assert_array_equal(arrays(first).fold, arrays(again).fold)
    assert set(rows(first, "sealed")) != set(rows(other, "sealed"))


def test_the_second_request_does_not_read_the_table(root: Path, gate: DataGate, cache: Path) -> None:
    save(root, table())
    spec, nothing = DataSpec(data="t.csv", target="y"), Limits(text_bytes=1)
    first = prepare(spec, gate, cache)
    assert prepare(spec, gate, cache, limits=nothing) == first
    with pytest.raises(DataError, match="the limit is 1"):
        prepare(spec.model_copy(update={"seed": 1}), gate, cache, limits=nothing)


def test_a_file_written_a_moment_ago_is_read_again(root: Path, gate: DataGate, cache: Path) -> None:
    table().to_csv(root / "t.csv", index=False)
    spec = DataSpec(data="t.csv", target="y")
    prepare(spec, gate, cache)
    with pytest.raises(DataError, match="the limit is 1"):
        prepare(spec, gate, cache, limits=Limits(text_bytes=1))


def test_a_changed_file_of_the_same_size_and_time_is_read_again(root: Path, prepared: Prepare) -> None:
    frame = table()
    save(root, frame)
    first = prepared(target="y")
    content = (root / "t.csv").read_text()
    (root / "t.csv").write_text(content.replace("Oslo", "Bonn"))
    os.utime(root / "t.csv", (1e9, 1e9))
    second = prepared(target="y")
    assert second.digest != first.digest
    assert second.columns[1].categories == ["Bonn", "Rome", "Wien"]


def test_the_same_content_under_another_name_shares_the_folder(root: Path, prepared: Prepare) -> None:
    save(root, table())
    (root / "copy.csv").write_bytes((root / "t.csv").read_bytes())
    first, copy = prepared(target="y"), prepared("copy.csv", target="y")
    assert copy.folder == first.folder
    assert copy.source == "copy.csv"


def test_processes_that_prepare_at_once_share_one_complete_folder(root: Path, gate: DataGate, cache: Path) -> None:
    save(root, table())
    found: list[PreparedData] = []
    start = threading.Barrier(4)

    def work() -> None:
        start.wait()
        found.append(prepare(DataSpec(data="t.csv", target="y"), gate, cache))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert len({data.folder for data in found}) == 1
    assert {path.name for path in cache.iterdir()} == {Path(found[0].folder).name, "seen"}
    assert len(arrays(found[0]).splits()) == 5


def test_a_failed_preparation_leaves_no_draft(root: Path, prepared: Prepare, cache: Path) -> None:
    save(root, table(y=["one"] * N))
    with pytest.raises(DataError):
        prepared(target="y")
    assert not list(cache.glob("*"))


def test_the_manifest_is_plain_json_and_a_moved_folder_still_loads(
    root: Path, prepared: Prepare, tmp_path: Path
) -> None:
    save(root, table())
    data = prepared(target="y")
    assert json.loads((Path(data.folder) / "prepared.json").read_text())["digest"] == data.digest
    moved = tmp_path / "moved"
    Path(data.folder).rename(moved)
    assert load_development(moved).data.folder == str(moved)
    with pytest.raises(DatasetNotFoundError):
        load_development(Path(data.folder))


def test_leaks_are_warned_about_and_dropped_on_request(root: Path, prepared: Prepare) -> None:
    frame = table()
    save(root, frame.assign(refund=np.where(frame["y"] == "yes", 1.5, np.nan)))
    assert any("'refund' is filled only when y = yes" in warning for warning in prepared(target="y").warnings)
    dropped = prepared(target="y", drop=["refund"])
    assert not dropped.warnings
    assert "refund" not in [column.name for column in dropped.columns]


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"time": "city"}, "neither dates nor numbers"),
        ({"group": "city"}, "3 groups where 5 are needed"),
        ({"time": "few"}, "too few to cut"),
        ({"time": "gaps"}, "missing in 1 row"),
        ({"drop": ["y"]}, "also named as drop"),
        ({"drop": ["a", "city", "few", "gaps"]}, "No column is left"),
    ],
)
def test_splits_that_cannot_be_made_are_refused(fields: dict, says: str, root: Path, prepared: Prepare) -> None:
    save(root, table(few=[1, 2] * 150, gaps=[np.nan, *range(N - 1)]))
    with pytest.raises(DataError, match=says):
        prepared(target="y", **fields)


def test_a_request_without_a_table_or_with_two_orders_is_refused(gate: DataGate, cache: Path) -> None:
    with pytest.raises(InvalidRequestError, match="No table"):
        prepare(DataSpec(), gate, cache)
    with pytest.raises(InvalidRequestError, match="cannot be combined"):
        prepare(DataSpec(data="t.csv", time="a", group="b"), gate, cache)


def test_the_server_side_of_the_package_imports_no_array_library() -> None:
    import subprocess
    import sys

    modules = "mcp_server.data, mcp_server.data.prepare, mcp_server.data.profile, mcp_server.data.readers"
    check = f"import sys, {modules}; print(sorted({{'numpy', 'pandas', 'pyarrow', 'sklearn'}} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_validation_dates_that_fit_two_formats_are_read_as_in_the_table(root: Path, prepared: Prepare) -> None:
    days = pd.date_range("2020-01-01", periods=N)
    save(root, table(day=days.strftime("%d/%m/%Y")))
    save(root, table(day=["03/02/2020"] * N, y=["no", "yes"] * (N // 2)).head(3), "v.csv")
    data = prepared(target="y", validation_data="v.csv")
    day = [column.name for column in data.columns].index("day")
    february_3rd = (np.datetime64("2020-02-03") - np.datetime64("1970-01-01")).astype(float)
    assert arrays(data).X[-3:, day].tolist() == [february_3rd] * 3


def test_validation_dates_in_another_format_are_refused(root: Path, prepared: Prepare) -> None:
    save(root, table(day=pd.date_range("2020-01-01", periods=N).strftime("%d/%m/%Y")))
    save(root, table(day=["02/25/2020"] * N, y=["no", "yes"] * (N // 2)).head(3), "v.csv")
    with pytest.raises(DataError, match="'day' are not written as in the other table"):
        prepared(target="y", validation_data="v.csv")


def test_a_row_number_is_left_out_whatever_its_name_and_however_many_rows_are_sealed(
    root: Path, prepared: Prepare
) -> None:
    save(root, table(position=range(1000, 1000 + N), amount=RANDOM.permutation(10 * N)[:N]))
    for test_size in (0, 0.2, 0.5):
        data = prepared(target="y", test_size=test_size)
        assert [column.name for column in data.columns] == ["a", "city", "amount"]


def test_another_seed_gives_other_folds_and_other_sealed_rows(root: Path, prepared: Prepare) -> None:
    save(root, table())
    one, other = (prepared(target="y", seed=seed) for seed in (0, 1))
    assert set(rows(one, "sealed")) != set(rows(other, "sealed"))
    one, other = (prepared(target="y", seed=seed, test_size=0) for seed in (0, 1))
    assert arrays(one).fold.tolist() != arrays(other).fold.tolist()


def test_classes_are_coded_in_their_order_whichever_comes_first(root: Path, prepared: Prepare) -> None:
    save(root, table(y=["yes", "no"] * (N // 2)))
    data = prepared(target="y", test_size=0)
    assert data.classes == ["no", "yes"]
    assert arrays(data).y[:2].tolist() == [1, 0]


def test_columns_that_give_the_target_away_are_sought_without_the_sealed_rows(root: Path, prepared: Prepare) -> None:
    frame = table(twin=RANDOM.permutation(["p", "q"] * (N // 2)))
    save(root, frame)
    positions = rows(prepared(target="y", test_size=0.5))
    frame.loc[positions, "twin"] = frame.loc[positions, "y"].map({"no": "p", "yes": "q"})
    save(root, frame)
    assert "twin" in " ".join(prepared(target="y", test_size=0.5).warnings)


def test_uneven_classes_are_said_from_ten_to_one(root: Path, prepared: Prepare) -> None:
    for rare, said in ((30, False), (20, True)):
        save(root, table(y=["no"] * (N - rare) + ["yes"] * rare))
        found = prepared(target="y")
        assert ("yes (16 rows) is rare" in " ".join(found.warnings)) is said
        assert found.imbalance == pytest.approx((N - rare) / rare, rel=0.01)
