"""Artifacts are opened on the store's own host only: MLflow would send the user's password to any host."""

import socket
from collections.abc import Iterator

import mlflow
import pytest

from beans_exp.errors import StoreError
from beans_exp.schema import TrackingConfig
from beans_exp.tracking.artifact_hosts import require_own_host
from beans_exp.tracking.reader import open_reader
from beans_exp.tracking.registry import fetched, find_model
from beans_exp.tracking.store import connect, open_store, store_uri

SERVER = "https://mlflow.example:8443/team"


@pytest.fixture
def stranger(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a host that must not hear from us."""
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "me")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "hush-4711")
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(1)
        yield f"http://127.0.0.1:{server.getsockname()[1]}/artifacts"
        with pytest.raises(TimeoutError):
            server.accept()


def test_artifacts_on_another_host_are_not_opened(stranger: str) -> None:
    uri = store_uri(TrackingConfig())
    open_store(uri, "own")
    mlflow.MlflowClient(uri).create_experiment("shared", artifact_location=stranger)
    for use in (open_store, open_reader):
        with pytest.raises(StoreError, match=r"the artifact location http://127.* must be on this machine"):
            use(uri, "shared")
    client = connect(uri)
    client.create_registered_model("leaves")
    client.create_model_version("leaves", source=stranger)
    with (
        pytest.raises(StoreError, match="the artifact location http://127"),
        fetched(find_model(client, "models:/leaves/1")),
    ):
        pass


@pytest.mark.parametrize(
    "address",
    [
        "mlflow-artifacts:/1/run/artifacts",
        "mlflow-artifacts://mlflow.example:8443/1",
        "https://mlflow.example:8443/api/2.0/mlflow-artifacts/artifacts/1",
        "file:///shared/mlruns/1",
        "/shared/mlruns/1",
        "s3://bucket/1",
    ],
)
def test_the_servers_own_artifacts_files_and_buckets_are_opened(address: str) -> None:
    require_own_host(address, SERVER)


@pytest.mark.parametrize(
    ("address", "store"),
    [
        ("mlflow-artifacts://evil.example/1", SERVER),
        ("https://evil.example:8443/1", SERVER),
        ("https://mlflow.example/1", SERVER),
        ("http://mlflow.example:8443/1", SERVER),
        ("ftp://mlflow.example:8443/1", SERVER),
        ("sftp://evil.example/1", SERVER),
        ("hdfs://evil.example/1", "postgresql://db/mlflow"),
    ],
)
def test_any_other_address_with_a_host_is_refused(address: str, store: str) -> None:
    with pytest.raises(StoreError, match="nothing is read from, or sent to, a host"):
        require_own_host(address, store)
