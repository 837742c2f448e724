"""What `deploy/` starts: files that are there, settings that the proxy knows, a configuration that Prometheus takes."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import typer
import yaml
from pages import ROOT

from router.cli import app
from watch.prometheus_server import need_prometheus, promtool

DEPLOY = ROOT / "deploy"
FOR_THE_USER = {"./policies", "farthing.env"}
"""What the documentation has the user make."""


@pytest.fixture(scope="module")
def services() -> Any:
    return yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]


def test_every_file_that_is_mounted_is_there(services: Any) -> None:
    mounted = {volume.partition(":")[0] for service in services.values() for volume in service.get("volumes", ())}
    files = {name for name in mounted if name.startswith(".")} - FOR_THE_USER
    assert len(files) == 4
    assert [name for name in files if not (DEPLOY / name).exists()] == []
    for name in FOR_THE_USER - {"./policies"}:
        assert (DEPLOY / f"{name}.example").exists()


def test_farthing_is_given_settings_that_it_has(services: Any) -> None:
    commands: Any = typer.main.get_command(app)
    known = {param.envvar for param in commands.commands["serve"].params}
    given = set(services["farthing"]["environment"])
    given |= set(re.findall(r"(?m)^(FARTHING_\w+)=", (DEPLOY / "farthing.env.example").read_text()))
    assert given - known == set()


def test_the_passwords_that_are_needed_are_in_the_example() -> None:
    needed = set(re.findall(r"\$\{(\w+):\?", (DEPLOY / "compose.yaml").read_text()))
    assert needed == set(re.findall(r"(?m)^(\w+)=", (DEPLOY / "env.example").read_text()))


def test_nothing_listens_to_other_machines(services: Any) -> None:
    ports = [port for service in services.values() for port in service.get("ports", ())]
    assert len(ports) == 2
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_the_image_gets_the_files_that_it_is_built_from() -> None:
    copied = re.findall(r"(?m)^COPY (.+) \S+$", (DEPLOY / "Dockerfile").read_text())
    sent = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    names = [name for line in copied for name in line.split()]
    assert len(names) >= 5
    assert [name for name in names if f"!{name}" not in sent or not (ROOT / name).exists()] == []


def test_what_calls_another_service_knows_its_name(services: Any) -> None:
    (job,) = yaml.safe_load((DEPLOY / "prometheus.yaml").read_text())["scrape_configs"]
    scraped = job["static_configs"][0]["targets"]
    (source,) = yaml.safe_load((ROOT / "grafana/provisioning/datasources/prometheus.yaml").read_text())["datasources"]
    farthing = services["farthing"]["environment"]
    urls = farthing["FARTHING_BUDGETS_URL"], re.sub(r"\${.*?}", "", farthing["FARTHING_LEDGER_URL"]), source["url"]
    called = [*scraped, *(urlsplit(url).netloc for url in urls)]
    names = [address.rpartition("@")[2].partition(":")[0] for address in called]
    assert names == ["farthing", "redis", "postgres", "prometheus"]
    assert set(names) <= services.keys()
    exposed = re.findall(r"(?m)^EXPOSE (\d+)$", (DEPLOY / "Dockerfile").read_text())
    assert [address.rpartition(":")[2] for address in scraped] == exposed
    home = Path(services["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
    assert (ROOT / "grafana" / "dashboards" / home.name).exists()
    assert f"../grafana/dashboards:{home.parent}:ro" in services["grafana"]["volumes"]


def test_prometheus_takes_its_configuration(tmp_path: Path) -> None:
    need_prometheus()
    shutil.copytree(ROOT / "grafana" / "alerts", tmp_path / "alerts")
    text = (DEPLOY / "prometheus.yaml").read_text().replace("/etc/prometheus", str(tmp_path))
    (tmp_path / "prometheus.yaml").write_text(text)
    checked = promtool("check", "config", tmp_path / "prometheus.yaml")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "SUCCESS: 2 rule files found" in checked.stdout
