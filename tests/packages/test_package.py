"""The Debian package: installed by apt, started by systemd, upgraded, removed, purged."""
import json
import shutil
import unittest

from machine import Machine, eventually
from release import PACKAGE, blocks

STORE = "/var/lib/corelay"
DOCUMENT = "http://127.0.0.1:4001/docs/minutes"
# Of what is installed, and made by then: who owns it, and who may do what with it.
OWNERS = {
    "/etc/corelay": "root:corelay 750", "/etc/corelay/corelay.toml": "root:root 644", "/etc/corelay/a.env": "root:root 644",
    "/etc/corelay/corelay.key": "root:root 600", STORE: "corelay:corelay 700", f"{STORE}/corelay.redb": "corelay:corelay 600",
    "/usr/bin/corelay": "root:root 755", "/usr/lib/systemd/system/corelay.service": "root:root 644",
}
UPGRADE = "apt-get install -qy -o Dpkg::Options::=--force-confold ./newer.deb"

CERTBOT = """#!/bin/sh
set -e
mkdir -p /etc/letsencrypt/live/play.example.com
cd /etc/letsencrypt/live/play.example.com
rm -f *.pem
corelay cert --self-signed play.example.com >/dev/null
mv *.crt fullchain.pem
mv *.key privkey.pem
"""


class Package(unittest.TestCase):
    """corelay_VERSION_ARCHITECTURE.deb."""

    def setUp(self):
        self.machine = self.enterContext(Machine())
        shutil.copy(PACKAGE, self.machine.path("root"))

    def shell(self, lines):
        return self.machine.shell(lines, folder="/root")

    def install(self):
        """By the commands of INSTALL.md."""
        for block in blocks("INSTALL.md", "## The Debian package"):
            self.shell(block)

    def install_with_a_document(self):
        self.install()
        self.shell(f"curl -fsS -T - {DOCUMENT} <<<'once upon a time'")

    def keeps_the_document(self, url=DOCUMENT):
        return "once upon a time" in self.machine.try_("curl", "-fsS", url).stdout

    def main_pid(self, unit="corelay"):
        return int(self.machine.run("systemctl", "show", "--property=MainPID", "--value", unit))

    def status(self, url="http://127.0.0.1:4000/play/arena-1", token=None):
        """Of the answer to who wants to play."""
        upgrade = ["Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13",
                   "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="]
        headers = [part for header in upgrade for part in ("-H", header)]
        url += f"?token={token}" if token else ""
        only_the_status = ["-s", "-o", "/dev/null", "-w", "%{http_code}", "--http1.1", "--max-time", "1"]
        return self.machine.try_("curl", *only_the_status, *headers, url).stdout

    def make_newer(self):
        """A package of a later version, whose configuration file has changed as well."""
        self.shell("""
            dpkg-deb --raw-extract ./corelay_*.deb newer
            sed -i 's/^Version: .*/&+newer/' newer/DEBIAN/control
            echo '# The next version says more.' >>newer/etc/corelay/corelay.toml
            dpkg-deb --build newer newer.deb""")

    def test_apt_installs_it_and_systemd_runs_it(self):
        self.install()
        for path, owner in OWNERS.items():
            self.assertEqual(self.machine.run("stat", "--format=%U:%G %a", path).strip(), owner, path)
        status = self.machine.path(f"proc/{self.main_pid()}/status").read_text()
        user = self.machine.run("id", "--user", "corelay").strip()
        self.assertIn(f"\nUid:\t{user}\t{user}\t{user}\t{user}\n", status)
        self.assertIn("\nCapEff:\t0000000000000000\n", status)
        version = json.loads(self.machine.run("curl", "-fsS", "http://127.0.0.1:4001/version"))
        self.assertEqual(version["driver"], "io_uring", self.machine.journal())
        self.assertNotRegex(self.machine.journal(), "WARN|ERROR")
        token = self.shell("corelay token --sub ann --jwt-key-file /etc/corelay/corelay.key 2>/dev/null").strip()
        self.assertEqual((self.status(), self.status(token=token)), ("403", "101"))
        self.shell("systemctl reload corelay")
        eventually("keys are read again", lambda: "keys read again" in self.machine.journal())
        self.shell("systemctl stop corelay")
        ended = self.machine.run("systemctl", "show", "--property=Result,ExecMainCode,ExecMainStatus", "corelay")
        self.assertEqual(sorted(ended.split()), ["ExecMainCode=1", "ExecMainStatus=0", "Result=success"])

    def test_it_runs_on_epoll_where_its_unit_refuses_io_uring(self):
        self.shell("apt-get install -qy ./corelay_*.deb")
        self.shell("""
            mkdir /run/systemd/system/corelay.service.d
            printf '[Service]\\nSystemCallFilter=~io_uring_setup\\n' >/run/systemd/system/corelay.service.d/refused.conf
            systemctl daemon-reload
            systemctl start corelay""")
        self.assertIn('"driver":"epoll"', self.machine.run("curl", "-fsS", "http://127.0.0.1:4001/version"))

    def test_doctor_reads_the_installed_configuration(self):
        self.shell("apt-get install -qy ./corelay_*.deb")
        (doctor,) = [block for block in blocks("docs/OPERATIONS.md", "## The Debian package") if "doctor" in block]
        report = self.shell(doctor)
        self.assertIn("tried as root", report)
        self.assertNotIn("FAIL", report)

    def test_systemd_ends_a_relay_that_stands_still_and_starts_it_anew(self):
        self.install()
        stopped = self.main_pid()
        self.machine.run("kill", "-STOP", str(stopped))
        eventually("another relay runs", lambda: self.main_pid() not in (0, stopped))
        eventually("it is ready", lambda: self.machine.try_("corelay", "healthcheck", "--ready").returncode == 0)

    def test_a_wrong_configuration_is_not_tried_again(self):
        self.install()
        self.shell("echo 'lisen = 1' >>/etc/corelay/corelay.toml")
        self.assertNotEqual(self.machine.try_("systemctl", "restart", "corelay").returncode, 0)
        ended = self.machine.run("systemctl", "show", "--property=ActiveState,ExecMainStatus,NRestarts", "corelay")
        self.assertEqual(sorted(ended.split()), ["ActiveState=failed", "ExecMainStatus=2", "NRestarts=0"])
        self.assertIn("lisen", self.machine.journal())

    def test_an_upgrade_keeps_what_was_changed_and_the_relay_that_runs(self):
        self.install_with_a_document()
        self.shell("sed -i 's/^tick_hz = 30/tick_hz = 25/' /etc/corelay/corelay.toml")
        self.shell("dpkg-statoverride --update --add corelay root 700 /etc/corelay")
        self.make_newer()
        key = self.shell("cat /etc/corelay/corelay.key")
        pid = self.main_pid()
        self.assertIn("the relay that runs is still the old version", self.shell(UPGRADE))
        self.assertEqual(self.main_pid(), pid)
        self.assertIn("tick_hz = 25", self.shell("cat /etc/corelay/corelay.toml"))
        self.assertIn("says more", self.shell("cat /etc/corelay/corelay.toml.dpkg-dist"))
        self.assertEqual(self.shell("stat --format=%a /etc/corelay").strip(), "700")
        self.assertEqual(self.shell("cat /etc/corelay/corelay.key"), key)
        self.shell("systemctl restart corelay")
        self.assertNotEqual(self.main_pid(), pid)
        self.assertTrue(self.keeps_the_document())

    def test_what_was_not_changed_is_upgraded(self):
        self.install()
        self.make_newer()
        self.shell("apt-get install -qy ./newer.deb")
        self.assertIn("says more", self.shell("cat /etc/corelay/corelay.toml"))

    def test_removal_ends_the_relay_and_keeps_everything_that_is_not_the_program(self):
        self.install_with_a_document()
        self.shell("apt-get remove -qy corelay")
        self.assertNotEqual(self.machine.try_("systemctl", "is-active", "corelay").returncode, 0)
        self.assertEqual(self.shell("find /etc/systemd/system -name '*corelay*'; find /usr/bin /usr/lib -name 'corelay*'"), "")
        self.shell(f"test -s /etc/corelay/corelay.key; test -s /etc/corelay/corelay.toml; test -s {STORE}/corelay.redb")
        self.install()
        self.assertTrue(self.keeps_the_document())

    def test_a_purge_leaves_the_store_and_says_so(self):
        self.install_with_a_document()
        said = self.shell("apt-get purge -qy corelay")
        self.assertIn(f"what is in {STORE} stays", said)
        self.shell(f"test ! -e /etc/corelay; test -s {STORE}/corelay.redb")
        self.shell(f"chown --reference={STORE} {STORE}/corelay.redb; id corelay")

    def test_a_purge_leaves_nothing_where_nothing_was_said(self):
        self.shell("apt-get install -qy ./corelay_*.deb; apt-get purge -qy corelay")
        self.shell(f"test ! -e /etc/corelay; test ! -e {STORE}; test ! -e /usr/share/doc/corelay")

    def test_a_purge_leaves_files_of_others(self):
        self.shell("apt-get install -qy ./corelay_*.deb; touch /etc/corelay/2026-01.key")
        self.assertIn("what is in /etc/corelay stays", self.shell("apt-get purge -qy corelay"))
        self.assertEqual(self.shell("ls /etc/corelay"), "2026-01.key\n")

    def set_up_tls(self):
        """By the document; certbot is a script that asks nobody."""
        certbot = self.machine.path("usr/local/bin/certbot")
        certbot.write_text(CERTBOT)
        certbot.chmod(0o755)
        (commands,) = blocks("docs/OPERATIONS.md", "## TLS in the process")
        self.shell(commands)
        self.shell("""
            sed -i '1i listen_tls = "0.0.0.0:443"' /etc/corelay/corelay.toml
            printf '[[certificate]]\\nfile = "%s"\\nkey = "%s"\\n' /etc/corelay/tls/fullchain.pem \\
                /etc/corelay/tls/privkey.pem >>/etc/corelay/corelay.toml""")

    def renew(self, lineage="play.example.com"):
        hook = "/etc/letsencrypt/renewal-hooks/deploy/corelay"
        self.shell(f"certbot; RENEWED_LINEAGE=/etc/letsencrypt/live/{lineage} {hook}")

    def is_served_by_tls(self):
        trusting = ["--http1.1", "--cacert", "/etc/corelay/tls/fullchain.pem", "--resolve", "play.example.com:443:127.0.0.1"]
        page = self.machine.try_("curl", "-s", *trusting, "https://play.example.com/play/arena-1").stdout
        return "this is a WebSocket endpoint" in page

    def test_tls_on_its_usual_port(self):
        self.install()
        self.set_up_tls()
        self.shell("systemctl restart corelay")
        self.assertTrue(self.is_served_by_tls(), self.machine.journal())
        self.renew(lineage="other.example.com")
        self.assertTrue(self.is_served_by_tls(), "that was the certificate of somebody else")
        self.renew()
        eventually("certificates are read again", self.is_served_by_tls)
        self.shell("systemctl disable --now corelay; systemctl enable --now corelay@a")
        self.renew()
        eventually("a relay of a pair reads them, too", self.is_served_by_tls)

    def test_two_relays_take_turns(self):
        self.install_with_a_document()
        self.shell("sed -i '1i # changed' /etc/corelay/corelay.toml")
        first, deploy = blocks("docs/OPERATIONS.md", "## Deploying")
        self.shell(first)
        self.assertGreater(self.main_pid("corelay@a"), 0, self.machine.journal())
        self.assertTrue(self.keeps_the_document())
        self.make_newer()
        self.shell(f"rm corelay_*.deb; mv newer.deb corelay_newer.deb; {deploy}")
        self.assertEqual(self.status(), "403", "the next relay has the port")
        eventually("the store is handed over", lambda: self.keeps_the_document(DOCUMENT.replace("4001", "4002")))
        eventually("the first one ends", lambda: self.main_pid("corelay@a") == 0)
        self.assertEqual(self.machine.try_("systemctl", "is-failed", "corelay@a").stdout.strip(), "inactive")
        enabled = self.machine.try_("systemctl", "is-enabled", "corelay", "corelay@a", "corelay@b").stdout
        self.assertEqual(enabled.split(), ["disabled", "disabled", "enabled"])

    def test_a_backup_is_put_in_place(self):
        self.install_with_a_document()
        export, restore = blocks("docs/OPERATIONS.md", "### Backup")
        self.assertIn('"topics":1', self.shell(export.replace("room:lobby", "doc:minutes")))
        self.shell(f"curl -fsS -X PUT --data-binary 'later' {DOCUMENT.replace('minutes', 'later')}")
        self.shell(restore)
        eventually("the relay is ready", lambda: self.machine.try_("corelay", "healthcheck", "--ready").returncode == 0)
        self.assertTrue(self.keeps_the_document())
        self.assertNotEqual(self.machine.try_("curl", "-fsS", DOCUMENT.replace("minutes", "later")).returncode, 0)

    def test_the_tools_run_as_the_user_of_the_relay(self):
        self.install_with_a_document()
        self.shell("systemctl stop corelay")
        (tool,) = [block for block in blocks("docs/OPERATIONS.md", "### Tools for the store") if "runuser" in block]
        self.shell(tool)
        self.shell(tool.replace("check", "compact"))
        self.shell("systemctl start corelay")
        self.assertTrue(self.keeps_the_document())


class Contents(unittest.TestCase):
    """What readers of packages, units, manual pages and completions say."""

    @classmethod
    def setUpClass(cls):
        cls.machine = cls.enterClassContext(Machine())
        shutil.copy(PACKAGE, cls.machine.path("root"))
        cls.machine.shell("apt-get install -qy ./corelay_*.deb", folder="/root")

    def test_lintian_finds_nothing(self):
        found = self.machine.try_("bash", "-c", "lintian --allow-root --fail-on=error,warning corelay_*.deb",
                                  folder="/root")
        self.assertEqual(found.returncode, 0, found.stdout + found.stderr)

    def test_systemd_takes_the_units(self):
        for unit in ("corelay.service", "corelay@a.service"):
            self.assertEqual(self.machine.run("systemd-analyze", "verify", unit), "")
            self.machine.run("systemd-analyze", "security", "--no-pager", "--threshold=15", unit)

    def test_manual_pages_are_set_without_a_complaint(self):
        pages = self.machine.shell("ls /usr/share/man/man1/corelay*.1.gz").split()
        self.assertGreater(len(pages), 10)
        for page in pages:
            said = self.machine.shell(f"man --warnings=all,mac --local-file {page} 2>&1 >/dev/null")
            self.assertEqual(said, "", page)
        self.assertIn("SIGHUP", self.machine.shell("man corelay"))

    def test_shells_complete_commands(self):
        self.machine.run("zsh", "-n", "/usr/share/zsh/vendor-completions/_corelay")
        fish = self.machine.run("fish", "-c", "complete --do-complete 'corelay health'")
        self.assertTrue(fish.startswith("healthcheck\t"), fish)
        bash = self.machine.shell("""
            source /usr/share/bash-completion/completions/corelay
            COMP_WORDS=(corelay health) COMP_CWORD=1
            _corelay corelay health corelay
            echo "${COMPREPLY[@]}" """)
        self.assertEqual(bash, "healthcheck\n")
