"""A table of image files: CSV or Parquet with the columns `path,label[,split][,group]`, paths relative to the table."""

import csv
import os
from collections.abc import Iterable, Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path

from beans_exp.data.labeled_files import FileList, LabeledFile, labeled_source
from beans_exp.data.source import SPLIT_NAMES, Source
from beans_exp.data.splitting import split_named
from beans_exp.errors import DataError
from beans_exp.files import user_path
from beans_exp.schema import DataConfig

DELIMITERS = (",", ";", "\t")
GROUP = "group"
"""The column of groups, if there is one, unless `data.group` names another."""

Columns = tuple[str, str, str, str]
"""The names of the columns of paths, labels, splits and groups; the last two are empty where there are none."""


def table_source(config: DataConfig) -> Source:
    """Describe the images that the rows of `data.file` name, in the order of the rows.

    Raises DataError for a file that is no table, for a column, path, label or split that is missing or unknown, for a
    path in two rows, and for what `labeled_source` refuses.
    """
    file = user_path(str(config.file))
    try:
        files = _files(file, config)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise _unreadable(file, error) from error
    without = f"{file} has no row with {config.split_column}="
    return labeled_source(FileList("table", file, file.parent, files, lambda split: f"{without}{split}"), config)


def _files(file: Path, config: DataConfig) -> list[LabeledFile]:
    rows = _parquet_rows(file) if file.suffix.lower() in (".parquet", ".pq") else _csv_rows(file)
    header = next(rows, [])
    columns = _columns(file, header, config)
    places = [header.index(name) if name else None for name in columns]
    files: list[LabeledFile] = []
    rows_of: dict[str, int] = {}
    for number, row in enumerate(rows, start=1):
        where = f"{file}, row {number}"
        values = ["" if place is None or place >= len(row) else row[place].strip() for place in places]
        found = _labeled(values, columns, where)
        if found.name in rows_of:
            raise DataError(f"{where}: {found.name} is in row {rows_of[found.name]} as well. Keep one of them")
        rows_of[found.name] = number
        files.append(found)
    _require_all_or_none(file, columns[2], files)
    return files


def _labeled(values: Sequence[str], columns: Columns, where: str) -> LabeledFile:
    path, label, split, group = values
    for column, value in zip(columns[:2], (path, label), strict=True):
        if not value:
            raise DataError(f"{where}: {column} is empty. Fill it in, or remove the row")
    if "\\" in path and "/" not in path:  # written on Windows
        path = path.replace("\\", "/")
    known = split_named(split) if split else ""
    if known is None:
        words = [word for names in SPLIT_NAMES.values() for word in names]
        close = get_close_matches(split.lower(), words, n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise DataError(f"{where}: {columns[2]}={split}: must be one of {', '.join(words)}{hint}")
    return LabeledFile(os.path.normpath(path), label, known, group)


def _require_all_or_none(file: Path, column: str, files: Sequence[LabeledFile]) -> None:
    if len({bool(found.split) for found in files}) > 1:
        first = next(found for found in files if not found.split)
        raise DataError(f"{file}: {first.name} has no {column}, other rows have one. Fill in the column, or remove it")


def _columns(file: Path, header: Sequence[str], config: DataConfig) -> Columns:
    group = config.group or (GROUP if GROUP in header else "")
    split = config.split_column
    if split == DataConfig().split_column and split not in header:
        split = ""
    wanted = {
        "path_column": config.path_column,
        "label_column": config.label_column,
        "split_column": split,
        "group": group,
    }
    for key, name in wanted.items():
        if name and header.count(name) != 1:
            problem = "no column" if name not in header else "several columns named"
            raise DataError(
                f"{file} has {problem} {name}: it has {', '.join(header) or 'none'}. Name it with data.{key}"
            )
    return config.path_column, config.label_column, split, group


def _csv_rows(file: Path) -> Iterator[list[str]]:
    """The header of a CSV file and its rows, separated by commas, semicolons or tabs."""
    with file.open(newline="", encoding="utf-8-sig") as stream:
        delimiter = max(DELIMITERS, key=stream.readline().count)
        stream.seek(0)
        rows = csv.reader(stream, delimiter=delimiter)
        yield [name.strip() for name in next(rows, [])]
        yield from (row for row in rows if any(row))


def _parquet_rows(file: Path) -> Iterator[list[str]]:
    """The header of a Parquet file and its rows, a batch in memory at a time."""
    import pyarrow
    from pyarrow.parquet import ParquetFile

    try:
        with ParquetFile(file) as table:
            names = table.schema_arrow.names
            yield list(names)
            for batch in table.iter_batches():
                yield from (_texts(row) for row in zip(*(column.to_pylist() for column in batch.columns), strict=True))
    except pyarrow.ArrowException as error:
        raise OSError(f"it is no Parquet file: {error}") from error


def _texts(values: Iterable[object]) -> list[str]:
    return ["" if value is None else str(value) for value in values]


def _unreadable(file: Path, error: Exception) -> DataError:
    if isinstance(error, UnicodeDecodeError):
        return DataError(
            f"{file} is not UTF-8 text (byte {error.start} is 0x{error.object[error.start]:02x}). Save it as UTF-8"
        )
    reason = (error.strerror if isinstance(error, OSError) else None) or str(error).splitlines()[0]
    return DataError(f"{file} cannot be read as a table ({reason}). Set data.file to a CSV or Parquet file")
