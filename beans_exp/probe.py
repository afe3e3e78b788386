"""Look into a pre-trained base, without data and without its weights.

python -m beans_exp.probe --blocks model=resnet50 data.image_size=224    # its blocks, and what each costs
python -m beans_exp.probe --blocks --config-dir my_conf model=my_base         # a base of your own
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from rich.box import SIMPLE_HEAD
from rich.table import Table

from beans_exp import schema
from beans_exp.errors import ConfigError, first_line
from beans_exp.schema import CONF, Config, FinetuneConfig
from beans_exp.schema.python_source import user_folder
from beans_exp.startup.console import add_config_dir, command_parser, errors_as_messages
from beans_exp.startup.imports import no_collections, quiet_libraries, silent_stderr
from beans_exp.terminal import open_console

if TYPE_CHECKING:
    from beans_exp.models.inspection import BlockCost


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    made = command_parser("probe", __doc__)
    made.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="as for a run, such as model=resnet50")
    made.add_argument(
        "--blocks", action="store_true", required=True, help="list the blocks of the base with their costs"
    )
    add_config_dir(made)
    return made


def main(words: Sequence[str] | None = None) -> int:
    """Run the command line `words`; return the exit status."""
    arguments = parser().parse_intermixed_args(words)
    quiet_libraries()
    with errors_as_messages():
        config = _composed(arguments.overrides)
        with no_collections(), silent_stderr():  # TensorFlow is imported here, once the configuration is checked
            from beans_exp.models.inspection import block_costs

            blocks = block_costs(config)
        _print(blocks, config)
    return 0


def _composed(overrides: Sequence[str]) -> Config:
    """The checked configuration of `overrides`, of a model with a base."""
    schema.register()
    folder = user_folder()
    search = [f"hydra.searchpath=['file://{folder}']"] if folder else []
    try:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            config = schema.to_config(compose("config", [*search, *schema.checked_options(overrides)]))
    except HydraException as error:
        raise ConfigError(first_line(error)) from error
    if not config.model.is_base:
        raise ConfigError(f"model={config.model.name}: must be a model with a base; this one is trained whole")
    whole = replace(config, model=replace(config.model, weights=None), finetune=FinetuneConfig())
    schema.require_runnable(whole)
    return whole


def _print(blocks: "Sequence[BlockCost]", config: Config) -> None:
    """Print a row for each block, the top one first, and the sums of all."""
    title = f"{config.model.identity} at {config.data.image_size} pixels"
    columns = ("finetune.blocks", "block", "output", "parameters", "multiply-adds", "bytes per image, cached")
    table = Table(*columns, title=title, box=SIMPLE_HEAD, caption="finetune.blocks=N trains the blocks up to row N")
    for column in table.columns[3:]:
        column.justify = "right"
    for number, block in enumerate(reversed(blocks), start=1):
        shape = "x".join(map(str, block.shape))
        counts = (block.parameters, block.multiply_adds, block.cached_bytes)
        table.add_row(str(number), block.name, shape, *(f"{count:,}" for count in counts))
    totals = (sum(block.parameters for block in blocks), sum(block.multiply_adds for block in blocks))
    table.add_section()
    table.add_row("", "all", "", *(f"{total:,}" for total in totals), "")
    open_console().print(table)


if __name__ == "__main__":
    sys.exit(main())
