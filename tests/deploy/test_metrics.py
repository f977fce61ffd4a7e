"""Dashboard and alerts name what a running relay's /metrics shows, and Prometheus understands them."""
import json
import os
import re
import subprocess
import tempfile
import unittest

import promql_parser
import yaml

from relay import DEPLOY, Relay

PROMETHEUS = DEPLOY / "prometheus"
PROMTOOL = os.environ.get("PROMTOOL", "promtool")
# Metrics and labels that Prometheus adds.
ADDED_METRICS = {"up"}
ADDED_LABELS = {"instance", "job"}
SAMPLE = re.compile(r"^(\w+)(?:\{(.*)\})? \S+$")
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


def promtool(*arguments):
    return subprocess.run([PROMTOOL, *map(str, arguments)], capture_output=True, text=True, cwd=PROMETHEUS)


def alerts():
    return [rule for group in yaml.safe_load((PROMETHEUS / "alerts.yaml").read_text())["groups"] for rule in group["rules"]]


def panels():
    return json.loads((DEPLOY / "grafana/corelay.json").read_text())["panels"]


def dashboard_queries():
    """Panel and query, with values for what Grafana puts in."""
    return [(panel["title"], target["expr"].replace("$__rate_interval", "1m").replace("$instance", ".*"))
            for panel in panels() for target in panel.get("targets", [])]


def queries():
    return dashboard_queries() + [(rule["alert"], rule["expr"]) for rule in alerts()]


def selectors(query):
    """The vector selectors of a query."""
    found = []

    def visit(node):
        if isinstance(node, promql_parser.VectorSelector):
            found.append(node)
        elif isinstance(node, promql_parser.MatrixSelector):
            found.append(node.vector_selector)

    promql_parser.walk(promql_parser.parse(query), visit)
    return found


def series(text):
    """Name and labels of every sample of an exposition."""
    samples = (SAMPLE.match(line) for line in text.splitlines() if not line.startswith("#"))
    return [(sample[1], dict(LABEL.findall(sample[2] or ""))) for sample in samples if sample]


def fits(matcher, value):
    kind = str(matcher.op)
    if kind.endswith("NotEqual"):
        return value != matcher.value
    if kind.endswith("NotRe"):
        return not re.fullmatch(matcher.value, value)
    if kind.endswith("Re"):
        return bool(re.fullmatch(matcher.value, value))
    return value == matcher.value


def selects(selector, name, labels):
    return name == selector.name and all(
        fits(matcher, labels.get(matcher.name, ""))
        for matcher in selector.matchers.matchers if matcher.name not in ADDED_LABELS)


class Metrics(unittest.TestCase):
    """Against a relay that runs."""

    @classmethod
    def setUpClass(cls):
        with Relay() as relay:
            cls.series = series(relay.get("/metrics")[1])

    def unknown(self, query):
        return [str(selector) for selector in selectors(query) if selector.name not in ADDED_METRICS
                and not any(selects(selector, *sample) for sample in self.series)]

    def test_every_query_selects_something(self):
        self.assertGreater(len(self.series), 100)
        self.assertGreater(len(queries()), 50)
        for where, query in queries():
            with self.subTest(where):
                self.assertTrue(selectors(query), query)
                self.assertEqual(self.unknown(query), [], query)

    def test_what_the_relay_does_not_show_is_found(self):
        for query in ('rate(corelay_framez_out_total[1m])', 'corelay_connections{state="opened"}', 'sum(corelay_moves)',
                      'up / corelay_x', 'corelay_memory_bytes{part=~"x|y"}',
                      'corelay_connections{state!~"open|closing|upgrading"}'):
            self.assertNotEqual(self.unknown(query), [], query)
        for query in ('corelay_connections{state!="opened"}', 'corelay_memory_bytes{part=~"x|rooms"}'):
            self.assertEqual(self.unknown(query), [], query)


class Alerts(unittest.TestCase):
    """By promtool."""

    def test_the_rules_are_rules(self):
        result = promtool("check", "rules", "alerts.yaml")
        self.assertEqual(result.returncode, 0, result.stderr + result.stdout)

    def test_they_fire_where_they_should(self):
        result = promtool("test", "rules", "alerts_test.yaml")
        self.assertEqual(result.returncode, 0, result.stderr + result.stdout)

    def test_each_is_tested_firing_and_silent(self):
        cases = [case for test in yaml.safe_load((PROMETHEUS / "alerts_test.yaml").read_text())["tests"]
                 for case in test["alert_rule_test"]]
        names = {rule["alert"] for rule in alerts()}
        self.assertEqual({case["alertname"] for case in cases if case["exp_alerts"]}, names)
        self.assertEqual({case["alertname"] for case in cases if not case["exp_alerts"]}, names)

    def test_the_configuration_is_one(self):
        # Its token is in the container only.
        result = promtool("check", "config", "--syntax-only", "prometheus.yaml")
        self.assertEqual(result.returncode, 0, result.stderr + result.stdout)


class Dashboard(unittest.TestCase):
    """Its structure; Grafana itself is not run."""

    def test_prometheus_takes_its_queries(self):
        rules = [{"record": f"query:{number}", "expr": query} for number, (_, query) in enumerate(dashboard_queries())]
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
            yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}, file)
            file.flush()
            result = promtool("check", "rules", file.name)
        self.assertEqual(result.returncode, 0, result.stderr + result.stdout)

    def test_panels_have_places_of_their_own(self):
        taken = {}
        for panel in panels():
            place = panel["gridPos"]
            for x in range(place["x"], place["x"] + place["w"]):
                for y in range(place["y"], place["y"] + place["h"]):
                    self.assertIsNone(taken.get((x, y)), f"{panel['title']} lies on {taken.get((x, y))}")
                    self.assertLess(x, 24, panel["title"])
                    taken[x, y] = panel["title"]
        identities = [panel["id"] for panel in panels()]
        self.assertEqual(len(identities), len(set(identities)))

    def test_it_shows_what_operators_look_at_first(self):
        first = {"corelay_connections", "corelay_joins_total", "corelay_frames_out_total", "corelay_frames_skipped_total",
                 "corelay_tick_lateness_seconds_bucket", "corelay_memory_bytes", "corelay_refusals_total",
                 "corelay_store_commit_seconds_bucket", "corelay_rooms", "corelay_documents"}
        shown = {selector.name for _, query in dashboard_queries() for selector in selectors(query)}
        self.assertEqual(first - shown, set())
