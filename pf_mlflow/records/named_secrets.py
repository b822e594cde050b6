"""Masks what a text itself calls a secret: what looks random behind `api key:`, `--token` or `Passwort … ist`."""

from __future__ import annotations

import re

__all__ = ["MASK", "is_hash", "is_key_material", "looks_random", "without_named_values", "without_said_secret"]

MASK = "**scrubbed**"

SHORTEST = 8
"""Characters of the shortest value that is taken for a secret by its looks."""
_DIGIT = re.compile("[0-9]")
_PIECE = re.compile("[A-Za-z0-9]+")
_LONG_PIECE = re.compile("[A-Za-z0-9]{12,32}")
"""What each key has: so much without a sign between."""
_RUN = re.compile(r"[A-Z]?[a-z]+|[A-Z]+|[0-9]+")
"""Digits, small or capital letters; a capital that begins a word counts as small."""
_PASSWORD = re.compile(r"(?=.*[a-z])(?=.*[A-Z])(?=.*[0-9])(?=.*[!#%&*+@^~?])[^(){}\[\]<>$]*")
"""What is made as people are told to make passwords, and is no code."""
_HASH = re.compile(r"(?:0x)?[0-9a-f]+|(?:0x)?[0-9A-F]+")
_NOT_RANDOM = re.compile(r"\.{0,2}/[A-Za-z._-]*(?:/|$)|(?i:sha-?\d+|md5)[:-]")
"""How paths and told hashes begin."""
_READ = 200
"""Characters of a value that are looked at."""
_OTHER_LANGUAGES = (
    "kennwort|schlüssel|mot de passe|jeton|clé|contraseña|clave|senha|chave|пароль|токен|ключ"
    "|密码|密钥|令牌|비밀번호|キー"
)
_NAME = re.compile(
    "key|secret|pass(?:w(?:or[dt]|d)|_?phrase)|_pass(?![a-z])|_auth(?![a-z])|pwd|token|authorization|credential|bearer|client|cookie"
)
_NAME_IN_ANY_LANGUAGE = re.compile(f"{_NAME.pattern}|パスワード|トークン|シークレット|{_OTHER_LANGUAGES}")
_HARMLESS_KEY = re.compile(
    r"(?:public|cache|row|sort|partition|foreign|hash|range|idempotency|message)[ _-]?$|<$", re.I
)
"""What stands before `key` where it is none of secrets, as in the XML of a bucket's list."""
_COOKIES = re.compile(
    r"""["']?\s?[:,]\s?b?["']?(?=(?:[\w.%-]+=[^\s;,"']*;\s?)*[\w.%-]+=[^\s;,"']{8})"""
    r"""(?P<value>[\w.%-]+=[^\s;,"']*(?:;\s?[\w.%-]+(?:=[^\s;,"']*)?)*)"""
)
_NAMED_VALUE = re.compile(
    r"""(?: (?P<sure> s?\sprovided:\s? )
          | (?P<scheme> ["']?\s?[:=,]\s?b?["']?(?:bearer|basic|token|apikey|negotiate|ntlm)\s )
          | (?:[_ -]?(?:base|data|value|\d))? s?\\?["'`]?\]?\s{0,3}(?: :=|=>|[:=：>] )\s{0,3}\\?["'`「]?
          | s?\s?(?: は|が|「|is\s|was\s )\s?["'`「]?
          | (?P<sentence> (?:\s[^\W\d_][\w'’]{0,15}){1,5}?\s(?:is|was|ist|lautet|est|es|é|è)\s["'`]? )
          | ["']?,?\s{0,12}["']?value["']?\s?[:=]\s?["']?
          | (?P<call> s?["']?\s?[(,]\s{0,3}["'] )
          | (?P<space> \s["']? ) )
        (?P<value> (?<=["'])[!-~]{8,4000}?(?=["']) | [!#$%*+./0-9:=?@A-Z^_a-z|~-]{8,4000} )""",
    re.I | re.X,
)
"""What may follow a name of secrets: after some words it is a secret whatever it looks like."""
_OF_CONNECTION_STRING = re.compile(r"""(?:(?<=\bpassword)|(?<=\bpwd))\s?=(?P<value>[^\s;"'{}]{3,})(?=;)""", re.I)
_OTHER_SCHEME = re.compile(r"""["']?\s?[:=,]\s?b?["']?[\w-]{2,20}\s(?P<value>[!#-&(-~]{8,4000})""")
"""How a header names a way of authorization that few services have."""
_OPTION = re.compile(r"(?:^|\s)--?[\w-]*$")
_SHORTEST_IN_CALL = 20
"""Characters of the shortest literal that is taken for a secret as the argument of a client or a credential."""
_TURNS_IN_SENTENCE = 4
_SMALL = {capital: capital + 32 for capital in range(ord("A"), ord("Z") + 1)}
_SAID = re.compile(
    rf"""(?: (?P<user> (?:^|\s)(?:(?:-u|--user|--auth)[\s='"]{{1,3}}|login[ ]['"]?) )
           | (?:^|\s)-[aptw][ ]?['"]?
           | \bauth(?: \s?=\s?\(\s?["'][^"'\n]{{0,40}}["'],\s? | ["']\s?:\s? )["']
           | (?P<name> key|secret|pass|pwd|token|credential|identified[ ]by|{_OTHER_LANGUAGES.replace(" ", "[ ]")} )
             \w{{0,12}}(?:[ ][^\W\d_]{{1,15}}){{0,4}}[ \t:=>("'`«「“]{{1,20}} )$""",
    re.X,
)
"""What stands before a word that is a secret if it is as long and mixed as a key."""
_MAY_SAY = re.compile(f"key|secret|pass|pwd|token|credential|by|-[aptuw]|login|auth|{_OTHER_LANGUAGES}")
_SAID_BEFORE = 60
_NO_SECRET = re.compile(
    r"hash|sha\d|digest|checksum|fingerprint|public|\bid\b|commit|cache|version|count|constraint", re.I
)
_PUBLIC = re.compile(r"(?i:sha-?\d|md5)|AAAA[A-E]\dNza|[a-z]{2,}[_-](?=[A-Za-z0-9]*$)")
"""How fingerprints, public keys and numbers of things begin."""


def without_named_values(text: str) -> str:
    """Mask what stands behind a name of secrets and looks random."""
    lowered = text.lower()
    if len(lowered) != len(text):  # İ is two characters then
        lowered = text.translate(_SMALL)
    parts: list[str] = []
    tried: dict[str, int] = {}
    end = 0
    for name in (_NAME if text.isascii() else _NAME_IN_ANY_LANGUAGE).finditer(lowered):
        word = name[0]
        if name.start() < max(end, tried.get(word, 0)):
            continue
        found = _value_of(word, text, name.end())
        tried[word] = found.end() if found else 0
        if found and _is_secret_value(word, found):
            parts += text[end : found.start("value")], MASK
            end = found.start("value") + len(found["value"].rstrip(".:!?"))
    return "".join(parts) + text[end:]


def without_said_secret(text: str, start: int, word: str) -> str:
    """Mask a word that is key material where what stands before it in its text says that it is secret."""
    bare = word.rstrip(".:?")
    if "=" in bare.rstrip("="):
        return word
    before = text[max(0, start - _SAID_BEFORE) : start].lower()
    said = _SAID.search(before) if _MAY_SAY.search(before) else None
    if said is None or not said["user"] and _is_harmless(said, bare):
        return word
    user = bare.partition(":")[0] + ":" if said["user"] and ":" in bare else ""
    return user + MASK + word[len(bare) :]


def _is_harmless(said: re.Match[str], word: str) -> bool:
    may_be_hash = said["name"] in (None, "key", "schlüssel", "clé", "ключ", "密钥", "キー")
    return bool(_NO_SECRET.search(said[0]) or _PUBLIC.match(word) or may_be_hash and is_hash(word))


def _value_of(name: str, text: str, start: int) -> re.Match[str] | None:
    if name == "cookie":
        return _COOKIES.match(text, start)
    if name in ("password", "pwd") and (found := _OF_CONNECTION_STRING.match(text, start)):
        return found
    found = _NAMED_VALUE.match(text, start)
    if name == "authorization" and not (found and found["scheme"]):
        return _OTHER_SCHEME.match(text, start) or found
    return found


def _is_secret_value(name: str, found: re.Match[str]) -> bool:
    value = found["value"].rstrip(".:!?")
    if found.re in (_COOKIES, _OF_CONNECTION_STRING):
        return True
    if found.re is _OTHER_SCHEME:
        return looks_random(value)
    if found["sure"] or found["scheme"] and name == "authorization" and not (value.isalpha() and value.islower()):
        return len(value) >= SHORTEST and not value.startswith(("$", MASK))
    if found["call"] or name == "client":
        return bool(found["call"] and _DIGIT.search(value)) and len(value) >= _SHORTEST_IN_CALL and looks_random(value)
    few = _TURNS_IN_SENTENCE if found["sentence"] else 1 if "pass" in name else 2
    return looks_random(value, few) and not _is_spared(name, found)


def _is_spared(name: str, found: re.Match[str]) -> bool:
    """Tell whether a random value's name is another kind of key, or stands before it as one word before the next."""
    before = found.string[max(0, found.start() - len(name) - 24) : found.start() - len(name)]
    is_word = found["space"] and name != "bearer" and not _OPTION.search(before)
    return bool(is_word or name == "key" and _HARMLESS_KEY.search(before))


def looks_random(value: str, turns_of_digits: int = 2) -> bool:
    """Tell whether a text is no word, name, date or path: letters and digits, or cases, take turns in most of it."""
    if len(value) < SHORTEST or "://" in value or value.startswith(("$", MASK)) or _NOT_RANDOM.match(value):
        return False
    turns = len(_RUN.findall(value, 0, _READ)) - len(_PIECE.findall(value, 0, _READ))
    enough = turns >= (turns_of_digits if _DIGIT.search(value) else 5) and _is_mostly_mixed(value)
    return enough or _PASSWORD.fullmatch(value) is not None


def _is_mostly_mixed(value: str) -> bool:
    pieces = _PIECE.findall(value, 0, _READ)
    return 2 * sum(len(piece) for piece in pieces if _turns(piece)) >= sum(map(len, pieces))


def is_key_material(value: str) -> bool:
    """Tell whether a text is so long and so mixed that only a machine makes it: a key, a hash, a thing's number."""
    piece = _LONG_PIECE.search(value)
    while piece and 4 * _turns(piece[0]) < len(piece[0]):
        piece = _LONG_PIECE.search(value, piece.end())
    return piece is not None


def is_hash(value: str) -> bool:
    """Tell whether a text's longest piece has nothing but hexadecimal digits, as hashes and UUIDs have."""
    return _HASH.fullmatch(max(_PIECE.findall(value), key=len)) is not None


def _turns(piece: str) -> int:
    return len(_RUN.findall(piece)) - 1
