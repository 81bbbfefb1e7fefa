"""The scrape configuration and alerts are valid, tested, and each alert has its runbook."""

import re
import subprocess

import pytest

from switch.metrics_catalogue import CATALOGUE

SECTIONS = ["## Meaning", "## Impact", "## Diagnosis", "## Mitigation"]
_SUFFIX = re.compile(r"_(bucket|sum|count)$")


@pytest.fixture
def promtool(tool, ops):
    def run(*arguments):
        command = [tool("promtool", "prometheus"), *arguments]
        folder = ops / "prometheus"
        return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)

    return run


def alert_names(ops):
    return re.findall(r"- alert: (\w+)", (ops / "prometheus/alerts.yml").read_text())


@pytest.mark.parametrize(
    "arguments",
    [
        ("check", "config", "prometheus.yml"),
        ("check", "rules", "--lint-fatal", "alerts.yml"),
        ("test", "rules", "alerts_test.yml"),
    ],
    ids=lambda arguments: " ".join(arguments[:2]),
)
def test_promtool_agrees(promtool, arguments):
    done = promtool(*arguments)
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_alert_is_fired_by_a_unit_test(ops):
    tests = (ops / "prometheus/alerts_test.yml").read_text()
    fired = set(re.findall(r"alertname: (\w+)\n\s+exp_alerts:\n", tests))
    assert set(alert_names(ops)) == fired


def test_each_alert_has_its_runbook_and_no_runbook_is_left_over(ops):
    rules = (ops / "prometheus/alerts.yml").read_text()
    named = re.findall(r"runbook: ops/runbooks/(\w+)\.md", rules)
    assert named == alert_names(ops)
    assert sorted(path.stem for path in (ops / "runbooks").glob("*.md")) == sorted(named)


def test_runbooks_have_their_four_sections_in_order(ops):
    for path in (ops / "runbooks").glob("*.md"):
        lines = path.read_text().splitlines()
        assert lines[0] == f"# {path.stem}"
        assert [line for line in lines if line.startswith("## ")] == SECTIONS, path.name


def test_only_metrics_of_the_catalogue_are_used(ops):
    known = {metric.name for metric in CATALOGUE}
    files = [ops / "prometheus/alerts.yml", *(ops / "runbooks").glob("*.md")]
    for path in files:
        text = re.sub(r"segment:\w+:\w+", "", path.read_text())
        for name in re.findall(r"\bcitycard_[a-z_]+", text):
            assert _SUFFIX.sub("", name) in known, f"{path.name} uses {name}"
