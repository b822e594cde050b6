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

__all__ = ["MASK", "Secrets", "is_secret_name", "url_passwords"]

MASK = "**scrubbed**"

_SHORTEST = 8
"""Characters of the shortest value that is taken for a secret by its looks."""
_SECRET_NAME = re.compile(
    r"(^|[_\-.])(api[_-]?key|secret|passw(or)?d|(access|auth|refresh|bearer|id)[_-]?token|credentials?)s?$", re.I
)
_LONG_WORD = re.compile(r"\b[\w+/=.:~%&?-]{16,}", re.ASCII)
"""Where a service's key may be: nothing shorter is one."""
_SERVICE_KEY = re.compile(
    r"""
    \b(?: sk-(?:[A-Za-z0-9]{20,}|(?=[\w-]*\d)(?=[\w-]*[A-Za-z])[\w-]{16,})  # OpenAI and others
    | [prs]k_(?:live|test)_\w{16,} | whsec_[\w+/=]{16,}              # Stripe
    | gh[pousr]_[A-Za-z0-9]{20,} | github_pat_\w{20,} | gl(?:pat|ptt|dt|rt)-[\w-]{20,}
    | (?:AKIA|ASIA)[A-Z0-9]{16}\b | ABSK[\w+/]{100,}={0,2}           # AWS
    | AIza[\w-]{35} | ya29\.[\w-]{20,} | GOCSPX-[\w-]{20,}          # Google
    | xox[abeoprs]-[\w-]{10,} | xapp-[\w-]{10,}
    | (?:hf|npm|r8|gsk|ntn)_[A-Za-z0-9]{30,} | pypi-[\w-]{50,} | secret_[A-Za-z0-9]{43}\b | fc-[0-9a-f]{32}\b
    | (?:pplx|xai|tvly|nvapi)-[\w-]{20,} | lsv2_(?:pt|sk)_\w{32,} | shp(?:at|ca|pa|ss)_[0-9a-f]{32}
    | dapi[0-9a-f]{32}(?:-\d)? | do[opr]_v1_[0-9a-f]{40,} | SG\.[\w-]{16,}\.[\w-]{16,} | dckr_pat_[\w-]{20,}
    | [A-Za-z0-9]{40,60}JQQJ99[A-Za-z0-9]{20,} | [A-Za-z0-9]{76}AZDO[A-Za-z0-9]{4}\b             # Azure
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
    | hooks\.slack\.com/services/(?=[\w/]{20}) | /api/webhooks/(?=\d{15,20}/[\w-]{60})
    ) [\w%+/=.~-]+
    """,
    re.X | re.ASCII,
)
_AZURE_SECRET = re.compile(r"(?<![\w~.-])[\w~.-]{3}\dQ~[\w~.-]{31,34}", re.ASCII)
_DIGIT = re.compile("[0-9]")
_PIECE = re.compile("[A-Za-z0-9]+")
_RUN = re.compile(r"[A-Z]?[a-z]+|[A-Z]+|[0-9]+")
"""Digits, small or capital letters; a capital that begins a word counts as small."""
_PASSWORD = re.compile(r"(?=.*[a-z])(?=.*[A-Z])(?=.*[0-9])(?=.*[!#%&*+@^~?])[^(){}\[\]<>$]*")
"""What is made as people are told to make passwords, and is no code."""
_MAY_BE_KEY = re.compile("[0-9]|sk-")
_LONGEST_KEY = 4096
"""Characters beyond which a word is data, such as an image."""
_PEM = re.compile(r"-----BEGIN ([A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?)-----.+?(?:-----END \1-----|\Z)", re.S)
_URL_PASSWORD = re.compile(
    r"(://[^\s/:@\"'<>{}$]*:)(?![$<])([^\s/@\"'{}]+(?:@[^\s/@?#&=,;\"'{}]+)*)(?=@[\w\[/])",
)
_USELESS_PASSWORDS = {MASK, "***", *"password passwd pass pwd secret token key changeme example".split()}
_NAME = re.compile(
    "key|secret|password|passwd|pwd|passphrase|token|authorization|credential|bearer|client|cookie"
    "|パスワード|トークン|シークレット|キー"
)
_HEADER = re.compile(r"(set-)?cookie|(proxy-)?authorization", re.I)
_COOKIES = re.compile(
    r"""["']?\s?[:,]\s?b?["']?(?=(?:[\w.%-]+=[^\s;,"']*;\s?)*[\w.%-]+=[^\s;,"']{8})"""
    r"""(?P<value>[\w.%-]+=[^\s;,"']*(?:;\s?[\w.%-]+(?:=[^\s;,"']*)?)*)"""
)
_NAMED_VALUE = re.compile(
    r"""(?: (?P<sure> s?\sprovided:\s? )
          | (?P<scheme> ["']?\s?[:=,]\s?b?["']?(?:bearer|basic|token|apikey|negotiate|ntlm)\s )
          | s?\\?["'`]?\]?\s{0,3}(?: :=|=>|[:=：] )\s{0,3}\\?["'`「]?
          | s?\s?(?: は|が|is\s|was\s )\s?["'`「]?
          | ["']\s+value\s?=\s?["']
          | (?P<call> s?\(\s{0,3}["'] )
          | (?P<space> \s ) )
        (?P<value> (?<=["'])[!-~]{8,4000}?(?=["']) | [!#$%*+./0-9:=?@A-Z^_a-z|~-]{8,4000} )""",
    re.I | re.X,
)
"""What may follow a name of secrets: after some words it is a secret whatever it looks like."""
_SHORTEST_IN_CALL = 20
"""Characters of the shortest literal that is taken for a secret as the argument of a client or a credential."""
_PASSWORD_OF_CONNECTION_STRING = re.compile(r"\b((?:password|pwd)\s?=)([^\s;\"'{}]{3,})(?=;)", re.I)
_SMALL = {capital: capital + 32 for capital in range(ord("A"), ord("Z") + 1)}


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
        if "-----BEGIN" in text:
            text = _PEM.sub(MASK, text)
        text = _LONG_WORD.sub(_without_service_key, text)
        if "Key=" in text or "sig=" in text or "code=" in text or "hooks" in text:
            text = _KEY_IN_ADDRESS.sub(rf"\1{MASK}", text)
        if "Q~" in text:
            text = _AZURE_SECRET.sub(MASK, text)
        if "://" in text:
            text = _URL_PASSWORD.sub(_without_password, text)
        text = _without_named_values(text)
        return _PASSWORD_OF_CONNECTION_STRING.sub(rf"\1{MASK}", text) if ";" in text and "=" in text else text

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


def _without_service_key(found: re.Match[str]) -> str:
    word = found[0]
    return word if len(word) > _LONGEST_KEY or not _MAY_BE_KEY.search(word) else _SERVICE_KEY.sub(MASK, word)


def _without_password(found: re.Match[str]) -> str:
    return found[0] if found[2].lower() in _USELESS_PASSWORDS else f"{found[1]}{MASK}"


def _without_named_values(text: str) -> str:
    """Mask what stands behind a name of secrets and looks random."""
    lowered = text.lower()
    if len(lowered) != len(text):  # İ is two characters then
        lowered = text.translate(_SMALL)
    parts: list[str] = []
    tried: dict[str, int] = {}
    end = 0
    for name in _NAME.finditer(lowered):
        if name.start() < max(end, tried.get(name[0], 0)):
            continue
        found = (_COOKIES if name[0] == "cookie" else _NAMED_VALUE).match(text, name.end())
        tried[name[0]] = found.end() if found else 0
        if found and _is_secret_value(name[0], found):
            parts += text[end : found.start("value")], MASK
            end = found.start("value") + len(found["value"].rstrip(".:!?"))
    return "".join(parts) + text[end:]


def _is_secret_value(name: str, found: re.Match[str]) -> bool:
    value = found["value"].rstrip(".:!?")
    if name == "cookie":
        return True
    if found["sure"] or found["scheme"] and name == "authorization" and not (value.isalpha() and value.islower()):
        return len(value) >= _SHORTEST and not value.startswith(("$", MASK))
    if found["call"] or name == "client":
        return bool(found["call"]) and len(value) >= _SHORTEST_IN_CALL and _looks_random(value)
    before = found.start() - len(name) - 1
    is_option = before >= 0 and found.string[before] == "-"  # of a command line
    return (not found["space"] or name == "bearer" or is_option) and _looks_random(
        value, 1 if name.startswith("pass") else 2
    )


def _looks_random(value: str, turns_of_digits: int = 2) -> bool:
    """Tell whether a text is no word, name, number or path: letters and digits, or cases, take turns within it."""
    if len(value) < _SHORTEST or "://" in value or value.startswith(("/", "./", "$", MASK)):
        return False
    turns = len(_RUN.findall(value, 0, 200)) - len(_PIECE.findall(value, 0, 200))
    return turns >= (turns_of_digits if _DIGIT.search(value) else 5) or _PASSWORD.fullmatch(value) is not None


@lru_cache(maxsize=1024)
def is_secret_name(name: str) -> bool:
    """Tell whether the value of an input or a column is secret by its name."""
    return _SECRET_NAME.search(name) is not None
