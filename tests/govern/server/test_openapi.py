"""The description that a node serves is whole: a client can be made of it."""

import pytest

from fedmeta.govern.engines.embedded import EmbeddedEngine
from fedmeta.govern.server import create_app
from fedmeta.govern.server.making import Sequencing
from tests.govern.playing import federation
from tests.govern.server.nodes import SEQUENCER, Asked

ENGINE = object.__new__(EmbeddedEngine)
APP = create_app(ENGINE, Sequencing(ENGINE))
SAID = APP.openapi()
ROUTES = {f"{method} {path}": one for path, found in SAID["paths"].items() for method, one in found.items()}
BINARY = ("application/cbor", "text/event-stream", "text/plain")


def test_it_is_served(tmp_path):
    with EmbeddedEngine.create(tmp_path / "ledger.db", federation(), SEQUENCER) as engine:
        asked = Asked(engine)
        assert asked.json("/openapi.json") == SAID
        asked.close()


def test_every_route_of_the_application_is_in_it():
    served = {route.path for route in APP.routes if hasattr(route, "path")} - {"/openapi.json"}
    assert served <= set(SAID["paths"])
    assert len(ROUTES) == 13


@pytest.mark.parametrize("route", ROUTES)
def test_a_route_says_what_it_is_what_it_takes_and_what_it_answers(route):
    said = ROUTES[route]
    assert said["summary"]
    assert said["description"]
    for one in said.get("parameters", ()):
        assert one["description"], one["name"]
        assert one["schema"]
    assert any(status in said["responses"] for status in ("200", "202"))
    assert {status for status, answer in said["responses"].items() if "content" not in answer} <= {"304"}
    for status, answer in said["responses"].items():
        assert answer["description"]
        if status >= "400":
            assert answer["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/Problem"}
            continue
        for media, one in answer.get("content", {}).items():
            assert one.get("schema") or media in BINARY, (status, media)


def test_nothing_in_it_leads_nowhere_and_nothing_is_unused():
    def names(value):
        if isinstance(value, dict):
            if "$ref" in value:
                yield value["$ref"].removeprefix("#/components/schemas/")
            for one in value.values():
                yield from names(one)
        elif isinstance(value, list):
            for one in value:
                yield from names(one)

    schemas = SAID["components"]["schemas"]
    assert set(names(SAID)) == set(schemas)
    for name, one in schemas.items():
        assert one["description"], name


def test_the_body_of_a_transaction_is_described():
    body = ROUTES["post /transactions"]["requestBody"]
    assert body["required"]
    assert set(body["content"]) == {"application/cbor"}
