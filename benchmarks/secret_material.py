"""Makes up secrets and ordinary values in their real forms: each is random material drawn from `RANDOM`.

Prefixes are put together from pieces, so that no scanner takes this file for a leak.
"""

from __future__ import annotations

import base64
import json
import random
import string
from collections.abc import Callable
from typing import Any

__all__ = ["MATERIALS", "RANDOM"]

RANDOM = random.Random(0)
"""Seeded anew for each half of the set."""
CAPITALS, SMALL, DIGITS = string.ascii_uppercase, string.ascii_lowercase, string.digits
ALNUM = CAPITALS + SMALL + DIGITS
HEX = "0123456789abcdef"


def joined(*pieces: str) -> str:
    return "".join(pieces)


def drawn(count: int, alphabet: str = ALNUM) -> str:
    return "".join(RANDOM.choice(alphabet) for _ in range(count))


def url_safe(count: int) -> str:
    """Return characters of an address that end with a letter or digit."""
    return drawn(count - 1, ALNUM + "-_") + drawn(1)


def random_bytes(count: int) -> bytes:
    return bytes(RANDOM.randrange(256) for _ in range(count))


def base64_of(count: int) -> str:
    return base64.b64encode(random_bytes(count)).decode()


def base64_url(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).decode().rstrip("=")


def password(length: int, signs: str = "") -> str:
    """Return a text with both cases, two digits and, if there are any, one of the signs, neither first nor last."""
    while True:
        made = drawn(1) + drawn(length - 2, ALNUM + signs * 3) + drawn(1)
        has_cases = any(c in CAPITALS for c in made) and any(c in SMALL for c in made)
        if has_cases and sum(c in DIGITS for c in made) >= 2 and (not signs or any(c in signs for c in made)):
            return made


def uuid() -> str:
    digits = drawn(32, HEX)
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{RANDOM.choice('89ab')}{digits[17:20]}-{digits[20:]}"


def jwt(claims: dict[str, Any] | None = None, algorithm: str = "HS256") -> str:
    is_short = algorithm == "HS256"
    header = {"alg": algorithm, "typ": "JWT"} if is_short else {"typ": "JWT", "alg": algorithm, "kid": drawn(12)}
    told = claims or {
        "sub": str(RANDOM.randrange(10**6, 10**9)),
        "role": RANDOM.choice(["admin", "reader", "svc"]),
        "iat": 1760000000 + RANDOM.randrange(10**6),
        "exp": 1790000000 + RANDOM.randrange(10**6),
    }
    parts = [json.dumps(part, separators=(",", ":")).encode() for part in (header, told)]
    return ".".join(base64_url(part) for part in (*parts, random_bytes(32 if is_short else 256)))


def pem_lines(start: str, count: int, width: int = 64, glue: str = "\n") -> str:
    text = start + base64_of(count)
    return glue.join(text[at : at + width] for at in range(0, len(text), width))


OPENAI_MARK = joined("T3B", "lbk", "FJ")
MATERIALS: dict[str, Callable[[], str]] = {
    # --- key material -------------------------------------------------------------------------
    "openai_legacy": lambda: joined("s", "k-") + drawn(20) + OPENAI_MARK + drawn(20),
    "openai_proj": lambda: joined("s", "k-", "pr", "oj-") + url_safe(74) + OPENAI_MARK + url_safe(74),
    "openai_proj_short": lambda: joined("s", "k-", "pr", "oj-") + drawn(20) + OPENAI_MARK + drawn(20),
    "openai_svc": lambda: joined("s", "k-", "svc", "acct-") + url_safe(58) + OPENAI_MARK + url_safe(58),
    "openai_admin": lambda: joined("s", "k-", "ad", "min-") + url_safe(58) + OPENAI_MARK + url_safe(58),
    "anthropic": lambda: joined("s", "k-", "an", "t-api", "03-") + url_safe(93) + "AA",
    "anthropic_admin": lambda: joined("s", "k-", "an", "t-admin", "01-") + url_safe(93) + "AA",
    "anthropic_oat": lambda: joined("s", "k-", "an", "t-oat", "01-") + url_safe(93) + "AA",
    "az32": lambda: drawn(32, HEX),
    "az84": lambda: (
        drawn(52)
        + joined("JQQ", "J99")
        + drawn(2, CAPITALS)
        + drawn(2, CAPITALS)
        + drawn(8)
        + drawn(2)
        + joined("AAAB", "ACOG")
        + drawn(4)
    ),
    "azsearch": lambda: drawn(42) + joined("Az", "Se") + RANDOM.choice("ABCD") + drawn(5),
    "google": lambda: joined("AI", "za", "Sy") + url_safe(33),
    "goauth": lambda: joined("GOC", "SPX-") + url_safe(28),
    "ya29": lambda: joined("ya", "29.a0") + url_safe(160),
    "aws_id": lambda: joined("AK", "IA") + drawn(16, CAPITALS + "234567"),
    "aws_sts": lambda: joined("AS", "IA") + drawn(16, CAPITALS + "234567"),
    "aws_secret": lambda: drawn(1) + drawn(38, ALNUM + "+/") + drawn(1),
    "aws_session": lambda: joined("IQoJ", "b3JpZ2", "luX2Vj") + drawn(300, ALNUM + "+/") + "==",
    "ghp": lambda: joined("gh", "p_") + drawn(36),
    "gho": lambda: joined("gh", "o_") + drawn(36),
    "ghs": lambda: joined("gh", "s_") + drawn(36),
    "ghfine": lambda: joined("git", "hub_", "pat_") + drawn(22) + "_" + drawn(59),
    "glpat": lambda: joined("gl", "pat-") + url_safe(20),
    "gldt": lambda: joined("gl", "dt-") + url_safe(20),
    "slackb": lambda: joined("xo", "xb-") + drawn(12, DIGITS[1:]) + "-" + drawn(13, DIGITS[1:]) + "-" + drawn(24),
    "slackp": lambda: (
        joined("xo", "xp-")
        + drawn(12, DIGITS[1:])
        + "-"
        + drawn(12, DIGITS[1:])
        + "-"
        + drawn(13, DIGITS[1:])
        + "-"
        + drawn(32, HEX)
    ),
    "slackapp": lambda: (
        joined("xa", "pp-1-A0") + drawn(9, CAPITALS + DIGITS) + "-" + drawn(13, DIGITS[1:]) + "-" + drawn(64, HEX)
    ),
    "slackhook": lambda: drawn(24),
    "stripe": lambda: joined("s", "k_li", "ve_") + drawn(24),
    "stripe_long": lambda: joined("s", "k_li", "ve_51") + drawn(97),
    "stripe_r": lambda: joined("r", "k_li", "ve_51") + drawn(97),
    "whsec": lambda: joined("wh", "sec_") + drawn(32),
    "hf": lambda: joined("h", "f_") + drawn(34, CAPITALS + SMALL),
    "dapi": lambda: joined("da", "pi") + drawn(32, HEX),
    "dapi2": lambda: joined("da", "pi") + drawn(32, HEX) + "-3",
    "sendgrid": lambda: joined("S", "G.") + url_safe(22) + "." + url_safe(43),
    "npm": lambda: joined("np", "m_") + drawn(36),
    "pypi": lambda: joined("py", "pi-AgEI", "cHlwaS5v", "cmc") + url_safe(150),
    "do": lambda: joined("do", "p_v", "1_") + drawn(64, HEX),
    "telegram": lambda: drawn(10, DIGITS[1:]) + ":AA" + url_safe(33),
    "twilio_sk": lambda: joined("S", "K") + drawn(32, HEX),
    "groq": lambda: joined("gs", "k_") + drawn(52),
    "langfuse": lambda: joined("s", "k-l", "f-") + uuid(),
    "langsmith": lambda: joined("ls", "v2_", "pt_") + drawn(32, HEX) + "_" + drawn(10, HEX),
    "langsmith_sk": lambda: joined("ls", "v2_", "sk_") + drawn(32, HEX) + "_" + drawn(10, HEX),
    "pinecone": lambda: joined("pc", "sk_") + drawn(5) + "_" + drawn(63),
    "uuidkey": uuid,
    "alnum40": lambda: password(40),
    "alnum32": lambda: password(32),
    "hex32": lambda: drawn(32, HEX),
    "hex40": lambda: drawn(40, HEX),
    "hex64": lambda: drawn(64, HEX),
    "replicate": lambda: joined("r", "8_") + drawn(37),
    "openrouter": lambda: joined("s", "k-o", "r-v1-") + drawn(64, HEX),
    "xai": lambda: joined("xa", "i-") + drawn(80),
    "pplx": lambda: joined("pp", "lx-") + drawn(48),
    "fireworks": lambda: joined("f", "w_") + drawn(24),
    "deepseek": lambda: joined("s", "k-") + drawn(32, HEX),
    "tavily": lambda: joined("tv", "ly-", "dev-") + drawn(32),
    "notion": lambda: joined("nt", "n_") + drawn(46),
    "linear": lambda: joined("lin_", "api_") + drawn(40),
    "shopify": lambda: joined("shp", "at_") + drawn(32, HEX),
    "mailgun": lambda: joined("ke", "y-") + drawn(32, HEX),
    "mailchimp": lambda: drawn(32, HEX) + "-us" + RANDOM.choice(["6", "12", "21"]),
    "newrelic": lambda: joined("NR", "AK-") + drawn(27, CAPITALS + DIGITS),
    "grafana": lambda: joined("gl", "sa_") + drawn(32) + "_" + drawn(8, HEX),
    "sentry": lambda: (
        joined("sntr", "ys_")
        + base64_url(json.dumps({"iat": 1760000000, "url": "https://sentry.io", "org": drawn(6, SMALL)}).encode())
        + "_"
        + drawn(43)
    ),
    "airtable": lambda: joined("pa", "t") + drawn(14) + "." + drawn(64, HEX),
    "atlassian": lambda: joined("ATA", "TT3x", "FfGF0") + url_safe(170) + "=" + drawn(8, HEX.upper()),
    "docker": lambda: joined("dck", "r_pat_") + url_safe(27),
    "vault": lambda: joined("hv", "s.") + joined("CAES", "I") + url_safe(85),
    "doppler": lambda: joined("dp", ".pt.") + drawn(43),
    "postman": lambda: joined("PM", "AK-") + drawn(24, HEX) + "-" + drawn(34, HEX),
    "discord": lambda: "M" + drawn(25) + "." + "G" + drawn(5) + "." + url_safe(38),
    "eleven": lambda: joined("s", "k_") + drawn(48, HEX),
    "nvapi": lambda: joined("nv", "api-") + url_safe(64),
    "figma": lambda: joined("fi", "gd_") + url_safe(40),
    "pscale": lambda: joined("psc", "ale_", "pw_") + url_safe(43),
    "supabase": lambda: joined("sb", "p_") + drawn(40, HEX),
    "age": lambda: joined("AGE-SEC", "RET-K", "EY-1") + drawn(58, "QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L"),
    "jina": lambda: joined("ji", "na_") + drawn(32, HEX) + drawn(27),
    "voyage": lambda: joined("p", "a-") + url_safe(43),
    "tfcloud": lambda: drawn(14) + joined(".atlas", "v1.") + drawn(67),
    "rubygems": lambda: joined("ruby", "gems_") + drawn(48, HEX),
    "heroku": lambda: joined("HR", "KU-") + url_safe(60),
    "jwt": jwt,
    "jwt_rs": lambda: jwt(
        {
            "aud": "https://management.azure.com",
            "iss": "https://sts.windows.net/" + uuid() + "/",
            "iat": 1761000000,
            "exp": 1761003600,
            "appid": uuid(),
            "oid": uuid(),
            "tid": uuid(),
            "ver": "1.0",
        },
        "RS256",
    ),
    "jwt_supabase": lambda: jwt(
        {"iss": "supabase", "ref": drawn(20, SMALL), "role": "service_role", "iat": 1700000000, "exp": 2015000000}
    ),
    "pem_rsa": lambda: pem_lines(joined("MII", "EpAIBAAKCAQEA"), 1180),
    "pem_rsa_short": lambda: pem_lines(joined("MII", "CXAIBAAKBgQC"), 600),
    "pem_ec": lambda: pem_lines(joined("MHc", "CAQEEI"), 112),
    "pem_openssh": lambda: pem_lines(
        joined("b3Blbn", "NzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQAAAAAAAAABAAAAMwAAAAtzc2gtZW"), 250, 70
    ),
    "pem_json": lambda: pem_lines(joined("MII", "EvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQ"), 1170, 64, "\\n"),
    "pem_ec_json": lambda: pem_lines(joined("MIG", "HAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg"), 100, 64, "\\n"),
    "storage": lambda: base64_of(64),
    "sbkey": lambda: base64_of(32),
    "evhub": lambda: base64_of(28)[:-2].replace("=", "") + "+AEh" + drawn(4) + "=",
    "sig": lambda: base64_of(32).replace("+", "%2B").replace("/", "%2F").replace("=", "%3D"),
    "basic": lambda: base64.b64encode((drawn(7, SMALL) + ":" + password(14, "!#")).encode()).decode(),
    "pw10": lambda: password(10),
    "pw12": lambda: password(12),
    "pw14": lambda: password(14, "!_"),
    "pw16": lambda: password(16),
    "pwsym": lambda: password(15, "!#$%*"),
    "pwdash": lambda: "-".join(password(5) for _ in range(4)),
    "pw20": lambda: password(20),
    "pw24": lambda: password(24, "_-"),
    "pwurl": lambda: password(14, "_.~"),
    "pwpct": lambda: (
        password(5)
        + RANDOM.choice(["%40", "%23", "%21"])
        + password(6)
        + RANDOM.choice(["%2F", "%3A", "%24"])
        + drawn(2)
    ),
    "b64_32": lambda: base64_of(32),
    "b64_24": lambda: base64_of(24),
    "hex48": lambda: drawn(48, HEX),
    # --- ordinary things ------------------------------------------------------------------------
    "uuid": uuid,
    "sha256": lambda: drawn(64, HEX),
    "sha1": lambda: drawn(40, HEX),
    "md5": lambda: drawn(32, HEX),
    "short": lambda: drawn(7, HEX),
    "sri512": lambda: "sha512-" + base64_of(64),
    "sri384": lambda: "sha384-" + base64_of(48),
    "sha256b64": lambda: base64_of(32),
    "sshfp": lambda: base64_of(32).rstrip("="),
    "n": lambda: str(RANDOM.randrange(2, 99)),
    "nn": lambda: str(RANDOM.randrange(100, 9999)),
    "nnn": lambda: str(RANDOM.randrange(10**5, 10**7)),
    "ver": lambda: f"{RANDOM.randrange(0, 9)}.{RANDOM.randrange(0, 30)}.{RANDOM.randrange(0, 20)}",
    "date": lambda: f"202{RANDOM.randrange(3, 7)}-{RANDOM.randrange(1, 13):02d}-{RANDOM.randrange(1, 29):02d}",
    "time": lambda: f"{RANDOM.randrange(24):02d}:{RANDOM.randrange(60):02d}:{RANDOM.randrange(60):02d}",
    "ip": lambda: f"10.{RANDOM.randrange(256)}.{RANDOM.randrange(256)}.{RANDOM.randrange(1, 255)}",
    "port": lambda: str(RANDOM.choice([3000, 5000, 5432, 6379, 8000, 8080, 8443, 9090, 27017])),
    "person": lambda: RANDOM.choice("Maya Tom Priya Elena Jonas Aisha Diego Wei Nora Felix Grace Omar".split()),
    "jname": lambda: RANDOM.choice("田中 佐藤 鈴木 高橋 伊藤 渡辺 山本 中村 小林 加藤 吉田 山田".split()),
    "word": lambda: RANDOM.choice(
        "orders billing search catalog reports inventory gateway ingest profile ranking notify archive".split()
    ),
    "day": lambda: RANDOM.choice("Monday Tuesday Wednesday Thursday Friday".split()),
    "isbn": lambda: "-".join(
        ["978", *(str(RANDOM.randrange(*ends)) for ends in ((0, 9), (10, 99), (100000, 999999), (9,)))]
    ),
    "png": lambda: "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAA" + base64_of(RANDOM.randrange(60, 200)),
    "jpg": lambda: "data:image/jpeg;base64,/9j/4AAQSkZJRgABAQAAAQABAAD" + base64_of(RANDOM.randrange(60, 400)),
    "gif": lambda: "data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7",
    "trace": lambda: f"00-{drawn(32, HEX)}-{drawn(16, HEX)}-01",
    "chatid": lambda: "chatcmpl-" + drawn(29),
    "fp": lambda: "fp_" + drawn(10, HEX),
    "callid": lambda: "call_" + drawn(24),
    "sha512": lambda: drawn(128, HEX),
    "eth": lambda: "0x" + drawn(40, HEX),
    "pubssh": lambda: joined("ssh-ed", "25519 AAAAC3NzaC1lZDI1NTE5AAAAI") + drawn(43, ALNUM + "+/"),
    "sku": lambda: drawn(2, CAPITALS) + "-" + drawn(4, DIGITS) + "-" + drawn(2, CAPITALS) + drawn(2, DIGITS),
    # --- of single rows ---
    "u_token": lambda: url_safe(48),
    "azclient": lambda: drawn(3) + "8Q~" + drawn(34, ALNUM + "_-.~"),
    "b64u32": lambda: base64_of(32).replace("=", "").replace("+", "-").replace("/", "_"),
    "pem_begin": lambda: "-----BEG" + "IN ",
    "pem_end": lambda: "-----E" + "ND ",
    "pem_kind": lambda: "PRIV" + "ATE KEY-----",
}
