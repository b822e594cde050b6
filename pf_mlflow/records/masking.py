"""Keeps secrets out of texts and values.

Masked are formats that nothing else has (keys of known services, JWTs, PEM blocks, URLs with a password), values that
are known to be secret, and what stands behind a name such as `api key:` if it looks random. A password that is an
ordinary word cannot be told from the word, and stays.
"""

from __future__ import annotations

import json
import re
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any
from urllib.parse import quote, quote_plus, unquote

from pf_mlflow.records.named_secrets import (
    MASK,
    is_hash,
    is_key_material,
    looks_random,
    without_named_values,
    without_said_secret,
)

__all__ = ["MASK", "Secrets", "is_secret_name", "url_passwords"]

_SECRET_NAME = re.compile(
    r"(^|[_\-.])(api[_-]?key|secret|passw(or)?d|(access|auth|refresh|bearer|id)[_-]?token|credentials?)s?$", re.I
)
_HEADER = re.compile(r"(set-)?cookie|(proxy-)?authorization", re.I)
_LONG_WORD = re.compile(r"\b[\w+/=.:~%&?-]{16,}", re.ASCII)
"""Where a service's key may be: nothing shorter is one."""
_SERVICE_KEY = re.compile(
    r"""
    \b(?: sk-(?:[A-Za-z0-9]{20,}|(?=[\w-]*\d)(?=[\w-]*[A-Za-z])[\w-]{16,}) | sk_[A-Za-z0-9]{32,}  # OpenAI and others
    | [prs]k_(?:live|test)_\w{16,} | whsec_[\w+/=]{16,}              # Stripe
    | gh[pousr]_[A-Za-z0-9]{20,} | github_pat_\w{20,} | gl(?:pat|ptt|dt|rt)-[\w-]{20,}
    | (?:AKIA|ASIA)[A-Z0-9]{16}\b | ABSK[\w+/]{100,}={0,2}           # AWS
    | AIza[\w-]{35} | ya29\.[\w-]{20,} | GOCSPX-[\w-]{20,}          # Google
    | xox[abeoprs]-[\w-]{10,} | xapp-[\w-]{10,}
    | (?:hf|npm|r8|gsk|ntn)_[A-Za-z0-9]{30,} | pypi-[\w-]{50,} | secret_[A-Za-z0-9]{43}\b | fc-[0-9a-f]{32}\b
    | (?:pplx|xai|tvly|nvapi)-[\w-]{20,} | lsv2_(?:pt|sk)_\w{32,} | shp(?:at|ca|pa|ss)_[0-9a-f]{32}
    | dapi[0-9a-f]{32}(?:-\d)? | do[opr]_v1_[0-9a-f]{40,} | SG\.[\w-]{16,}\.[\w-]{16,} | dckr_pat_[\w-]{20,}
    | [A-Za-z0-9]{40,60}JQQJ99[A-Za-z0-9]{20,} | [A-Za-z0-9]{76}AZDO[A-Za-z0-9]{4}\b             # Azure
    | [\w~.-]{2,3}\dQ~[\w~.-]{31,34}                                # Entra
    | ATATT3[\w=-]{30,} | ATBB[A-Za-z0-9]{28,} | lin_(?:api|oauth)_\w{30,} | hv[sbr]\.[\w-]{20,}
    | [MNO][\w-]{22,}\.[\w-]{6}\.[\w-]{27,} | [0-9a-f]{32}-us\d{1,2}\b | key-[0-9a-f]{32}\b | SK[0-9a-f]{32}\b
    | gl(?:sa|c)_[\w=+/]{30,} | dp\.(?:pt|st|ct)\.\w{30,} | PMAK-[0-9a-f-]{40,} | sntr(?:ys|yu)_[\w=+/-]{40,}
    | NR(?:AK|JS)-[\w]{15,} | figd_[\w-]{30,} | sbp_[0-9a-f]{40} | nfp_\w{30,} | pscale_(?:tkn|pw)_[\w.-]{30,}
    | pat-(?:na|eu)1-[0-9a-f-]{36} | rubygems_[0-9a-f]{48} | sq0(?:atp|csp)-[\w-]{20,} | EAA[A-Za-z0-9]{60,}
    | EAAA[\w-]{60} | AGE-SECRET-KEY-1[0-9A-Z]{40,} | HRKU-[\w-]{36,} | fm[12]_[\w+/=]{60,} | rnd_[A-Za-z0-9]{28}\b
    | fw_(?=[A-Za-z]*\d)[A-Za-z0-9]{20,} | pat[A-Za-z0-9]{14}\.[0-9a-f]{64} | dt0[a-z]\d\d\.[A-Z0-9]{24}\.[A-Z0-9]{64}
    | pul-[0-9a-f]{40} | v1\.0-[0-9a-f]{24}-[0-9a-f]{100,} | [A-Za-z0-9]{14}\.atlasv1\.[\w=-]{50,}
    | (?:bot)?\d{8,10}:[\w-]{30,}                                     # Telegram
    | (?:ops_)?eyJ[\w-]{8,}\.eyJ[\w-]{8,}(?:\.[\w-]{8,})? | ops_eyJ[\w+/=-]{100,}                # JWT, 1Password
    )
    """,
    re.X | re.ASCII,
)
"""What begins a word stands behind one `\b`: tried within words too, it took most of the time."""
_KEY_IN_ADDRESS = re.compile(
    r"""
    ( AccountKey=(?=[\w+/]{20}) | SharedAccessKey=(?=[\w+/]{20}) | [?&]sig=(?=[\w%+/=.~-]{8}) | [?&]code=(?=[\w/+-]{40})
    ) [\w%+/=.~-]+
    """,
    re.X | re.ASCII,
)
_MAY_BE_KEY = re.compile("[0-9]|sk-|hf_")
_HEXADECIMAL = re.compile("(?=[0-9-]*[a-f])(?:[0-9a-f]{16,}|[0-9a-f]{8}-[0-9a-f-]{27})")
_LONGEST_KEY = 4096
"""Characters beyond which a word is data, such as an image."""
_PEM = re.compile(r"-----BEGIN ([A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?)-----.+?(?:-----END \1-----|\Z)", re.S)
_PUTTY = re.compile(r"(Private-Lines: \d+\r?\n)(?:[\w+/=]+(?:\r?\n|\Z))+")
_JWK = re.compile(r"""(["'](?:d|p|q|dp|dq|qi|k)["']\s?:\s?["'])[\w-]{16,}""")
"""The private members of a key of which "kty" tells that it is one."""
_URL_PASSWORD = re.compile(
    r"(://[^\s/:@\"'<>{}$]*:)(?![$<])([^\s/@\"'{}]+(?:@[^\s/@?#&=,;\"'{}]+)*)(?=@[\w\[/])",
)
_URL_USER = re.compile(r"://([\w.~%+-]{16,})(?=@[\w\[])", re.ASCII)
"""A token may stand alone before a host."""
_HOOK = re.compile(
    r"(//[\w.-]{0,99}hook[\w.-]{0,99}/|/(?:incoming)?(?:web)?hook(?:s|b2)?/)([\w@%+=.~/-]{16,})", re.ASCII | re.I
)
"""Who knows the address of a webhook may use it."""
_SHORTEST_IN_HOOK = 16
_PREFIXED = re.compile(r"(?<![\w-])[a-z]{2,8}[_-](?:[a-z0-9]{1,6}[_-])?([A-Za-z0-9]{32,})(?!\w)")
"""A service's short name before what is random: the numbers of answers, runs and customers are shorter."""
_USELESS_PASSWORDS = {MASK, "***", *"password passwd pass pwd secret token key changeme example".split()}


class Secrets:
    """Masks secrets in texts; safe for threads.

    Args:
        known: Values that are secret wherever they stand.
    """

    def __init__(self, known: Iterable[str] = ()) -> None:
        forms = {form for secret in known for form in _forms(secret)}
        self._known = tuple(sorted(forms, key=len, reverse=True))

    def masked(self, text: str) -> str:
        """Return a text with `MASK` in the place of each secret."""
        for secret in self._known:
            text = text.replace(secret, MASK)
        return without_named_values(_without_known_formats(text))

    def masked_value(self, value: Any) -> Any:
        """Return a value with `MASK` in the place of each secret, and of what a name in it calls secret."""
        if isinstance(value, str):
            return self.masked(value)
        if isinstance(value, Mapping):
            return self._masked_mapping(value)
        if isinstance(value, (list, tuple)):
            return [self.masked_value(item) for item in value]
        if value is None or isinstance(value, (int, float)):
            return value
        text = str(value)  # as it will be written
        masked = self.masked(text)
        return value if masked == text else masked

    def _masked_mapping(self, values: Mapping[Any, Any]) -> dict[Any, Any]:
        masked: dict[Any, Any] = {}
        for key, value in values.items():
            name = shown = self.masked(key) if isinstance(key, str) else key
            while shown in masked:
                shown = f"{name} {int(shown[len(name) :] or 1) + 1}"
            masked[shown] = self._masked_named(str(key), value)
        return masked

    def _masked_named(self, name: str, value: Any) -> Any:
        if is_secret_name(name):
            return MASK
        if isinstance(value, str) and _HEADER.fullmatch(name):
            return self.masked(f"{name}: {value}")[len(name) + 2 :]
        return self.masked_value(value)


def _forms(secret: str) -> set[str]:
    """Return a secret as it stands in texts, in JSON, in JSON within JSON, in a `repr`, in addresses and in base64."""
    in_json = {json.dumps(secret, ensure_ascii=ascii)[1:-1] for ascii in (True, False)}
    twice = {json.dumps(form)[1:-1] for form in in_json}
    in_address = {quote(secret), quote(secret, safe=""), quote_plus(secret)}
    return {secret, repr(secret)[1:-1], *in_address, *in_json, *twice, *_in_base64(secret.encode(errors="replace"))}


def _in_base64(secret: bytes) -> set[str]:
    """Return what of a secret's base64 does not depend on what stands around it, at each of its three places."""
    return {
        encoded(b"\0" * before + secret)[-(-before * 8 // 6) : (before + len(secret)) * 8 // 6].decode()
        for before in range(3)
        for encoded in (b64encode, urlsafe_b64encode)
    }


def url_passwords(text: str) -> list[str]:
    """Return the passwords in the addresses of a text."""
    found = (match[2] for match in _URL_PASSWORD.finditer(text))
    return list(dict.fromkeys(form for password in found for form in (password, unquote(password))))


def _without_known_formats(text: str) -> str:
    """Mask what is a secret by its format alone, and long words that the text before them calls secret."""
    if "-----BEGIN" in text:
        text = _PEM.sub(MASK, text)
    if "Private-Lines" in text:
        text = _PUTTY.sub(rf"\1{MASK}\n", text)
    if "kty" in text:
        text = _JWK.sub(rf"\1{MASK}", text)
    text = _LONG_WORD.sub(_without_key, text)
    if "hook" in text:
        text = _HOOK.sub(_without_hook, text)
    if "://" in text:
        text = _URL_USER.sub(_without_user, _URL_PASSWORD.sub(_without_password, text))
    return text


def _without_key(found: re.Match[str]) -> str:
    word = found[0]
    if len(word) > _LONGEST_KEY or not _MAY_BE_KEY.search(word):
        return word
    if _HEXADECIMAL.fullmatch(word):  # most long words of logs
        return without_said_secret(found.string, found.start(), word)
    masked = _SERVICE_KEY.sub(MASK, word)
    if "=" in word:
        masked = _KEY_IN_ADDRESS.sub(rf"\1{MASK}", masked)
    if masked != word or "://" in word or not is_key_material(word):
        return masked
    masked = _PREFIXED.sub(_without_prefixed, word)
    return without_said_secret(found.string, found.start(), word) if masked == word else masked


def _without_prefixed(found: re.Match[str]) -> str:
    return MASK if is_key_material(found[1]) and not is_hash(found[1]) else found[0]


def _without_hook(found: re.Match[str]) -> str:
    secret = any(len(part) >= _SHORTEST_IN_HOOK and looks_random(part) for part in re.split("[/@]", found[2]))
    return found[1] + MASK if secret else found[0]


def _without_user(found: re.Match[str]) -> str:
    return "://" + MASK if looks_random(found[1], 3) else found[0]


def _without_password(found: re.Match[str]) -> str:
    return found[0] if found[2].lower() in _USELESS_PASSWORDS else f"{found[1]}{MASK}"


@lru_cache(maxsize=1024)
def is_secret_name(name: str) -> bool:
    """Tell whether the value of an input or a column is secret by its name."""
    return _SECRET_NAME.search(name) is not None
