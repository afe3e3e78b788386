"""The server for other machines, as docker-compose.yml's profile `tls` starts it: users, TLS, and who is refused."""

import json
import os
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import mlflow
import pytest

from beans_exp.run import run
from beans_exp.schema import TrackingConfig
from tests.conftest import TINY, Program
from tests.servers import AUTH_COMMAND, postgres, server_of_users
from tests.tracking.contract import ARTIFACTS, CONFIG, METRICS

pytestmark = pytest.mark.xdist_group("access")  # one server for all
ADMIN, SECRET = "top-hush-0815", "student-hush-4711"
SECRETS = {"MLFLOW_AUTH_ADMIN_PASSWORD": ADMIN, "MLFLOW_FLASK_SERVER_SECRET_KEY": "key"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("server")


@pytest.fixture(scope="module")
def address(folder: Path) -> Iterator[str]:
    """The server's address, with a user `student` beside its administrator."""
    variables = {"MLFLOW_ADMIN_PASSWORD": ADMIN, "MLFLOW_SECRET_KEY": "key", "MLFLOW_HOST": "localhost"}
    with postgres() as database, server_of_users(folder, f"{database}/mlflow", variables) as address:
        user = {"username": "student", "password": SECRET}
        assert _status(address, folder, "users/create", user, Authorization=_basic("admin", ADMIN)) == 200
        yield address


def _sign_in(patch: pytest.MonkeyPatch, folder: Path, user: str, password: str) -> None:
    patch.setenv("MLFLOW_TRACKING_USERNAME", user)
    patch.setenv("MLFLOW_TRACKING_PASSWORD", password)
    patch.setenv("MLFLOW_TRACKING_SERVER_CERT_PATH", str(folder / "fullchain.pem"))


def _basic(user: str, password: str) -> str:
    return "Basic " + b64encode(f"{user}:{password}".encode()).decode()


def _status(address: str, folder: Path, path: str, content: dict[str, str], **headers: str) -> int:
    """What the server answers when `content` is sent to `path` of its API."""
    request = urllib.request.Request(
        f"{address}/api/2.0/mlflow/{path}",
        data=json.dumps(content).encode(),
        headers={"Content-Type": "application/json", **headers},
    )
    trusted = ssl.create_default_context(cafile=folder / "fullchain.pem")
    try:
        with urllib.request.urlopen(request, context=trusted) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_a_user_logs_a_whole_run(address: str, folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    _sign_in(monkeypatch, folder, "student", SECRET)
    tracking = TrackingConfig(name="server", uri=address, experiment="ours")
    run(replace(CONFIG, tracking=tracking), [], Path("outputs/run"))
    client = mlflow.MlflowClient(address)
    (one,) = client.search_runs([client.get_experiment_by_name("ours").experiment_id])
    assert one.data.tags["beans.status"] == "finished" and set(one.data.metrics) == METRICS
    assert {item.path for item in client.list_artifacts(one.info.run_id)} >= ARTIFACTS
    assert (folder / "artifacts").is_dir()  # the server's own
    left = [file for place in (tmp_path, folder) for file in place.rglob("*") if file.is_file()]
    assert [file for file in left for secret in (SECRET, ADMIN) if secret.encode() in file.read_bytes()] == []


def test_a_wrong_password_is_refused_in_one_line(
    address: str, folder: Path, monkeypatch: pytest.MonkeyPatch, program: Program
) -> None:
    _sign_in(monkeypatch, folder, "student", "wrong-hush")
    ended = program(*TINY, "tracking=server", f"tracking.uri={address}")
    assert ended.returncode == 1 and "MLFLOW_TRACKING_PASSWORD" in ended.stderr
    assert "Traceback" not in ended.stderr and "wrong-hush" not in ended.stdout + ended.stderr
    assert len(ended.stderr.strip().splitlines()) == 1


def test_an_unknown_certificate_is_refused_in_one_line(address: str, program: Program) -> None:
    ended = program(*TINY, "tracking=server", f"tracking.uri={address}")
    assert ended.returncode == 1 and "MLFLOW_TRACKING_SERVER_CERT_PATH" in ended.stderr
    assert len(ended.stderr.strip().splitlines()) == 1


def test_foreign_requests_are_refused(address: str, folder: Path) -> None:
    def make(name: str, **headers: str) -> int:
        return _status(address, folder, "experiments/create", {"name": name}, **headers)

    user = {"Authorization": _basic("student", SECRET)}
    assert make("nobody's") == 401
    assert make("by name", **user, Host="evil.example") == 403
    assert make("by page", **user, Origin="https://evil.example") == 403
    assert make("own", **user, Origin=address) == 200
    with pytest.raises(urllib.error.HTTPError, match="400"):  # plain HTTP on the port of TLS
        urllib.request.urlopen(address.replace("https", "http"))


@pytest.mark.parametrize("missing", sorted(SECRETS))
def test_it_does_not_start_without_password_or_key(missing: str) -> None:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # as in an environment that was entered
    variables = os.environ | SECRETS | {missing: "", "PATH": path}
    ended = subprocess.run(AUTH_COMMAND, shell=True, env=variables, capture_output=True, text=True, timeout=120)
    assert ended.returncode != 0 and missing in ended.stdout + ended.stderr
