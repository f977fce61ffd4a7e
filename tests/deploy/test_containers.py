"""The image, compose.yaml and the Kubernetes manifests: what they name is there, and the relay takes their settings."""
import os
import pathlib
import re
import subprocess
import tempfile
import unittest

import kubernetes_validate
import yaml

from relay import DEPLOY, ROOT, Relay

# The longest drain that docs/OPERATIONS.md, "Stopping", tells of.
DRAIN_S = 30
KUBERNETES = "1.37"
DOCKERFILE = (DEPLOY / "Dockerfile").read_text()
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
MANIFESTS = [manifest for file in sorted((DEPLOY / "kubernetes").glob("*.yaml"))
             for manifest in yaml.safe_load_all(file.read_text())]


def manifest(kind, name="corelay"):
    (found,) = [one for one in MANIFESTS if one["kind"] == kind and one["metadata"]["name"] == name]
    return found


def image_environment():
    return dict(setting.split("=", 1) for line in re.findall(r"^ENV (.*)$", DOCKERFILE, re.M) for setting in line.split())


def take_settings(test, settings, config=""):
    """Starts a relay with these settings, its files in a folder of the test's; it must warn of none, and be ready."""
    place = pathlib.Path(test.enterContext(tempfile.TemporaryDirectory(prefix="corelay-deploy-")))
    (place / "admin.token").write_text("0123456789abcdef")
    (place / "corelay.toml").write_text(config)
    moved = {name: re.sub(r"^/(keys|config)/", f"{place}/", value) for name, value in settings.items()}
    with Relay(environment=moved) as relay:
        test.assertNotIn("names no key", relay.log())
        test.assertEqual(relay.get("/livez")[0], 200)
        test.assertEqual(relay.get("/readyz")[0], 200)
        token = "CORELAY_ADMIN_TOKEN_FILE" in settings
        test.assertEqual(relay.get("/metrics")[0], 401 if token else 200)
        test.assertEqual(relay.get("/metrics", token="0123456789abcdef")[0], 200)
        relay.stop()


def ignored(path):
    """Whether .dockerignore keeps a path out of the image, by Docker's rules for the patterns that stand there."""
    patterns = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    parts = path.split("/")
    above = ["/".join(parts[:count]) for count in range(1, len(parts) + 1)]
    expressions = [re.escape(pattern).replace(r"\*\*/", "(?:.*/)?").replace(r"\*", "[^/]*") for pattern in patterns]
    return any(re.fullmatch(expression, folder) for expression in expressions for folder in above)


class Image(unittest.TestCase):
    """Dockerfile and .dockerignore; nothing here builds it."""

    def test_the_last_stage_is_small_and_runs_as_nobody(self):
        last = DOCKERFILE[DOCKERFILE.rindex("\nFROM "):]
        self.assertIn("/distroless/", last)
        self.assertRegex(last, r"\nUSER 65534:65534\n")
        self.assertRegex(last, r'\nHEALTHCHECK .* CMD \["/usr/local/bin/corelay", "healthcheck"\]\n')
        self.assertNotRegex(last, r"\nRUN ", "there is no shell to run it")

    def test_it_is_built_with_the_compiler_that_the_project_wants(self):
        (version,) = re.findall(r'^rust-version = "(.*)"$', (ROOT / "Cargo.toml").read_text(), re.M)
        self.assertIn(f"FROM rust:{version}-slim-", DOCKERFILE)

    def test_the_relay_takes_its_settings(self):
        take_settings(self, image_environment())

    def test_secrets_and_builds_are_kept_out(self):
        for path in (".git/config", "target/release/corelay", "fuzz/target/a", "corelay.key", "etc/corelay.key",
                     "deploy/keys/corelay.key", "deploy/keys/admin.token", "etc/tls/cert.pem", "deploy/.env",
                     "tests/phoenix_clients/node_modules/ws/a.js", "corelay-data/corelay.redb"):
            self.assertTrue(ignored(path), path)

    def test_what_is_built_is_kept_in(self):
        files = subprocess.run(["git", "ls-files", "Cargo.*", "src", "benches", "loadtest"], cwd=ROOT, capture_output=True,
                               text=True, check=True).stdout.splitlines()
        self.assertGreater(len(files), 100)
        self.assertEqual([path for path in files if ignored(path)], [])


class Compose(unittest.TestCase):
    """compose.yaml; nothing here runs it."""

    def test_every_file_that_it_names_is_there(self):
        named = [COMPOSE["services"]["corelay"]["build"]["context"]]
        for service in COMPOSE["services"].values():
            named += [volume.split(":")[0] for volume in service.get("volumes", []) if volume.startswith(".")]
        named += re.findall(r"seccomp=(\S+)", (DEPLOY / "compose.yaml").read_text())
        self.assertGreaterEqual(len(named), 7)
        # The keys are made by whoever runs it.
        missing = [name for name in named if not (DEPLOY / name).exists() and not name.startswith("./keys")]
        self.assertEqual(missing, [])
        build = COMPOSE["services"]["corelay"]["build"]
        self.assertTrue((DEPLOY / build["context"] / build["dockerfile"]).is_file())

    def test_every_volume_is_declared(self):
        used = {volume.split(":")[0] for service in COMPOSE["services"].values() for volume in service["volumes"]
                if not volume.startswith(".")}
        self.assertEqual(used, set(COMPOSE["volumes"]))

    def test_the_relay_takes_its_settings(self):
        take_settings(self, image_environment() | COMPOSE["services"]["corelay"]["environment"])

    def test_a_drain_has_its_time(self):
        self.assertGreater(int(COMPOSE["services"]["corelay"]["stop_grace_period"].removesuffix("s")), DRAIN_S)

    def test_every_service_is_confined_and_only_players_come_from_elsewhere(self):
        for name, service in COMPOSE["services"].items():
            self.assertEqual(service["cap_drop"], ["ALL"], name)
            self.assertIn("no-new-privileges:true", service["security_opt"], name)
            if name != "corelay":
                self.assertTrue(all(port.startswith("127.0.0.1:") for port in service["ports"]), name)
        self.assertEqual(COMPOSE["services"]["corelay"]["ports"], ["4000:4000"])

    def test_prometheus_and_grafana_find_what_they_read(self):
        config = yaml.safe_load((DEPLOY / "prometheus/prometheus.yaml").read_text())
        (job,) = config["scrape_configs"]
        environment = COMPOSE["services"]["corelay"]["environment"]
        port = environment["CORELAY_ADMIN"].rsplit(":")[-1]
        self.assertEqual(job["static_configs"], [{"targets": [f"corelay:{port}"]}])
        self.assertEqual(job["authorization"]["credentials_file"], environment["CORELAY_ADMIN_TOKEN_FILE"])
        for file in config["rule_files"]:
            self.assertTrue((DEPLOY / "prometheus" / file).is_file(), file)
        grafana = COMPOSE["services"]["grafana"]
        inside = dict(volume.split(":")[:2] for volume in grafana["volumes"])
        dashboard = inside["./grafana/corelay.json"]
        (provider,) = yaml.safe_load((DEPLOY / "grafana/provider.yaml").read_text())["providers"]
        self.assertEqual(provider["options"]["path"], os.path.dirname(dashboard))
        self.assertEqual(grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"], dashboard)
        (source,) = yaml.safe_load((DEPLOY / "grafana/datasource.yaml").read_text())["datasources"]
        self.assertEqual(source["url"], "http://prometheus:9090")


class Kubernetes(unittest.TestCase):
    """deploy/kubernetes; nothing here runs it."""

    def setUp(self):
        self.pod = manifest("StatefulSet")["spec"]["template"]
        (self.container,) = self.pod["spec"]["containers"]

    def test_every_manifest_has_the_shape_of_its_kind(self):
        self.assertEqual(len(MANIFESTS), 5)
        for one in MANIFESTS:
            with self.subTest(one["kind"]):
                kubernetes_validate.validate(one, KUBERNETES, strict=True)

    def test_selectors_select_the_pod_and_ports_are_its_own(self):
        labels = self.pod["metadata"]["labels"].items()
        ports = {port["name"]: port["containerPort"] for port in self.container["ports"]}
        for kind, name in (("StatefulSet", "corelay"), ("PodDisruptionBudget", "corelay")):
            self.assertLessEqual(manifest(kind, name)["spec"]["selector"]["matchLabels"].items(), labels)
        for name in ("corelay", manifest("StatefulSet")["spec"]["serviceName"]):
            service = manifest("Service", name)["spec"]
            self.assertLessEqual(service["selector"].items(), labels)
            for port in service["ports"]:
                self.assertEqual(ports[port["targetPort"]], port["port"])
        settings = {setting["name"]: setting["value"] for setting in self.container["env"]}
        self.assertEqual(settings["CORELAY_ADMIN"], f"0.0.0.0:{ports['admin']}")
        self.assertIn(f'listen = "0.0.0.0:{ports["players"]}"', manifest("ConfigMap")["data"]["corelay.toml"])

    def test_every_mount_has_its_volume(self):
        volumes = {volume["name"] for volume in self.pod["spec"]["volumes"]}
        volumes |= {claim["metadata"]["name"] for claim in manifest("StatefulSet")["spec"]["volumeClaimTemplates"]}
        self.assertEqual({mount["name"] for mount in self.container["volumeMounts"]}, volumes)
        mounted = tuple(mount["mountPath"] for mount in self.container["volumeMounts"])
        for setting in self.container["env"]:
            if setting["value"].startswith("/"):
                self.assertTrue(setting["value"].startswith(mounted), setting)

    def test_the_relay_takes_its_settings(self):
        settings = {setting["name"]: setting["value"] for setting in self.container["env"]}
        take_settings(self, image_environment() | settings, manifest("ConfigMap")["data"]["corelay.toml"])

    def test_the_probes_ask_the_pages_that_are_open(self):
        self.assertEqual(self.container["livenessProbe"]["httpGet"], {"path": "/livez", "port": "admin"})
        self.assertEqual(self.container["readinessProbe"]["httpGet"], {"path": "/readyz", "port": "admin"})

    def test_a_drain_has_its_time(self):
        self.assertGreater(self.pod["spec"]["terminationGracePeriodSeconds"], DRAIN_S)

    def test_the_pod_is_confined(self):
        pod, container = self.pod["spec"]["securityContext"], self.container["securityContext"]
        self.assertEqual((pod["runAsNonRoot"], pod["runAsUser"], pod["fsGroup"]), (True, 65534, 65534))
        self.assertEqual(pod["seccompProfile"], {"type": "Localhost", "localhostProfile": "corelay.json"})
        self.assertEqual(container, {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True,
                                     "capabilities": {"drop": ["ALL"]}})
        self.assertFalse(self.pod["spec"]["automountServiceAccountToken"])
