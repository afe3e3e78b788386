"""Servers for tests, started by the commands that the project documents."""

import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
SERVER_COMMAND = (
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false MLFLOW_DISABLE_TELEMETRY=true "
    "mlflow server --workers 1 --backend-store-uri {uri} --default-artifact-root {artifacts}"
)
"""The server that `python -m beans_exp.ui` starts."""
AUTH_COMMAND = (
    SERVER_COMMAND.format(uri="sqlite:///mlruns/mlflow.db", artifacts="mlruns/artifacts") + " --app-name basic-auth"
)
SECONDS = 180
"""How long a server may take to start on a busy machine."""


class Restartable:
    """A server in a folder at a fixed address; it can be stopped and started again."""

    def __init__(self, command: str, folder: Path, ready: str) -> None:
        words = shlex.split(command)
        self.variables = dict(word.split("=", 1) for word in words if word.partition("=")[0].isupper())
        self.port = free_port()
        self.program = [
            *(word for word in words if word.partition("=")[0] not in self.variables),
            "--port",
            f"{self.port}",
        ]
        self.address = f"http://127.0.0.1:{self.port}"
        self.folder = folder
        self.ready = ready
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the server and wait until it responds."""
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # as in an environment that was entered
        log = self.folder / "server.log"
        with log.open("a") as output:
            self.process = subprocess.Popen(
                self.program,
                cwd=self.folder,
                env=os.environ | self.variables | {"PATH": path},
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        _wait_for(f"{self.address}{self.ready}", self.process, log)

    def stop(self) -> None:
        """Kill the server and its children, as a power cut would."""
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(30)
            self.process = None


@contextmanager
def mlflow_server(folder: Path, store: str = "sqlite:///mlruns/mlflow.db") -> Iterator[Restartable]:
    """Run MLflow's server in `folder`."""
    (folder / "mlruns").mkdir()
    words = SERVER_COMMAND.format(uri=store, artifacts="mlruns/artifacts")
    if not store.startswith("sqlite"):  # clients of other folders send their files to the server
        words = words.replace("--default-artifact-root", "--serve-artifacts --artifacts-destination")
    server = Restartable(words, folder, "/health")
    server.start()
    try:
        yield server
    finally:
        server.stop()


@contextmanager
def serving(command: str, folder: Path, ready: str) -> Iterator[str]:
    """Run the shell `command`, `NAME=VALUE… program …`, in `folder` on a free port; yield its address.

    It counts as started once `ready`, a path of the server, is found. Afterwards it and its children are ended.
    """
    server = Restartable(command, folder, ready)
    server.start()
    try:
        yield server.address
    finally:
        server.stop()


@dataclass(frozen=True)
class Ui:
    """A running `python -m beans_exp.ui`."""

    process: "subprocess.Popen[bytes]"
    first: str
    """The first line that it printed."""
    pages: dict[str, str]
    """The printed addresses by their titles."""

    @property
    def address(self) -> str:
        return re.findall(r"at (http://\S+)", self.first)[0]


@contextmanager
def ui(folder: Path, *words: str, pages: int = 1) -> Iterator[Ui]:
    """Run `python -m beans_exp.ui` with `words` in `folder` on a free port, until it has printed that many `pages`."""
    command = [sys.executable, "-m", "beans_exp.ui", "--port", str(free_port()), *words]
    log = folder / "ui.log"
    with log.open("w") as output:
        process = subprocess.Popen(command, cwd=folder, stdout=output, stderr=output)
    try:
        while len(lines := log.read_text().splitlines()) < 1 + pages:
            assert process.poll() is None, log.read_text()
            time.sleep(0.1)
        found = [line.partition(": http://") for line in lines[1:]]
        yield Ui(process, lines[0], {title: f"http://{place}" for title, _, place in found})
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0, log.read_text()


@contextmanager
def postgres() -> Iterator[str]:
    """Run Debian's Postgres with the databases `mlflow` and `optuna`; yield its address, without a database.

    Skips the test where the programs are missing.
    """
    found = max(Path("/usr/lib/postgresql").glob("*/bin"), default=None)
    if found is None:
        pytest.skip("Postgres is not installed: apt install postgresql")
    user = "postgres" if os.getuid() == 0 else None  # it refuses to run as root
    folder = Path(tempfile.mkdtemp(prefix="postgres-", dir="/tmp"))  # not in a folder that only this user may enter
    if user:
        shutil.chown(folder, user)
    port = free_port()
    options: dict[str, Any] = {"user": user, "cwd": folder, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    data = str(folder / "data")
    subprocess.run(
        [str(found / "initdb"), "-D", data, "-U", "beans", "--auth=trust", "--no-sync"], check=True, **options
    )
    settings = ["listen_addresses=127.0.0.1", f"unix_socket_directories={folder}", "fsync=off", "max_connections=200"]
    words = [word for setting in settings for word in ("-c", setting)]
    process = subprocess.Popen([str(found / "postgres"), "-D", data, "-p", str(port), *words], **options)
    ready = [str(found / "pg_isready"), "-h", "127.0.0.1", "-p", str(port), "-U", "beans"]
    try:
        while subprocess.run(ready, stdout=subprocess.DEVNULL).returncode:
            assert process.poll() is None
            time.sleep(0.1)
        for name in ("mlflow", "optuna"):
            subprocess.run(
                [str(found / "createdb"), "-h", "127.0.0.1", "-p", str(port), "-U", "beans", name], check=True
            )
        yield f"postgresql+psycopg2://beans@127.0.0.1:{port}"
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(30)
        shutil.rmtree(folder)


def compose_service(name: str, variables: dict[str, str]) -> tuple[list[str], dict[str, str]]:
    """Return command and environment of the service `name` in docker-compose.yml, with `variables` substituted."""
    service = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))["services"][name]

    def put_in(text: str) -> str:
        return re.sub(r"\$\{(\w+)(?::-([^}]*))?\}", lambda found: variables.get(found[1]) or found[2] or "", text)

    command = [put_in(word) for word in service["command"]]
    return command, {key: put_in(value) for key, value in service["environment"].items()}


@contextmanager
def compose_server(
    name: str, folder: Path, variables: dict[str, str], environment: dict[str, str], words: dict[str, str]
) -> Iterator[Restartable]:
    """Run the program of a service of docker-compose.yml in `folder`, without a container, on loopback.

    `variables` replace `.env`; `environment` and `words` of the command replace what only exists in the container.
    """
    command, found = compose_service(name, variables)
    assignments = [f"{key}={value}" for key, value in (found | environment).items()]
    here = _replaced(shlex.join(command), {"0.0.0.0": "127.0.0.1", " --port=5000": "", **words})
    server = Restartable(f"{shlex.join(assignments)} {here}", folder, "/health")
    server.start()
    try:
        yield server
    finally:
        server.stop()


@contextmanager
def server_of_users(folder: Path, database: str, variables: dict[str, str]) -> Iterator[str]:
    """Run the programs of `docker compose up proxy` from the same files on this machine; yield the https address.

    `variables` replace `.env`; `database` takes the place of the service `postgres`. The certificate, for localhost,
    is `fullchain.pem` in `folder`. Skips the test where nginx or openssl is missing.
    """
    nginx, openssl = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin"), shutil.which("openssl")
    if nginx is None or openssl is None:
        pytest.skip("no nginx or openssl: apt install nginx-light openssl")
    users = folder / "basic_auth.ini"
    inside = "postgresql+psycopg2://mlflow@postgres:5432/mlflow"
    users.write_text(_replaced((ROOT / "deploy" / "basic_auth.ini").read_text(), {inside: database}))
    environment = {"MLFLOW_BACKEND_STORE_URI": database, "MLFLOW_AUTH_CONFIG_PATH": str(users)}
    with (
        compose_server("mlflow-auth", folder, variables, environment, {"/mlartifacts": "artifacts"}) as server,
        _proxy(nginx, openssl, folder, server.port) as port,
    ):
        yield f"https://localhost:{port}"


@contextmanager
def _proxy(nginx: str, openssl: str, folder: Path, server: int) -> Iterator[int]:
    """Run nginx with the project's configuration in front of the port `server`, with a new certificate."""
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    files = ["-keyout", str(folder / "privkey.pem"), "-out", str(folder / "fullchain.pem")]
    make = [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", *names, *files]
    subprocess.run(make, check=True, capture_output=True)
    port = free_port()
    here = {"mlflow-auth:5000": f"127.0.0.1:{server}", "listen 443": f"listen 127.0.0.1:{port}"}
    site = _replaced((ROOT / "deploy" / "nginx.conf").read_text(), here | {"/etc/nginx/tls": str(folder)})
    (folder / "site.conf").write_text(site)
    whole = f"pid {folder}/nginx.pid; events {{}} http {{ access_log off; include {folder}/site.conf; }}"
    (folder / "nginx.conf").write_text(whole)
    words = ["-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", str(folder / "nginx.log"), "-g", "daemon off;"]
    process = subprocess.Popen([nginx, *words])
    try:
        _wait_for_port(port, process, folder / "nginx.log")
        yield port
    finally:
        process.terminate()
        process.wait(30)


def _replaced(text: str, words: dict[str, str]) -> str:
    """Return `text` with each of `words`, which it must contain, replaced."""
    for word, other in words.items():
        assert word in text, word
        text = text.replace(word, other)
    return text


def _wait_for_port(port: int, process: "subprocess.Popen[bytes]", log: Path) -> None:
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port), timeout=5).close()
        except ConnectionRefusedError:
            assert process.poll() is None, log.read_text()
            time.sleep(0.1)


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _wait_for(address: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        try:
            with urllib.request.urlopen(address, timeout=5):
                return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            assert process.poll() is None, log.read_text()
            time.sleep(0.2)
    raise TimeoutError(log.read_text())


@contextmanager
def slurm() -> Iterator[dict[str, str]]:
    """Run Debian's Slurm with one node of two cores; yield the variables that select it.

    Skips the test where the programs are missing, or where they cannot be started.
    """
    needed = ("munged", "slurmctld", "slurmd", "sbatch")
    paths = {name: shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin") for name in needed}
    if missing := [name for name, path in paths.items() if path is None]:
        pytest.skip(f"no {', '.join(missing)}: apt install slurmctld slurmd slurm-client munge")
    if os.getuid() != 0:
        pytest.skip("slurmd starts jobs as root alone")
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))
    folder.chmod(0o755)  # munged refuses a socket that others cannot reach
    (folder / "key").write_bytes(os.urandom(128))
    (folder / "key").chmod(0o400)
    (folder / "slurm.conf").write_text(_slurm_conf(folder))
    variables = {"SLURM_CONF": str(folder / "slurm.conf")}
    munge = [
        f"--{name}={folder}/munge.{name.partition('-')[0]}" for name in ("socket", "pid-file", "log-file", "seed-file")
    ]
    programs = [
        [paths["munged"], "--foreground", "--force", f"--key-file={folder}/key", *munge],
        [paths["slurmctld"], "-D", "-c"],
        [paths["slurmd"], "-D", "-N", "node"],
    ]
    running: list[subprocess.Popen[bytes]] = []
    try:
        with (folder / "log").open("w") as log:
            for program in programs:
                words = [str(word) for word in program]
                running.append(subprocess.Popen(words, env=os.environ | variables, stdout=log, stderr=log))
                time.sleep(1)
        _wait_for_node(variables, folder)
        yield variables
    finally:
        for process in reversed(running):
            process.terminate()
            process.wait(30)
        shutil.rmtree(folder, ignore_errors=True)


def _slurm_conf(folder: Path) -> str:
    settings = {
        "ClusterName": "test",
        "SlurmctldHost": f"{socket.gethostname()}(127.0.0.1)",
        "SlurmUser": "root",
        "SlurmdUser": "root",
        "AuthType": "auth/munge",
        "AuthInfo": f"socket={folder}/munge.socket,cred_expire=5",  # a job queued again waits so long, else 120 s
        "SlurmctldPort": free_port(),
        "SlurmdPort": free_port(),
        "StateSaveLocation": folder / "state",
        "SlurmdSpoolDir": folder / "spool",
        "SlurmctldPidFile": folder / "slurmctld.pid",
        "SlurmdPidFile": folder / "slurmd.pid",
        "ProctrackType": "proctrack/pgid",
        "TaskPlugin": "task/none",
        "JobAcctGatherType": "jobacct_gather/none",
        "SelectType": "select/cons_tres",
        "SelectTypeParameters": "CR_Core",
        "SchedulerParameters": "bf_interval=1,sched_interval=1",  # seconds; else a requeued job waits for half a minute
        "MpiDefault": "none",
        "ReturnToService": 2,
        "KillWait": 5,
    }
    lines = [f"{key}={value}" for key, value in settings.items()]
    lines += [f"NodeName=node NodeHostname={socket.gethostname()} NodeAddr=127.0.0.1 CPUs=2 RealMemory=4000"]
    return "\n".join([*lines, "PartitionName=all Nodes=node Default=YES MaxTime=INFINITE State=UP", ""])


def _wait_for_node(variables: dict[str, str], folder: Path) -> None:
    for _ in range(60):
        asked = subprocess.run(["sinfo", "-h", "-o", "%T"], env=os.environ | variables, capture_output=True, text=True)
        if asked.stdout.strip() == "idle":
            return
        time.sleep(0.5)
    raise TimeoutError((folder / "log").read_text()[-3000:])
