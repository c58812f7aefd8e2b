import gzip
import hashlib
from pathlib import Path
from typing import BinaryIO

import pandas as pd
import pytest

from mcp_server.data import DataGate
from mcp_server.data.readers import read_table
from mcp_server.errors import DataError, DatasetNotFoundError

CSV = "id,when,price,city,flag\n1,2024-01-31,1.5,Rome,True\n2,2024-02-01,,Oslo,False\n3,2024-02-29,2,?,True\n"


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_a_path_is_found_in_any_data_folder_and_below(tmp_path: Path) -> None:
    first, second = tmp_path / "one", tmp_path / "two"
    (second / "deep").mkdir(parents=True)
    first.mkdir()
    (second / "deep" / "t.csv").write_text(CSV)
    gate = DataGate([first, second])
    for path in ("deep/t.csv", str(second / "deep" / "t.csv"), str(first / ".." / "two" / "deep" / "t.csv")):
        with gate.open(path) as opened:
            assert opened.path == second / "deep" / "t.csv"
            assert opened.handle.read() == CSV.encode()
            assert opened.size == len(CSV)


def test_a_tilde_means_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "t.csv").write_text(CSV)
    with DataGate([tmp_path]).open("~/t.csv") as opened:
        assert opened.size == len(CSV)


def test_a_data_folder_may_itself_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "t.csv").write_text(CSV)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with DataGate([tmp_path / "link"]).open("t.csv") as opened:
        assert opened.path == tmp_path / "real" / "t.csv"


def test_a_link_inside_the_data_folder_is_followed(root: Path, gate: DataGate) -> None:
    (root / "t.csv").write_text(CSV)
    (root / "latest.csv").symlink_to("t.csv")
    with gate.open("latest.csv") as opened:
        assert opened.path == root / "t.csv"


def test_without_data_folders_the_hint_names_the_option() -> None:
    with pytest.raises(DataError) as caught:
        DataGate([]).open("t.csv")
    assert "--data-root" in caught.value.hint


def test_a_missing_file_suggests_its_neighbour(root: Path, gate: DataGate) -> None:
    (root / "churn.csv").write_text(CSV)
    with pytest.raises(DatasetNotFoundError, match=r"Did you mean churn\.csv"):
        gate.open("chrun.csv")


def test_refusals_leave_no_descriptor_open(root: Path, gate: DataGate) -> None:
    (root / "sub").mkdir()
    (root / "t.csv").write_text("a\n")
    before = descriptors()
    for path in ("sub", "gone/x.csv", "t.csv/x", "t.csv"):
        with pytest.raises((DataError, DatasetNotFoundError)):
            read_table(path, gate)
    assert descriptors() == before


def test_text_becomes_numbers_dates_and_missing_values(root: Path, gate: DataGate) -> None:
    (root / "t.csv").write_text(CSV)
    table = read_table("t.csv", gate)
    assert table.frame.dtypes.astype(str).tolist() == ["int64", "datetime64[us]", "float64", "str", "bool"]
    assert table.frame["city"].isna().tolist() == [False, False, True]
    assert table.notes == ["Blank values and '?' count as missing: city (1)."]


@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz", "t.tsv", "t.parquet"])
def test_every_format_gives_the_same_table_and_the_digest_of_its_bytes(name: str, root: Path, gate: DataGate) -> None:
    (root / "t.csv").write_text(CSV)
    expected = read_table("t.csv", gate).frame
    if name.endswith("parquet"):
        expected.to_parquet(root / name)
    else:
        content = CSV.replace(",", "\t") if name == "t.tsv" else CSV
        (root / name).write_bytes(gzip.compress(content.encode()) if name.endswith("gz") else content.encode())
    table = read_table(name, gate)
    pd.testing.assert_frame_equal(table.frame, expected)
    assert table.digest == hashlib.sha256((root / name).read_bytes()).hexdigest()


@pytest.mark.parametrize(
    "content",
    [
        "a,b\r1,x\r2,y\r",
        "a,b\r\n1,x\r\n2,y\r\n",
        "\ufeffa,b\n1,x\n2,y",
        'a,b\n1,"x"\n\n2,y\n',
        "a;b\n1;x\n2;y\n",
        "a\tb\n1\tx\n2\ty\n",
    ],
)
def test_line_ends_marks_blank_lines_and_separators_do_not_matter(content: str, root: Path, gate: DataGate) -> None:
    (root / "t.csv").write_bytes(content.encode())
    assert read_table("t.csv", gate).frame.to_dict("list") == {"a": [1, 2], "b": ["x", "y"]}


def test_quoted_line_ends_and_separators_stay_in_their_cell(root: Path, gate: DataGate) -> None:
    (root / "t.csv").write_text('a,b\n"x, y\nz",1\n"say ""hi""",2\n')
    assert read_table("t.csv", gate).frame["a"].tolist() == ["x, y\nz", 'say "hi"']


def test_the_separator_option_beats_detection(root: Path, gate: DataGate) -> None:
    (root / "t.csv").write_text("a|b;c\n1|2;3\n")
    assert read_table("t.csv", gate, separator="semicolon").columns == ["a|b", "c"]


def test_columns_without_a_name_get_one(root: Path, gate: DataGate) -> None:
    (root / "t.csv").write_text(",a\n0,5\n1,6\n")
    table = read_table("t.csv", gate)
    assert table.columns == ["column_1", "a"]
    assert "without a name" in table.notes[0]


def test_ambiguous_dates_are_read_and_said(root: Path, gate: DataGate) -> None:
    (root / "t.csv").write_text("d,e,f\n1/2/2024,13/1/2024,31.12.2023\n3/4/2024,1/2/2024,1.1.2024\n")
    table = read_table("t.csv", gate)
    assert [str(kind) for kind in table.frame.dtypes] == ["datetime64[us]"] * 3
    assert table.frame.iloc[0].dt.strftime("%m-%d").tolist() == ["01-02", "01-13", "12-31"]
    assert [note for note in table.notes if "month/day/year in d;" in note]


def test_parquet_columns_that_hold_no_values_are_left_out_and_said(root: Path, gate: DataGate) -> None:
    frame = pd.DataFrame({"a": [1, 2], "ok": [True, None], "items": [[1], [2]], "raw": [b"1", b"2"]})
    frame.to_parquet(root / "t.parquet")
    table = read_table("t.parquet", gate)
    assert table.columns == ["a", "ok"]
    assert table.frame["ok"].tolist()[0] == "True"
    assert table.frame["ok"].isna().tolist() == [False, True]
    assert "items, raw" in table.notes[0]


def test_a_file_that_is_written_meanwhile_is_not_trusted(root: Path, gate: DataGate) -> None:
    (root / "t.csv").write_text(CSV)
    with gate.open("t.csv") as opened:
        opened.check_unchanged()
        with (root / "t.csv").open("a") as file:
            file.write("4,2024-03-01,1,Rome,True\n")
        with pytest.raises(DataError, match="changed while it was read"):
            opened.check_unchanged()


def test_a_table_that_grows_between_its_digest_and_its_rows_is_refused(
    root: Path, gate: DataGate, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "t.csv").write_text(CSV)
    digest = hashlib.file_digest

    def digest_then_append(handle: BinaryIO, name: str) -> object:
        found = digest(handle, name)
        with (root / "t.csv").open("a") as file:
            file.write("4,2024-03-01,1,Rome,True\n")
        return found

    monkeypatch.setattr(hashlib, "file_digest", digest_then_append)
    with pytest.raises(DataError, match="changed while it was read"):
        read_table("t.csv", gate)


@pytest.mark.parametrize(("name", "rows"), [("iris", 150), ("diabetes", 442), ("breast_cancer", 569)])
def test_bundled_sets_need_no_data_folder(name: str, rows: int) -> None:
    table = read_table(f"sklearn:{name}", DataGate([]))
    assert table.n_rows == rows
    assert table.target == "target"
    assert len(table.digest) == 64
    assert table.digest == read_table(f"sklearn:{name}", DataGate([])).digest


def test_an_unknown_bundled_set_suggests_a_known_one(gate: DataGate) -> None:
    with pytest.raises(DatasetNotFoundError, match="Did you mean iris"):
        read_table("sklearn:irsi", gate)
