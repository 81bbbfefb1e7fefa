"""A real Prometheus with the shipped configuration scrapes a switch's metrics and alerts."""

import json
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import pytest

from protocols.message import Kind, Outcome, Segment
from switch.metrics import Metrics

OPS = Path(__file__).parents[2] / "ops/prometheus"
DEADLINE_SECONDS = 30


def until(condition):
    """The first truthy value of the condition; it looks at another process, so it polls."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while True:
        try:
            if found := condition():
                return found
        except (urllib.error.URLError, ConnectionError):
            pass
        assert time.monotonic() < deadline, "Prometheus did not come to it in time"
        time.sleep(0.1)


@pytest.fixture
def metrics():
    made = Metrics(["retail-1"])
    server = made.serve("127.0.0.1", 0)
    yield made, server.port
    server.close()


@pytest.fixture
def ask(metrics, tmp_path):
    program = shutil.which("prometheus")
    if program is None:
        pytest.skip("prometheus is missing: install the Debian package prometheus")
    _, port = metrics
    shipped = (OPS / "prometheus.yml").read_text()
    begin, end = shipped.index('["127.0.0.1:9464"'), shipped.index("]", shipped.index('["127'))
    configuration = shipped[:begin] + f'["127.0.0.1:{port}"' + shipped[end:]
    for setting in ("scrape_interval", "scrape_timeout", "evaluation_interval"):
        configuration = configuration.replace(f"{setting}: 5s", f"{setting}: 1s")
    (tmp_path / "prometheus.yml").write_text(configuration.replace("timeout: 4s", "timeout: 1s"))
    shutil.copy(OPS / "alerts.yml", tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    command = [
        *(program, f"--config.file={tmp_path / 'prometheus.yml'}"),
        *(f"--storage.tsdb.path={tmp_path / 'series'}", f"--web.listen-address={address}"),
    ]
    process = subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env={**os.environ, "GOMAXPROCS": "1"},
    )  # fmt: skip

    def get(path, **query):
        url = f"http://{address}/api/v1/{path}?{urllib.parse.urlencode(query)}"
        with urllib.request.urlopen(url, timeout=5) as response:
            return json.load(response)["data"]

    yield get
    process.terminate()
    process.wait(30)


def firing(ask):
    """What fires; before the first scrape a switch that is down is pending, which is right."""
    alerts = [alert for alert in ask("alerts")["alerts"] if alert["state"] == "firing"]
    return [(alert["labels"]["alertname"], alert["labels"]["severity"]) for alert in alerts]


def test_a_switch_is_scraped_and_an_imbalance_fires(ask, metrics):
    switch, _ = metrics
    switch.ledger_up(True)
    switch.ledger_findings(0)
    switch.answered(Segment.RETAIL, Kind.PURCHASE, Outcome.APPROVED, 0.004)

    def value(query):
        found = ask("query", query=query)["result"]
        return found and float(found[0]["value"][1])

    assert until(lambda: value("citycard_ledger_up")) == 1
    assert value('citycard_requests_total{segment="retail",outcome="approved"}') == 1
    assert value('citycard_request_seconds_bucket{le="0.005"}') == 1

    rules = [rule for group in ask("rules")["groups"] for rule in group["rules"]]
    assert len([rule for rule in rules if rule["type"] == "alerting"]) >= 10
    assert firing(ask) == []

    switch.ledger_findings(2)
    assert until(lambda: firing(ask)) == [("CitycardLedgerImbalance", "page")]
