"""docker-compose.yml: valid, on loopback only, pinned to the client's MLflow, and no password in it or by default."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
COMPOSE = ROOT / "docker-compose.yml"
TEXT = COMPOSE.read_text(encoding="utf-8")
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load(TEXT)["services"]
EXAMPLE = (ROOT / ".env.example").read_text(encoding="utf-8")

each_service = pytest.mark.parametrize("name", sorted(SERVICES))


def test_is_valid_against_the_compose_schema() -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(COMPOSE)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_has_no_deprecated_version_key() -> None:
    assert "version" not in yaml.safe_load(TEXT)


@each_service
def test_ports_are_bound_to_loopback(name: str) -> None:
    for port in SERVICES[name].get("ports", []):
        host = port.get("host_ip") if isinstance(port, dict) else str(port).partition(":")[0]
        assert host == "127.0.0.1", f"{name} publishes {port!r}"


def test_only_mlflow_is_published() -> None:
    assert [name for name, service in SERVICES.items() if "ports" in service] == ["mlflow"]
    assert not any("network_mode" in service for service in SERVICES.values())  # `host` would publish all


@each_service
def test_has_a_health_check(name: str) -> None:
    check = SERVICES[name].get("healthcheck", {})
    assert check.get("test") and not check.get("disable"), name


@each_service
def test_image_is_pinned(name: str) -> None:
    assert re.search(r":v?\d+\.\d+(\.\d+)?(-[\w.]+)?(@sha256:[0-9a-f]{64})?$", SERVICES[name]["image"])


def test_server_is_the_pinned_client_version() -> None:
    pinned = re.search(r"^mlflow==(\S+)", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE)
    assert pinned
    assert SERVICES["mlflow"]["image"].endswith(f":v{pinned[1]}-full")


def test_server_waits_for_a_healthy_database() -> None:
    assert SERVICES["mlflow"]["depends_on"] == {"postgres": {"condition": "service_healthy"}}


@each_service
def test_passwords_come_from_the_environment_without_a_default(name: str) -> None:
    environment: dict[str, str] = SERVICES[name].get("environment", {})
    assert isinstance(environment, dict), f"{name}: write the environment as a mapping, so that it can be checked"
    secret = {key: value for key, value in environment.items() if re.search("PASS|SECRET|TOKEN|KEY", key)}
    assert secret, f"{name} gets no password"
    for key, value in secret.items():
        assert re.fullmatch(r"\$\{\w*PASSWORD:\?[^}]+\}", value), f"{name}: {key}"


def test_no_uri_or_command_carries_a_password() -> None:
    assert not re.search(r"://[^/\s@]*:[^/\s@]*@", TEXT)
    for service in SERVICES.values():
        assert "PASSWORD" not in repr([service.get("command"), service.get("healthcheck")])


def test_example_names_every_variable_and_gives_no_value() -> None:
    used = set(re.findall(r"(?<!\$)\$\{?(\w+)", TEXT))
    named = dict(re.findall(r"^(?:# )?(\w+)=(.*)$", EXAMPLE, re.MULTILINE))
    assert named == dict.fromkeys(used, "")


def test_required_variables_are_not_commented_out() -> None:
    required = set(re.findall(r"\$\{(\w+):\?", TEXT))
    assert required
    assert required <= set(re.findall(r"^(\w+)=", EXAMPLE, re.MULTILINE))


def test_server_is_lean_and_serves_artifacts_to_local_names_only() -> None:
    command = SERVICES["mlflow"]["command"]
    assert command[:2] == ["mlflow", "server"]
    for option in ("--workers=1", "--serve-artifacts", "--allowed-hosts=127.0.0.1:*,localhost:*"):
        assert option in command
    destination = next(word.partition("=")[2] for word in command if word.startswith("--artifacts-destination="))
    assert SERVICES["mlflow"]["volumes"] == [f"artifacts:{destination}"]
    assert SERVICES["mlflow"]["environment"]["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] == "false"
    assert SERVICES["mlflow"]["environment"]["MLFLOW_DISABLE_TELEMETRY"] == "true"


def test_mlflow_knows_every_option_of_the_command() -> None:
    # `--help` ends the program after its arguments are parsed, so a misspelt option fails and nothing starts.
    command = [sys.executable, "-m", *SERVICES["mlflow"]["command"], "--help"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-500:]
