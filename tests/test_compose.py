"""docker-compose.yml: valid, pinned to the client's MLflow, free of passwords, reachable for others only by TLS."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import mlflow
import pytest
import yaml

from beans_exp.schema import TrackingConfig
from beans_exp.tracking.store import open_store, store_uri
from tests.servers import compose_server, compose_service, postgres

ROOT = Path(__file__).resolve().parents[1]
COMPOSE = ROOT / "docker-compose.yml"
TEXT = COMPOSE.read_text(encoding="utf-8")
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load(TEXT)["services"]
EXAMPLE = (ROOT / ".env.example").read_text(encoding="utf-8")

SERVERS = [name for name in SERVICES if name.startswith("mlflow")]
OVER_POSTGRES = [name for name in SERVERS if name != "mlflow"]

each_service = pytest.mark.parametrize("name", sorted(SERVICES))


def test_is_valid_against_the_compose_schema() -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(COMPOSE)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_has_no_deprecated_version_key() -> None:
    assert "version" not in yaml.safe_load(TEXT)


def _with_profile(profile: str | None) -> set[str]:
    """The services of `profile`; of none if it is None."""
    return {name for name, service in SERVICES.items() if profile in service.get("profiles", [None])}


def test_without_a_profile_only_the_runs_of_this_folder_are_served() -> None:
    assert _with_profile(None) == {"mlflow"}
    assert "depends_on" not in SERVICES["mlflow"]


def test_the_runs_of_this_folder_have_the_same_path_and_owner_inside() -> None:
    service = SERVICES["mlflow"]
    assert service["volumes"] == ["${PWD}/mlruns:${PWD}/mlruns"]
    assert service["user"] == "${BEANS_UID:-1000}:${BEANS_GID:-1000}"
    variables = {"PWD": "/home/ann/beans"}
    command, environment = compose_service("mlflow", variables)
    assert environment["MLFLOW_BACKEND_STORE_URI"] == "sqlite:////home/ann/beans/mlruns/mlflow.db"
    assert "--default-artifact-root=/home/ann/beans/mlruns/artifacts" in command


def test_without_passwords_mlflow_is_on_loopback_only() -> None:
    ports = [str(port) for name in ("mlflow", "mlflow-postgres") for port in SERVICES[name]["ports"]]
    assert all(port.startswith("127.0.0.1:") for port in ports)
    defaults = re.findall(r":-(\d+)}", " ".join(ports))
    assert len(set(defaults)) == 2, "both can run at once"


def test_other_machines_need_the_proxy_and_its_profile() -> None:
    published = [name for name, service in SERVICES.items() if "ports" in service]
    assert published == ["mlflow", "mlflow-postgres", "proxy"]
    assert not any("network_mode" in service for service in SERVICES.values())  # `host` would publish all
    assert _with_profile("postgres") == {"postgres", "mlflow-postgres"}
    assert _with_profile("tls") == {"postgres", "mlflow-auth", "proxy"}
    assert SERVICES["proxy"]["depends_on"] == {"mlflow-auth": {"condition": "service_healthy"}}
    assert "listen 443 ssl" in (ROOT / "deploy" / "nginx.conf").read_text(encoding="utf-8")
    assert "--app-name=basic-auth" in SERVICES["mlflow-auth"]["command"]


def test_mounted_files_exist() -> None:
    mounted = [volume.partition(":")[0] for service in SERVICES.values() for volume in service["volumes"]]
    files = [name for name in mounted if name.startswith("./")]
    assert files and all((ROOT / name).is_file() for name in files)


@each_service
def test_has_a_health_check(name: str) -> None:
    check = SERVICES[name].get("healthcheck", {})
    assert check.get("test") and not check.get("disable"), name


@each_service
def test_image_is_pinned(name: str) -> None:
    parts = 2 if name == "postgres" else 3  # PostgreSQL's versions have two
    version = r"\.".join([r"\d+"] * parts)
    assert re.search(rf":v?{version}(-[\w.]+)?(@sha256:[0-9a-f]{{64}})?$", SERVICES[name]["image"])


def test_server_is_the_pinned_client_version() -> None:
    pinned = re.search(r"^mlflow==(\S+)", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE)
    assert pinned
    assert {SERVICES[name]["image"].partition(":")[2] for name in SERVERS} == {f"v{pinned[1]}-full"}


@pytest.mark.parametrize("name", OVER_POSTGRES)
def test_server_waits_for_a_healthy_database(name: str) -> None:
    assert SERVICES[name]["depends_on"] == {"postgres": {"condition": "service_healthy"}}


@each_service
def test_passwords_come_from_the_environment_and_have_no_default(name: str) -> None:
    environment: dict[str, str] = SERVICES[name].get("environment", {})
    assert isinstance(environment, dict), f"{name}: write the environment as a mapping, so that it can be checked"
    secret = {key: value for key, value in environment.items() if re.search("PASS|SECRET|TOKEN|KEY", key)}
    assert secret or name in ("mlflow", "proxy"), f"{name} gets no password"
    for key, value in secret.items():  # an empty one is refused by Postgres and MLflow themselves, see test_access.py
        assert re.fullmatch(r"\$\{\w+:-\}", value), f"{name}: {key}"


def test_no_uri_or_command_carries_a_password() -> None:
    assert not re.search(r"://[^/\s@]*:[^/\s@]*@", TEXT)
    for service in SERVICES.values():
        assert "PASSWORD" not in repr([service.get("command"), service.get("healthcheck")])


def test_the_example_lists_every_variable_without_a_value() -> None:
    used = set(re.findall(r"(?<!\$)\$\{?(\w+)", TEXT))
    named = dict(re.findall(r"^(?:# )?(\w+)=(.*)$", EXAMPLE, re.MULTILINE))
    assert named == dict.fromkeys(used - {"PWD"}, "")  # Compose sets PWD


def test_no_variable_is_required() -> None:
    """Compose reads those of all profiles: one that must be set would stop a plain `docker compose up`."""
    assert not re.findall(r"\$\{(\w+):?\?", TEXT)
    assert not re.findall(r"^\w+=", EXAMPLE, re.MULTILINE)


def test_the_server_is_lean_and_serves_local_names_only() -> None:
    for name in ("mlflow", "mlflow-postgres"):
        assert "--allowed-hosts=127.0.0.1:*,localhost:*" in SERVICES[name]["command"]
    for service in (SERVICES[name] for name in SERVERS):
        assert service["command"][:2] == ["mlflow", "server"] and "--workers=1" in service["command"]
        assert service["environment"]["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] == "false"
        assert service["environment"]["MLFLOW_DISABLE_TELEMETRY"] == "true"


@pytest.mark.parametrize("name", OVER_POSTGRES)
def test_clients_send_artifacts_to_a_server_over_postgres(name: str) -> None:
    command = SERVICES[name]["command"]
    assert "--serve-artifacts" in command
    destination = next(word.partition("=")[2] for word in command if word.startswith("--artifacts-destination="))
    assert f"artifacts:{destination}" in SERVICES[name]["volumes"]


def test_the_server_of_this_folder_shows_its_runs_and_takes_new_ones(tmp_path: Path) -> None:
    """The same program, started from the same file without a container."""
    uri = store_uri(TrackingConfig())
    before = mlflow.MlflowClient(uri).create_run(open_store(uri, "beans_exp")).info
    mlflow.MlflowClient(uri).log_text(before.run_id, "from here", "note.txt")
    with compose_server("mlflow", tmp_path, {"PWD": str(tmp_path)}, {}, {}) as server:
        client = mlflow.MlflowClient(server.address)
        mlflow.set_tracking_uri(server.address)
        assert mlflow.artifacts.load_text(f"runs:/{before.run_id}/note.txt") == "from here"
        new = client.create_run(client.create_experiment("new")).info
        client.log_text(new.run_id, "from a client", "note.txt")
    (file,) = (tmp_path / "mlruns" / "artifacts").rglob(f"{new.run_id}/artifacts/note.txt")
    assert file.read_text() == "from a client"


def test_the_server_over_postgres_stores_the_artifacts_of_clients(tmp_path: Path) -> None:
    """The same program, started from the same file without a container."""
    with postgres() as database:
        store = {"MLFLOW_BACKEND_STORE_URI": f"{database}/mlflow"}
        words = {"/mlartifacts": "artifacts"}
        with compose_server("mlflow-postgres", tmp_path, {"POSTGRES_PASSWORD": "secret"}, store, words) as server:
            client = mlflow.MlflowClient(server.address)
            mlflow.set_tracking_uri(server.address)
            run = client.create_run(client.create_experiment("new")).info
            client.log_text(run.run_id, "from a client", "note.txt")
            assert mlflow.artifacts.load_text(f"runs:/{run.run_id}/note.txt") == "from a client"
    (file,) = (tmp_path / "artifacts").rglob("note.txt")
    assert file.read_text() == "from a client"


@pytest.mark.parametrize("name", SERVERS)
def test_mlflow_knows_every_option_of_the_command(name: str) -> None:
    # `--help` ends the program after its arguments are parsed, so a misspelt option fails and nothing starts.
    command = [sys.executable, "-m", *SERVICES[name]["command"], "--help"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-500:]
