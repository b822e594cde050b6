"""What a text itself calls a secret is masked where it looks random; what only stands near such a word stays."""

from __future__ import annotations

import pytest

from pf_mlflow.records.masking import MASK, Secrets

MIXED = "Zq7Lm2XvK3y9Ra4TfB8w"
HEX = "9f2c4e1ab07d" * 3 + "5e61"
UUID = "0a97dbd7-2628-4119-bf3c-f7050f0b510e"


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        # a name, and not quite an assignment
        (f"secret_key_base: {HEX}", HEX),
        (f"client-key-data: {MIXED}==", f"{MIXED}=="),
        (f"Unseal Key 1: {MIXED}=", f"{MIXED}="),
        (f"<password>{MIXED}</password>", MIXED),
        (f"define('AUTH_KEY', 'a1#{MIXED}');", f"a1#{MIXED}"),
        ("Secret=/i4YsTp7LbS+XVBEgX4jjTO=", "/i4YsTp7LbS+XVBEgX4jjTO="),
        (f"--account-key '{MIXED}'", MIXED),
        (f"login --apikey {MIXED} -r eu", MIXED),
        ("password: Winter2024", "Winter2024"),
        ("Authorization: Bearer 8letters", "8letters"),
        # a name, and the value some words behind it
        (f"COMET_API_KEY {MIXED} was not found", MIXED),
        (f"password {HEX}", HEX),
        (f"IDENTIFIED BY '{MIXED}';", MIXED),
        (f"неверный ключ {MIXED} (api_key)", MIXED),
        ("Mein Passwort für den Testserver ist sc6Iim!ANvo4x, danke", "sc6Iim!ANvo4x"),
        (f"password           {MIXED}", MIXED),
        ("Mon jeton d'accès est Zq7LmvK3y9Ra, merci", "Zq7LmvK3y9Ra"),
        ("新しいパスワードは「Zq7LmvK3y9Ra」です", "Zq7LmvK3y9Ra"),
        # a pair of name and value
        (f"- name: MONGO_PASS\n  value: {MIXED}", MIXED),
        (f'{{"name":"API_KEY","value":"{UUID}"}}', UUID),
        (f"REDIS_AUTH: {MIXED}", MIXED),
        # a command's option or login
        (f"curl -u admin:{MIXED} https://h", MIXED),
        (f"redis-cli -a {MIXED} ping", MIXED),
        (f"cargo login {MIXED}", MIXED),
        (f'driver(uri, auth=("neo4j", "{MIXED}"))', MIXED),
        (f'{{"auth": "{MIXED}=="}}', f"{MIXED}=="),
        (f"Authorization: Splunk {UUID}", UUID),
        # an address
        (f"dsn=https://{HEX}@o1.ingest.example.com/7", HEX),
        (f"https://x.example.com/IncomingWebhook/{HEX}/{UUID}", f"{HEX}/{UUID}"),
        # the private parts of a key
        (f'{{"kty":"OKP","x":"{HEX}","d":"{MIXED}-_a"}}', f"{MIXED}-_a"),
        (f"Private-Lines: 1\n{MIXED}\nPrivate-MAC: {HEX}", MIXED),
        # a service's prefix
        (f"use hf_{'aBcDeFgH' * 4}", f"hf_{'aBcDeFgH' * 4}"),
        (f"Cerebras: csk-{MIXED.lower()}{MIXED.lower()}.", f"csk-{MIXED.lower()}{MIXED.lower()}"),
    ],
)
def test_what_is_called_a_secret(text: str, secret: str) -> None:
    assert secret in text
    assert Secrets().masked(text) == text.replace(secret, MASK)


@pytest.mark.parametrize(
    "text",
    [
        f"idempotency_key: {UUID}",
        f"cache-key: linux-pip-{HEX}",
        f'"public_key": "pk-lf-{UUID}"',
        "row_key: 2024-05-06T10:00:00.000Z",
        "arn:aws:secretsmanager:eu-west-1:123456789012:secret:prod/llm/openai-Ab12Cd",
        "Violation of PRIMARY KEY constraint 'PK__users__3213E83FB5A1C3D2'",
        '"AdminAPIKeys": (".admin_api_keys", "AsyncAdminAPIKeysWithRawResponse"),',
        f"the key fingerprint is SHA256:{MIXED}{MIXED}",
        f"which key produced {HEX}?",
        f"tokens used by chatcmpl-{MIXED}9Ab",
        f"{{'prompt_tokens': 12, 'id': 'call_{MIXED}'}}",
        f"docker build -t chat:{HEX} .",
        f"https://github.com/pre-commit/pre-commit-hooks/blob/{HEX}/setup.py",
        "https://web-frontend-2@example.com",
        "token: release2024",
        "token: $Key2Of3Prod4",
        f"data:image/png;base64,{'iVBORw0K/' * 600}AKIA{'A1' * 8}",
        "<Contents><Key>AKey2Value3Pair</Key></Contents>",
        f"vs_{HEX[:32]} req_{HEX[:32]}",
    ],
)
def test_what_only_stands_near_such_a_word(text: str) -> None:
    assert Secrets().masked(text) == text
