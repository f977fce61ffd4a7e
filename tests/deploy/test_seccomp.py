"""The relay under deploy/seccomp.json, where a call that is missing ends it, and under what runtimes refuse by default."""
import json
import os
import signal
import subprocess
import sys
import tempfile
import unittest

from relay import CORELAY, DEPLOY, LOADTEST, ROOT, UNDER_SECCOMP, Failed, Relay

PROFILE = DEPLOY / "seccomp.json"
DEFAULT = ROOT / "tests/seccomp/default-profile.json"
IO_URING_SETUP = 425


def play(test, relay, dialect):
    """Players that see each other."""
    assertions = "reach>=0.9,closed==0,malformed==0"
    command = [LOADTEST, "rooms", "--url", relay.url, "--metrics", relay.admin + "/metrics", "--dialect", dialect,
               "--token-key-file", relay.key, "--rooms", "4", "--players", "5", "--warmup", "500ms", "--duration", "1s",
               "--assert", assertions]
    result = subprocess.run(command, capture_output=True, text=True, timeout=30)
    test.assertEqual(result.returncode, 0, f"{dialect}: {result.stdout[:2000]}{result.stderr}\n{relay.log()}")


def play_through(test, relay):
    """All that a relay does in its life: players, pages, keys read again, a drain."""
    play(test, relay, "native")
    play(test, relay, "phoenix")
    test.assertEqual(relay.get("/docs/minutes", method="PUT", data=b"once upon a time")[0], 201)
    for page in ("/", "/docs/minutes", "/export", "/games.json", "/livez", "/metrics", "/readyz", "/version"):
        test.assertEqual(relay.get(page)[0], 200, page)
    test.assertEqual(relay.get("/users/ann/disconnect", method="POST")[0], 200)
    relay.process.send_signal(signal.SIGHUP)
    relay.wait_for("keys read again")
    relay.stop()


def without(name):
    """The profile, less one call."""
    profile = json.loads(PROFILE.read_text())
    for rule in profile["syscalls"]:
        rule["names"] = [known for known in rule["names"] if known != name]
    return profile


class OwnProfile(unittest.TestCase):
    """deploy/seccomp.json."""

    def test_the_relay_lives_its_life_on_each_driver(self):
        for driver in ("io_uring", "epoll"):
            with self.subTest(driver), Relay([UNDER_SECCOMP, "--kill", PROFILE], {"CORELAY_DRIVER": driver}) as relay:
                play_through(self, relay)

    def test_the_commands_run_beside_it_and_behind_it(self):
        with Relay([UNDER_SECCOMP, "--kill", PROFILE]) as relay:
            self.assertEqual(relay.get("/docs/minutes", method="PUT", data=b"once upon a time")[0], 201)
            relay.stop()
            data = ["--data-dir", relay.place / "data"]
            token = ["token", "--sub", "ann", "--topics", "game:*", "--jwt-key-file", relay.key]
            free = ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]
            for command in (["--version"], ["doctor", *free, *data], token, ["store", "check", *data],
                            ["store", "stats", *data], ["store", "export", *data], ["store", "erase-user", "ann", *data],
                            ["store", "compact", *data]):
                result = subprocess.run([UNDER_SECCOMP, "--kill", PROFILE, CORELAY, *command], capture_output=True, text=True,
                                        cwd=relay.place, timeout=30)
                self.assertEqual(result.returncode, 0, f"{command}: {result.stdout}{result.stderr}")

    def test_the_health_check_of_the_image_passes(self):
        with Relay([UNDER_SECCOMP, "--kill", PROFILE]) as relay:
            admin = os.environ | {"CORELAY_ADMIN": relay.ready["admin"]}
            command = [UNDER_SECCOMP, "--kill", PROFILE, CORELAY, "healthcheck"]
            self.assertEqual(subprocess.run(command, env=admin, cwd=relay.place).returncode, 0)
            relay.stop()
            self.assertEqual(subprocess.run(command, env=admin, cwd=relay.place, capture_output=True).returncode, 1)

    def test_a_call_that_is_missing_is_noticed(self):
        for name in ("eventfd2", "fdatasync", "listen"):
            with self.subTest(name), tempfile.NamedTemporaryFile("w", suffix=".json") as file:
                json.dump(without(name), file)
                file.flush()
                with self.assertRaisesRegex(Failed, "SIGSYS"), Relay([UNDER_SECCOMP, "--kill", file.name]):
                    pass

    def test_no_name_stands_twice_and_none_out_of_order(self):
        for file in (PROFILE, DEFAULT):
            rules = json.loads(file.read_text())["syscalls"]
            names = [name for rule in rules for name in rule["names"]]
            self.assertEqual(len(names), len(set(names)), file)
        for rule in json.loads(PROFILE.read_text())["syscalls"]:
            self.assertEqual(rule["names"], sorted(rule["names"]))

    def test_a_profile_with_a_wrong_name_is_refused(self):
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            profile = json.loads(PROFILE.read_text())
            profile["syscalls"][0]["names"].append("acept4")
            json.dump(profile, file)
            file.flush()
            result = subprocess.run([UNDER_SECCOMP, file.name, "true"], capture_output=True, text=True)
            self.assertIn("there is no system call acept4", result.stderr)
            self.assertEqual(result.returncode, 1)

    def test_what_the_relay_does_not_need_is_refused(self):
        for call in ("os.chroot('/')", "os.mkfifo('/tmp/a')", "os.symlink('a', '/tmp/b')", "os.setsid()"):
            with self.subTest(call):
                command = [UNDER_SECCOMP, PROFILE, sys.executable, "-c", f"import os; {call}"]
                result = subprocess.run(command, capture_output=True, text=True)
                self.assertIn("PermissionError: [Errno 1]", result.stderr)


class DefaultProfile(unittest.TestCase):
    """What Docker and containerd refuse by default."""

    def test_it_refuses_io_uring(self):
        program = f"import ctypes; print(ctypes.CDLL(None, use_errno=True).syscall({IO_URING_SETUP}, 0, 0), ctypes.get_errno())"
        refused = subprocess.run([UNDER_SECCOMP, DEFAULT, sys.executable, "-c", program], capture_output=True, text=True)
        self.assertEqual(refused.stdout, "-1 1\n", refused.stderr)

    def test_the_relay_plays_without_io_uring(self):
        with Relay([UNDER_SECCOMP, DEFAULT]) as relay:
            play_through(self, relay)
            self.assertIn("seccomp", relay.log())
