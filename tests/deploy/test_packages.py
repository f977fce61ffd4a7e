"""What scripts/release packs, as far as it can be looked at without a build; scripts/package-checks installs it."""
import os
import pathlib
import re
import shutil
import subprocess
import tempfile
import tomllib
import unittest

from relay import CORELAY, DEPLOY, ROOT

DEBIAN = DEPLOY / "debian"
METADATA = tomllib.loads((ROOT / "Cargo.toml").read_text())["package"]["metadata"]["deb"]
UNITS = ("corelay.service", "corelay@.service")
MAINTAINER_SCRIPTS = ("postinst", "prerm", "postrm")


def unit_of_package(unit):
    return subprocess.run(["sed", "-f", DEBIAN / "unit.sed", DEPLOY / unit], check=True, capture_output=True, text=True).stdout


class Package(unittest.TestCase):
    """`[package.metadata.deb]` and deploy/debian/."""

    def setUp(self):
        self.place = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory(prefix="corelay-deploy-")))

    def test_what_is_packed_is_there_or_built(self):
        for source, _, _ in METADATA["assets"]:
            self.assertTrue(source.startswith("target/") or list(ROOT.glob(source)), source)

    def test_what_lies_below_etc_is_the_administrators(self):
        installed = set()
        for source, target, _ in METADATA["assets"]:
            if target.startswith("etc/"):
                names = [file.name for file in ROOT.glob(source)]
                installed |= {f"/{target}{name}" for name in names} if target.endswith("/") else {f"/{target}"}
        self.assertEqual(installed, set(METADATA["conf-files"]))

    def test_its_units_are_those_of_deploy_with_a_user(self):
        for unit in UNITS:
            text = unit_of_package(unit)
            self.assertTrue(text.startswith("[Unit]\n"), unit)
            self.assertEqual(re.findall(r"^User=.*|^DynamicUser=.*", text, re.M), ["User=corelay"], unit)
            self.assertIn("\nExecStart=/usr/bin/corelay ", text, unit)
            self.assertNotIn("/usr/local", text, unit)
            self.assertEqual(text.split("\nLimitNOFILE=")[1], (DEPLOY / unit).read_text().split("\nLimitNOFILE=")[1], unit)

    @unittest.skipUnless(shutil.which("systemd-analyze"), "systemd-analyze is not installed")
    def test_systemd_has_nothing_to_say_against_its_units(self):
        for unit in UNITS:
            (self.place / unit).write_text(unit_of_package(unit).replace("/usr/bin/corelay ", f"{CORELAY} "))
            command = ["systemd-analyze", "verify", "--man=no", f"./{unit}"]
            result = subprocess.run(command, capture_output=True, text=True, cwd=self.place)
            self.assertEqual((result.returncode, result.stdout + result.stderr), (0, ""), unit)

    def calls_of(self, script, *arguments):
        """What a maintainer script asks of systemctl on a machine that systemd does not run."""
        log = self.place / "calls"
        log.write_text("")
        systemctl = self.place / "systemctl"
        systemctl.write_text(f'#!/bin/sh\necho "$@" >>{log}\n')
        systemctl.chmod(0o755)
        subprocess.run([DEBIAN / script, *arguments], check=True, env={"PATH": f"{self.place}:{os.environ['PATH']}"})
        return log.read_text()

    @unittest.skipIf(pathlib.Path("/run/systemd/system").exists(), "it would stop the relay of this machine")
    def test_only_a_removal_ends_the_relay(self):
        units = "corelay.service corelay@a.service corelay@b.service"
        self.assertEqual(self.calls_of("prerm", "remove"), f"disable --quiet {units}\n")
        for others in (("prerm", "upgrade", "1.0"), ("prerm", "failed-upgrade", "1.0"), ("postinst", "abort-upgrade", "1.0"),
                       ("postrm", "upgrade", "1.0"), ("postrm", "remove")):
            self.assertEqual(self.calls_of(*others), "", others)

    def test_maintainer_scripts_are_programs_of_sh(self):
        for script in MAINTAINER_SCRIPTS:
            self.assertTrue(os.access(DEBIAN / script, os.X_OK), script)
            self.assertTrue((DEBIAN / script).read_text().startswith("#!/bin/sh\nset -e\n"), script)
            subprocess.run(["sh", "-n", DEBIAN / script], check=True)


class Bundle(unittest.TestCase):
    """scripts/bundle."""

    def setUp(self):
        place = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory(prefix="corelay-deploy-")))
        self.bundle = place / "bundle"
        subprocess.run([ROOT / "scripts/bundle", self.bundle, "./corelay"], check=True)

    def test_every_link_leads_somewhere(self):
        followed = 0
        for document in self.bundle.rglob("*.md"):
            prose = re.sub(r"^ *```.*?^ *```$", "", document.read_text(), flags=re.M | re.S)
            for target in re.findall(r"\]\(([^)#\s]+)", prose):
                if "://" not in target:
                    followed += 1
                    self.assertTrue((document.parent / target).exists(), f"{document.relative_to(self.bundle)}: {target}")
        self.assertGreater(followed, 50)

    def test_its_readme_and_its_commands_are_for_who_has_no_project(self):
        self.assertTrue((self.bundle / "README.md").read_text().startswith("# Installing a release"))
        for name in ("README.md", "docs/GETTING-STARTED.md", "docs/OPERATIONS.md", "deploy/corelay.service"):
            self.assertNotIn("target/", (self.bundle / name).read_text(), name)
        for name in re.findall(r"\b(?:clients|deploy|src)/[\w/.@-]+\w", (self.bundle / "README.md").read_text()
                               + (self.bundle / "docs/GETTING-STARTED.md").read_text()):
            self.assertTrue((self.bundle / name).exists(), name)

    def test_what_git_does_not_know_stays_out(self):
        known = subprocess.run(["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True).stdout.split("\n")
        copied = {str(file.relative_to(self.bundle)) for file in self.bundle.rglob("*") if file.is_file()}
        self.assertEqual(copied - set(known), {"README.md"} - set(known))
        self.assertGreater(len(copied), 50)
