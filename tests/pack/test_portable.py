"""Texts without machine paths, addresses, host names, user names and secrets."""

from pathlib import Path

import pytest

from beans_exp.pack.portable import make_scrubber


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("reg=l1,l2 kernel=k3", "reg=l1,l2 kernel=k3"),
        ("train/accuracy 1/2 and/or a / b", "train/accuracy 1/2 and/or a / b"),
        ("(None, 32, 32, 3) 2021-01-01 10:20:30", "(None, 32, 32, 3) 2021-01-01 10:20:30"),
        ("data.data_dir=/data/leaves reg=l2", "data.data_dir=leaves reg=l2"),
        ("data.data_dir='/data/my leaves/' seed=1", "data.data_dir='my leaves' seed=1"),
        ("in /project/store/outputs/x", "in outputs/x"),
        ("/project/store", ""),
        ("/project/store2/x", "x"),
        ("[/a/b,/c/d]", "[b,d]"),
        ("~/data/x ~ann/y", "x y"),
        ("C:\\Users\\ann\\x.txt", "x.txt"),
        ("\\\\server\\share\\x.txt", "x.txt"),
        ("sqlite:////data/mlflow.db", "<address>"),
        ("see https://user:pw@host:80/path?x=1.", "see <address>"),
        ("file:/etc/passwd", "<address>"),
        ("node-17 and node-17.cluster and my-node-17", "*** and *** and my-node-17"),
        ("ann annotates", "*** annotates"),
        ("data=beans by beans", "data=beans by beans"),
        ("key=hush-4711", "key=***"),
    ],
)
def test_names_of_the_machine_are_removed(text: str, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_API_TOKEN", "hush-4711")
    scrubber = make_scrubber(["node-17"], ["ann", "beans", ""], [Path("/project/store")])
    assert scrubber.text(text) == expected


def test_a_home_with_blanks_is_removed_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ann bee")
    scrubber = make_scrubber([], [], [])
    assert scrubber.text("in /home/ann bee/leaves/1.jpg or /home/ann bee") == "in 1.jpg or ~"


def test_paths_in_overrides_are_reduced_to_their_last_part() -> None:
    scrubber = make_scrubber([], [], [])
    words = ["+data.data_dir=/my data/a b", "model.weights='/w/base file.h5'", "tracking.uri=http://h:1", "seed=1"]
    expected = ["+data.data_dir=a b", "model.weights=base file.h5", "tracking.uri=<address>", "seed=1"]
    assert scrubber.overrides(words) == expected


def test_trees_are_cleaned_to_their_leaves() -> None:
    tree = {"a": ["/x/y", 1, None], "node-17": {"b": "node-17"}}
    assert make_scrubber(["node-17"], [], []).tree(tree) == {"a": ["y", 1, None], "***": {"b": "***"}}


@pytest.mark.parametrize(("content", "clean"), [(b"\x00node-17\xff", False), (b"\x00node-18\xff", True)])
def test_binary_files_are_searched_for_names(content: bytes, clean: bool) -> None:
    assert make_scrubber(["node-17"], [], []).is_clean(content) == clean
