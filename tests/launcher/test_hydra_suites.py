"""Hydra's own test suites for launchers, run with the isolated one."""

import pytest
from hydra.test_utils.launcher_common_tests import IntegrationTestSuite, LauncherTestSuite
from hydra.version import VersionBase
from packaging.version import Version

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning")


@pytest.fixture(autouse=True)
def _defaults_of_hydra_1_1(hydra_restore_singletons: None) -> None:
    """Run jobs in their own folders, as the suites expect: an earlier test may have chosen Hydra 1.3's defaults."""
    VersionBase.instance().setbase(Version("1.1"))


@pytest.mark.parametrize(("launcher_name", "overrides"), [("isolated", [])])
class TestHydrasLauncherSuite(LauncherTestSuite):
    """Hydra's requirements of any launcher."""


@pytest.mark.parametrize(("task_launcher_cfg", "extra_flags"), [({}, ["-m", "hydra/launcher=isolated"])])
class TestHydrasIntegrationSuite(IntegrationTestSuite):
    """Hydra's requirements of programs that use the launcher."""
