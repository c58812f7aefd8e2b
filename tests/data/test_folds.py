"""What folds hold, and what is said about them before a trial runs."""

from pathlib import Path

import numpy as np

from tests.data.test_prepare import N, Prepare, arrays, save, table


def test_folds_that_validate_on_one_class_are_said(root: Path, prepared: Prepare) -> None:
    groups = np.repeat(range(10), N // 10)
    save(root, table(g=groups, y=np.where((groups < 2) & (np.arange(N) % 2 > 0), "yes", "no")))
    found = prepared(target="y", group="g", test_size=0)
    data = arrays(found)
    single = [i for i, (_, rows) in enumerate(data.splits(), 1) if len(set(data.y[rows])) == 1]
    assert len(single) >= 3
    assert f"validation fold {', '.join(map(str, single))}:" in " ".join(found.warnings)
    assert not [text for text in prepared(target="y", drop=["g"]).warnings if "validation" in text]


def test_later_rows_of_one_class_are_said(root: Path, prepared: Prepare) -> None:
    save(root, table(day=range(N), y=["no", "yes"] * (N // 4) + ["no"] * (N // 2)))
    found = prepared(target="y", time="day", test_size=0, cv_folds=2)
    assert "validation fold 2:" in " ".join(found.warnings)


def test_grouped_folds_spread_the_classes(root: Path, prepared: Prepare) -> None:
    groups = np.arange(N) // 5
    save(root, table(g=groups, y=np.where(groups % 12 == 0, "yes", "no")))
    data = arrays(prepared(target="y", group="g", test_size=0, cv_folds=5))
    assert [int(data.y[validation].sum()) for _, validation in data.splits()] == [5] * 5
