"""The text of `--help`: every option of every group, with the comment at the top of its file."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

FIRST = ("model", "reg", "kernel", "finetune", "data", "trainer", "tracking", "study", "experiment")
"""Groups in this order, the others after them by name."""


def register() -> None:
    """Register the list of options with OmegaConf as `${beans_exp.options:<config sources>}`."""
    OmegaConf.register_new_resolver("beans_exp.options", describe_options, replace=True)


def describe_options(sources: Iterable[dict[str, Any]]) -> str:
    """Return a line for each option of each group found in the folders among Hydra's config `sources`."""
    folders = [Path(source["path"]) for source in sources if source["schema"] == "file"]
    groups = {group for folder in folders for group in _groups(folder)}
    lines: list[str] = []
    for group in sorted(groups, key=_place):
        lines.append(f"{group}:")
        lines += [f"  {name:<16} {text}" for folder in folders for name, text in _options(folder / group)]
    return "\n".join(lines)


def _place(group: str) -> tuple[int, str]:
    return (FIRST.index(group) if group in FIRST else len(FIRST), group)


def _groups(folder: Path) -> Iterator[str]:
    for file in folder.rglob("*.yaml"):
        group = file.parent.relative_to(folder).as_posix()
        if group not in (".", "hydra/help", "report"):  # `report` is read by the report, not by Hydra
            yield group


def _options(folder: Path) -> Iterator[tuple[str, str]]:
    for file in sorted(folder.glob("*.yaml")):
        comments = [line for line in file.read_text().splitlines() if line.startswith("# ") and "@package" not in line]
        yield file.stem, comments[0].removeprefix("# ") if comments else ""
