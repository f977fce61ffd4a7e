"""The systemd units, by systemd-analyze; systemd itself is not run."""
import pathlib
import re
import shutil
import subprocess
import tempfile
import unittest

from relay import CORELAY, DEPLOY

UNITS = ("corelay.service", "corelay@.service")
# Tenths of systemd's figure, from 0 (confined) to 100. What is left: the network, whose ports and addresses it needs; /proc/sys
# and the cgroup's limits, which `doctor` and the choice of shards read; and @resources, for the pinning of threads.
EXPOSURE_MAX = 15
DRAIN_S = 30


@unittest.skipUnless(shutil.which("systemd-analyze"), "systemd-analyze is not installed")
class Units(unittest.TestCase):
    """deploy/*.service."""

    def setUp(self):
        self.place = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory(prefix="corelay-deploy-")))
        for unit in UNITS:
            # The program is not installed here.
            text = (DEPLOY / unit).read_text().replace("/usr/local/bin/corelay ", f"{CORELAY} ")
            (self.place / unit).write_text(text)

    def analyze(self, *arguments):
        return subprocess.run(["systemd-analyze", *arguments], capture_output=True, text=True, cwd=self.place)

    def test_systemd_has_nothing_to_say_against_them(self):
        for unit in UNITS:
            result = self.analyze("verify", "--man=no", f"./{unit}")
            self.assertEqual((result.returncode, result.stdout + result.stderr), (0, ""), unit)

    def test_they_are_confined(self):
        for unit in UNITS:
            result = self.analyze("security", "--no-pager", "--offline=true", f"--threshold={EXPOSURE_MAX}", f"./{unit}")
            self.assertEqual(result.returncode, 0, f"{unit}: {result.stdout[-500:]}{result.stderr}")

    def test_a_drain_has_its_time_and_descriptors_are_many(self):
        for unit in UNITS:
            settings = dict(re.findall(r"^(\w+)=(.*)$", (DEPLOY / unit).read_text(), re.M))
            self.assertGreater(int(settings["TimeoutStopSec"]), DRAIN_S, unit)
            self.assertEqual(settings["LimitNOFILE"], "1048576", unit)

    def test_they_confine_alike(self):
        confinement = [(DEPLOY / unit).read_text().split("\nCapabilityBoundingSet=")[1] for unit in UNITS]
        self.assertEqual(*confinement)
