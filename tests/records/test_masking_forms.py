"""A known secret is masked in the forms that it takes within other texts, and as the key of a mapping."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import quote, quote_plus

import pytest
from builders import line_record

from pf_mlflow.records.line import cleaned
from pf_mlflow.records.masking import MASK, Secrets, url_passwords

SECRETS = ('hT7/q+9z"Lw2\\Xe4Rb', "line1-Qz8sT\nline2-Rw9uV\nline3", "pä ss/Wört-77x")
KEY = "sk-proj-0123456789abcdefABCDEF"


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize(
    "form",
    [
        str,
        json.dumps,
        lambda secret: json.dumps(secret, ensure_ascii=False),
        lambda secret: json.dumps(json.dumps(secret)),
        repr,
        lambda secret: quote(secret, safe=""),
        quote,
        quote_plus,
    ],
)
def test_a_known_secret_is_masked_in_each_form(secret: str, form: Callable[[str], str]) -> None:
    text = f"before {form(secret)} after"
    assert Secrets([secret]).masked(text).replace('\\"', "").replace('"', "").replace("'", "") == f"before {MASK} after"


def test_a_secret_is_masked_as_a_key_of_a_mapping() -> None:
    assert Secrets(SECRETS).masked_value({"of": {SECRETS[0]: 1, 7: "seven"}}) == {"of": {MASK: 1, 7: "seven"}}


@pytest.mark.parametrize("user", ["u", "us", "use"])
@pytest.mark.parametrize("encoded", [base64.b64encode, base64.urlsafe_b64encode])
def test_a_known_secret_is_masked_in_base64(user: str, encoded: Callable[[bytes], bytes]) -> None:
    text = encoded(f"{user}:{SECRETS[0]}".encode()).decode()
    masked = Secrets(SECRETS).masked(f"sent {text}, refused")
    assert MASK in masked and len(masked.replace(MASK, "")) < len("sent , refused" + text) - len(SECRETS[0])


def test_two_secret_keys_of_a_mapping_stay_two() -> None:
    values = {SECRETS[0]: 1, SECRETS[1]: 2, f"{MASK} 2": 3, MASK: 4}
    assert list(Secrets(SECRETS).masked_value(values).values()) == [1, 2, 3, 4]
    assert list(cleaned(line_record(outputs=values), "all", Secrets(SECRETS)).outputs) == [
        MASK,
        *(f"{MASK} {number}" for number in (2, "2 2", 3)),
    ]


@pytest.mark.parametrize(
    "value", [KEY.encode(), (KEY,), {KEY}, frozenset([KEY]), ValueError(KEY), Path(KEY), SimpleNamespace(a=KEY)]
)
def test_a_secret_is_masked_in_values_of_every_type(value: object) -> None:
    record = cleaned(line_record(inputs={"a": value}, outputs={"b": {"c": [value]}}), "all", Secrets())
    assert KEY not in record.to_json() and record.to_json().count(MASK) == 2


@pytest.mark.parametrize("value", [b"plain", {1}, Path("a/b"), 1.5, None])
def test_a_value_without_a_secret_keeps_its_type(value: object) -> None:
    assert Secrets().masked_value([value]) == [value]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("http://ana:p@ssW0rdX@h/", f"http://ana:{MASK}@h/"),
        ("http://ana:p@s@s@h:5000, ok", f"http://ana:{MASK}@h:5000, ok"),
        ("http://ana:p4ss@h?to=bob@example.org", f"http://ana:{MASK}@h?to=bob@example.org"),
        ("http://ana:p4ss@h,bob@example.org", f"http://ana:{MASK}@h,bob@example.org"),
        ("Cookie: session=f9a8b7c6d5e4", f"Cookie: {MASK}"),
        ("Cookie: session=opaqueopaque; theme=dark\nHost: h", f"Cookie: {MASK}\nHost: h"),
        ("< Set-Cookie: sid=s3cr3tValue99; Path=/; HttpOnly", f"< Set-Cookie: {MASK}"),
        ("{'Cookie': 'sid=s3cr3tValue99', 'a': 1}", f"{{'Cookie': '{MASK}', 'a': 1}}"),
        ('{"set-cookie": "sid=s3cr3tValue99; Path=/", "a": 1}', f'{{"set-cookie": "{MASK}", "a": 1}}'),
        ("(b'cookie', b'sid=s3cr3tValue99')", f"(b'cookie', b'{MASK}')"),
        ("Authorization: Token opaque-token-value", f"Authorization: Token {MASK}"),
        ("Proxy-Authorization: ApiKey opaque-token-value", f"Proxy-Authorization: ApiKey {MASK}"),
        ("('authorization', 'Bearer opaque-token-value')", f"('authorization', 'Bearer {MASK}')"),
        ("secret: token=a1b2c3d4e5 and more", f"secret: {MASK} and more"),
        # what only looks like one
        ("Cookie: the best recipe", None),
        ("Cookie recipe: sugar=200g; butter=150g", None),
        ("cookie: sugar=200g; butter=150g", None),
        ('document.cookie = "theme=dark-mode; path=/"', None),
        ("Key: basic principles of design", None),
        ("Token: bearer understanding", None),
        ("http://host:8080/ana@example.org", None),
    ],
)
def test_passwords_of_addresses_and_headers(text: str, expected: str | None) -> None:
    assert Secrets().masked(text) == (expected or text)


@pytest.mark.parametrize("name", ["Cookie", "set-cookie", "Authorization", "Proxy-Authorization"])
def test_a_header_in_a_mapping_is_masked_as_in_a_text(name: str) -> None:
    value = f"{'Bearer ' if name.endswith('n') else 'sid='}opaque-token-value"
    masked = Secrets().masked_value({"headers": {name: value, "Accept": "text/html"}})
    assert MASK in masked["headers"][name] and "opaque" not in str(masked)
    assert masked["headers"]["Accept"] == "text/html"
    assert Secrets().masked_value({name: "with nuts"}) == {name: "with nuts"}


def test_the_password_of_an_address_is_known_as_it_is_sent() -> None:
    assert url_passwords("postgresql://ana:p%40ss-W0rd@h/x") == ["p%40ss-W0rd", "p@ss-W0rd"]


def test_long_texts_of_names_take_linear_time() -> None:
    for text in (
        "token:" * 20_000,
        "key=a" * 20_000,
        "cookie: a=" * 20_000,
        "://a:b@" * 20_000,
        "://a:" + "b@" * 60_000,
        "//" + "hook" * 30_000,
        "Private-Lines: 1\n" + " " * 60_000 + "a" * 60_000,
        "secret for the words of " * 5_000,
        "a1B2c3D4e5F6g7H8 key " * 6_000,
        f"token {'a1B2c3D4e5F6-' * 9_000}",
    ):
        started = time.process_time()
        Secrets().masked(text)
        assert time.process_time() - started < 5
