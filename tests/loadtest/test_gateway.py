import msgspec
import pytest

from loadtest import gateway, graph
from loadtest.gateway import Refusal, find_route, parse
from loadtest.tokens import MODEL_SECRET, sign


def bearer(user):
    return {"Authorization": f"Bearer {sign(user, MODEL_SECRET)}"}


HEADERS = bearer(7)
FOREIGN = {"Authorization": f"Bearer {sign(7, 'the secret of somebody else, not the model')}"}
CONTRACT = {
    ("feed.publish", "POST", "/v1/posts", 201),
    ("feed.open", "GET", "/v1/feed", 200),
    ("graph.follow", "PUT", "/v1/users/{id}/follow", 204),
    ("graph.unfollow", "DELETE", "/v1/users/{id}/follow", 204),
    ("interactions.like", "PUT", "/v1/posts/{id}/like", 202),
    ("interactions.unlike", "DELETE", "/v1/posts/{id}/like", 202),
    ("interactions.comment", "POST", "/v1/posts/{id}/comments", 202),
    ("interactions.read", "GET", "/v1/posts/{id}", 200),
    ("uploads.begin", "POST", "/v1/uploads", 201),
    ("uploads.part", "PUT", "/media/uploads/{id}", 200),
    ("uploads.complete", "POST", "/media/uploads/{id}", 200),
    ("uploads.status", "GET", "/v1/uploads/{id}", 200),
    ("uploads.view", "GET", "/v1/media/{id}", 200),
    ("notifications.subscribe", "PUT", "/v1/devices/{id}", 204),
    ("notifications.stream", "WS", "/v1/notifications", 101),
    ("search.query", "GET", "/v1/search", 200),
}


def test_the_table_is_the_contract():
    assert {(route.operation, route.method, route.path, route.status_ok) for route in gateway.ROUTES} == CONTRACT


@pytest.mark.parametrize("row", sorted(CONTRACT))
def test_each_route_is_found_by_its_path(row):
    operation, method, path, _ = row
    route, identifier = find_route(method, path.replace("{id}", "42"))
    assert route.operation == operation
    assert identifier == (42 if "{id}" in path else None)


def test_arguments_of_a_request():
    _, user, arguments = parse("GET", "/v1/feed?cursor=a%2Fb&limit=5", None, HEADERS)
    assert (user, arguments) == (7, {"cursor": "a/b", "limit": 5})
    body = msgspec.json.encode({"text": "hé"})
    headers = {"authorization": bearer(8)["Authorization"].encode(), "IDEMPOTENCY-KEY": "k"}
    route, user, arguments = parse("POST", "/v1/posts/3/comments", body, headers)
    assert (user, arguments) == (8, {"post": 3, "text": "hé", "key": "k"})
    assert route.status_ok == 202
    assert parse("GET", "/v1/feed", None, HEADERS)[2] == {"cursor": None, "limit": 20}
    assert parse("DELETE", "/v1/users/9/follow", None, HEADERS)[2] == {"followee": 9}
    searched = {"q": "a user", "kind": "users", "limit": None}
    assert parse("GET", "/v1/search?q=a+user&kind=users", None, HEADERS)[2] == searched


@pytest.mark.parametrize(
    ("method", "target", "body", "headers", "status"),
    [
        ("GET", "/v1/nothing", None, HEADERS, 404),
        ("GET", "/", None, HEADERS, 404),
        ("GET", "/v1/posts/1/2/3", None, HEADERS, 404),
        ("PATCH", "/v1/posts/1", None, HEADERS, 405),
        ("DELETE", "/v1/feed", None, HEADERS, 405),
        ("GET", "/v1/posts/abc", None, HEADERS, 404),
        ("GET", f"/v1/posts/{2**63}", None, HEADERS, 404),
        ("GET", "/v1/posts/-1", None, HEADERS, 404),
        ("GET", "/v1/feed?limit=0", None, HEADERS, 422),
        ("GET", "/v1/feed?limit=101", None, HEADERS, 422),
        ("GET", "/v1/feed?limit=x", None, HEADERS, 422),
        ("GET", "/v1/feed", None, {}, 401),
        ("GET", "/v1/feed", None, {"Authorization": "Basic 7"}, 401),
        ("GET", "/v1/feed", None, {"Authorization": "Bearer 7"}, 401),
        ("GET", "/v1/feed", None, FOREIGN, 401),
        ("POST", "/v1/posts/1/comments", {"text": "t"}, HEADERS, 400),
        ("POST", "/v1/posts", b"{", HEADERS, 400),
        ("POST", "/v1/posts", b"[]", HEADERS, 422),
        ("POST", "/v1/posts", {"title": "t"}, HEADERS, 422),
        ("POST", "/v1/posts", {"title": "t", "content": 5}, HEADERS, 422),
    ],
)
def test_bad_requests_are_refused(method, target, body, headers, status):
    with pytest.raises(Refusal) as refusal:
        parse(method, target, body, headers)
    assert refusal.value.status == status
    assert "\n" not in str(refusal.value)


def test_every_outcome_of_the_model_has_a_status():
    assert gateway.STATUS_OF_OUTCOME == {"rejected": 503, "timed_out": 504, "not_found": 404, "invalid": 422}


@pytest.mark.parametrize("users", [2, 3, 10])
def test_nobody_is_asked_to_follow_himself(users):
    for actor in range(users):
        chosen = {graph.someone_else(actor, step / 100, users) for step in range(100)}
        assert chosen == set(range(users)) - {actor}
