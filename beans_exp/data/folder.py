"""The user's own images in folders: `<class>/…`, or `train/<class>/…` and so on; two or more classes."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from beans_exp.data.image_files import NAMED, SUFFIXES
from beans_exp.data.labeled_files import FileList, LabeledFile, labeled_source, require_distinct
from beans_exp.data.source import SPLIT_NAMES, Source
from beans_exp.data.walk import children, files_below
from beans_exp.errors import DataError, printable
from beans_exp.files import user_path
from beans_exp.schema import DataConfig


def folder_source(config: DataConfig) -> Source:
    """Describe the images below `data.data_dir`; the classes are the sorted names of the class folders.

    Raises DataError for a missing split, class or image, for files without the suffix of an image, unless they are to
    be skipped, and for a file or folder that cannot be read.
    """
    folder = _Folder(user_path(str(config.data_dir)))
    try:
        folder.list_files()
    except OSError as error:
        raise DataError(f"{error.filename} cannot be read ({error.strerror})") from error
    if folder.others and config.on_error == "fail":
        raise _no_images(folder.others)
    listed = FileList(
        "folder",
        folder.root,
        folder.root,
        folder.files,
        lambda split: (
            f"{folder.root / split} is missing: the splits are named train, validation (or val, valid, dev) and test"
        ),
        folder.ignored,
        {printable(folder.name(file)): "not an image by its suffix" for file in folder.others},
    )
    return labeled_source(listed, config)


@dataclass
class _Folder:
    """The files of a folder while they are listed."""

    root: Path
    files: list[LabeledFile] = field(default_factory=list)
    others: list[Path] = field(default_factory=list)
    """Files in class folders that are not images."""
    ignored: Counter[str] = field(default_factory=Counter)

    def name(self, file: Path) -> str:
        """Return the path of `file` below the root, with forward slashes."""
        return file.relative_to(self.root).as_posix()

    def list_files(self) -> None:
        """Add every file, by split, class and path."""
        folders = self._split_folders()
        classes = self._classes(folders)
        for split, folder in folders.items():
            for name in classes:
                self._add_class(split, folder / name)

    def _split_folders(self) -> dict[str, Path]:
        """The folder of each split; the root itself, under an empty name, where it holds the classes."""
        if not self.root.is_dir():
            raise DataError(f"{self.root / 'train'} is missing: {self.root} is no folder. Set data.data_dir")
        below = {path.name: path for path in children(self.root, self.ignored) if path.is_dir()}
        found: dict[str, Path] = {}
        for split, names in SPLIT_NAMES.items():
            alike = [path for known in names for name, path in below.items() if name.lower() == known]
            if len(alike) > 1:
                raise DataError(f"{self.root} has both {alike[0].name} and {alike[1].name}. Keep one of them")
            if alike:
                found[split] = alike[0]
        return found or {"": self.root}

    def _classes(self, folders: dict[str, Path]) -> list[str]:
        found: dict[str, set[str]] = {}
        for split, folder in folders.items():
            ignored = self.ignored if split else Counter()  # those of the root are counted already
            found[split] = {path.name for path in children(folder, ignored) if path.is_dir()}
        classes = sorted(set().union(*found.values()))
        first = next(iter(folders.values()))
        require_distinct(self.root, classes)
        if len(classes) < 2:
            raise DataError(f"{first} holds {len(classes)} class folders: two or more are needed")
        for split, names in found.items():
            for missing in sorted(set(classes) - names):
                raise DataError(f"{folders[split] / missing} is missing: each class needs images in every split")
        return classes

    def _add_class(self, split: str, folder: Path) -> None:
        before = len(self.files) + len(self.others)
        for file in files_below(folder, self.ignored):
            if file.suffix.lower() in SUFFIXES:
                self.files.append(LabeledFile(self.name(file), folder.name, split))
            else:
                self.others.append(file)
        if len(self.files) + len(self.others) == before:
            raise DataError(f"{folder} is empty: each class needs images in every split")


def _no_images(others: Sequence[Path]) -> DataError:
    rule = f"a class folder may hold only {', '.join(SUFFIXES)} files"
    if len(others) == 1:
        return DataError(f"{others[0]} is not an image: {rule}. Remove it, or leave it out with data.on_error=skip")
    named = "; ".join(printable(str(file)) for file in others[:NAMED])
    more = f"; and {len(others) - NAMED} more" if len(others) > NAMED else ""
    way_out = "Remove them, or leave them out with data.on_error=skip"
    return DataError(f"{len(others)} files are not images: {named}{more}: {rule}. {way_out}")
