"""Files that are refused whole: damaged, foreign, newer, or made to harm. Nothing is written for any of them."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZIP_LZMA, ZipFile, ZipInfo

import pytest

from tests.pack.stores import Logged, Store, log_sweep

Members = dict[str, bytes]


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Members:
    """The members of a small file: a sweep of two runs."""
    store = Store(tmp_path_factory.mktemp("sound"))
    log_sweep(store, "0123456789abcdef", [Logged("one"), Logged("two", "failed", tested=False)])
    with ZipFile(store.pack()) as file:
        return {name: file.read(name) for name in file.namelist()}


def _run(members: Members) -> str:
    """The folder of the run that was tested."""
    return next(name for name in members if name.endswith("predictions.csv")).rpartition("/artifacts")[0]


def _csv(members: Members) -> str:
    return f"{_run(members)}/artifacts/predictions.csv"


def _write(file: Path, members: Members, **changes: Any) -> None:
    """Write `members` with a manifest that describes them, changed by `changes`."""
    manifest = json.loads(members["manifest.json"]) | changes
    content = {name: content for name, content in members.items() if name != "manifest.json"}
    described = {name: {"sha256": hashlib.sha256(one).hexdigest(), "size": len(one)} for name, one in content.items()}
    manifest["members"] = described | manifest.get("described", {})
    with ZipFile(file, "w", ZIP_DEFLATED) as archive:
        for name, one in content.items():
            archive.writestr(name, one)
        archive.writestr("manifest.json", json.dumps(manifest))


def _raw(file: Path, members: Members, change: Callable[[ZipFile], None]) -> None:
    """Write `members` as they are, and the additions of `change`."""
    with ZipFile(file, "w", ZIP_DEFLATED) as archive:
        for name, one in members.items():
            archive.writestr(name, one)
        change(archive)


def _edited(members: Members, edit: Callable[[dict[str, Any]], object]) -> Members:
    """`members` with the JSON of a run changed."""
    name = f"{_run(members)}/run.json"
    plain = json.loads(members[name])
    edit(plain)
    return members | {name: json.dumps(plain).encode()}


def _link(archive: ZipFile) -> None:
    info = ZipInfo("runs/link")
    info.external_attr = 0o120777 << 16
    archive.writestr(info, "/etc/passwd")


def _zeros(archive: ZipFile) -> None:
    with archive.open("zeros", "w", force_zip64=True) as stream:
        for _ in range(1000):
            stream.write(bytes(1_000_000))


def _test_file(tmp_path: Path) -> Path:
    return tmp_path / "given.zip"


Make = Callable[[Path, Members], object]
DAMAGED: dict[str, tuple[Make, str]] = {
    "no zip": (lambda file, _: file.write_text("runs"), "given.zip must be readable (File is not a zip file)"),
    "empty": (lambda file, _: file.write_bytes(b""), "given.zip must be readable (File is not a zip file)"),
    "cut": (
        lambda file, members: _cut(file, members),
        "given.zip must be readable",
    ),
    "changed byte": (lambda file, members: _flip(file, members), "must "),
    "lacks a member": (
        lambda file, members: _raw(file, {k: v for k, v in members.items() if not k.endswith("jobs.csv")}, _nothing),
        "jobs.csv must be in the file",
    ),
    "has another member": (
        lambda file, members: _raw(file, members, lambda archive: archive.writestr("runs/more", "x")),
        "runs/more must be in the manifest",
    ),
    "other content": (
        lambda file, members: _raw(file, members | {_csv(members): members[_csv(members)][::-1]}, _nothing),
        "predictions.csv must have the size and the checksum",
    ),
    "other size": (
        lambda file, members: _raw(file, members | {_csv(members): b"a"}, _nothing),
        "predictions.csv must have the size in the manifest",
    ),
    "encrypted": (lambda file, members: _mark_encrypted(file, members), "must be stored or deflated"),
    "lzma": (
        lambda file, members: _raw(file, members, lambda archive: archive.writestr("x", "x", ZIP_LZMA)),
        "x must be stored or deflated",
    ),
}


def _nothing(_: ZipFile) -> None:
    pass


def _cut(file: Path, members: Members) -> None:
    _write(file, members)
    file.write_bytes(file.read_bytes()[:-200])


def _flip(file: Path, members: Members) -> None:
    _write(file, members)
    content = bytearray(file.read_bytes())
    content[len(members) + 60] ^= 0xFF
    file.write_bytes(content)


def _mark_encrypted(file: Path, members: Members) -> None:
    _write(file, members)
    content = bytearray(file.read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1
    file.write_bytes(content)


HOSTILE: dict[str, tuple[Make, str]] = {
    "absolute": (
        lambda file, members: _write(file, members | {"/etc/cron.d/x": b"x"}),
        "/etc/cron.d/x must have a relative path",
    ),
    "dots": (
        lambda file, members: _write(file, members | {f"{_run(members)}/artifacts/../../../x": b"x"}),
        "must have a relative path without ..",
    ),
    "backslash": (
        lambda file, members: _write(file, members | {f"{_run(members)}/artifacts/..\\x": b"x"}),
        "must have a relative path",
    ),
    "drive": (
        lambda file, members: _write(file, members | {f"{_run(members)}/artifacts/C:x": b"x"}),
        "must have a relative path",
    ),
    "twice": (lambda file, members: _twice(file, members), "must be in the file once"),
    "in a file": (
        lambda file, members: _write(file, members | {f"{_run(members)}/run.json/x": b"x"}),
        "must not lie in another member",
    ),
    "link": (lambda file, members: _raw(file, members, _link), "runs/link must be a plain file, not a link"),
    "folder": (
        lambda file, members: _raw(file, members, lambda archive: archive.mkdir("runs/more")),
        "runs/more/ must have a relative path",
    ),
    "a billion zeros": (lambda file, members: _raw(file, members, _zeros), "zeros must have at most 67,108,864 bytes"),
    "many zeros": (
        lambda file, members: _write(file, members | {f"{_run(members)}/artifacts/zeros": bytes(2 << 20)}),
        "zeros must be compressed to 1/100 at most",
    ),
    "pickle": (
        lambda file, members: _write(file, members | {f"{_run(members)}/model/python_model.pkl": b"x"}),
        "python_model.pkl must be a file of a Keras model",
    ),
    "model without a description": (
        lambda file, members: _write(file, members | {f"{_run(members)}/model/data/model.keras": b"x"}),
        "MLmodel must be in the file",
    ),
    "model with code": (
        lambda file, members: _write(file, members | _model(members, loader="evil")),
        "MLmodel must describe a model in Keras' own format, without code",
    ),
    "model of another format": (
        lambda file, members: _write(file, members | _model(members, exported=True)),
        "MLmodel must describe a model in Keras' own format, without code",
    ),
}


def _twice(file: Path, members: Members) -> None:
    name = f"{_run(members)}/run.json"
    with pytest.warns(UserWarning, match="Duplicate name"):
        _raw(file, members, lambda archive: archive.writestr(name, "{}"))


def _model(members: Members, loader: str = "mlflow.keras", exported: bool = False) -> Members:
    flavors = {"keras": {"data": "data", "save_exported_model": exported}, "python_function": {"loader_module": loader}}
    described = json.dumps({"flavors": flavors, "metadata": {"classes": ["a"], "image_size": 8}})
    folder = f"{_run(members)}/model"
    return {f"{folder}/MLmodel": described.encode(), f"{folder}/data/model.keras": b"x"}


FOREIGN: dict[str, tuple[Make, str]] = {
    "without a manifest": (
        lambda file, _: _raw(file, {"notes.txt": b"hello"}, _nothing),
        "given.zip must have a manifest.json. Give a file that python -m beans_exp.pack wrote",
    ),
    "manifest is no JSON": (
        lambda file, members: _raw(file, members | {"manifest.json": b"{"}, _nothing),
        "manifest.json must be JSON",
    ),
    "deep JSON": (
        lambda file, members: _raw(file, members | {"manifest.json": b"[" * 100_000}, _nothing),
        "manifest.json must be JSON",
    ),
    "other kind": (lambda file, members: _write(file, members, kind="photos"), "must have the kind beans_exp runs"),
    "newer": (
        lambda file, members: _write(file, members, format=2, beans_exp="9.1"),
        "must have the format 1 or an older one, not 2. Install beans_exp 9.1 or newer",
    ),
    "no experiment": (lambda file, members: _write(file, members, experiment=""), "must name an experiment"),
    "unknown folder": (
        lambda file, members: _write(file, members | {"notes/x": b"x"}),
        "notes/x must be run.json or an artifact of a run or a sweep",
    ),
    "run without its JSON": (
        lambda file, members: _write(file, {k: v for k, v in members.items() if k != f"{_run(members)}/run.json"}),
        "run.json must be in the file",
    ),
}
EDITS: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "other id": (lambda run: run.update(id="f" * 32), "hold the run or the sweep that its folder is named by"),
    "no id": (lambda run: run.update(id="x' OR 1=1"), "hold an id of 32 hex digits"),
    "status": (lambda run: run.update(status="RUNNING"), "hold the status FINISHED, FAILED or KILLED"),
    "unknown key": (lambda run: run.update(more=1), "hold a packed run"),
    "long param": (lambda run: run["params"].update(x="x" * 6001), "hold params that MLflow accepts"),
    "param's path": (lambda run: run["params"].update({"../x": "1"}), "hold params that MLflow accepts"),
    "number as text": (lambda run: run["params"].update(x=1), "hold params that MLflow accepts"),
    "tag of a process": (lambda run: run["tags"].update({"beans.process": "x"}), "hold tags that are packed"),
    "storage to open": (lambda run: run["tags"].update({"beans.study": "{}"}), "hold tags that are packed"),
    "filter in a tag": (lambda run: run["tags"].update({"beans.sweep": "x' or '"}), "hold a sweep's id"),
    "metric's path": (lambda run: run["metrics"].update({"/x": _points()}), "hold metrics that MLflow accepts"),
    "lengths": (lambda run: run["metrics"].update(x=_points() | {"steps": []}), "hold a packed run"),
    "step": (lambda run: run["metrics"].update(x=_points() | {"steps": ["1"]}), "hold metrics that MLflow accepts"),
    "time": (lambda run: run.update(started=-1), "hold times in milliseconds"),
    "data": (lambda run: run["data"].append({"name": "x"}), "hold data sets that MLflow accepts"),
    "picture": (lambda run: run["drawn"].append("photo.png"), "hold the data for drawing photo.png"),
}


def _points() -> dict[str, list[Any]]:
    return {"steps": [1], "times": [1], "values": [1.0]}


TABLE = DAMAGED | HOSTILE | FOREIGN


@pytest.mark.parametrize("case", TABLE)
def test_an_unsound_file_is_refused_in_one_line(
    case: str, sound: Members, empty: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make, rule = TABLE[case]
    make(_test_file(tmp_path), sound)
    message = empty.refusal(_test_file(tmp_path), capsys)
    assert message.startswith(f"error: {_test_file(tmp_path)}: ") and message.endswith(". Nothing was unpacked")
    assert rule in message


@pytest.mark.parametrize("case", EDITS)
def test_a_run_that_mlflow_rejects_is_refused_before_anything_is_written(
    case: str, sound: Members, empty: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    edit, rule = EDITS[case]
    _write(_test_file(tmp_path), _edited(sound, edit))
    assert f"run.json must {rule}" in empty.refusal(_test_file(tmp_path), capsys)


def test_the_file_itself_is_accepted(sound: Members, empty: Store, tmp_path: Path) -> None:
    _write(_test_file(tmp_path), sound)
    empty.unpack(_test_file(tmp_path))
    assert len(empty.children) == 2 and len(empty.parents) == 1


def test_a_missing_file_is_named(empty: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "none.zip: must be a file that python -m beans_exp.pack wrote" in empty.refusal(
        tmp_path / "none.zip", capsys
    )


def test_a_member_with_a_false_size_is_not_read_beyond_it(
    sound: Members, empty: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The directory and the manifest both give 500 bytes; the compressed data hold 500,000."""
    name, file = f"{_run(sound)}/artifacts/notes.txt", _test_file(tmp_path)
    described = json.loads(sound["manifest.json"])
    described["members"][name] = {"sha256": hashlib.sha256(b"x" * 500).hexdigest(), "size": 500}
    members = sound | {"manifest.json": json.dumps(described).encode(), name: b"x" * 500_000}
    _raw(file, members, _nothing)
    content = bytearray(file.read_bytes())
    place = content.rindex(name.encode()) - 46  # its entry in the directory
    content[place + 24 : place + 28] = (500).to_bytes(4, "little")
    file.write_bytes(content)
    assert "notes.txt must be readable (Bad CRC-32" in empty.refusal(file, capsys)
