"""A machine of a test's own: a Debian in which systemd runs, in namespaces. Needs root, and no container engine."""
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
import time

BASE = pathlib.Path(os.environ["DEBIAN"])
BOOT = pathlib.Path(__file__).with_name("boot")
NAMESPACES = ("--mount", "--pid", "--uts", "--ipc", "--net", "--cgroup")
ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND": "noninteractive",
               "HOME": "/root", "LC_ALL": "C.UTF-8"}
BOOT_S = 30
# Longer than a drain.
COMMAND_S = 60


class Failed(AssertionError):
    """The machine or a command in it did not do what it must; the text says what was seen."""


class Machine:
    """Runs until the end of its `with`. What is written in it is gone then."""

    def __enter__(self):
        self.space = pathlib.Path(tempfile.mkdtemp(prefix="corelay-machine-"))
        self.cgroup = own_cgroup()
        command = ["unshare", *NAMESPACES, "--fork", "--kill-child", BOOT, BASE, self.space]
        log = open(self.space / "boot.log", "w", encoding="utf-8")
        self.outside = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, preexec_fn=self.enter_cgroup)
        log.close()
        try:
            eventually("the machine boots", self.has_booted, BOOT_S)
        except Failed:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        # When the init process of a namespace ends, the kernel ends all others in it, and then its mounts are gone.
        for pid in children(self.outside.pid):
            os.kill(pid, signal.SIGKILL)
        self.outside.wait()
        for folder, _, _ in os.walk(self.cgroup, topdown=False):
            os.rmdir(folder)
        shutil.rmtree(self.space)

    def enter_cgroup(self):
        (self.cgroup / "cgroup.procs").write_text(str(os.getpid()))

    def has_booted(self):
        if self.outside.poll() is not None:
            raise Failed((self.space / "boot.log").read_text())
        inits = children(self.outside.pid)
        # Until then it is the shell that becomes systemd.
        if not inits or pathlib.Path(f"/proc/{inits[0]}/comm").read_text() != "systemd\n":
            return False
        self.init = inits[0]
        return self.try_("systemctl", "is-system-running").stdout.strip() in ("running", "degraded")

    def path(self, inside):
        """A file in the machine, as it is called outside."""
        return pathlib.Path(f"/proc/{self.init}/root/{inside}")

    def try_(self, *command, folder="/"):
        """Runs a program in the machine, and returns how it ended and what it said."""
        place = ["nsenter", "--target", str(self.init), *NAMESPACES, f"--root=/proc/{self.init}/root",
                 "env", "--ignore-environment", f"--chdir={folder}", *(f"{name}={value}" for name, value in ENVIRONMENT.items())]
        return subprocess.run([*place, *command], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=COMMAND_S)

    def run(self, *command, **place):
        """The same; it must exit with 0. What it said."""
        result = self.try_(*command, **place)
        if result.returncode != 0:
            raise Failed(f"{command} exits with {result.returncode}: {result.stdout}{result.stderr}\n{self.journal()}")
        return result.stdout + result.stderr

    def shell(self, lines, **place):
        """Pastes lines into a shell, which ends with the first that fails."""
        return self.run("bash", "-euo", "pipefail", "-c", lines, **place)

    def journal(self):
        return self.try_("journalctl", "--no-pager", "--output=cat", "--lines=40", "--unit=corelay*").stdout


def own_cgroup():
    """A control group in which the processes of a machine are, so that its systemd sees no other."""
    mount, *_ = [line.split() for line in pathlib.Path("/proc/self/mountinfo").read_text().splitlines()
                if " - cgroup2 " in line and "/proc/" not in line]
    (path,) = [line[3:] for line in pathlib.Path("/proc/self/cgroup").read_text().splitlines() if line.startswith("0::")]
    return pathlib.Path(tempfile.mkdtemp(prefix="corelay-machine-", dir=f"{mount[4]}{path}"))


def children(pid):
    """Of a process, none if it has ended."""
    listed = pathlib.Path(f"/proc/{pid}/task/{pid}/children")
    return [int(child) for child in listed.read_text().split()] if listed.exists() else []


def eventually(what, holds, within_s=COMMAND_S):
    """Waits until it holds."""
    deadline = time.monotonic() + within_s
    while not holds():
        if time.monotonic() > deadline:
            raise Failed(f"{what}: not within {within_s} s")
        time.sleep(0.1)
