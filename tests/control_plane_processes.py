"""Keeps one real Kubernetes control plane running for as long as some test process wants it.

A program of its own, started by ``tests/control_plane.py``, because the workers of pytest-xdist share one control
plane and no worker may outlive it:

- Whoever uses the control plane holds a *shared* lock on ``users.lock``. This program waits for the *exclusive* one, so
  it ends when the last user has gone, however that one went (``kill -9`` included).
- Should this program itself be killed, the kernel kills etcd, kube-apiserver and kube-controller-manager with it.

It listens on loopback only and keeps everything in the folder that it is given:
``python control_plane_processes.py FOLDER`` with the programs' paths as JSON on standard input.
"""

from __future__ import annotations

import base64
import contextlib
import ctypes
import fcntl
import hashlib
import hmac
import json
import os
import secrets
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

STATE_FILE = "state.json"
ERROR_FILE = "error.txt"
USERS_LOCK = "users.lock"

START_SECONDS = 180
"""How long a start may take before it counts as failed. It takes 4 to 5 seconds on an idle machine."""

CONTROLLERS = "garbagecollector,namespace,resourcequota"
"""Owner references, the end of namespaces, and quotas; no workload controllers: the tests make their own pods."""

ADMISSION_OFF = "ServiceAccount,StorageObjectInUseProtection"
"""Without the service account controller every pod would be refused; without the claim protection controller no
deleted claim would ever go away."""

AUDIT_POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [
        {"level": "None", "nonResourceURLs": ["*"]},
        {"level": "None", "users": ["system:apiserver", "system:kube-controller-manager"]},
        {"level": "Metadata"},
    ],
}


def sign_token(key: str, user: str, groups: list[str]) -> str:
    """Make a bearer token that proves to be `user` in `groups`, for the token webhook below.

    So the tests can invent users at any time; a token file would have to name them all before the start.
    """
    claims = json.dumps({"user": user, "groups": groups}, sort_keys=True).encode()
    signature = hmac.new(key.encode(), claims, hashlib.sha256).hexdigest()
    return f"test.{base64.urlsafe_b64encode(claims).decode().rstrip('=')}.{signature}"


def read_token(key: str, token: str) -> dict[str, Any] | None:
    """Return what a token of `sign_token` says, or None for any other token."""
    try:
        _, encoded, _ = token.split(".")
        claims = json.loads(base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)))
        expected = sign_token(key, claims["user"], claims["groups"])
    except (ValueError, KeyError, TypeError):
        return None
    return claims if hmac.compare_digest(expected, token) else None


def kubeconfig(url: str, token: str | None = None, *, ca: bytes | None = None, namespace: str = "default") -> str:
    """Return a kubeconfig with one context, as JSON (which is YAML too)."""
    cluster: dict[str, str] = {"server": url}
    if ca is not None:
        cluster["certificate-authority-data"] = base64.b64encode(ca).decode()
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "tests", "cluster": cluster}],
        "users": [{"name": "tests", "user": {"token": token} if token else {}}],
        "contexts": [{"name": "tests", "context": {"cluster": "tests", "user": "tests", "namespace": namespace}}],
        "current-context": "tests",
    }
    return json.dumps(config, indent=1)


class StartError(Exception):
    """The control plane cannot be started; the message says why, with the end of the program's log."""


class ControlPlaneProcesses:
    """etcd, kube-apiserver and, where there is one, kube-controller-manager.

    Args:
        folder: An empty folder of its own for keys, data and logs.
        programs: Paths by name: ``etcd``, ``kube-apiserver`` and, optionally, ``kube-controller-manager``.
    """

    def __init__(self, folder: Path, programs: dict[str, str]) -> None:
        self.folder = folder
        self.programs = programs
        self.children: dict[str, subprocess.Popen[bytes]] = {}
        self.admin_token = secrets.token_hex(16)
        self.controller_token = secrets.token_hex(16)
        self.signing_key = secrets.token_hex(32)
        self.reviewer: ThreadingHTTPServer | None = None
        self.url = ""
        self.deadline = time.monotonic() + START_SECONDS

    @property
    def certificate(self) -> Path:
        """The API server's self-signed certificate, which is its own CA."""
        return self.folder / "certs" / "apiserver.crt"

    def start(self) -> dict[str, Any]:
        """Start everything and wait until it serves.

        Returns:
            What a user of the control plane has to know; see `STATE_FILE`.

        Raises:
            StartError: A program ended, or was not ready in time.
        """
        self._write_keys()
        etcd = self._start_etcd()
        review_url = self._bind_reviewer()
        self._start_api_server(etcd, review_url)
        version = self._start_controllers()
        # Started last: a process must not be forked off a program with threads.
        assert self.reviewer is not None
        threading.Thread(target=self.reviewer.serve_forever, daemon=True).start()
        return {
            "url": self.url,
            "ca_path": str(self.certificate),
            "admin_token": self.admin_token,
            "signing_key": self.signing_key,
            "audit_log": str(self.folder / "audit.log"),
            "version": version,
            "collects_garbage": "kube-controller-manager" in self.children,
            "pids": {name: child.pid for name, child in self.children.items()} | {"supervisor": os.getpid()},
        }

    def stop(self) -> None:
        """Stop what was started, last one first. Never raises."""
        for child in reversed(self.children.values()):
            child.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                # The API server would wait a minute for its open watches.
                child.wait(timeout=1)
            child.kill()
            child.wait()
        self.children.clear()
        if self.reviewer is not None:
            self.reviewer.server_close()

    def _write_keys(self) -> None:
        # Imported late: only this program needs it, not the tests that import this module.
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import rsa

        key = rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.TraditionalOpenSSL,
            serialization.NoEncryption(),
        )
        (self.folder / "sa.key").write_bytes(key)
        (self.folder / "tokens.csv").write_text(
            f'{self.admin_token},admin,admin,"system:masters"\n'
            f'{self.controller_token},system:kube-controller-manager,kcm,"system:masters"\n'
        )
        (self.folder / "audit.json").write_text(json.dumps(AUDIT_POLICY))

    def _start_etcd(self) -> str:
        client, peer = (f"http://127.0.0.1:{port}" for port in free_ports(2))
        self._spawn(
            "etcd",
            "--name=tests",
            f"--data-dir={self.folder / 'etcd'}",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=tests={peer}",
        )
        self._wait_for("etcd", f"{client}/health", context=None)
        return client

    def _start_api_server(self, etcd: str, review_url: str) -> None:
        (port,) = free_ports(1)
        self.url = f"https://127.0.0.1:{port}"
        webhook = self.folder / "webhook.kubeconfig"
        webhook.write_text(kubeconfig(review_url))
        key = self.folder / "sa.key"
        self._spawn(
            "kube-apiserver",
            f"--etcd-servers={etcd}",
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            # A loopback address is refused as the endpoint of the service `kubernetes`; nobody needs that one.
            "--endpoint-reconciler-type=none",
            f"--secure-port={port}",
            f"--cert-dir={self.certificate.parent}",
            "--service-cluster-ip-range=10.96.0.0/16",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={key}",
            f"--service-account-signing-key-file={key}",
            f"--token-auth-file={self.folder / 'tokens.csv'}",
            f"--authentication-token-webhook-config-file={webhook}",
            "--authentication-token-webhook-cache-ttl=24h",
            "--anonymous-auth=false",
            "--authorization-mode=RBAC",
            f"--disable-admission-plugins={ADMISSION_OFF}",
            f"--audit-policy-file={self.folder / 'audit.json'}",
            f"--audit-log-path={self.folder / 'audit.log'}",
            "--audit-log-maxsize=4096",
            "--profiling=false",
        )
        while not self.certificate.exists() or not self.certificate.read_bytes().endswith(b"-----\n"):
            self._wait_a_little("kube-apiserver")
        self._wait_for("kube-apiserver", f"{self.url}/readyz", context=self._tls())

    def _start_controllers(self) -> str:
        version: dict[str, str] = json.loads(self._get(f"{self.url}/version", self._tls()))
        if "kube-controller-manager" in self.programs:
            config = self.folder / "controllers.kubeconfig"
            config.write_text(kubeconfig(self.url, self.controller_token, ca=self.certificate.read_bytes()))
            # The plain HTTP port went away with 1.24 and, with it, the option that closes it.
            minor = int(version["minor"].rstrip("+") or 0)
            closed = ["--port=0"] if minor < 24 else []
            self._spawn(
                "kube-controller-manager",
                f"--kubeconfig={config}",
                f"--controllers={CONTROLLERS}",
                "--leader-elect=false",
                "--secure-port=0",
                "--kube-api-qps=500",
                "--kube-api-burst=1000",
                *closed,
            )
        return version["gitVersion"]

    def _bind_reviewer(self) -> str:
        """Open the port where the API server asks who the bearer of a token is."""
        key = self.signing_key

        class Reviewer(BaseHTTPRequestHandler):
            """Answers a TokenReview."""

            def do_POST(self) -> None:
                review = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                claims = read_token(key, review["spec"]["token"])
                review["status"] = {"authenticated": claims is not None}
                if claims is not None:
                    review["status"]["user"] = {
                        "username": claims["user"],
                        "uid": claims["user"],
                        "groups": claims["groups"],
                    }
                del review["spec"]
                answer = json.dumps(review).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self.reviewer = ThreadingHTTPServer(("127.0.0.1", 0), Reviewer)
        self.reviewer.daemon_threads = True
        return f"http://127.0.0.1:{self.reviewer.server_port}/"

    def _spawn(self, name: str, *arguments: str) -> None:
        with (self.folder / f"{name}.log").open("wb") as log:
            self.children[name] = subprocess.Popen(
                [self.programs[name], *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                preexec_fn=die_with_parent,
            )

    def _tls(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.certificate))

    def _get(self, url: str, context: ssl.SSLContext | None) -> bytes:
        request = urllib.request.Request(url, headers={"Authorization": f"Bearer {self.admin_token}"})
        # No proxy of the environment is for a server on loopback.
        handlers: list[urllib.request.BaseHandler] = [urllib.request.ProxyHandler({})]
        if context is not None:
            handlers.append(urllib.request.HTTPSHandler(context=context))
        with urllib.request.build_opener(*handlers).open(request, timeout=10) as answer:
            body: bytes = answer.read()
        return body

    def _wait_for(self, name: str, url: str, *, context: ssl.SSLContext | None) -> None:
        while True:
            try:
                self._get(url, context)
            except OSError:
                self._wait_a_little(name)
            else:
                return

    def _wait_a_little(self, name: str) -> None:
        status = self.children[name].poll()
        if status is None and time.monotonic() < self.deadline:
            time.sleep(0.05)
            return
        what = f"was not ready after {START_SECONDS} s" if status is None else f"ended with status {status}"
        log = (self.folder / f"{name}.log").read_text(errors="replace")
        raise StartError(f"{name} {what}. The end of its log:\n{log[-3000:]}")


def free_ports(count: int) -> list[int]:
    """Return `count` loopback ports that nobody listens on at this moment."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def die_with_parent() -> None:
    """Have the kernel kill this process when its parent ends (Linux only; elsewhere nothing happens)."""
    if sys.platform == "linux":
        set_parent_death_signal = 1
        ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL)


def write_atomically(path: Path, text: str) -> None:
    """Write so that a reader sees all or nothing."""
    partial = path.with_suffix(".partial")
    partial.write_text(text)
    partial.rename(path)


def start_with_retries(folder: Path, programs: dict[str, str]) -> tuple[ControlPlaneProcesses, dict[str, Any]]:
    """Start a control plane; a port that somebody else took in the meantime costs a second try."""
    for attempt in range(3):
        processes = ControlPlaneProcesses(Path(tempfile.mkdtemp(prefix="run-", dir=folder)), programs)
        try:
            return processes, processes.start()
        except StartError as error:
            processes.stop()
            if "address already in use" not in str(error) or attempt == 2:
                raise
        except BaseException:
            processes.stop()
            raise
    raise AssertionError("unreachable")


def main() -> None:
    """Run until nobody uses the control plane any more."""
    os.umask(0o077)
    folder = Path(sys.argv[1])
    programs = json.load(sys.stdin)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        processes, state = start_with_retries(folder, programs)
    except Exception as error:
        write_atomically(folder / ERROR_FILE, str(error) if isinstance(error, StartError) else traceback.format_exc())
        sys.exit(1)
    try:
        write_atomically(folder / STATE_FILE, json.dumps(state))
        # The starter reads our standard output to its end, and so learns that the state is written.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        with (folder / USERS_LOCK).open("a") as users:
            fcntl.flock(users, fcntl.LOCK_EX)
            # Removed under the lock: whoever takes the lock next finds no state and starts a new control plane.
            (folder / STATE_FILE).unlink()
            processes.stop()
    finally:
        processes.stop()


if __name__ == "__main__":
    main()
