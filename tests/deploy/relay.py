"""A relay of a test's own: a process on ports that the kernel chooses, with a data directory that ends with it."""
import json
import os
import pathlib
import signal
import subprocess
import tempfile
import time
import urllib.error
import urllib.request

ROOT = pathlib.Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
CORELAY = pathlib.Path(os.environ.get("CORELAY", ROOT / "target/release/corelay"))
LOADTEST = CORELAY.with_name("corelay-loadtest")
UNDER_SECCOMP = ROOT / "scripts/under-seccomp"
READY_S = 15
KEY = "0123456789abcdef0123456789abcdef"


class Failed(AssertionError):
    """The relay did not do what it must; the text has its log."""


class Relay:
    """Runs until the end of its `with`."""

    def __init__(self, before=(), environment=None):
        if not CORELAY.exists():
            raise Failed(f"{CORELAY} is not there: cargo build --release --bins --package corelay --package corelay-loadtest")
        self.directory = tempfile.TemporaryDirectory(prefix="corelay-deploy-")
        self.place = pathlib.Path(self.directory.name)
        self.log_file = open(self.place / "log", "w+", encoding="utf-8")
        self.key = self.place / "corelay.key"
        self.key.write_text(KEY)
        self.key.chmod(0o400)
        command = [*before, CORELAY, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--jwt-key-file", self.key,
                   "--data-dir", self.place / "data", "--log-format", "json"]
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("CORELAY")}
        # The working directory is not the project's, so that no corelay.toml of a developer counts.
        self.process = subprocess.Popen(
            command, stderr=self.log_file, cwd=self.place, env=inherited | (environment or {}))

    def __enter__(self):
        try:
            self.ready = self.wait_for("ready")
        except Failed:
            self.close()
            raise
        self.url, self.admin = f"ws://{self.ready['listen']}", f"http://{self.ready['admin']}"
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.log_file.close()
        self.directory.cleanup()

    def log(self):
        return (self.place / "log").read_text(encoding="utf-8")

    def lines(self):
        return [json.loads(line) for line in self.log().splitlines() if line.startswith("{") and line.endswith("}")]

    def wait_for(self, message):
        """The first line of the log that says so."""
        deadline = time.monotonic() + READY_S
        while time.monotonic() < deadline:
            for line in self.lines():
                if line["message"].startswith(message):
                    return line
            if self.process.poll() is not None:
                raise Failed(f"the relay ended with {ending(self.process.returncode)}; its log:\n{self.log()}")
            time.sleep(0.05)
        raise Failed(f"the relay did not say “{message}” within {READY_S} s; its log:\n{self.log()}")

    def get(self, path, token=None, **request):
        """Status and text of an admin page."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        request = urllib.request.Request(self.admin + path, headers=headers, **request)
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def stop(self):
        """Drains it; it must end well."""
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(timeout=35)
        if code != 0:
            raise Failed(f"after SIGTERM the relay ended with {ending(code)}; its log:\n{self.log()}")


def ending(code):
    if code == -signal.SIGSYS:
        return "SIGSYS: the seccomp profile lacks a call, which `strace -f scripts/under-seccomp --kill …` names"
    return f"exit code {code}"
