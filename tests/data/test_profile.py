from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mcp_server.data import DataGate, DatasetProfile, Table
from mcp_server.data.profile import profile
from mcp_server.data.readers import read_table
from mcp_server.errors import DataError

SAMPLES = Path(__file__).parents[2] / "mcp_server" / "samples"
N = 400
RANDOM = np.random.default_rng(5)
Y = RANDOM.permutation(["No"] * 290 + ["Yes"] * 110)
NOISE = RANDOM.normal(size=N)


def seen(target: str | None = "churn", **columns: object) -> DatasetProfile:
    frame = pd.DataFrame({"noise": NOISE, **columns, "churn": Y})
    return profile(Table(frame=frame, source="t.csv", digest="0"), target)


def test_the_columns_that_reveal_who_survived_the_titanic_are_named() -> None:
    found = profile(read_table("titanic.csv", DataGate([SAMPLES])), "survived")
    assert found.leaks == ["boat", "body"]
    assert "Column 'boat' is filled almost only when survived = 1: it gives the answer away; drop it." in found.warnings
    assert found.task == "classification"


def test_an_untargeted_profile_guesses_the_target_and_warns_about_the_guess() -> None:
    found = profile(read_table("titanic.csv", DataGate([SAMPLES])))
    assert found.target is None
    assert found.target_candidates[0] == "survived"
    assert "survived (0/1, 38% 1)" in found.summary
    assert found.suggested_drop == ["boat", "body"]


@pytest.mark.parametrize("name", ["iris", "wine", "breast_cancer", "digits", "diabetes"])
def test_honest_data_raises_no_false_alarm(name: str) -> None:
    assert profile(read_table(f"sklearn:{name}", DataGate([]))).leaks == []


def test_a_column_filled_for_one_class_is_a_leak() -> None:
    reason = np.where(Y == "Yes", RANDOM.choice(["price", "service"], N), None)
    assert "filled only when churn = Yes" in seen(cancel_reason=pd.Series(reason, dtype="str")).warnings[0]


def test_a_column_empty_for_one_class_is_a_leak() -> None:
    renewed = np.where((Y == "Yes") & (np.arange(N) % 2 == 0), np.nan, NOISE)
    assert "empty only when churn = Yes" in seen(renewed=renewed).warnings[0]


def test_a_column_that_predicts_alone_is_a_leak_and_one_that_helps_is_not() -> None:
    strong = NOISE + 20 * (Y == "Yes")
    helpful = NOISE + 2 * (Y == "Yes")
    found = seen(strong=strong, helpful=helpful)
    assert found.leaks == ["strong"]
    assert "'strong' alone predicts churn" in found.warnings[0]


def test_missing_at_random_is_no_leak() -> None:
    holes = np.where(RANDOM.random(N) < 0.6, np.nan, NOISE)
    assert seen(holes=holes).leaks == []


@pytest.mark.parametrize("leak", [NOISE * 3 + 1, np.exp(NOISE), NOISE], ids=["linear", "monotone", "copy"])
def test_a_function_of_a_numeric_target_is_a_leak(leak: np.ndarray) -> None:
    other = NOISE + RANDOM.normal(size=N)
    frame = pd.DataFrame({"other": other, "leak": leak, "price": NOISE})
    assert profile(Table(frame=frame, source="t.csv", digest="0"), "price").leaks == ["leak"]


def test_the_logarithm_of_a_heavy_tailed_target_is_a_leak() -> None:
    frame = pd.DataFrame({"other": Y == "Yes", "leak": NOISE, "price": np.exp(3 * NOISE)})
    assert profile(Table(frame=frame, source="t.csv", digest="0"), "price").leaks == ["leak"]


def test_identifiers_constants_duplicates_and_infinities_are_told() -> None:
    found = seen(
        customer_id=np.arange(5, 5 + N),
        code=[f"C-{i:05}" for i in range(N)],
        plan=["basic"] * N,
        empty=[None] * N,
        ratio=np.where(np.arange(N) < 3, np.inf, NOISE),
    )
    assert found.id_like == ["customer_id", "code"]
    assert found.constant == ["plan", "empty"]
    assert found.infinite == {"ratio": 3}
    assert found.duplicates == 0
    frame = pd.DataFrame({"a": [1, 1, 2], "b": [3, 3, 4]})
    assert profile(Table(frame=frame, source="t.csv", digest="0")).duplicates == 1


def test_whole_numbers_that_repeat_or_have_gaps_are_not_identifiers() -> None:
    gaps = RANDOM.choice(10**6, N, replace=False)
    assert seen(income=gaps, visits=RANDOM.integers(0, 9, N)).id_like == []


def test_class_balance_is_a_table_and_rare_classes_are_warned_about() -> None:
    assert seen().classes is not None
    assert seen().classes.rows == [["No", 290, 0.725], ["Yes", 110, 0.275]]
    rare = pd.DataFrame({"a": NOISE, "fraud": (np.arange(N) % 80 == 0).astype(int)})
    assert any("uneven" in w for w in profile(Table(frame=rare, source="t", digest="0"), "fraud").warnings)


def test_a_wide_table_stays_short() -> None:
    wide = seen(**{f"column_with_a_rather_long_name_{i}": RANDOM.normal(size=N) for i in range(400)})
    assert wide.n_columns == 402
    assert len(wide.columns.rows) + wide.columns_not_shown == wide.n_columns
    assert len(wide.model_dump_json()) < 8_000


def test_an_unknown_target_suggests_the_nearest() -> None:
    with pytest.raises(DataError, match="Did you mean churn"):
        seen(target="chrun")
