"""docker-compose.yml: valid, pinned to the client's MLflow, free of passwords, reachable for others only by TLS."""

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

SERVERS = [name for name in SERVICES if name.startswith("mlflow")]

each_service = pytest.mark.parametrize("name", sorted(SERVICES))


def test_is_valid_against_the_compose_schema() -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(COMPOSE)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_has_no_deprecated_version_key() -> None:
    assert "version" not in yaml.safe_load(TEXT)


def test_without_passwords_mlflow_is_on_loopback_only() -> None:
    (port,) = SERVICES["mlflow"]["ports"]
    assert str(port).startswith("127.0.0.1:")


def test_other_machines_need_the_proxy_and_its_profile() -> None:
    assert [name for name, service in SERVICES.items() if "ports" in service] == ["mlflow", "proxy"]
    assert not any("network_mode" in service for service in SERVICES.values())  # `host` would publish all
    assert {name for name, service in SERVICES.items() if service.get("profiles") == ["tls"]} == {
        "mlflow-auth",
        "proxy",
    }
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
    assert re.search(r":v?\d+\.\d+(\.\d+)?(-[\w.]+)?(@sha256:[0-9a-f]{64})?$", SERVICES[name]["image"])


def test_server_is_the_pinned_client_version() -> None:
    pinned = re.search(r"^mlflow==(\S+)", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE)
    assert pinned
    assert {SERVICES[name]["image"].partition(":")[2] for name in SERVERS} == {f"v{pinned[1]}-full"}


@pytest.mark.parametrize("name", SERVERS)
def test_server_waits_for_a_healthy_database(name: str) -> None:
    assert SERVICES[name]["depends_on"] == {"postgres": {"condition": "service_healthy"}}


@each_service
def test_passwords_come_from_the_environment_and_have_no_default(name: str) -> None:
    environment: dict[str, str] = SERVICES[name].get("environment", {})
    assert isinstance(environment, dict), f"{name}: write the environment as a mapping, so that it can be checked"
    secret = {key: value for key, value in environment.items() if re.search("PASS|SECRET|TOKEN|KEY", key)}
    assert secret or name == "proxy", f"{name} gets no password"
    for key, value in secret.items():  # an empty one is refused by MLflow itself, see test_access.py
        required = "profiles" not in SERVICES[name] or key == "PGPASSWORD"
        assert re.fullmatch(r"\$\{\w+:\?[^}]+\}" if required else r"\$\{\w+:-\}", value), f"{name}: {key}"


def test_no_uri_or_command_carries_a_password() -> None:
    assert not re.search(r"://[^/\s@]*:[^/\s@]*@", TEXT)
    for service in SERVICES.values():
        assert "PASSWORD" not in repr([service.get("command"), service.get("healthcheck")])


def test_the_example_lists_every_variable_without_a_value() -> None:
    used = set(re.findall(r"(?<!\$)\$\{?(\w+)", TEXT))
    named = dict(re.findall(r"^(?:# )?(\w+)=(.*)$", EXAMPLE, re.MULTILINE))
    assert named == dict.fromkeys(used, "")


def test_required_variables_are_not_commented_out() -> None:
    required = set(re.findall(r"\$\{(\w+):\?", TEXT))
    assert required
    assert required <= set(re.findall(r"^(\w+)=", EXAMPLE, re.MULTILINE))


def test_the_server_is_lean_and_serves_local_names_only() -> None:
    assert "--allowed-hosts=127.0.0.1:*,localhost:*" in SERVICES["mlflow"]["command"]
    for service in (SERVICES[name] for name in SERVERS):
        command = service["command"]
        assert command[:2] == ["mlflow", "server"] and {"--workers=1", "--serve-artifacts"} <= set(command)
        destination = next(word.partition("=")[2] for word in command if word.startswith("--artifacts-destination="))
        assert f"artifacts:{destination}" in service["volumes"]
        assert service["environment"]["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] == "false"
        assert service["environment"]["MLFLOW_DISABLE_TELEMETRY"] == "true"


@pytest.mark.parametrize("name", SERVERS)
def test_mlflow_knows_every_option_of_the_command(name: str) -> None:
    # `--help` ends the program after its arguments are parsed, so a misspelt option fails and nothing starts.
    command = [sys.executable, "-m", *SERVICES[name]["command"], "--help"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-500:]
