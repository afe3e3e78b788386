"""Cost of starting `python -m beans_exp` compared with a bare Hydra program that composes the same configuration.

Three commands that train nothing, each run in its own process, alternating: product, bare, product, bare.

- `--cfg job` prints the configuration
- `reg.dropout=1.5` ends with a configuration error; the bare program composes it, and its task does nothing
- `--help` lists options and keys

The bare program (`BARE`) runs `hydra.main` over a copy of the product's `conf/` without the callback that checks the
configuration. Its schema is a plain dictionary: no types, no rules. Both must print the same configuration.
Not counted: a first run of each side, which compiles and loads files.

    python benchmarks/startup.py               # 10 pairs of each: a minute on two cores
    python benchmarks/startup.py --pairs 3

Run it on an idle Linux machine; on a busy one, only the ratios of CPU times are meaningful. Nothing is asserted:
figures are printed beside the project's goals.
"""

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks import measure
from benchmarks.measure import Process, Row, log

BARE = """
import hydra
from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf

ConfigStore.instance().store(name="schema", node={schema!r})
OmegaConf.register_new_resolver("beans_exp.options", lambda sources: "")


@hydra.main(version_base="1.3", config_path={conf!r}, config_name="config")
def main(config):
    pass


main()
"""
COMMANDS = (
    ("--cfg job", 0, "ratio <= 1.3, 1.5 s"),
    ("reg.dropout=1.5", 1, "ratio <= 1.3, 1.5 s"),
    ("--help", 0, "2 s"),
)
"""Words, the product's exit status, goal for the wall time."""
ERROR = "error: reg.dropout=1.5: must be"


def main() -> None:
    """Run both sides in turn and print their times."""
    parser = measure.make_parser(__doc__)
    parser.add_argument("--pairs", type=int, default=10, help="runs of each side, in turn, per command")
    options = parser.parse_args()
    with measure.working_folder("startup") as folder:
        bare = [str(write_bare(folder / "bare"))]
        product = ["-m", "beans_exp"]
        warm_up(product, bare, folder)
        rows = [row for command in COMMANDS for row in compare(*command, product, bare, folder, options.pairs)]
    measure.print_comparison(f"start-up, pairs: {options.pairs}", rows)
    print(measure.machine())


def write_bare(folder: Path) -> Path:
    """Write the bare program and its copy of `conf/` into `folder`; return the program."""
    import yaml
    from omegaconf import OmegaConf

    from beans_exp.schema import CONF, Config

    conf = folder / "conf"
    shutil.copytree(CONF, conf)
    primary = yaml.safe_load((CONF / "config.yaml").read_text())
    del primary["hydra"]["callbacks"]
    primary["hydra"] |= {"run": {"dir": "."}, "output_subdir": None}  # write nothing, as the product with an error
    (conf / "config.yaml").write_text(yaml.safe_dump(primary, sort_keys=False))
    schema = OmegaConf.to_container(OmegaConf.structured(Config))
    program = folder / "program.py"
    program.write_text(BARE.format(schema=schema, conf=str(conf)))
    return program


def warm_up(product: list[str], bare: list[str], folder: Path) -> None:
    """Run each command once on each side, and end the benchmark unless each does its part."""
    log("a first run of each side, which is not counted")
    ours, theirs = (run([*program, "--cfg", "job"], folder).output for program in (product, bare))
    if ours != theirs:
        sys.exit("the two sides compose different configurations")
    if not run([*product, "reg.dropout=1.5"], folder, 1).output.startswith(ERROR):
        sys.exit("the product does not refuse reg.dropout=1.5")


def compare(
    command: str, status: int, goal: str, product: list[str], bare: list[str], folder: Path, pairs: int
) -> list[Row]:
    """Run `command` on both sides `pairs` times, in turn; return its wall and CPU times."""
    log(f"{command}: {pairs} pairs")
    words = command.split()
    found = [(run([*product, *words], folder, status), run([*bare, *words], folder)) for _ in range(pairs)]
    mine, theirs = zip(*found, strict=True)
    return [
        Row(f"{command}, wall, s", [side.wall for side in mine], [side.wall for side in theirs], ".2f", goal),
        Row("  CPU, s", [side.cpu_seconds for side in mine], [side.cpu_seconds for side in theirs], ".2f"),
    ]


def run(words: Sequence[str], folder: Path, status: int = 0) -> Process:
    return measure.run_process(words, folder, capture=True, stderr=subprocess.STDOUT, status=status)


if __name__ == "__main__":
    main()
