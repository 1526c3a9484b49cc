"""Passwords, tokens and sessions."""

import hashlib
import time

import httpx
import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reference_impl.auth import ALGORITHM, ISSUER, Tokens, hash_password, is_password
from reference_impl.seeding import SEEDED_PASSWORD
from reference_impl.settings import Settings, SettingsError
from reference_impl.web import ApiError
from tests.reference_impl.stack import eventually

SECRET = "a secret of thirty-two characters or more"
NOW = int(time.time())
GOOD = {"iss": ISSUER, "sub": "7", "iat": NOW, "exp": NOW + 3600}
tokens = Tokens(SECRET, lifetime_s=60)


def bearer(claims, secret=SECRET, algorithm=ALGORITHM, **headers):
    return "Bearer " + jwt.encode(claims, secret, algorithm, headers=headers or None)


def test_passwords_are_salted_and_memory_hard():
    kept = hash_password("secret")
    assert kept.startswith("scrypt$16384$8$5$")  # 16 MiB
    assert is_password("secret", kept)
    assert not is_password("Secret", kept)
    salt = kept.split("$")[4]
    assert hash_password("secret", bytes.fromhex(salt)) == kept
    assert is_password("old", "scrypt$2$1$1$00$" + hashlib.scrypt(b"old", salt=b"\0", n=2, r=1, p=1).hex())


@given(st.integers(0, 2**63 - 1))
def test_a_token_says_whose_it_is(user):
    assert tokens.user_of(f"Bearer {tokens.issue(user)}") == user
    assert Tokens(SECRET, 1).user_of(f"bearer {tokens.issue(user)}") == user  # any process that has the secret


# What is not to be let in, beside what is sent over HTTP in test_hostile.py.
BAD = {
    "nothing": None,
    "no scheme": tokens.issue(7),
    "another scheme": "Basic dXNlcjc6Zmxhc2hjcm93ZA==",
    "no token": "Bearer ",
    "not a token": "Bearer 7",
    "expired": bearer(GOOD | {"exp": NOW - 1}),
    "from the future": bearer(GOOD | {"iat": NOW + 3600}),
    "foreign": bearer(GOOD, "another secret of thirty-two characters"),
    "unsigned": "Bearer " + jwt.encode(GOOD, None, "none"),
    "another hash": bearer(GOOD, SECRET * 2, "HS512"),
    "of another issuer": bearer(GOOD | {"iss": "somebody"}),
    "without end": bearer({key: value for key, value in GOOD.items() if key != "exp"}),
    "without user": bearer({key: value for key, value in GOOD.items() if key != "sub"}),
    "a name": bearer(GOOD | {"sub": "user7"}),
    "below zero": bearer(GOOD | {"sub": "-7"}),
    "beyond all ids": bearer(GOOD | {"sub": str(2**63)}),
    "digits of another script": bearer(GOOD | {"sub": "٧"}),
    "a very long number": bearer(GOOD | {"sub": "9" * 500}),
    "huge": bearer(GOOD | {"more": "x" * 2000}),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_tokens_are_refused(what):
    with pytest.raises(ApiError) as refusal:
        tokens.user_of(BAD[what])
    assert refusal.value.status == 401
    assert refusal.value.headers == {"www-authenticate": "Bearer"}


def test_a_token_that_was_good_expires_though_it_is_remembered():
    short = Tokens(SECRET, lifetime_s=1)
    token = f"Bearer {short.issue(7)}"
    assert short.user_of(token) == 7
    time.sleep(2.1)  # whole seconds
    with pytest.raises(ApiError, match="expired"):
        short.user_of(token)


def test_short_secrets_are_refused():
    with pytest.raises(SettingsError, match="TOKEN_SECRET has 5 characters"):
        Settings(token_secret="short")


def test_secrets_are_not_in_a_settings_text():
    secret = "s" * 40
    shown = repr(Settings(token_secret=secret, s3_secret_key=secret, store_events_secret=secret))
    assert secret not in shown


# ---- over HTTP


def log_in(stack, code, **body):
    return stack.ask("POST", "/v1/sessions", None, code, json=body)


def test_a_session_is_opened_by_name_and_password_and_lets_in(stack):
    session = log_in(stack, 201, name="user17", password=SEEDED_PASSWORD)
    assert (session["user_id"], session["token_type"]) == (17, "Bearer")
    answer = stack.request("GET", "/v1/feed", headers={"Authorization": f"Bearer {session['token']}"})
    assert answer.status_code == 200


def test_a_wrong_name_and_a_wrong_password_are_the_same_answer(stack):
    wrong = {"error": "the name or the password is wrong"}
    assert log_in(stack, 401, name="user18", password="guess") == wrong
    assert log_in(stack, 401, name="nobody at all", password=SEEDED_PASSWORD) == wrong
    assert "password" in log_in(stack, 422, name="user18")["error"]
    assert "empty" in log_in(stack, 422, name="user18", password="")["error"]
    assert "characters" in log_in(stack, 422, name="user18", password="x" * 10**4)["error"]


def test_who_signs_out_is_let_in_nowhere_with_the_old_token_and_everywhere_with_a_new_one(stack):
    apis = [child["metrics_url"].removesuffix("/metrics") for child in stack.state["processes"] if child["role"] == "api"]
    old, others = stack.bearer(19), stack.bearer(20)

    def let_in(headers):
        return [httpx.get(f"{api}/v1/feed", headers=headers).status_code == 200 for api in apis]

    assert let_in(old) == [True, True]
    assert httpx.delete(f"{apis[0]}/v1/sessions", headers=old).status_code == 204
    assert let_in(old)[0] is False
    eventually(lambda: not any(let_in(old)))
    refusal = httpx.delete(f"{apis[0]}/v1/sessions", headers=old)
    assert (refusal.status_code, refusal.json()["error"]) == (401, "the user has signed out; open another session")
    session = log_in(stack, 201, name="user19", password=SEEDED_PASSWORD)
    assert let_in({"Authorization": f"Bearer {session['token']}"}) == [True, True]
    assert let_in(others) == [True, True]
