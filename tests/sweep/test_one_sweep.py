"""Options that bring a sweeper or a launcher of their own are refused as points of a sweep."""

import pytest
from hydra.core.config_loader import ConfigLoader
from hydra.types import RunMode

from beans_exp.errors import ConfigError
from beans_exp.sweep.grid import compose_grid
from tests.conftest import TINY
from tests.sweep.test_composer import make_composer


@pytest.mark.parametrize("grid", [["experiment=kernel_size", "experiment=regularization"], ["experiment=search_depth"]])
def test_several_experiments_in_one_command_are_refused(grid: list[str], loader: ConfigLoader) -> None:
    config = loader.load_configuration("config", [*TINY, "experiment=glob(*)"], RunMode.MULTIRUN)
    with pytest.raises(ConfigError, match=f"^{grid[0]}: must be the only option of its group.*one experiment a comm"):
        list(compose_grid(loader, config, [[*TINY, word] for word in grid]))


def test_one_experiment_is_composed(loader: ConfigLoader) -> None:
    config = loader.load_configuration("config", [*TINY, "experiment=kernel_size"], RunMode.MULTIRUN)
    grid = [[*TINY, "experiment=kernel_size", f"kernel={kernel}"] for kernel in ("k3", "k7")]
    assert [point.config.kernel.size for point in compose_grid(loader, config, grid)] == [3, 7]


def test_experiments_cannot_be_searched(loader: ConfigLoader) -> None:
    composer = make_composer(loader, ["hydra/sweeper=optuna", *TINY])
    with pytest.raises(ConfigError, match="experiment=kernel_size: must be the only option of its group"):
        composer.point({"experiment": "kernel_size"})
