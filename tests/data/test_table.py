"""`data=table`: CSV and Parquet files of paths, labels, splits and groups, and tables that are refused."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from beans_exp.data import SPLITS, Source, source
from beans_exp.errors import DataError
from beans_exp.files import csv_text
from beans_exp.schema import Config, DataConfig
from tests.data.builders import load_all, noise, save

Rows = list[list[str]]


@pytest.fixture
def rows(tmp_path: Path) -> Rows:
    """Rows of path, label and split: two classes, two images each in every split; the images exist."""
    found: Rows = []
    for split in SPLITS:
        for label in ("rust", "healthy"):
            for number in range(2):
                name = f"images/{split} {label} {number}.png"
                save(tmp_path / name, noise(9, 8, 3))
                found.append([name, label, split])
    return found


def config(file: Path, **keys: Any) -> DataConfig:
    return DataConfig(name="table", file=str(file), image_size=8, **keys)


def write(file: Path, header: Sequence[str], rows: Rows) -> Path:
    if file.suffix == ".parquet":
        columns = {name: [row[place] for row in rows] for place, name in enumerate(header)}
        pyarrow.parquet.write_table(pyarrow.table(columns), file)
    else:
        file.write_text(csv_text(header, rows))
    return file


HEADER = ["path", "label", "split"]


@pytest.mark.parametrize("name", ["leaves.csv", "leaves.parquet"])
def test_a_table_gives_every_image_in_the_order_of_its_rows(rows: Rows, tmp_path: Path, name: str) -> None:
    data = load_all(Config(data=config(write(tmp_path / name, HEADER, rows))))
    assert (data.source.name, data.classes) == ("table", ("healthy", "rust"))
    assert data.train.labels.tolist() == [1, 1, 0, 0]
    assert data.test.names == [row[0] for row in rows if row[2] == "test"]
    assert data.source.split_csv is None


def test_both_formats_are_the_same_data(rows: Rows, tmp_path: Path) -> None:
    digests = {source(config(write(tmp_path / name, HEADER, rows))).digest for name in ("a.csv", "a.parquet")}
    digests.add(source(config(write(tmp_path / "reversed.csv", HEADER[::-1], [row[::-1] for row in rows]))).digest)
    assert len(digests) == 1


def test_columns_may_have_other_names_and_splits_too(rows: Rows, tmp_path: Path) -> None:
    names = {"train": "TRAIN", "validation": "dev", "test": "test"}
    renamed = [[path, label, names[split]] for path, label, split in rows]
    file = write(tmp_path / "leaves.csv", ["file", "class", "fold"], renamed)
    found = source(config(file, path_column="file", label_column="class", split_column="fold"))
    assert found.counts == dict.fromkeys(SPLITS, 4)


@pytest.mark.parametrize(("delimiter", "encoding"), [(";", "utf-8"), ("\t", "utf-8"), (",", "utf-8-sig")])
def test_tables_of_spreadsheets_are_read(rows: Rows, tmp_path: Path, delimiter: str, encoding: str) -> None:
    lines = [delimiter.join(row) for row in [HEADER, *rows]] + ["", delimiter * 2]
    (tmp_path / "leaves.csv").write_text("\r\n".join(lines).replace("images/", "images\\"), encoding=encoding)
    assert len(load_all(Config(data=config(tmp_path / "leaves.csv"))).train) == 4


def drawn(tmp_path: Path, header: Sequence[str], rows: Rows, **keys: Any) -> tuple[Source, dict[str, str]]:
    found = source(config(write(tmp_path / "drawn.csv", header, rows), **keys))
    return found, {name: split for split in SPLITS for name in found.names(split)}


def test_a_table_without_splits_is_split_with_its_groups(tmp_path: Path) -> None:
    rows = [[f"{number}.png", "rust" if number % 2 else "healthy", f"plant {number // 4}"] for number in range(80)]
    for name, *_ in rows:
        (tmp_path / name).write_text(name)
    for header, keys in ((["path", "label", "group"], {}), (["path", "label", "plant"], {"group": "plant"})):
        found, splits = drawn(tmp_path, header, rows, **keys)
        assert found.split_csv
        assert all(len({splits[f"{4 * plant + number}.png"] for number in range(4)}) == 1 for plant in range(20))
        assert found.counts == {"train": 64, "validation": 8, "test": 8}
    _, alone = drawn(tmp_path, ["path", "label", "plant"], rows)
    assert alone != splits, "a column is a group only if it is named so"


BROKEN: dict[str, tuple[list[str], Rows, str]] = {
    "no path column": (
        ["file", "label"],
        [["a.png", "x"]],
        "has no column path: it has file, label. Name it with data.pat",
    ),
    "no label column": (["path", "class"], [["a.png", "x"]], "has no column label: it has path, class"),
    "twice a column": (["path", "label", "label"], [["a.png", "x", "x"]], "has several columns named label"),
    "no path": (HEADER, [["", "x", "train"]], "row 1: path is empty"),
    "no label": (HEADER, [["a.png", "x", "train"], ["b.png", " ", "train"]], "row 2: label is empty"),
    "misspelt split": (HEADER, [["a.png", "x", "tarin"]], "row 1: split=tarin: must be one of .*; did you mean train"),
    "some splits": (HEADER, [["a.png", "x", "train"], ["b.png", "x", ""]], r"b\.png has no split, other rows have one"),
    "one file twice": (
        HEADER,
        [["a.png", "x", "train"], ["./a.png", "y", "test"]],
        r"row 2: a\.png is in row 1 as well",
    ),
    "only validation": (HEADER, [["a.png", "x", "val"], ["b.png", "y", "val"]], "has no row with split=train"),
    "one class": (HEADER, [["a.png", "x", "train"]], "holds images of 1 classes: two or more"),
    "alike": (HEADER, [["a.png", "x", "train"], ["b.png", "X", "train"]], "X and x differ only in case"),
    "empty": (HEADER, [], "holds images of 0 classes"),
    "no rows": ([], [], "has no column path: it has none"),
    "group in two splits": (
        [*HEADER, "group"],
        [["a.png", "x", "train", "plant 1"], ["b.png", "y", "test", "plant 1"]],
        "the group plant 1 is in the splits train and test",
    ),
    "class in one split": (
        HEADER,
        [[f"{split}{label}.png", label, split] for split in SPLITS for label in "xy"][:-1],
        "the test split has no image of class y",
    ),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_table_is_one_message(tmp_path: Path, kind: str) -> None:
    header, rows, message = BROKEN[kind]
    with pytest.raises(DataError, match=message) as caught:
        source(config(write(tmp_path / "leaves.csv", header, rows)))
    assert str(tmp_path / "leaves.csv") in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("gone.csv", None, "gone.csv cannot be read as a table .No such file"),
        (
            "latin.csv",
            "path,label\nna\u00efve.png,x\n".encode("latin-1"),
            "is not UTF-8 text .byte 13 is 0xef.. Save it",
        ),
        ("text.parquet", b"path,label\n", "text.parquet cannot be read as a table .it is no Parquet file"),
        ("quotes.csv", b'path,label\n"' + b"a" * 200_000, "cannot be read as a table .field larger"),
    ],
)
def test_a_file_that_is_no_table_is_one_message(tmp_path: Path, name: str, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        source(config(tmp_path / name))


def test_missing_files_are_named_at_once_or_skipped(rows: Rows, tmp_path: Path) -> None:
    file = write(tmp_path / "leaves.csv", HEADER, rows)
    for name in (rows[0][0], rows[-1][0]):
        (tmp_path / name).unlink()
    with pytest.raises(DataError, match=r"2 files cannot be read: .*test healthy 1.*train rust 0.*data\.on_error=skip"):
        source(config(file))
    data = load_all(Config(data=config(file, on_error="skip")))
    assert [name for name, _ in data.skipped] == [rows[0][0], rows[-1][0]]
    assert len(data.train) == len(data.test) == 3


def test_a_table_may_lie_beside_its_images_or_name_them_absolutely(rows: Rows, tmp_path: Path) -> None:
    absolute = [[str(tmp_path / path), label, split] for path, label, split in rows]
    (tmp_path / "tables").mkdir()
    beside = load_all(Config(data=config(write(tmp_path / "leaves.csv", HEADER, rows))))
    elsewhere = load_all(Config(data=config(write(tmp_path / "tables" / "leaves.csv", HEADER, absolute))))
    assert np.array_equal(beside.train.images, elsewhere.train.images)
