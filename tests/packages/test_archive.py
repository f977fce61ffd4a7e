"""The archive, by whoever unpacks it and does what its README says."""
import json
import re
import subprocess
import unittest

from machine import Machine, eventually
from release import RELEASE, ROOT, blocks, unpack


class Archive(unittest.TestCase):
    """corelay-VERSION-TARGET.tar.gz."""

    def setUp(self):
        self.machine = self.enterContext(Machine())
        self.folder = unpack(self.machine)

    def paste(self, heading):
        for block in blocks("INSTALL.md", heading):
            self.machine.shell(block, folder=self.folder)

    def test_it_runs_where_it_is_unpacked(self):
        doctor, relay = [line.split("#")[0].strip() for line in blocks("INSTALL.md", "## Try it")[0].splitlines()]
        self.machine.run(*doctor.split(), folder=self.folder)
        self.machine.run("systemd-run", "--unit=tried", f"--working-directory={self.folder}", f"{self.folder}/{relay}")
        well = lambda: self.machine.try_("./corelay", "healthcheck", "--ready", folder=self.folder).returncode == 0
        eventually("the relay is ready", well)
        self.assertIn("<title>", self.machine.run("curl", "-fsS", "http://127.0.0.1:4001/"))
        self.machine.run("systemctl", "stop", "tried")
        self.assertIn("corelay.redb", self.machine.run("ls", f"{self.folder}/corelay-data"))

    def test_it_becomes_a_service_by_the_commands_of_its_readme(self):
        self.paste("## From the archive")
        self.assertEqual(json.loads(self.machine.run("curl", "-fsS", "http://127.0.0.1:4001/version"))["driver"], "io_uring")
        self.machine.shell("""
            man --where corelay-store-check
            curl -fsS -T - http://127.0.0.1:4001/docs/minutes <<<'once upon a time'
            systemctl reload corelay
            systemctl restart corelay
            curl -fsS http://127.0.0.1:4001/docs/minutes | grep -q 'once upon'
            curl -fsS http://127.0.0.1:4001/docs/minutes | jq -j .text >minutes.txt
            curl -f -T minutes.txt http://127.0.0.1:4001/docs/agenda
            systemctl stop corelay""", folder="/root")
        # The user exists only in a unit, so the tools run in one.
        (tool,) = [block for block in blocks("docs/OPERATIONS.md", "### Tools for the store") if "systemd-run" in block]
        self.assertRegex(self.machine.shell(tool.replace("check", "stats")), r"documents +2\n")
        self.machine.shell(f"{tool}; {tool.replace('check', 'compact')}; systemctl start corelay; corelay healthcheck --ready")
        self.machine.run("curl", "-fsS", "http://127.0.0.1:4001/docs/minutes")

    def test_its_readme_is_about_it_and_its_sum_is_right(self):
        self.assertIn("# Installing a release", self.machine.run("cat", f"{self.folder}/README.md"))
        (command,) = re.findall(r"`(sha256sum .*?)`", (ROOT / "INSTALL.md").read_text())
        subprocess.run(command.split(), cwd=RELEASE, check=True, stdout=subprocess.DEVNULL)
