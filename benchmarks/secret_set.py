"""A labelled set for whatever masks secrets: 200 texts with a secret and 2,000 without, half of them kept unseen.

Every key is random material drawn from `random.Random(seed)`; prefixes are put together from pieces, so that no scanner
takes this file for a leak. Templates were written by hand, without a look at any rule. Slots stand between guillemets:
`«S»` the secret, `«name»` a generator of `GEN`, `«a|b|c»` one of the choices.
"""

import base64
import collections
import json
import random
import re
import string
import sys

UP, LO, DG = string.ascii_uppercase, string.ascii_lowercase, string.digits
ALNUM, B64U, HEX = UP + LO + DG, UP + LO + DG + "-_", "0123456789abcdef"
R = random.Random(0)  # replaced for each half


def j(*pieces):
    return "".join(pieces)


def s(n, abc=ALNUM):
    return "".join(R.choice(abc) for _ in range(n))


def u(n):  # url-safe, ends with a letter or digit
    return s(n - 1, B64U) + s(1)


def rb(n):
    return bytes(R.randrange(256) for _ in range(n))


def b64(n):
    return base64.b64encode(rb(n)).decode()


def mix(n, extra=""):
    """a password: has upper, lower, digit (and one of extra), starts and ends with a letter or digit"""
    while True:
        t = s(1) + s(n - 2, ALNUM + extra * 3) + s(1)
        if (
            any(c in UP for c in t)
            and any(c in LO for c in t)
            and sum(c in DG for c in t) >= 2
            and (not extra or any(c in extra for c in t))
        ):
            return t


def uuid():
    h = s(32, HEX)
    return f"{h[:8]}-{h[8:12]}-4{h[13:16]}-{R.choice('89ab')}{h[17:20]}-{h[20:]}"


def b64url(b):
    return base64.urlsafe_b64encode(b).decode().rstrip("=")


def jwt(payload=None, alg="HS256"):
    head = {"alg": alg, "typ": "JWT"} if alg == "HS256" else {"typ": "JWT", "alg": alg, "kid": s(12)}
    pay = payload or {
        "sub": str(R.randrange(10**6, 10**9)),
        "role": R.choice(["admin", "reader", "svc"]),
        "iat": 1760000000 + R.randrange(10**6),
        "exp": 1790000000 + R.randrange(10**6),
    }
    sep = (",", ":")
    return ".".join(
        [
            b64url(json.dumps(head, separators=sep).encode()),
            b64url(json.dumps(pay, separators=sep).encode()),
            b64url(rb(32 if alg == "HS256" else 256)),
        ]
    )


def pem_body(start, n, width=64, glue="\n"):
    t = start + base64.b64encode(rb(n)).decode()
    return glue.join(t[i : i + width] for i in range(0, len(t), width))


T3 = j("T3B", "lbk", "FJ")
GEN = {
    # --- key material -------------------------------------------------------------------------
    "openai_legacy": lambda: j("s", "k-") + s(20) + T3 + s(20),
    "openai_proj": lambda: j("s", "k-", "pr", "oj-") + u(74) + T3 + u(74),
    "openai_proj_short": lambda: j("s", "k-", "pr", "oj-") + s(20) + T3 + s(20),
    "openai_svc": lambda: j("s", "k-", "svc", "acct-") + u(58) + T3 + u(58),
    "openai_admin": lambda: j("s", "k-", "ad", "min-") + u(58) + T3 + u(58),
    "anthropic": lambda: j("s", "k-", "an", "t-api", "03-") + u(93) + "AA",
    "anthropic_admin": lambda: j("s", "k-", "an", "t-admin", "01-") + u(93) + "AA",
    "anthropic_oat": lambda: j("s", "k-", "an", "t-oat", "01-") + u(93) + "AA",
    "az32": lambda: s(32, HEX),
    "az84": lambda: s(52) + j("JQQ", "J99") + s(2, UP) + s(2, UP) + s(8) + s(2) + j("AAAB", "ACOG") + s(4),
    "azsearch": lambda: s(42) + j("Az", "Se") + R.choice("ABCD") + s(5),
    "google": lambda: j("AI", "za", "Sy") + u(33),
    "goauth": lambda: j("GOC", "SPX-") + u(28),
    "ya29": lambda: j("ya", "29.a0") + u(160),
    "aws_id": lambda: j("AK", "IA") + s(16, UP + "234567"),
    "aws_sts": lambda: j("AS", "IA") + s(16, UP + "234567"),
    "aws_secret": lambda: s(1) + s(38, ALNUM + "+/") + s(1),
    "aws_session": lambda: j("IQoJ", "b3JpZ2", "luX2Vj") + s(300, ALNUM + "+/") + "==",
    "ghp": lambda: j("gh", "p_") + s(36),
    "gho": lambda: j("gh", "o_") + s(36),
    "ghs": lambda: j("gh", "s_") + s(36),
    "ghfine": lambda: j("git", "hub_", "pat_") + s(22) + "_" + s(59),
    "glpat": lambda: j("gl", "pat-") + u(20),
    "gldt": lambda: j("gl", "dt-") + u(20),
    "slackb": lambda: j("xo", "xb-") + s(12, DG[1:]) + "-" + s(13, DG[1:]) + "-" + s(24),
    "slackp": lambda: j("xo", "xp-") + s(12, DG[1:]) + "-" + s(12, DG[1:]) + "-" + s(13, DG[1:]) + "-" + s(32, HEX),
    "slackapp": lambda: j("xa", "pp-1-A0") + s(9, UP + DG) + "-" + s(13, DG[1:]) + "-" + s(64, HEX),
    "slackhook": lambda: s(24),
    "stripe": lambda: j("s", "k_li", "ve_") + s(24),
    "stripe_long": lambda: j("s", "k_li", "ve_51") + s(97),
    "stripe_r": lambda: j("r", "k_li", "ve_51") + s(97),
    "whsec": lambda: j("wh", "sec_") + s(32),
    "hf": lambda: j("h", "f_") + s(34, UP + LO),
    "dapi": lambda: j("da", "pi") + s(32, HEX),
    "dapi2": lambda: j("da", "pi") + s(32, HEX) + "-3",
    "sendgrid": lambda: j("S", "G.") + u(22) + "." + u(43),
    "npm": lambda: j("np", "m_") + s(36),
    "pypi": lambda: j("py", "pi-AgEI", "cHlwaS5v", "cmc") + u(150),
    "do": lambda: j("do", "p_v", "1_") + s(64, HEX),
    "telegram": lambda: s(10, DG[1:]) + ":AA" + u(33),
    "twilio_sk": lambda: j("S", "K") + s(32, HEX),
    "groq": lambda: j("gs", "k_") + s(52),
    "langfuse": lambda: j("s", "k-l", "f-") + uuid(),
    "langsmith": lambda: j("ls", "v2_", "pt_") + s(32, HEX) + "_" + s(10, HEX),
    "langsmith_sk": lambda: j("ls", "v2_", "sk_") + s(32, HEX) + "_" + s(10, HEX),
    "pinecone": lambda: j("pc", "sk_") + s(5) + "_" + s(63),
    "uuidkey": uuid,
    "alnum40": lambda: mix(40),
    "alnum32": lambda: mix(32),
    "hex32": lambda: s(32, HEX),
    "hex40": lambda: s(40, HEX),
    "hex64": lambda: s(64, HEX),
    "replicate": lambda: j("r", "8_") + s(37),
    "openrouter": lambda: j("s", "k-o", "r-v1-") + s(64, HEX),
    "xai": lambda: j("xa", "i-") + s(80),
    "pplx": lambda: j("pp", "lx-") + s(48),
    "fireworks": lambda: j("f", "w_") + s(24),
    "deepseek": lambda: j("s", "k-") + s(32, HEX),
    "tavily": lambda: j("tv", "ly-", "dev-") + s(32),
    "notion": lambda: j("nt", "n_") + s(46),
    "linear": lambda: j("lin_", "api_") + s(40),
    "shopify": lambda: j("shp", "at_") + s(32, HEX),
    "mailgun": lambda: j("ke", "y-") + s(32, HEX),
    "mailchimp": lambda: s(32, HEX) + "-us" + R.choice(["6", "12", "21"]),
    "newrelic": lambda: j("NR", "AK-") + s(27, UP + DG),
    "grafana": lambda: j("gl", "sa_") + s(32) + "_" + s(8, HEX),
    "sentry": lambda: (
        j("sntr", "ys_")
        + b64url(json.dumps({"iat": 1760000000, "url": "https://sentry.io", "org": s(6, LO)}).encode())
        + "_"
        + s(43)
    ),
    "airtable": lambda: j("pa", "t") + s(14) + "." + s(64, HEX),
    "atlassian": lambda: j("ATA", "TT3x", "FfGF0") + u(170) + "=" + s(8, HEX.upper()),
    "docker": lambda: j("dck", "r_pat_") + u(27),
    "vault": lambda: j("hv", "s.") + j("CAES", "I") + u(85),
    "doppler": lambda: j("dp", ".pt.") + s(43),
    "postman": lambda: j("PM", "AK-") + s(24, HEX) + "-" + s(34, HEX),
    "discord": lambda: "M" + s(25) + "." + "G" + s(5) + "." + u(38),
    "eleven": lambda: j("s", "k_") + s(48, HEX),
    "nvapi": lambda: j("nv", "api-") + u(64),
    "figma": lambda: j("fi", "gd_") + u(40),
    "pscale": lambda: j("psc", "ale_", "pw_") + u(43),
    "supabase": lambda: j("sb", "p_") + s(40, HEX),
    "age": lambda: j("AGE-SEC", "RET-K", "EY-1") + s(58, "QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L"),
    "jina": lambda: j("ji", "na_") + s(32, HEX) + s(27),
    "voyage": lambda: j("p", "a-") + u(43),
    "tfcloud": lambda: s(14) + j(".atlas", "v1.") + s(67),
    "rubygems": lambda: j("ruby", "gems_") + s(48, HEX),
    "heroku": lambda: j("HR", "KU-") + u(60),
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
        {"iss": "supabase", "ref": s(20, LO), "role": "service_role", "iat": 1700000000, "exp": 2015000000}
    ),
    "pem_rsa": lambda: pem_body(j("MII", "EpAIBAAKCAQEA"), 1180),
    "pem_rsa_short": lambda: pem_body(j("MII", "CXAIBAAKBgQC"), 600),
    "pem_ec": lambda: pem_body(j("MHc", "CAQEEI"), 112),
    "pem_openssh": lambda: pem_body(
        j("b3Blbn", "NzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQAAAAAAAAABAAAAMwAAAAtzc2gtZW"), 250, 70
    ),
    "pem_json": lambda: pem_body(j("MII", "EvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQ"), 1170, 64, "\\n"),
    "pem_ec_json": lambda: pem_body(j("MIG", "HAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg"), 100, 64, "\\n"),
    "storage": lambda: b64(64),
    "sbkey": lambda: b64(32),
    "evhub": lambda: b64(28)[:-2].replace("=", "") + "+AEh" + s(4) + "=",
    "sig": lambda: b64(32).replace("+", "%2B").replace("/", "%2F").replace("=", "%3D"),
    "basic": lambda: base64.b64encode((s(7, LO) + ":" + mix(14, "!#")).encode()).decode(),
    "pw10": lambda: mix(10),
    "pw12": lambda: mix(12),
    "pw14": lambda: mix(14, "!_"),
    "pw16": lambda: mix(16),
    "pwsym": lambda: mix(15, "!#$%*"),
    "pwdash": lambda: "-".join(mix(5) for _ in range(4)),
    "pw20": lambda: mix(20),
    "pw24": lambda: mix(24, "_-"),
    "pwurl": lambda: mix(14, "_.~"),
    "pwpct": lambda: mix(5) + R.choice(["%40", "%23", "%21"]) + mix(6) + R.choice(["%2F", "%3A", "%24"]) + s(2),
    "b64_32": lambda: b64(32),
    "b64_24": lambda: b64(24),
    "hex48": lambda: s(48, HEX),
    # --- ordinary things ------------------------------------------------------------------------
    "uuid": uuid,
    "sha256": lambda: s(64, HEX),
    "sha1": lambda: s(40, HEX),
    "md5": lambda: s(32, HEX),
    "short": lambda: s(7, HEX),
    "sri512": lambda: "sha512-" + b64(64),
    "sri384": lambda: "sha384-" + b64(48),
    "sha256b64": lambda: b64(32),
    "sshfp": lambda: b64(32).rstrip("="),
    "n": lambda: str(R.randrange(2, 99)),
    "nn": lambda: str(R.randrange(100, 9999)),
    "nnn": lambda: str(R.randrange(10**5, 10**7)),
    "ver": lambda: f"{R.randrange(0, 9)}.{R.randrange(0, 30)}.{R.randrange(0, 20)}",
    "date": lambda: f"202{R.randrange(3, 7)}-{R.randrange(1, 13):02d}-{R.randrange(1, 29):02d}",
    "time": lambda: f"{R.randrange(24):02d}:{R.randrange(60):02d}:{R.randrange(60):02d}",
    "ip": lambda: f"10.{R.randrange(256)}.{R.randrange(256)}.{R.randrange(1, 255)}",
    "port": lambda: str(R.choice([3000, 5000, 5432, 6379, 8000, 8080, 8443, 9090, 27017])),
    "person": lambda: R.choice(
        ["Maya", "Tom", "Priya", "Elena", "Jonas", "Aisha", "Diego", "Wei", "Nora", "Felix", "Grace", "Omar"]
    ),
    "jname": lambda: R.choice(
        ["田中", "佐藤", "鈴木", "高橋", "伊藤", "渡辺", "山本", "中村", "小林", "加藤", "吉田", "山田"]
    ),
    "word": lambda: R.choice(
        [
            "orders",
            "billing",
            "search",
            "catalog",
            "reports",
            "inventory",
            "gateway",
            "ingest",
            "profile",
            "ranking",
            "notify",
            "archive",
        ]
    ),
    "day": lambda: R.choice(["Monday", "Tuesday", "Wednesday", "Thursday", "Friday"]),
    "isbn": lambda: f"978-{R.randrange(0, 9)}-{R.randrange(10, 99)}-{R.randrange(100000, 999999)}-{R.randrange(9)}",
    "png": lambda: "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAA" + b64(R.randrange(60, 200)),
    "jpg": lambda: "data:image/jpeg;base64,/9j/4AAQSkZJRgABAQAAAQABAAD" + b64(R.randrange(60, 400)),
    "gif": lambda: "data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7",
    "trace": lambda: f"00-{s(32, HEX)}-{s(16, HEX)}-01",
    "chatid": lambda: "chatcmpl-" + s(29),
    "fp": lambda: "fp_" + s(10, HEX),
    "callid": lambda: "call_" + s(24),
    "sha512": lambda: s(128, HEX),
    "eth": lambda: "0x" + s(40, HEX),
    "pubssh": lambda: j("ssh-ed", "25519 AAAAC3NzaC1lZDI1NTE5AAAAI") + s(43, ALNUM + "+/"),
    "sku": lambda: s(2, UP) + "-" + s(4, DG) + "-" + s(2, UP) + s(2, DG),
}


def fill(t, secret=None):
    def one(m):
        c = m.group(1)
        if c == "S":
            return secret
        if "|" in c:
            return R.choice(c.split("|"))
        return GEN[c]()

    return re.sub("«([^»]*)»", one, t)


BEG, END, PK = "-----BEG" + "IN ", "-----E" + "ND ", "PRIV" + "ATE KEY-----"
SECRETS = {"seen": [], "unseen": []}
HALF = "seen"


def S(kind, gen, text, env=None, conn=None):
    SECRETS[HALF].append((kind, gen, text, env, conn))


# ================================ secrets, first half (seen) =====================================
HALF = "seen"
# keys of services
S(
    "openai key",
    "openai_legacy",
    'Hi, my script says 401. I put openai.api_key = "«S»" at the top of main.py, what else do I need?',
)
S(
    "openai key",
    "openai_legacy",
    "openai.error.AuthenticationError: Incorrect API key provided: «S». You can find your API key at https://platform.openai.com/account/api-keys.",
)
S("openai key", "openai_proj", "OPENAI_API_KEY=«S»\nOPENAI_MODEL=gpt-4o-mini\nLOG_LEVEL=info\n")
S(
    "openai key",
    "openai_proj_short",
    "curl https://api.openai.com/v1/chat/completions -H 'Content-Type: application/json' -H 'Authorization: Bearer «S»' -d '{\"model\":\"gpt-4o\",\"messages\":[]}'",
)
S("openai key", "openai_proj", "このキー「«S»」を使うとレート制限に当たります。上限を上げる方法を教えてください。")
S(
    "openai key",
    "openai_svc",
    '{"provider": "openai", "service_account": "ci-runner", "key": "«S»", "organization": "org-demo"}',
)
S(
    "anthropic key",
    "anthropic",
    'client = anthropic.Anthropic(api_key="«S»")\nmsg = client.messages.create(model="claude-3-5-sonnet-20241022", max_tokens=512, messages=[{"role": "user", "content": "hi"}])',
)
S(
    "anthropic key",
    "anthropic",
    'curl https://api.anthropic.com/v1/messages --header "x-api-key: «S»" --header "anthropic-version: 2023-06-01"',
)
S(
    "azure openai key (32 hex)",
    "az32",
    'AzureOpenAI(azure_endpoint="https://contoso-eus.openai.azure.com/", api_key="«S»", api_version="2024-06-01")',
)
S(
    "azure openai key (32 hex)",
    "az32",
    'curl -s https://contoso-eus.openai.azure.com/openai/deployments?api-version=2023-05-15 -H "api-key: «S»"',
)
S(
    "azure openai key (84)",
    "az84",
    "azure_openai:\n  endpoint: https://contoso-swc.openai.azure.com/\n  deployment: gpt-4o\n  api_key: «S»\n",
)
S(
    "azure openai key (84)",
    "az84",
    "Access denied due to invalid subscription key or wrong API endpoint. Request headers sent: {'api-key': '«S»', 'content-type': 'application/json'}",
)
S(
    "azure ai search key",
    "azsearch",
    "search_client = SearchClient('https://contoso-kb.search.windows.net', 'kb-index', AzureKeyCredential('«S»'))",
)
S("google api key", "google", "genai.configure(api_key='«S»')\nmodel = genai.GenerativeModel('gemini-1.5-flash')")
S(
    "google api key",
    "google",
    "GET https://generativelanguage.googleapis.com/v1beta/models/gemini-1.5-pro:generateContent?key=«S» returned 429 Too Many Requests",
)
S(
    "aws access key id",
    "aws_id",
    "botocore.exceptions.ClientError: An error occurred (InvalidAccessKeyId) when calling the ListBuckets operation: The AWS Access Key Id you provided does not exist in our records: «S»",
)
S("aws secret access key", "aws_secret", "[default]\nregion = eu-west-1\naws_secret_access_key = «S»\n")
S(
    "aws secret access key",
    "aws_secret",
    'session = boto3.Session(region_name="ap-northeast-1", aws_secret_access_key="«S»")',
)
S(
    "github token (classic)",
    "ghp",
    "fatal: Authentication failed for 'https://ci-bot:«S»@github.com/contoso/pipelines.git/'",
)
S(
    "github token (classic)",
    "ghp",
    "Please clone the private repo with this token: «S» and then summarise the README for me.",
)
S("github token (fine-grained)", "ghfine", "- name: checkout\n  run: gh auth login --with-token <<< «S»\n")
S("gitlab token", "glpat", 'curl --header "PRIVATE-TOKEN: «S»" "https://gitlab.example.org/api/v4/projects/42/jobs"')
S(
    "slack bot token",
    "slackb",
    "slack_sdk.WebClient(token='«S»').chat_postMessage(channel='#alerts', text='deploy finished')",
)
S(
    "slack webhook",
    "slackhook",
    "Post the summary to https://hooks.slack.com/services/"
    + "T0«nn»KQ7L/B0«nn»XZ2M/«S» once the evaluation is through.",
)
S(
    "stripe key",
    "stripe",
    "stripe.error.PermissionError: The provided key '«S»' does not have access to account acct_demo (or that account does not exist).",
)
S("hugging face token", "hf", "huggingface-cli login --token «S» --add-to-git-credential")
S(
    "hugging face token",
    "hf",
    "モデルをダウンロードするときに HF_TOKEN=«S» を設定したのですが、403 になってしまいます。",
)
S(
    "databricks token",
    "dapi",
    "export DATABRICKS_HOST=https://adb-«nnn».7.azuredatabricks.net\nexport DATABRICKS_TOKEN=«S»\nmlflow runs list --experiment-id 3",
)
S("sendgrid key", "sendgrid", "const sgMail = require('@sendgrid/mail');\nsgMail.setApiKey('«S»');")
S("npm token", "npm", "//registry.npmjs.org/:_authToken=«S»\nalways-auth=true\n")
S("pypi token", "pypi", "[pypi]\nusername = __token__\npassword = «S»\n")
S("groq key", "groq", 'llm = ChatGroq(model="llama-3.1-70b-versatile", groq_api_key="«S»", temperature=0)')
S(
    "langfuse key",
    "langfuse",
    'langfuse = Langfuse(public_key=settings.public, secret_key="«S»", host="https://cloud.langfuse.com")',
)
S("langsmith key", "langsmith", "LANGCHAIN_TRACING_V2=true\nLANGCHAIN_API_KEY=«S»\nLANGCHAIN_PROJECT=rag-eval\n")
S("pinecone key", "pinecone", 'pc = Pinecone(api_key="«S»")\nindex = pc.Index("handbook")')
S(
    "cohere key",
    "alnum40",
    'co = cohere.Client("«S»")\nresp = co.rerank(model="rerank-english-v3.0", query=q, documents=docs)',
)
S("mistral key", "alnum32", "MISTRAL_API_KEY=«S» python agent.py --model mistral-large-latest")
S("digitalocean token", "do", "doctl auth init -t «S»  # pasted from the wiki, rotate later")
S(
    "telegram bot token",
    "telegram",
    "requests.exceptions.ConnectionError: HTTPSConnectionPool(host='api.telegram.org', port=443): Max retries exceeded with url: /bot«S»/sendMessage",
)
S("twilio auth token", "hex32", "twilio:\n  from: '+15005550006'\n  auth_token: «S»\n")
S("openrouter key", "openrouter", "I am using OpenRouter with «S» but the model list comes back empty, why?")
S("replicate token", "replicate", 'REPLICATE_API_TOKEN: "«S»"\nREPLICATE_MODEL: "meta/llama-2-70b-chat"')
S(
    "grafana token",
    "grafana",
    "[«date» «time»] DEBUG grafana.client headers={'Authorization': 'Bearer «S»'} GET /api/dashboards/home",
)
S(
    "google oauth client secret",
    "goauth",
    '{"installed": {"client_id": "«nnn»-demo.apps.googleusercontent.com", "client_secret": "«S»", "redirect_uris": ["http://localhost"]}}',
)
# jwt
S("jwt", "jwt", "Why is this token rejected by my API? «S» It should still be valid until next month.")
S(
    "jwt",
    "jwt_rs",
    "azure.core.exceptions.ClientAuthenticationError: (InvalidAuthenticationToken) The access token is invalid. Token: «S»",
)
S("jwt", "jwt", "Set-Cookie: session=«S»; Path=/; HttpOnly; SameSite=Lax")
# pem
S(
    "private key (RSA)",
    "pem_rsa",
    "Here is my key, can you tell me whether the format is right?\n"
    + BEG
    + "RSA "
    + PK
    + "\n«S»\n"
    + END
    + "RSA "
    + PK
    + "\nThanks!",
)
S(
    "private key (JSON)",
    "pem_json",
    '{"type": "service_account", "project_id": "demo-«n»", "private_key": "'
    + BEG
    + PK
    + "\\n«S»\\n"
    + END
    + PK
    + '\\n", "client_email": "svc@demo.iam.gserviceaccount.com"}',
)
S(
    "private key (OPENSSH)",
    "pem_openssh",
    "$ cat ~/.ssh/id_ed25519\n" + BEG + "OPENSSH " + PK + "\n«S»\n" + END + "OPENSSH " + PK,
)
S("private key (EC)", "pem_ec", "tls.key: |\n  " + BEG + "EC " + PK + "\n«S»\n  " + END + "EC " + PK)
# URLs
S(
    "url password (postgresql)",
    "pwurl",
    "sqlalchemy.exc.OperationalError: could not connect using postgresql://mlflow:«S»@pg-primary.internal:5432/mlflow?sslmode=require",
)
S("url password (postgresql)", "pw16", "DATABASE_URL=postgres://reporting:«S»@10.2.0.14/analytics")
S("url password (mysql)", "pwpct", 'engine = create_engine("mysql+pymysql://root:«S»@mysql:3306/shop")')
S(
    "url password (mongodb)",
    "pw12",
    "MongoServerSelectionError: connection to mongodb+srv://appuser:«S»@cluster0.ab1cd.mongodb.net/prod timed out",
)
S("url password (redis)", "pw20", "celery -A tasks worker -b redis://:«S»@redis-master:6379/0 --loglevel=info")
S("url password (amqp)", "pw14", "broker_url: amqp://events:«S»@rabbit.svc.cluster.local:5672/%2Fprod")
S("url password (https)", "pw16", "wget https://deploy:«S»@artifacts.example.net/releases/app-2.3.1.tar.gz")
S("url password (proxy)", "pw12", "export HTTPS_PROXY=http://svc-proxy:«S»@proxy.corp.example:3128")
# connection strings
S(
    "azure storage account key",
    "storage",
    "DefaultEndpointsProtocol=https;AccountName=contosodata;AccountKey=«S»;EndpointSuffix=core.windows.net",
)
S(
    "azure storage account key",
    "storage",
    'svc = BlobServiceClient.from_connection_string("DefaultEndpointsProtocol=https;AccountName=evalruns;AccountKey=«S»;EndpointSuffix=core.windows.net")',
)
S(
    "service bus key",
    "sbkey",
    "Endpoint=sb://contoso-bus.servicebus.windows.net/;SharedAccessKeyName=RootManageSharedAccessKey;SharedAccessKey=«S»",
)
S(
    "sql server password",
    "pwdash",
    "Server=tcp:contoso-sql.database.windows.net,1433;Initial Catalog=crm;User ID=appadmin;Password=«S»;Encrypt=True;Connection Timeout=30;",
)
S("cosmos db key", "storage", "AccountEndpoint=https://contoso-cosmos.documents.azure.com:443/;AccountKey=«S»;")
S(
    "sas signature",
    "sig",
    "https://contosodata.blob.core.windows.net/datasets/train.csv?sv=2022-11-02&st=2025-01-05T00%3A00%3A00Z&se=2027-01-05T00%3A00%3A00Z&sr=b&sp=r&sig=«S»",
)
S(
    "sas signature",
    "sig",
    "azcopy copy ./out 'https://evalruns.blob.core.windows.net/logs?sp=racwl&se=2026-12-31&sv=2023-01-03&sr=c&sig=«S»' --recursive",
)
# headers
S(
    "authorization bearer",
    "alnum40",
    "POST /v1/score HTTP/1.1\nHost: ml.contoso.com\nAuthorization: Bearer «S»\nContent-Type: application/json\n",
)
S("authorization basic", "basic", "curl -X GET https://jenkins.example.com/api/json -H 'Authorization: Basic «S»'")
S(
    "authorization bearer",
    "u_token",
    "{'headers': {'authorization': 'bearer «S»', 'user-agent': 'python-httpx/0.27.0'}, 'timeout': 30}",
)
# literals in code, config, logs
S("password literal", "pw14", 'conn = psycopg2.connect(host="db", dbname="app", user="app", password="«S»")')
S("password literal", "pwsym", "smtp:\n  host: smtp.example.com\n  user: noreply@example.com\n  password: '«S»'\n")
S("password literal", "pw12", "mysql -h db.internal -u admin --password=«S» -e 'show processlist'")
S("password in japanese", "pw12", "社内 Wi-Fi のパスワードは «S» です。会議室の PC にも設定しておいてください。")
S("secret literal", "hex48", "app.config['SECRET_KEY'] = '«S»'\napp.config['SESSION_COOKIE_SECURE'] = True")
S(
    "client secret",
    "azclient",
    'credential = ClientSecretCredential(tenant_id=TENANT, client_id=CLIENT, client_secret="«S»")',
)
S("token literal", "alnum32", "const res = await fetch(url, { headers: { 'X-Auth-Token': '«S»' } });")
S(
    "traceback",
    "pw16",
    'Traceback (most recent call last):\n  File "/app/db.py", line 31, in connect\n    return pymysql.connect(host=HOST, user="etl", passwd="«S»", db="dwh")\npymysql.err.OperationalError: (2003, "Can\'t connect to MySQL server on \'dwh\' (timed out)")',
)
S(
    "api key literal",
    "alnum40",
    "«date» «time» INFO weather.tool calling with params {'q': 'Osaka', 'units': 'metric', 'apikey': '«S»'}",
)
# known from an environment variable
S(
    "environment value",
    "pw12",
    "psql: the server said no, I typed «S» three times and it still fails",
    {"PGPASSWORD": "«S»", "PGUSER": "app", "LANG": "C.UTF-8"},
)
S(
    "environment value",
    "az32",
    "The endpoint answered 401, we sent «S» as it stands in the portal.",
    {"AZURE_OPENAI_KEY": "«S»", "AZURE_OPENAI_ENDPOINT": "https://contoso-eus.openai.azure.com/"},
)
S(
    "environment value",
    "pw16",
    "debug dump: host=pg-1 user=etl extra=«S» retries=3",
    {"DB_PASS": "«S»", "DB_HOST": "pg-1", "DB_USER": "etl"},
)
S(
    "environment value",
    "pwurl",
    "Failed to open postgresql://svc:«S»@pg-2/ml: FATAL: too many connections",
    {"DATABASE_URL": "postgresql://svc:«S»@pg-2/ml"},
)
S(
    "environment value (part)",
    "pw16",
    "asyncpg.exceptions.InvalidAuthorizationSpecificationError: user svc presented «S» which the server does not accept",
    {"DATABASE_URL": "postgresql://svc:«S»@pg-7:5432/features", "HOME": "/root"},
)
S(
    "environment value (part)",
    "storage",
    "ValueError: cannot decode «S» as base64 when signing the request",
    {
        "STORAGE_CONNECTION_STRING": "DefaultEndpointsProtocol=https;AccountName=runsblob;AccountKey=«S»;EndpointSuffix=core.windows.net"
    },
)
S(
    "environment value",
    "hex40",
    "remote: Invalid credentials, got «S»\nfatal: unable to access the repository",
    {"GH_PAT": "«S»"},
)
S(
    "environment value",
    "pw20",
    "smtplib.SMTPAuthenticationError: (535, b'5.7.8 Error: authentication failed: «S»')",
    {"SMTP_PASSWORD": "«S»", "SMTP_HOST": "mail.example.com", "SMTP_PORT": "587"},
)
S(
    "environment value",
    "alnum32",
    "The proxy in front of the model logged the value «S» in plain text, please summarise the risk.",
    {"OPENAI_API_KEY": "«S»", "OPENAI_BASE_URL": "http://gateway:8080/v1"},
)
S(
    "environment value",
    "alnum40",
    "サーバーに «S» を送ったところ、権限がありませんと表示されました。",
    {"MLFLOW_TRACKING_TOKEN": "«S»", "MLFLOW_TRACKING_URI": "http://mlflow:5000"},
)
S(
    "environment value",
    "b64_32",
    "jwt.exceptions.InvalidSignatureError raised, verified with «S» and leeway 10",
    {"JWT_SECRET": "«S»", "APP_ENV": "production"},
)
S(
    "environment value",
    "pwsym",
    'The tool returned: ["guest", "«S»", "vhost-a"]',
    {"RABBITMQ_DEFAULT_PASS": "«S»", "RABBITMQ_DEFAULT_USER": "guest"},
)
# known from a connection
S(
    "connection value",
    "az32",
    "Request options: {'base': 'https://contoso-fr.openai.azure.com', 'k': '«S»', 'v': '2024-02-01'}",
    None,
    ["«S»"],
)
S("connection value", "pw16", "tool output: ('analytics-db', 5432, 'reader', '«S»')", None, ["«S»", "reader-eu"])
S("connection value", "alnum40", "The plugin was called as lookup('Kyoto', '«S»') and came back empty.", None, ["«S»"])
S("connection value", "uuidkey", "HTTP 403 from vector store; caller identified itself as «S»", None, ["«S»"])
S("connection value", "pw12", "「«S»」という値がログに残っていますが、消してもよいですか。", None, ["«S»"])
S(
    "connection value",
    "b64_24",
    "repr(cfg) -> Config(name='serp', value='«S»', region='jp')",
    None,
    ["«S»", "serp-jp-primary-01"],
)
S(
    "long text with a key",
    "openai_legacy",
    "I followed the tutorial step by step. First I created a virtual environment and installed the packages, then I wrote the flow with three nodes: one that reads the question, one that looks up passages in the index, and one that asks the model. The second node works on its own. When I run all of it, the third node stops after about two seconds. My colleague thinks that the proxy rewrites the request; I think that the deployment name is wrong. I attach the whole configuration below, since I do not know which line matters.\n\nname: qa-flow\nenvironment: python-3.11\nnodes:\n  - name: read\n    type: python\n  - name: lookup\n    type: python\n    inputs: {top_k: 5, index: handbook}\n  - name: answer\n    type: llm\n    inputs: {model: gpt-4o, max_tokens: 800, temperature: 0.2}\nconnection:\n  kind: open_ai\n  api_key: «S»\n  base: https://api.openai.com/v1\n\nThe error only says that the request could not be authorised. Could you tell me where to look first? I would also like to know whether the number of tokens matters here, since the prompt is rather long, and whether I may raise the limit for a test.",
)
GEN["u_token"] = lambda: u(48)
GEN["azclient"] = lambda: s(3) + "8Q~" + s(34, ALNUM + "_-.~")

# ================================ secrets, second half (unseen) ==================================
HALF = "unseen"
S(
    "openai key",
    "openai_proj",
    "Error code: 401 - {'error': {'message': 'Incorrect API key provided: «S». Please check your dashboard.', 'type': 'invalid_request_error', 'code': 'invalid_api_key'}}",
)
S("openai key", "openai_proj", 'const openai = new OpenAI({ apiKey: "«S»", maxRetries: 2 });')
S("openai key", "openai_legacy", "docker run --rm -e OPENAI_API_KEY=«S» -p 8501:8501 acme/chat-ui:1.4")
S("openai key", "openai_legacy", "is «S» an old style key or a new one")
S(
    "openai key",
    "openai_svc",
    "litellm.AuthenticationError: OpenAIException - key=«S» is not allowed to call model=gpt-4.1",
)
S(
    "openai key",
    "openai_admin",
    'Invoke-RestMethod -Uri https://api.openai.com/v1/organization/users -Headers @{ Authorization = "Bearer «S»" }',
)
S("anthropic key", "anthropic", "ANTHROPIC_API_KEY: «S»   # Northwind sandbox")
S(
    "anthropic key",
    "anthropic_oat",
    "claude のトークン(«S»)をチャットに貼ってしまいました。無効にする手順を教えてください。",
)
S(
    "anthropic key",
    "anthropic_admin",
    '{"name":"usage-report","env":{"ANTHROPIC_ADMIN_KEY":"«S»"},"schedule":"0 6 * * 1"}',
)
S(
    "azure openai key (32 hex)",
    "az32",
    "$headers = @{ 'api-key' = '«S»' }\nInvoke-WebRequest -Headers $headers -Uri $endpoint",
)
S(
    "azure openai key (32 hex)",
    "az32",
    '[connections.northwind_aoai]\ntype = "azure_open_ai"\napi_base = "https://northwind.openai.azure.com"\napi_key = "«S»"\n',
)
S("azure openai key (84)", "az84", "llm = AzureChatOpenAI(azure_deployment='o3-mini', openai_api_key='«S»')")
S("azure openai key (84)", "az84", "ポータルでコピーした値は «S» ですが、これをどこに設定すればよいでしょうか?")
S(
    "azure ai search key",
    "azsearch",
    'POST https://northwind-idx.search.windows.net/indexes/docs/docs/search?api-version=2024-07-01\napi-key: «S»\n\n{"search": "*"}',
)
S("azure ai search key", "azsearch", "SEARCH_ADMIN_KEY=«S»;SEARCH_INDEX=docs-v2")
S(
    "google api key",
    "google",
    '<script src="https://maps.googleapis.com/maps/api/js?libraries=places&key=«S»"></script>',
)
S("google access token", "ya29", "gcloud auth print-access-token\n«S»\n$ bq ls")
S(
    "aws access key id",
    "aws_sts",
    'aws sts get-session-token printed "AccessKeyId": "«S»", and then the pipeline failed with ExpiredToken',
)
S("aws secret access key", "aws_secret", '"SecretAccessKey": "«S»",\n"Expiration": "2026-02-01T10:00:00Z"')
S(
    "aws secret access key",
    "aws_secret",
    "os.environ['AWS_SECRET_ACCESS_KEY'] = '«S»'\nbedrock = boto3.client('bedrock-runtime', 'us-west-2')",
)
S("aws session token", "aws_session", 'export AWS_SESSION_TOKEN="«S»"\naws s3 ls s3://northwind-lake/')
S(
    "github token (classic)",
    "gho",
    "urllib3: Starting new HTTPS connection: api.github.com:443 headers {'Authorization': 'token «S»'}",
)
S("github token (app)", "ghs", "git remote -v\norigin  https://x-access-token:«S»@github.com/northwind/web (fetch)")
S(
    "github token (fine-grained)",
    "ghfine",
    "from github import Github\ng = Github('«S»')\nfor r in g.get_user().get_repos(): print(r.name)",
)
S("gitlab token", "glpat", "git clone https://oauth2:«S»@gitlab.northwind.example/data/etl.git")
S(
    "gitlab deploy token",
    "gldt",
    "helm repo add internal https://gitlab.northwind.example/api/v4/projects/9/packages/helm/stable --username deployer --password «S»",
)
S("slack user token", "slackp", "The export script in the wiki still contains «S», who owns that account?")
S("slack app token", "slackapp", "SocketModeHandler(app, app_token='«S»').start()")
S(
    "slack webhook",
    "slackhook",
    "SLACK_URL = 'https://hooks.slack.com/services/"
    + "T7«nn»PDQ1/B5«nn»RRV8/«S»'\nhttpx.post(SLACK_URL, json={'text': 'nightly run is red'})",
)
S("stripe key", "stripe_long", "Stripe::AuthenticationError (Invalid API Key provided: «S»)\napp/services/charge.rb:18")
S("stripe restricted key", "stripe_r", "payments:\n  provider: stripe\n  restricted: «S»\n  currency: jpy\n")
S("stripe webhook secret", "whsec", "event = stripe.Webhook.construct_event(payload, sig_header, '«S»')")
S("hugging face token", "hf", "pipeline('text-generation', model='google/gemma-2-9b', use_auth_token='«S»')")
S("databricks token", "dapi2", '{"host": "https://dbc-«nn»a.cloud.databricks.com", "token": "«S»"}')
S(
    "sendgrid key",
    "sendgrid",
    "HTTP Error 401 Unauthorized while sending with «S»: The provided authorization grant is invalid",
)
S("npm token", "npm", 'RUN echo "//npm.northwind.example/:_authToken=«S»" > .npmrc && npm ci')
S("pypi token", "pypi", "twine upload dist/* -u __token__ -p «S»")
S("digitalocean token", "do", 'provider "digitalocean" {\n  token = "«S»"\n}\n')
S(
    "telegram bot token",
    "telegram",
    "ボットのトークンは «S» です。これで getUpdates を呼ぶ Python のコードを書いてください。",
)
S("twilio auth token", "hex32", "client = Client('AC' + account, \"«S»\")  # account sid, auth token")
S("groq key", "groq", "groq.APIStatusError: 401 for key «S» at 2026-02-11T04:12:55Z")
S("langfuse key", "langfuse", 'LANGFUSE_SECRET_KEY="«S»"\nLANGFUSE_HOST="https://us.cloud.langfuse.com"')
S("langsmith key", "langsmith_sk", "langsmith.utils.LangSmithAuthError: x-api-key «S» was refused for /runs/multipart")
S("pinecone key", "uuidkey", 'pinecone.init(api_key="«S»", environment="us-east1-gcp")')
S("cohere key", "alnum40", "COHERE_API_KEY='«S»' streamlit run rerank_demo.py")
S("mistral key", "alnum32", '{"model": "open-mixtral-8x22b", "mistralApiKey": "«S»"}')
S("xai key", "xai", "base_url=https://api.x.ai/v1 with «S» gives 'model not found', which name should I use?")
S("perplexity key", "pplx", 'headers = {"Authorization": f"Bearer «S»", "accept": "application/json"}')
S("deepseek key", "deepseek", "deepseek-chat を «S» で呼び出していますが、残高不足のエラーになります。")
S("tavily key", "tavily", "search = TavilySearchResults(max_results=3, tavily_api_key='«S»')")
S("nvidia key", "nvapi", "NVIDIA_API_KEY=«S»\nNIM_MODEL=meta/llama-3.3-70b-instruct\n")
S("notion token", "notion", "const notion = new Client({ auth: '«S»' })")
S(
    "linear key",
    "linear",
    'curl https://api.linear.app/graphql -H "Authorization: «S»" --data \'{"query":"{ viewer { id } }"}\'',
)
S("shopify token", "shopify", "X-Shopify-Access-Token: «S»\nGET /admin/api/2024-10/products.json")
S("mailchimp key", "mailchimp", "mailchimp.set_config({'api_key': '«S»', 'server': 'us12'})")
S("docker token", "docker", "docker login -u nwbuild -p «S» docker.io")
S("vault token", "vault", "vault login «S»\nSuccess! You are now authenticated.")
S(
    "atlassian token",
    "atlassian",
    "jira = JIRA('https://northwind.atlassian.net', basic_auth=('bot@northwind.example', '«S»'))",
)
S("discord token", "discord", "discord.py: client.run('«S»') raises LoginFailure: Improper token has been passed.")
# jwt
S("jwt", "jwt_supabase", "NEXT_PUBLIC_URL=https://demo.supabase.co\nSUPABASE_SERVICE_ROLE_KEY=«S»")
S("jwt", "jwt_rs", '{"token_type":"Bearer","expires_in":3599,"access_token":"«S»"}')
# pem
S(
    "private key (RSA)",
    "pem_rsa_short",
    "openssl rsa: unable to load\n" + BEG + "RSA " + PK + "\n«S»\n" + END + "RSA " + PK + "\nexit status 1",
)
S("private key (JSON)", "pem_ec_json", '{"team": "NW7", "apns": {"p8": "' + BEG + PK + "\\n«S»\\n" + END + PK + '"}}')
S(
    "private key (OPENSSH)",
    "pem_openssh",
    'DEPLOY_KEY = """' + BEG + "OPENSSH " + PK + "\n«S»\n" + END + "OPENSSH " + PK + '"""',
)
S("age key", "age", "# created: 2026-01-09T08:00:00Z\n# public key: age1demo\n«S»")
# URLs
S(
    "url password (postgresql)",
    "pwpct",
    "alembic.util.exc.CommandError: Can't reach postgresql+asyncpg://nwapp:«S»@/nw?host=/var/run/postgresql",
)
S("url password (mysql)", "pw12", "spring.datasource.url=jdbc:mysql://nw_ro:«S»@mariadb.northwind.example:3307/erp")
S("url password (mongodb)", "pwurl", "mongosh 'mongodb://ops:«S»@mongo-0.mongo,mongo-1.mongo/admin?replicaSet=rs0'")
S(
    "url password (redis)",
    "b64u32",
    "await createClient({ url: 'rediss://default:«S»@nw-cache.redis.cache.windows.net:6380' }).connect()",
)
S(
    "url password (amqp)",
    "pw16",
    "pika.exceptions.ProbableAuthenticationError while opening amqps://nw-pub:«S»@b-77.mq.eu-west-1.amazonaws.com:5671",
)
S("url password (https)", "pw12", "https://nightly:«S»@grafana.northwind.example/api/health から応答がありません。")
S("url password (proxy)", "pwpct", "pip install --proxy http://jsmith:«S»@10.40.1.9:8080 pandas")
# connection strings
S(
    "azure storage account key",
    "storage",
    "az storage blob list --account-name nwarchive --account-key «S» --container-name raw",
)
S(
    "service bus key",
    "evhub",
    "EVENTHUB_CONN='Endpoint=sb://nw-hub.servicebus.windows.net/;SharedAccessKeyName=send;SharedAccessKey=«S»;EntityPath=telemetry'",
)
S(
    "sql server password",
    "pwsym",
    "pyodbc.connect('DRIVER={ODBC Driver 18 for SQL Server};SERVER=nw-sql;DATABASE=hr;UID=sa;PWD=«S»')",
)
S("cosmos db key", "storage", "CosmosClient(url='https://nw-docs.documents.azure.com:443/', credential='«S»')")
S(
    "sas signature",
    "sig",
    "pd.read_parquet('https://nwarchive.dfs.core.windows.net/raw/a.parquet?sig=«S»&se=2026-08-01T00%3A00%3A00Z&sv=2021-06-08&sp=rl&sr=d')",
)
# headers
S(
    "authorization basic",
    "basic",
    "> GET /rest/api/2/myself HTTP/2\n> host: wiki.northwind.example\n> authorization: Basic «S»\n> accept: */*",
)
S("authorization bearer", "u_token", "http.get(url, headers: { 'Authorization' => 'Bearer «S»' })")
S("ocp-apim-subscription-key", "hex32", "Ocp-Apim-Subscription-Key: «S»\nOcp-Apim-Subscription-Region: japaneast")
# literals
S("password literal", "pwdash", "ldapsearch -x -D 'cn=reader,dc=nw,dc=example' -w '«S»' -b 'dc=nw,dc=example'")
S("password literal", "pw16", '<add key="ErpPassword" value="«S»" />')
S("password in japanese", "pw10", "仮パスワード:«S»(初回ログイン後に必ず変更してください)")
S("secret literal", "b64_32", "const signer = jwtSign(payload, { clientSecret: '«S»' });")
S(
    "traceback",
    "alnum32",
    'Traceback (most recent call last):\n  File "run.py", line 8, in <module>\n    translate(text, auth_key="«S»")\nTypeError: translate() got an unexpected keyword argument \'auth_key\'',
)
# environment
S(
    "environment value",
    "pw14",
    "I see the literal «S» in the container's process list, is that a problem?",
    {"MYSQL_ROOT_PASSWORD": "«S»", "TZ": "Asia/Tokyo"},
)
S(
    "environment value",
    "pw20",
    "step 4/9: connecting as nwapp / «S» ... refused",
    {"DB_PASSWORD": "«S»", "DB_NAME": "nw"},
)
S(
    "environment value",
    "hex40",
    "wandb: ERROR call failed, value «S» is not 40 characters of the right account",
    {"WANDB_API_KEY": "«S»", "WANDB_PROJECT": "evals"},
)
S(
    "environment value (part)",
    "pw16",
    "MongoParseError near '«S»' while splitting the authority part",
    {"MONGO_URI": "mongodb://nw:«S»@mongo/nw", "PWD": "/srv/app"},
)
S("environment value", "uuidkey", "検索サービスが «S» を受け付けませんでした(エラー 403)。", {"SEARCH_API_KEY": "«S»"})
S(
    "environment value",
    "b64_24",
    "django.core.exceptions.ImproperlyConfigured: value «S» is too short",
    {"DJANGO_SECRET_KEY": "«S»", "DEBUG": "0"},
)
# connection
S("connection value", "pw12", "Snowflake answered: 390100 (08004) for nw_loader with «S»", None, ["«S»"])
S(
    "connection value",
    "alnum32",
    "args=['--endpoint', 'https://nw.example/score', '--cred', '«S»']",
    None,
    ["«S»", "nw-scoring"],
)
S("connection value", "hex64", "The assistant repeated the system prompt, including «S», to the user.", None, ["«S»"])
S("connection value", "az32", "入力: {'text': '天気は?', 'conn': '«S»'}", None, ["«S»"])
S(
    "long text with a password",
    "pwsym",
    "Minutes of the operations meeting. Present were the on-call engineer, the product owner and two people from the data team. We went through the incidents of the past two weeks. The first was a slow start of the search service after the update; it turned out that the cache had been emptied, and the warm-up job now runs before the switch. The second was a failed import of the price list, which was caused by a column that the supplier had renamed. We agreed to check the header row before loading. The third was the mail server. Since the change of provider nobody could send reports, as the old account was still configured. The new settings are: host mail.northwind.example, port 465, user reports@northwind.example, password «S» and TLS must be on. The data team will move these settings to the vault by Friday. Next we talked about the budget. The evaluation runs cost about three times what we had planned, mostly since every run used the large model. From now on the nightly runs use the small model, and only the weekly run uses the large one. The product owner asked for a chart of the cost per answer. Lastly, the date of the next release was moved by one week. The release notes are to be written in English and Japanese; the help desk translates them. The meeting closed at half past four.",
)
S("server password", "pw12", "ssh tanaka@10.3.7.21 のあと sudo のパスワードを聞かれたら «S» と入力してください。")
GEN["b64u32"] = lambda: b64(32).replace("=", "").replace("+", "-").replace("/", "_")

HALF = "seen"
S(
    "environment value",
    "pw16",
    "ftplib.error_perm: 530 Login incorrect (sent: USER upload / PASS «S»)",
    {"FTP_PASSWORD": "«S»", "FTP_USER": "upload"},
)
S(
    "environment value",
    "hex64",
    "hmac mismatch; expected signature made with «S»",
    {"WEBHOOK_SIGNING_SECRET": "«S»", "PORT": "8080"},
)
S("connection value", "pwdash", "kafka: SASL handshake sent ['PLAIN', 'evals', '«S»']", None, ["«S»"])
HALF = "unseen"
S(
    "environment value",
    "pw12",
    "keytool error: keystore was tampered with, or «S» was incorrect",
    {"KEYSTORE_PASSPHRASE": "«S»", "JAVA_HOME": "/usr/lib/jvm/17"},
)
S(
    "environment value",
    "alnum40",
    "curl: option --user nw:«S»: is badly used here",
    {"NEXUS_TOKEN": "«S»", "NEXUS_URL": "https://nexus.northwind.example"},
)
S("connection value", "b64_32", "SerpResult(error='quota', debug='k=«S»&q=udon')", None, ["«S»"])

# ================================ ordinary sentences ==============================================
# one template a line, ⏎ is a line break
EN, JA, CODE = {}, {}, {}
EN["seen"] = r"""
How do I reset my password «on the mobile app|on the website|for the staff portal|if I no longer have the old e-mail address»?
I forgot my password and the reset link «has expired|never arrives|opens a blank page|went to the spam folder»; what now?
A good password is long and unique, and you should «never share it|change it after a leak|keep it in a password manager|not write it on a note».
Password must be at least «n» characters and contain «a digit|an upper-case letter|a symbol|no spaces».
The token limit of «gpt-4o-mini-2024-07-18|gpt-4-turbo-2024-04-09|gpt-3.5-turbo-0125|claude-3-haiku-20240307» was reached after «nn» tokens.
Unexpected token: identifier «"foo"|"let"|"await"|"of"» at line «n», column «n»
SyntaxError: Unexpected token '«<|}|)|else|:»' in JSON at position «nn»
The secret of a good «soup|bread|sauce|curry|pie crust» is patience and «salt|butter|fresh herbs|a hot pan|good stock».
My grandmother kept the key to the «cellar|garden gate|piano|old trunk|shed» under a «flower pot|stone|loose brick|mat».
Bearer bonds were popular in the «1970s|1980s|nineteenth century» because they could be passed on without «registration|a signature|paperwork».
The ring bearer walked down the aisle at «time» and dropped the «cushion|ring|flowers».
Order «sku» was shipped on «date» and should reach «Lyon|Porto|Graz|Turku|Leeds» within «n» days.
Commit «sha1» fixes the «flaky test|memory leak|wrong time zone|off-by-one error» in the «word» service.
Reverted in «short» because the «word» job failed on «day».
The SHA-256 digest of the installer is «sha256», please compare it before you run it.
Request id «uuid» failed with status «500|502|503|504» after «n» seconds.
Your ticket «uuid» was assigned to «person» on «date».
Version «ver» of the «word» library drops support for Python 3.«8|9|10» and needs pydantic «ver» or later.
The meeting with «person» was moved from «date» to «day», same room as before.
See https://docs.example.com/«word»/guide?lang=en&version=«ver»#install for the steps.
https://shop.example.com/search?q=«desk+lamp|rain+coat|tea+pot|bike+light»&page=«n»&sort=price_asc&utm_source=newsletter shows no results.
Write to «person»@example.org or support+«word»@example.com if the «link|invoice|ticket|voucher» does not work.
The file /var/lib/«word»/data/«date»/part-00«n».parquet is missing on the «first|second|third» node.
C:\Users\«person»\Documents\«word»\report-«date».xlsx cannot be opened because it is in use.
Her book (ISBN «isbn») was translated into «nine|twelve|four|twenty» languages.
The image «png» is shown in the «header|footer|mail signature|login page».
Use of «N-acetyl-L-cysteine|2,4-dinitrophenylhydrazine|tetrahydrofuran-2-carboxylic acid|1-ethyl-3-methylimidazolium» in the lab needs «gloves|a fume hood|a second person|a note in the log».
The component sk-«circle-fade-dot|cube-grid|folding-cube|three-bounce|chasing-dot» renders a spinner while the «table|chart|list|page» loads.
Please rename the «feature-flag-rollout-percentage|max-number-of-retries-before-failure|use-legacy-renderer-for-tables» option to something shorter.
The column customer_«primary_contact_email_opt_in|segment_last_updated_at|lifetime_value_bucket» is null in «n» rows.
The access token expires after «n» minutes, and the client must ask for a new one with the refresh token.
What is the difference between an API key and an OAuth token for «a mobile app|a server job|a browser extension|an internal tool»?
We rotate our keys every «n» days and store them in «Key Vault|Secrets Manager|an HSM|the vault» only.
The tokenizer splits the word "«unbelievable|internationalization|strawberry|hovercraft»" into «n» tokens.
Foreign key constraint fails on table «word» (column customer_id references customers.id).
Primary key violation: duplicate value «nnn» in table «word».
Press any key to continue, or hold the «Shift|Ctrl|Alt|Option» key to skip the «intro|check|update».
The «key takeaway|secret ingredient|password policy|token ring» was explained on page «nn» of the handbook.
Authentication failed: the password you entered for «person» is wrong. «Two|Three|Four» tries are left.
401 Unauthorized: no Authorization header was sent with the request to /«word»/v1.
Error: the environment variable OPENAI_API_KEY is not set. «Set it and try again.|See the README.|The flow stops here.»
Set the header Authorization: Bearer <token> and «send the request again|check the status code|read the answer as JSON».
Replace YOUR_API_KEY with the key shown in the «portal|dashboard|console|settings page» before you run the sample.
Incorrect API key provided: sk-****. You can find yours on the «account page|dashboard|settings page».
The connection string has the form postgresql://<user>:<password>@<host>/<database>, with port «port» by default.
Redis is listening on redis://localhost:«port»/«n» and needs no login in the test setup.
Completion «chatid» used «nn» prompt tokens and «nn» completion tokens (system fingerprint «fp»).
MLflow run «md5» finished with accuracy 0.«nn» on «date».
The traceparent header was «trace», so the span belongs to the «word» service.
Tool call «callid» returned «an empty list|a table with three rows|the current weather|a time-out».
Model gpt-4o-2024-08-06 answered in «n» seconds while text-embedding-3-large took «n».
Docker image registry.example.com/«word»@sha256:«sha256» is «n» MB large.
The public key «pubssh» may be added to the authorized_keys file of «person».
Who shares the secret of the «Bermuda Triangle|Mona Lisa|Voynich manuscript|lost colony» with the reader in chapter «n»?
«person» said that the basic idea of the plan is sound, but the «basic income|basic training|basic research» part needs work.
Sign in with your work account; single sign-on needs no «password|extra token|smart card» on managed devices.
The flight leaves at «time» from gate B«n», the booking code is on the «ticket|screen|boarding pass».
Latitude 35.«nnn», longitude 139.«nnn», altitude «n» m, measured on «date»T«time»Z.
The ETag "«md5»" did not match, so the «page|file|picture» was fetched again.
Can you explain «salting|hashing|peppering|key stretching» of passwords to a «ten-year-old|new developer|manager» in two sentences?
The game gives you «n» tokens for each «level|boss|secret room|daily quest» you finish.
A secret ballot was held on «date», and «nn» members voted.
arn:aws:iam::«nnn»00000:role/«word»-reader is allowed to read s3://example-«word»-bucket/«date»/.
The contract 0x-style address «eth» appears «n» times in the report on «word».
Release notes «ver»: faster start, fewer «warnings|crashes|clicks», and a new icon for the key «vault|ring|chain».
Port «port» is already in use by process «nnn»; stop it or choose «another|a free|a higher» one.
Turn right at the «church|bakery|library|station», the key box is next to the «blue|green|red» door.
The model gave the answer "«Paris|Canberra|Ottawa|Ankara»" with a score of 0.«nn», which is correct.
Translate into French: The «keys|tokens|secrets|passwords» of the old house were «lost|sold|hidden|forgotten» in the war.
Warning: sequence length («nn» tokens) is longer than the maximum («nn») for this model.
"""
EN["unseen"] = r"""
«person» asked whether the new password rules also hold for «service accounts|guests|interns|shared mailboxes».
Two-factor sign-in sends a code to your «phone|watch|tablet» after you have typed your password, so keep it «charged|near you|switched on».
Why does the browser keep offering to save my password for «the bank|the forum|the library|the tax office»?
Your password will expire in «n» days. «Choose a new one in the account settings.|Ask the help desk if you need more time.|You will get one more reminder.»
Invalid or missing CSRF token. «Reload the page|Clear the cookies|Sign in again» and try once more.
ParseError: unexpected token «COMMA|EOF|INDENT|RPAREN» (expected «STRING|NAME|NEWLINE») on line «n»
The parser consumed «nn» tokens before it gave up on the «third|last|second» paragraph.
This model's maximum context length is «nn» tokens, however your messages resulted in «nn» tokens.
o3-mini-2025-01-31 and gpt-4.1-nano-2025-04-14 differ in price by a factor of «n», says «person».
It is an open secret that «the mayor|the coach|the head chef|our landlord» never liked the «fountain|anthem|menu|stairs».
The secretary of the «rowing|chess|choir|garden» club resigned on «date».
He plays the sonata in the key of «C minor|E flat major|G major|F sharp minor», opus «nn».
Keyboard shortcuts: use the arrow keys to move and the Enter key to «open|confirm|expand|mark» the selected row.
Keynote at «time»: «person» on the key trends in «retail|farming|logistics|care».
The pall bearers waited outside until «time», although it was «raining|snowing|windy».
The article number is «sku»-«n», to be found on the label beside the «serial plate|barcode|plug».
Bisecting shows that «sha1» is the first bad commit; «short» was still fine.
Cherry-picked from «sha1» (branch release/«ver»).
md5 of dump.sql: «md5»; sha1: «sha1».
Correlation ID: «uuid», Timestamp: «date»T«time».«n»Z, Region: «westeurope|japaneast|uksouth|eastus2».
Subscription /subscriptions/«uuid»/resourceGroups/rg-«word»/providers/Microsoft.Search has no «quota|owner|tags» left.
Upgrade «word»-client from «ver» to «ver» to get rid of the warning about «time zones|certificates|line ends».
Between «date» and «date» the office is open from 9:00 to «n»:30 only by appointment with «person».
Open https://status.example.net/incidents?component=«word»&from=«date»&to=«date» and look at the second chart.
The link https://maps.example.com/@35.6«nn»,139.7«nn»,«n»z?entry=ttu&hl=en points to the «north|south|east» exit.
Mails from no-reply@«word».example.net end up in the junk folder of «person».
~/projects/«word»/src/components/TokenList.«tsx|vue|svelte|jsx» has «n» lint warnings.
\\fileserver\share\«word»\Minutes_«date».docx is read-only for everyone but «person».
ISBN «isbn» is the paperback, ISBN «isbn» the e-book.
<img alt="«logo|icon|avatar|badge»" src="«gif»"> counts as one request less, but version «ver» of the page got slower.
Attached picture: «jpg» (please describe what you see)
The sample contained traces of «3,4-methylenedioxyphenyl-2-propanone|cis-1,3-dichloropropene|bis(2-ethylhexyl) phthalate|N,N-dimethylformamide», «n» mg per litre.
Does the class btn-«outline-secondary-hover-active|group-toggle-vertical-sm|primary-focus-visible-ring» still exist in version «ver»?
task-«runner-default-timeout-in-seconds|queue-dead-letter-retention-days|worker-graceful-shutdown-period» is set to «nn» in the «staging|test|demo» cluster.
risk-«assessment-for-small-and-medium-enterprises|management-framework-for-public-bodies» is the slug of page «nn».
Each refresh token is bound to one device, therefore «signing out|changing the device|wiping the tablet» makes it void.
Should the API key go into the header or into the query string when I call the «weather|map|stock|currency» service?
Store secrets outside of the repository, for example in «environment variables|a sealed file|the cloud vault», and never in «code|images|tickets».
Byte pair encoding merges the most frequent pair of tokens until the vocabulary has «nnn» entries.
KeyError: '«order_id|choices|usage|embedding»' was raised «n» times while the «word» report was built.
ValueError: api_key must not be None (hint: did you load the .env file in «notebooks|scripts|tests»?)
AuthenticationError: no API key given. Pass api_key=... or set «ANTHROPIC_API_KEY|COHERE_API_KEY|MISTRAL_API_KEY» first.
The config has password: ******** in the log, which is «as it should be|correct|what we expected» since release «ver».
Template: mysql://USERNAME:PASSWORD@HOST:«port»/DATABASE (fill in your own «values|names|settings»).
amqp://localhost:5672 refused the connection «n» times, is the «broker|container|daemon» running?
Run «md5» in experiment «n» logged «nn» metrics and no «artifact|model|tag».
response id resp_«md5», «nn» input tokens (of which «nn» cached), «nn» output tokens
Thread thread_«nnn»demo has «n» messages, the last one by «person» at «time».
Layer sha256:«sha256» already exists, pushed «n» of «n».
x-ms-request-id «uuid» and x-ms-client-request-id «uuid» belong to the same call.
Verify the download with `sha256sum -c`; the expected line is «sha256»  «word»-«ver».tar.gz
Fingerprint of the host: SHA256:«sshfp» (ED25519), shown at the first «login|contact|connection».
The certificate with serial number «nnn»«nnn» is valid until «date», issued for *.«word».example.com.
I bought «n» subway tokens in «1994|1999|2001» and still have one on my key ring, says «person».
What happens when the basic auth prompt shows up twice in «Firefox|Safari|Chrome|Edge»?
Basic authentication is switched off for «IMAP|POP|SMTP|EWS» since «date», use modern authentication.
The hotel wrote that the door code is sent by text message on the day of arrival, after «time».
Station JR-«n», platform «n», car «n», seat «n»D: please keep the receipt no. «nnn».
Weather on «date»: «n» degrees, wind from the «north|west|south-east», chance of rain «n» %.
If-None-Match: W/"«short»-«sha1»" gave 304, so the «style sheet|font|script» came from the cache.
Explain why hunter2 became a joke about «chats|passwords|masking» on the net in «n» words.
NFT no. «nnn» is a token on the chain, bought by «eth», sold on «date».
Is it rude to ask a colleague for «the Wi-Fi password|the door key|a secret recipe|a visitor token» on the first day?
instance i-0«short»«short»b in subnet-«short»a was stopped at «time» by the «word» schedule.
Semantic kernel «ver» throws KernelException: Plugin '«word»' needs the setting 'ApiKey', which is «empty|absent|null».
The treasure map says: the key lies «n» steps «north|east|west» of the «oak|well|chapel».
Attention is computed from queries, keys and values; here the key has «nn» dimensions and «n» heads.
Please summarise: the «password manager|key fob|security token|smart lock» market grew by «n» percent in «2023|2024|2025».
HTTP/1.1 403 Forbidden - the token has no scope «repo:read|files.write|chat:write|Mail.Send» for «word».
Retrying in «n» seconds (attempt «n» of «n»): rate limit for «nn» tokens per minute was hit at «time».
"""
JA["seen"] = r"""
パスワードを忘れた場合は、«ログイン画面|設定画面|社内ポータル|スマホアプリ»の「再設定」を押してください。
パスワードは«8|10|12|15»文字以上で、«英大文字|数字|記号|英小文字»を含める必要があります。
«jname»さん、パスワードの有効期限があと«n»日で切れます。早めに変更をお願いします。
トークンの上限を超えたため、«要約|翻訳|回答|検索»を途中で打ち切りました({nn} トークン)。
アクセストークンとリフレッシュトークンの違いを«初心者|新入社員|営業担当者|学生»にもわかるように説明してください。
API キーはどこで«発行|確認|削除|更新»できますか?
環境変数 OPENAI_API_KEY が設定されていないため、«フロー|評価|バッチ|テスト»を実行できません。
秘密の«レシピ|庭園|部屋|計画»について書かれた小説のあらすじを«n»行でまとめてください。
鍵を«会社|電車|図書館|家»に忘れたので、«明日|今夜|来週»取りに行きます。
«東京|大阪|札幌|福岡|名古屋»の明日の天気と最高気温を教えてください。
«date» の会議は «time» から第«n»会議室に変更になりました。
«jname»さんのメールアドレスは «word»@example.co.jp です。
注文番号 «sku» の商品は «date» に発送されました。
お問い合わせ番号 «uuid» でお調べしましたが、該当する記録が見つかりませんでした。
コミット «sha1» で«文字化け|表示崩れ|計算誤差|時差のずれ»を直しました。
ファイルの SHA-256 は «sha256» です。ダウンロード後に比べてください。
gpt-4o-mini-2024-07-18 と gpt-4o では、«料金|速度|精度|文脈の長さ»がどのくらい違いますか?
https://www.example.jp/«word»?page=«n»&sort=new&lang=ja を開くと«404|500|403»になります。
/home/«word»/data/«date»/結果.csv が見つからないというエラーが出ます。
社内の«プリンター|複合機|プロジェクター|Wi-Fi»につながりません。再起動しても直りませんでした。
VPN の接続が«n»分ごとに切れます。«在宅|出張先|ホテル»で使っています。
Excel で「{word}」という列の合計が«0|負の数|エラー»になるのはなぜですか?
バージョン «ver» から «ver» に上げると、«設定|画面|ログ»の形式が変わります。
カレーの隠し味に«りんご|チョコレート|コーヒー|ヨーグルト»を入れるとおいしいと聞きました。
«夏目漱石|森鷗外|芥川龍之介|太宰治»の作品で、最初に読むなら何がよいでしょうか。
次の文を英語に訳してください。「«鍵|財布|傘|切符»をなくしてしまい、とても困っています。」
Authorization ヘッダーに Bearer <トークン> を付けて«送信|再送|確認»してください。
接続文字列は「Server=<サーバー名>;Password=<パスワード>」の形で«入力|登録|保存»します。
password 欄が空のまま送信されました。«画面|入力欄|設定»を確認してください(コード «nn»)。
ビデオ会議の«マイク|カメラ|画面共有|字幕»が使えないときの対処方法を教えてください。
SyntaxError: Unexpected token が«n»行目で出ます。どこを直せばよいですか?
主キー(primary key)と外部キー(foreign key)の違いを«例|図|表»を使って説明してください。
トークン化とは、文を«単語|部分文字列|文字»に分ける処理のことで、この文は«n»トークンになります。
二段階認証のコードが«SMS|メール|アプリ»に届きません。«機種変更|番号変更|初期化»をしたばかりです。
経費の締め切りは毎月«n»日です。領収書は«jname»まで送ってください。
ISBN «isbn» の本を«図書館|書店|研究室»で探しています。
MLflow の実行 «md5» の精度は 0.«nn» でした。
«jname»様、先日は«お打ち合わせ|ご来社|ご紹介»いただき、ありがとうございました。
新幹線の«のぞみ|ひかり|こだま|はやぶさ»«n»号は «time» に出発します。
この画像 «png» に写っているものを説明してください。
キーボードの«Enter|Shift|半角/全角|Delete»キーが反応しなくなりました。
合言葉は人に教えてはいけないと、«祖母|先生|父|店長»がいつも言っていました。
シークレットモードで開くと«正常に|遅く|英語で»表示されます(ブラウザーの版は «ver»)。
秘密鍵と公開鍵の仕組みを«n»歳の子どもにもわかるように説明してください。
顧客テーブルの customer_id が «nnn» の行を«削除|更新|抽出»する SQL を書いてください。
要求 ID «uuid» の処理が «n» 秒でタイムアウトしました。
"""
JA["unseen"] = r"""
パスワードの使い回しはなぜ«危険|問題|禁止»なのですか?«n»文以内で答えてください。
«jname»さんから「パスワードが違います」と表示されるとの連絡が «time» にありました。
新しいパスワードは封書でお送りします。届くまで«n»日ほどかかります。
«共有フォルダー|勤怠システム|会議室予約|経費精算»のパスワード変更は本人しかできません。
トークンの有効期間は«n»分に設定されています。«短く|長く|無期限に»できますか?
入力が «nn» トークンあり、モデルの上限 «nn» を超えています。
不正なトークンです。«もう一度サインイン|画面を再読み込み|管理者に連絡»してください。
キー名が«重複|欠落|変更»しているため、JSON の«n»行目を読み込めませんでした。
「YOUR_API_KEY」の部分を、管理画面に表示された«値|キー|文字列»に置き換えてください。
秘密保持契約の«写し|ひな形|署名欄»を «date» までに«jname»へ送ってください。
この映画の結末は«秘密|内緒»にしておいてください、と«監督|友人|司会者»が言いました。
玄関の鍵が«回らない|抜けない|折れた»ときは、どこに電話すればよいですか?
«京都|金沢|鎌倉|松本|長崎»で半日過ごすなら、どこを回るのがおすすめですか?
«date» 締め切りの報告書ですが、«jname»さんの確認がまだ終わっていません。
型番 «sku» の替えの«電池|フィルター|ふた|ケーブル»はまだ買えますか?
相関 ID «uuid»、発生時刻 «date»T«time»Z のエラーを調べてください。
ブランチ release/«ver» の先頭は «sha1» です。
イメージのダイジェストは sha256:«sha256» でした。
claude-3-5-sonnet-20241022 に«議事録|契約書|論文|口コミ»の要約をさせたところ、«n»秒かかりました。
https://support.example.com/hc/ja/articles/«nnn»?source=search&page=«n» に手順が載っています。
D:\共有\«word»\見積書_«date».xlsx を«開く|保存する|印刷する»と固まります。
«ノート PC|タブレット|社用携帯|モニター»の電源が入りません。昨日までは普通に使えていました。
メールの«添付ファイル|署名|自動返信|転送»がうまくいきません。設定は«jname»さんと同じです。
共有カレンダーに«祝日|休暇|来客»の予定が二重に表示されます(«n»月から)。
ライブラリ «word» の «ver» では、この関数は«廃止|改名|非推奨»になりました。
味噌汁の具は«豆腐とわかめ|なす|大根|あさり»がいちばん好きです。
«光合成|地動説|複利|黒潮»の仕組みを中学生向けに説明してください。
敬語に直してください。「«明日行く|資料を見た|電話をくれ|少し待て»。」
ヘッダーは Authorization: Basic <資格情報> の形式で、«値|名前|順番»は仕様書 «ver» のとおりです。
postgresql://<ユーザー>:<パスワード>@<ホスト>:«port»/<DB名> の形で«指定|記入|登録»します。
ログには password=**** と表示されるので、«値は残りません|安心してください|問題ありません»(版 «ver»)。
KeyError: 'answer' が«評価|集計|前処理»の途中で«n»回起きました。
ワンタイムパスワードは«n»秒で切り替わります。«時計|端末|時差»のずれに注意してください。
社員証と鍵は退職日に«総務|受付|上長»へ返してください。
診察券番号 «nnn» の方は«n»番窓口へお越しください。
出版社に問い合わせたところ、ISBN «isbn» は«品切れ|重版中|電子版のみ»とのことでした。
実験 «n» の実行 ID は «md5»、開始は «date» «time» です。
平素より«格別|多大な»のご高配を賜り、厚く御礼申し上げます。«jname»でございます。
バスは «time» に«駅前|市役所前|病院前|港»を出て、終点まで«n»分かかります。
添付の写真 «jpg» は何の花ですか?
文字を打つと«かな|数字|記号»しか入力できなくなりました。どのキーを押せば直りますか?
「開けゴマ」という呪文で有名な物語は«何|どこの国の話|いつ書かれたもの»ですか?
«仮想通貨|地域通貨|ゲーム»のトークンを«n»枚持っていますが、税金はかかりますか?
公開鍵 «pubssh» を«サーバー|リポジトリ|踏み台»に登録しました。
在庫表の product_code が空の行を«数える|除く|赤くする»には、どんな式を書けばよいですか?
呼び出し «callid» の結果は空でした。«検索語|期間|地域»を変えて試します。
"""
CODE["seen"] = r"""
api_key = os.environ["«OPENAI|COHERE|GROQ|PINECONE»_API_KEY"]⏎client = Client(api_key=api_key, timeout=«n»)
token = tokenizer.next_token()⏎while token is not None and len(out) < «nn»:⏎    out.append(token)⏎    token = tokenizer.next_token()
password = getpass("«Password|DB password|Passphrase»: ")⏎connect(host="«ip»", user="«word»", password=password)
env:⏎  «API_KEY|DB_PASSWORD|NPM_TOKEN|SIGNING_KEY»: ${{ secrets.«API_KEY|DB_PASSWORD|NPM_TOKEN|SIGNING_KEY» }}
curl -H "Authorization: Bearer $«TOKEN|ACCESS_TOKEN|API_TOKEN»" https://api.example.com/v«n»/«word»
url = f"postgresql://{user}:{password}@{host}:{«port_no|port|db_port»}/«word»"
SELECT user_id, token_count, created_at FROM «word» WHERE created_at >= '«date»' ORDER BY token_count DESC LIMIT «n»;
ALTER TABLE «word» ADD CONSTRAINT fk_«word» FOREIGN KEY (customer_id) REFERENCES customers (id);
CREATE TABLE «word» (id BIGINT PRIMARY KEY, password_hash TEXT NOT NULL, api_key_id INTEGER, updated DATE DEFAULT '«date»');
const token = await getToken({ scope: '«read|write|admin|profile»' });⏎headers.set('Authorization', `Bearer ${token}`);
export OPENAI_API_KEY="your-api-key-here"⏎python «word».py --model gpt-4o-mini --max-tokens «nn»
api_key: "<your-key>"⏎endpoint: https://«word».example.com⏎timeout: «n»
def login(username: str, password: str, otp: str | None = None) -> «Session|Token|User|bool»:⏎    '''Sign in and give back a «session|token|user».'''
«rows|items|docs|pairs».sort(key=lambda x: x["«score|date|name|rank»"], reverse=«True|False»)
PATTERN = re.compile(r"(?i)(password|passwd|secret|token)\s*[=:]\s*\S{«n»,}")
assert mask("password=xxx") == "password=***"  # case «n»
{"model": "gpt-4o-2024-08-06", "max_tokens": «nn», "temperature": 0.«n», "messages": [{"role": "user", "content": "«Hello|Hi|Summarise this|Translate this»"}]}
"node_modules/«word»": {"version": "«ver»", "resolved": "https://registry.npmjs.org/«word»/-/«word»-«ver».tgz", "integrity": "«sri512»"}
«word»==«ver» \⏎    --hash=sha256:«sha256» \⏎    --hash=sha256:«sha256»
<link rel="stylesheet" href="https://cdn.example.com/«word»@«ver»/main.css" integrity="«sri384»" crossorigin="anonymous">
.sk-«circle-fade-dot|cube-grid|wave-rect|folding-cube» { width: «n»px; height: «n»px; animation: sk-fade 1.2s infinite ease-in-out both; }
FROM python:3.11-slim@sha256:«sha256»⏎RUN pip install «word»==«ver»
image: ghcr.io/example/«word»:«ver»@sha256:«sha256»
git checkout «sha1»⏎git log --oneline «short»..«short»
logger.info("used %d prompt tokens and %d completion tokens", usage.prompt_tokens, usage.completion_tokens)  # «date»
if not settings.secret_key:⏎    raise ValueError("secret_key is «empty|missing|not set»")
client = AzureOpenAI(api_key=os.getenv("AZURE_OPENAI_KEY"), azure_endpoint=os.getenv("AZURE_OPENAI_ENDPOINT"), api_version="«2024-06-01|2024-02-01|2024-10-21»")
- name: Log in⏎  uses: docker/login-action@v«n»⏎  with:⏎    username: ${{ github.actor }}⏎    password: ${{ secrets.«GITHUB_TOKEN|REGISTRY_TOKEN|DOCKER_TOKEN» }}
password: "{{ vault_«word»_password }}"⏎port: «port»
DB_PASSWORD=${DB_PASSWORD:?must be set}⏎DB_HOST=«ip»⏎DB_PORT=«port»
conn = psycopg2.connect(host=cfg.host, port=«port», password=cfg.password, dbname="«word»")
mysql -u «word» -p"$MYSQL_PASSWORD" -h «ip» < «word».sql
token = match.group(«n») if match else None
for i, tok in enumerate(doc):⏎    if tok.is_stop or len(tok.text) < «n»: continue⏎    counts[tok.lemma_] += 1
type Props = { apiKey?: string; token: Token | null; on«Save|Close|Reset|Submit»: (key: keyof State) => void };
const { data } = await axios.get('/«word»', { params: { key: 'name', limit: «nn», token: cursor } });
SECRET_NAME = "projects/demo/secrets/«word»-credentials/versions/latest"
resource "random_password" "«word»" {⏎  length  = «n»⏎  special = true⏎}
kubectl create secret generic «word»-credentials --from-file=./«word».json --namespace «staging|demo|test»
valueFrom:⏎  secretKeyRef:⏎    name: «word»-credentials⏎    key: password
parser.add_argument("--«api-key|token|password|secret-name»", help="read from the environment when left out", default=None)  # «ver»
run_id = "«md5»"⏎mlflow.log_metric("accuracy", 0.«nn»)
trace_id: «md5»⏎span: «short»⏎service: «word»
img.src = "«png»";
<input type="password" name="password" id="«word»-password" autocomplete="«current-password|new-password|off»" minlength="«n»">
"request_id": "«uuid»", "tokens": {"prompt": «nn», "completion": «nn»}
api_key = "sk-..."  # put your own here, see page «n» of the «word» guide
headers = {"Authorization": "Bearer <token>", "X-Request-Id": "«uuid»"}
self.assertEqual(resp.status_code, «401|403|400»)  # wrong password for «word»
openai.api_key = "xxx"  # never used, the test replaces the client («word»)
checksum "«sha256»"⏎version "«ver»"
SELECT encode(sha256('«word»'::bytea), 'hex') = '«sha256»' AS same;
@pytest.fixture⏎def fake_«word»_settings():⏎    return {"api_key": "not-a-real-key", "base": "http://localhost:«port»"}
"""
CODE["unseen"] = r"""
const apiKey = process.env.«OPENAI|MISTRAL|ANTHROPIC|TAVILY»_API_KEY ?? '';⏎if (!apiKey) process.exit(«n»);
let tok = lexer.peek();⏎if (tok.kind !== TokenKind.«Ident|Comma|RParen|Eof») throw new Error(`Unexpected token: ${tok.text}`);
read -rsp "«Password|Secret|Passphrase»: " PASSWORD && echo⏎sudo -u «word» ./setup.sh --port «port»
jobs:⏎  «build|release|test|lint»:⏎    secrets: inherit⏎    with:⏎      token-name: ${{ vars.«APP|BOT|CI»_TOKEN_NAME }}
wget --header="Authorization: Bearer ${«ID_TOKEN|GH_TOKEN|CI_JOB_TOKEN»}" https://files.example.net/«word»/«ver».zip
dsn := fmt.Sprintf("%s:%s@tcp(%s:«port»)/%s?parseTime=true", user, password, host, "«word»")
UPDATE users SET password_changed_at = '«date»' WHERE last_login < '«date»' AND tenant = «nn»;
CREATE UNIQUE INDEX idx_«word»_token_id ON «word» (token_id) WHERE revoked_at IS NULL;
INSERT INTO «word» (id, sha, pushed) VALUES («nnn», '«sha1»', '«date»');
fetch(`/api/«word»/${id}`, { headers: { Authorization: `Basic ${btoa(user + ':' + pass)}` } })
ANTHROPIC_API_KEY=<paste your key here>⏎MODEL=claude-3-5-haiku-20241022⏎RETRIES=«n»
provider:⏎  name: «word»⏎  apiKey: REPLACE_ME⏎  retries: «n»
class Credentials(BaseModel):⏎    user: str⏎    password: SecretStr⏎    token_ttl: int = «nn»
public record «Login|Signup|Reset»Request(string UserName, string Password, bool RememberMe = «true|false»);
cache_key = f"{tenant}:«word»:{hash(prompt) % «nn»}"
SECRET_RE = /(api[_-]?key|client_secret)["']?\s*[:=]\s*["'][^"']{«n»,}/gi;
expect(redact('token: abc')).toBe('token: [removed]'); // «word» no. «n»
response = llm.invoke(prompt, stop=["«###|END|Observation:»"], max_completion_tokens=«nn», seed=«n»)
"«word»@npm:^«ver»":⏎  version: «ver»⏎  checksum: 10/«sha512»⏎  languageName: node
github.com/example/«word» v«ver» h1:«sha256b64»⏎github.com/example/«word» v«ver»/go.mod h1:«sha256b64»
[[package]]⏎name = "«word»"⏎version = "«ver»"⏎source = "registry+https://github.com/rust-lang/crates.io-index"⏎checksum = "«sha256»"
{"_meta": {"hash": {"sha256": "«sha256»"}, "pipfile-spec": 6, "requires": {"python_version": "3.«n»"}}}
<div class="mask-«type-alpha-gradient|repeat-round-start|size-contain-center» sk-«rotating-plane|double-bounce|pulse-dot-large»" data-v-«short»></div>
rev: «sha1»  # v«ver»⏎hooks: [{id: detect-«keys|blobs|junk»}]
uses: actions/checkout@«sha1» # v«n»
terraform { backend "s3" { bucket = "example-«word»" key = "state/«word».tfstate" region = "eu-west-«n»" } }
print(f"{usage.total_tokens} tokens, {len(keys)} keys, run {'«md5»'}")
if (config.password == null || config.password.length < «n») throw new IllegalArgumentException("password too short for «word»");
cred = DefaultAzureCredential()⏎token = cred.get_token("https://«cognitiveservices|management|storage|database».azure.com/.default").token
withCredentials([string(credentialsId: '«word»-token', variable: 'TOKEN')]) { sh 'deploy.sh --token $TOKEN --retries «n»' }
spring.datasource.password=${«DB|ERP|CRM|DWH»_PASSWORD}⏎server.port=«port»
REDIS_URL=redis://«word»-cache:6379/«n»⏎QUEUE=«word»
engine = create_engine(URL.create("mysql+pymysql", username=u, password=p, host="«ip»", database="«word»"))
pg_dump --no-password -h «ip» -U «word» -Fc app > «date».dump
String token = st.nextToken(); // field «n» of the «word» file
vocab = {tok: i for i, tok in enumerate(sorted(set(tokens)))}  # about «nnn» entries
export interface «Word|Line|Page»Token { key: string; start: number; end: number; secret?: boolean }
params = urlencode({"q": "«tea|rice|soba|udon»", "pageToken": next_page, "key": sort_key, "n": «n»})
az keyvault secret show --vault-name kv-«word» --name «db|smtp|api»-password --query value -o tsv
variable "«word»_password" {⏎  type      = string⏎  sensitive = true⏎}
volumes:⏎  - name: «word»-tls⏎    secret:⏎      secretName: «word»-tls⏎      defaultMode: 0«nn»
@click.option("--«secret-id|access-key|auth-token|passphrase»", envvar="«APP|BOT|JOB»_CRED", prompt=True, hide_input=True)
client.get_run("«md5»").data.params["«lr|seed|depth|batch»"]  # -> «n»
span.set_attribute("llm.token_count.total", «nn»)⏎span.set_attribute("session.id", "«uuid»")
background: url("«gif»") no-repeat «n»px «n»px;
<label for="pw">Password</label><input id="pw" type="password" placeholder="at least «n» characters" maxlength="«nn»">
const ID = "«uuid»"; // key of the «word» row
key = "<REDACTED>"  # cut out by the «word» exporter, version «ver»
req.Header.Set("x-api-key", os.Getenv("«WEATHER|MAPS|STOCKS|NEWS»_KEY"))⏎req.Header.Set("x-request-id", "«uuid»")
it('says no without a token', () => request(app).get('/«word»').expect(«401|403»));
monkeypatch.setenv("«OPENAI|COHERE|GROQ»_API_KEY", "dummy")⏎assert load("«word»").ready
$ sha256sum «word»-«ver».whl⏎«sha256»  «word»-«ver».whl
Get-FileHash .\«word».msi | Where-Object Hash -eq '«sha256»'
type: Opaque⏎metadata:⏎  name: «word»⏎  annotations: {revision: "«short»", updated: "«date»"}
"""
EN["seen"] += r"""
Pod «word»-7d9f8c6b5-x2x9z was evicted from node aks-nodepool1-«nnn»-vmss00000«n» at «time».
DOI 10.«nn»/s«nnn»-02«n»-«nn»-«n» is cited in chapter «n» of the «thesis|survey|textbook|review».
The primer ACGTTGCAAGGCTTAACGGATCCATGGCATTAG«A|C|G|T»«A|C|G|T»«A|C|G|T» binds at position «nnn» of the «second|third|fourth» chromosome.
Chess position r1bqkbnr/pppp1ppp/2n5/4p3/2B1P3/5N2/PPPP1PPP/RNBQK2R b KQkq - «n» «n»: what would you play?
The MAC address 00:1b:44:«1c|11|3a»:3a:b7 and the IPv6 address 2001:db8:85a3::8a2e:370:«nn» belong to the same «printer|switch|camera».
Decode SGVsbG8sIHdvcmxkIQ== from base64: it says "Hello, world!", as «person» showed on «day».
java.lang.ClassNotFoundException: org.example.«word».security.TokenAuthenticationProviderConfigurerAdapter at line «nn»
The vector [0.0«nnn», -0.1«nnn», 0.2«nnn», -0.0«nnn»] is the embedding of the word "«key|door|rain|tea»".
The path /nix/store/k3n0«short»«short»8lmq-«word»-«ver»/bin was added to the search path.
"Secret Garden", "The Key" and "«Password|Token|Bearer»" are titles of films that ran in «1987|1993|2004|2011».
"""
EN["unseen"] += r"""
git diff says: index «short»..«short» 100644, «n» files changed, «nn» insertions in «word».
The protein MKTAYIAKQRQISFVKSHFSRQLEERLGLIEVQAPILSRVGDGTQDNLSGAEKAVQ«V|L|I|M»«K|R|N» has «nn» residues, see figure «n».
Paint colours #«short»a and #«short»f look alike on the «old|big|left» screen, says «person».
The video https://video.example.com/watch?v=dQw«nn»WgXcQ&t=«nn»s explains «hashing|tokens|key exchange» quite well.
Stack: com.example.«word».auth.PasswordResetTokenRepositoryImpl.findByTokenAndExpiresAfter(PasswordResetTokenRepositoryImpl.java:«nn»)
Vehicle part WVWZZZ-«nn»-«sku» fits all models built between «2012|2014|2016» and «2019|2021|2023».
In base64 the text "The quick brown fox" is VGhlIHF1aWNrIGJyb3duIGZveA== (task «n», page «n»).
Compound CC(C)CC1=CC=C(C=C1)C(C)C(=O)O, InChIKey HEFNNWSXXWATRW-UHFFFAOYSA-N, melts at «n» degrees, according to «person».
Donaudampfschifffahrtsgesellschaftskapitän is a word of «n» tokens for one model and «n» for another.
The job «word»-28«nnn»-zk4tq left the log /var/log/pods/default_«word»_«uuid»/0.log behind.
"""
JA["seen"] += r"""
«犬|猫|うさぎ|インコ»の飼い方で、初めての人が気をつけることを«n»つ教えてください。
冷蔵庫に«卵と玉ねぎ|豚肉とキャベツ|鮭と大根|豆腐とねぎ»があります。今夜の献立を考えてください。
«英語|中国語|韓国語|フランス語»の勉強を毎日«n»分続けるこつはありますか?
人事の«jname»です。«健康診断|年末調整|研修|面談»の案内を «date» に送りました。
プログラムの«n»行目で KeyError が出ます。辞書のキーがあるかどうかを確かめる«方法|書き方»を教えてください。
鍵盤楽器の歴史について、«ピアノ|オルガン|チェンバロ»を中心に«n»字くらいでまとめてください。
新しいノート PC(型番 «sku»)の«初期設定|引き取り|返却»はいつできますか?
API の応答が «500|502|503» になり、x-request-id は «uuid» でした。
クラス名 sk-«circle-fade-dot|cube-grid|three-bounce» を付けると、読み込み中の«丸|四角|点»が表示されます。
財布をなくしたときは、まず«銀行|警察|カード会社»に電話してください。受付は «time» からです。
トレース ID «md5» の処理で、«検索|生成|要約»に«n»秒かかっています。
このマンションの鍵は«n»本まで作れます。«管理室|受付|事務所»に申し込んでください。
ロックファイルの integrity が «sri512» に変わったのはなぜですか?
画面に「パスワードを表示する」という«ボタン|アイコン|選択肢»を置くのはよいことですか?
«桜|紅葉|花火|雪まつり»の見ごろは«n»月だと«jname»さんが言っていました。
認証アプリを入れた«スマホ|タブレット|時計»を買い替えるときの手順を«n»段階で書いてください。
トークンリングとイーサネットの違いを、«歴史|速度|配線»の面から説明してください。
システム部の«jname»です。«date» の夜にサーバーを止めて、«更新|点検|移設»をします。
秘伝のたれの«作り方|保存方法|使い道»を«n»分の動画で紹介しています。
S3 の s3://example-«word»/raw/«date»/part-«nn».json.gz を読む«コード|手順|設定»を書いてください。
"""
JA["unseen"] += r"""
«肩こり|寝不足|花粉症|冷え性»を和らげる方法を、家でできるものから«n»つ挙げてください。
«自転車|ピアノ|ソファー|洗濯機»を処分したいのですが、«市役所|業者|店»に頼むといくらかかりますか?
週末に«n»歳の子どもと«科学館|水族館|動物園|牧場»へ行きます。持ち物を教えてください。
総務の«jname»です。«名刺|入館証|制服|椅子»の申し込みは «date» までにお願いします。
正規表現で「key=値」の«左側|右側|全体»だけを取り出すには、どう書きますか?(例は«n»件)
弦楽四重奏曲の調(キー)を«半音|全音|三度»下げると、どの指づかいになりますか?
コンテナ «word»-6f7c9d8b4-q8w7z が«n»回再起動しました。«メモリー|設定|通信»が原因でしょうか。
DOI 10.«nn»/«word».«nnn» の論文を«一文|三行|表»で要約してください。
応答 ID «chatid» は «n» 秒で返りましたが、«末尾|先頭|途中»が切れています。
CSS の mask-«type-alpha-gradient|size-contain-center|repeat-round-start» はどの«ブラウザー|端末»で使えますか?
ホテルの部屋の鍵を«フロント|箱|機械»に返し忘れたまま «time» の電車に乗ってしまいました。
金庫の«開け方|選び方|置き場所»について、祖父が«n»年前に書いた手紙が見つかりました。
ハッシュ値 «md5» と «md5» が一致しないので、«転送|保存|圧縮»の途中で壊れたようです。
入力欄に「パスワードは半角で」と書くと«親切|くどい|古い»でしょうか。«jname»さんの意見も聞きたいです。
地下鉄の«一日券|回数券|定期券»は «n» 番出口の窓口で買えます(«time» まで)。
指紋でサインインできるようにしましたが、«手袋|絆創膏|水ぬれ»のときは使えません。
会話の«n»番目で、モデルが「トークン」を«硬貨|記念品|乗車券»の意味に取り違えました。
監査の«jname»さんから、鍵の«更新手順|保管場所|担当者»を書いた文書を求められました。
シークレットサンタの予算は«n»00円までで、«date» に«会議室|食堂|広間»で交換します。
Azure の az://«word»/«date»/eval-«nn».jsonl を«一覧|複写|削除»するコマンドは何ですか?
"""
CODE["seen"] += r"""
for key, value in sorted(«config|headers|params|state».items()):⏎    print(f"{key:<«n»} {value}")
SELECT o.id, o.token FROM «word» o JOIN token_types t ON t.key = o.type_key WHERE t.name = '«word»';
mongo_uri = os.getenv("MONGO_URI", "mongodb://localhost:27017/«word»")  # port «port» in the tests
if response.status_code == 401:⏎    raise PermissionError("bad or missing token for «word»")  # retry «n» times
.then(({ accessToken, refreshToken }) => store.set('«word»', { accessToken, refreshToken, at: «nnn» }))
helm upgrade «word» ./chart --set image.tag=«ver» --set auth.existingSecret=«word»-auth
COPY --chown=app:app --from=build /src/«word»/dist /app # «sha1»
print(base64.b64encode(b"hello «word»").decode())  # «n» characters or so
keys = [k for k in d if not k.startswith("«_|x-|tmp|old»")]⏎assert len(keys) == «n»
await page.fill('#password', process.env.«E2E|TEST|QA»_PASSWORD); await page.click('#«word»');
GRANT SELECT ON «word» TO reporting; -- ticket «sku», «date»
const TOKEN_RE = /^[a-z]{2,«n»}$/i; // tokens of the «word» language
tokens = enc.encode(text)[:«nn»]; text = enc.decode(tokens)  # cut to the window
digest: "sha256:«sha256»"⏎repository: example/«word»⏎tag: "«ver»"
  "dependencies": { "@example/«word»": "^«ver»", "jsonwebtoken": "^9.0.«n»", "keytar": "~7.«n».0" }
[[constraint]] name = "«word»" revision = "«sha1»"
"""
CODE["unseen"] += r"""
map.entrySet().removeIf(e -> e.getKey().startsWith("«tmp|old|x»") && e.getValue() > «nn»);
DELETE FROM sessions WHERE token_expires < now() - interval '«n» days' AND source = '«word»';
url = "https://«word».example.com/v1/items?key={}&page=«n»".format(quote(name))
try { verify(token, publicKey) } catch (e) { res.status(401).json({ error: 'bad token', code: «nn» }) }
connection_string = config.get("«word»", "connection_string", fallback="<connection string>")  # «ver»
ansible-playbook site.yml --ask-vault-pass --limit «word» --forks «n»
db_url = "mysql://${var.user}:${var.password}@${aws_db_instance.«word».endpoint}/app" # «n»
assert scrub({"password": "***", "id": «nnn»}) == {"password": "***", "id": «nnn»}
print(hashlib.sha1(b"«word»").hexdigest() == "«sha1»")
TRACEPARENT="«trace»" ./«word» --once
resolver: lts-«n».«n»⏎packages: [«word»-«ver»@sha256:«sha256»,«nn»]
<input name="api_key" value="{{ form.api_key }}" data-row="«uuid»" size="«n»">
nodes: [{name: «word», type: llm, inputs: {max_tokens: «nn», stop: "«END|STOP|###»"}, connection: my_open_ai}]
while (scanner.hasNext()) { String token = scanner.next(); if (token.length() > «n») «word».add(token); }
echo "::add-mask::$«DEPLOY|BUILD|SIGN»_TOKEN"; ./deploy --env «word» --build «nn»
COMMENT ON COLUMN «word».secret_level IS 'from 0 (open) to «n» (secret), see «sku»';
"""
JA = {k: v.replace("{nn}", "«nn»").replace("{word}", "«word»") for k, v in JA.items()}

# ordinary texts with variables whose names look secret (or hold a secret-like piece) but whose
# values are ordinary words: (language, text, environment)
ENVROWS = {
    "seen": [
        (
            "en",
            "The «postgres|database» container runs postgres «n», and psql -U postgres opens a shell on «day».",
            {"POSTGRES_PASSWORD": "postgres", "POSTGRES_USER": "postgres"},
        ),
        (
            "en",
            "An API key is not-needed for the local model on port «port», just leave the field as it is.",
            {"API_KEY": "not-needed", "MODEL": "llama3"},
        ),
        (
            "en",
            "Choose a password that you have not used since «date», and type the password twice.",
            {"DB_PASSWORD": "password"},
        ),
        ("en", "This is a test of the «alarm|siren|mail server|new form»; the test ends at «time».", {"TOKEN": "test"}),
        ("en", "The README says to changeme every value that is marked so (page «n»).", {"SECRET_KEY": "changeme"}),
        (
            "en",
            "The admin of the forum, «person», is on leave until «date»; ask another admin.",
            {"ADMIN_PASSWORD": "admin", "PORT": "8080"},
        ),
        (
            "en",
            "The flag is true for «word» and false for all others; none of them is empty.",
            {"USE_API_KEY": "true", "REQUIRE_TOKEN": "false", "OPENAI_API_KEY": "none"},
        ),
        (
            "en",
            "The limit is 4096 tokens for «word», and it was «nn» before «date».",
            {"MAX_TOKENS": "4096", "TOKENIZERS_PARALLELISM": "false"},
        ),
        (
            "en",
            "We work in /srv/app/«word», where the logs of «date» are kept too.",
            {"PWD": "/srv/app", "OLDPWD": "/root"},
        ),
        (
            "en",
            "Minio starts with the user minio and the region «eu-west-1|us-east-1»; minio is an object store.",
            {"MINIO_ROOT_PASSWORD": "minio", "MINIO_ROOT_USER": "minio"},
        ),
        ("ja", "これは test です。«date» の «time» に test 環境を止めます。", {"ACCESS_TOKEN": "test"}),
        (
            "ja",
            "postgres の«起動|停止|更新»に«n»分かかります。postgres の版は «ver» です。",
            {"PGPASSWORD": "postgres"},
        ),
        ("ja", "password という単語は«英語|外来語|中学»で習いました(«n»ページ)。", {"SMTP_PASSWORD": "password"}),
        (
            "ja",
            "パスワードの文字数は«n»文字以上にしてください。パスワードは紙に書かないこと。",
            {"APP_PASSWORD": "パスワード"},
        ),
        ("ja", "dummy のデータを«n»件入れて、画面の«表示|並び順|速度»を確かめます。", {"OPENAI_API_KEY": "dummy"}),
        (
            "ja",
            "secret という題名の曲を«jname»さんに教えてもらいました(«n»分)。",
            {"JWT_SECRET": "secret", "LANG": "ja_JP.UTF-8"},
        ),
        (
            "ja",
            "保管庫 kv-demo-japaneast の«設定|権限|料金»を«jname»さんに確認します。",
            {"AZURE_KEY_VAULT_NAME": "kv-demo-japaneast"},
        ),
        (
            "code",
            "services:⏎  db:⏎    image: postgres:«n»⏎    environment: [POSTGRES_DB=«word»]",
            {"POSTGRES_PASSWORD": "postgres"},
        ),
        ("code", "def test_«word»():⏎    assert load('test') == {'name': 'test', 'n': «n»}", {"TOKEN": "test"}),
        (
            "code",
            "client = OpenAI(base_url='http://localhost:«port»/v1', api_key='not-needed')",
            {"API_KEY": "not-needed"},
        ),
        (
            "code",
            "field = form['password']⏎if len(field) < «n»: errors.append('password too short')",
            {"DB_PASSWORD": "password"},
        ),
        ("code", "export default { name: '«word»', debug: true, retries: «n» }", {"SECRETS_ENABLED": "true"}),
        (
            "code",
            "SELECT root.id FROM tree AS root WHERE root.parent IS NULL LIMIT «n»;",
            {"MYSQL_ROOT_PASSWORD": "root"},
        ),
        (
            "code",
            "ds = load('guest_«word».csv')  # one line per guest, «nn» in all",
            {"RABBITMQ_DEFAULT_PASS": "guest"},
        ),
    ],
    "unseen": [
        (
            "en",
            "Every example on page «n» of the manual has a line with an example of the «word» report.",
            {"APP_SECRET": "example"},
        ),
        (
            "en",
            "The local runner accepts any string, so we wrote ollama; ollama «ver» was put in on «date».",
            {"OPENAI_API_KEY": "ollama", "OPENAI_BASE_URL": "http://localhost:11434/v1"},
        ),
        (
            "en",
            "Our secret Santa draw is on «date»; keep the name of your person secret until «time».",
            {"CLIENT_SECRET": "secret"},
        ),
        (
            "en",
            "The default of the setting is fine for «word», so keep the default unless «person» objects.",
            {"DJANGO_SECRET_KEY": "default"},
        ),
        (
            "en",
            "Please enter your token at the gate, keep the token for the way out, gate «n».",
            {"API_TOKEN": "token"},
        ),
        (
            "en",
            "The neo4j browser listens on port «port», and neo4j needs «n» GB of memory.",
            {"NEO4J_PASSWORD": "neo4j"},
        ),
        (
            "en",
            "Deployments in production need two reviews, production is frozen until «date».",
            {"SECRET_STORE_ENV": "production", "TOKEN_BACKEND": "redis"},
        ),
        (
            "en",
            "The file lives under /home/dev/work/«word», as the note of «date» says.",
            {"PWD": "/home/dev/work", "SSH_KEY_TYPE": "ed25519"},
        ),
        (
            "en",
            "The value is unset, empty or null in «n» of the «nn» rows of «word».",
            {"GITHUB_TOKEN": "null", "SLACK_TOKEN": "empty"},
        ),
        (
            "en",
            "Sessions last 3600 seconds, so the sitting of «date» was cut off after 3600 seconds.",
            {"JWT_TOKEN_TTL": "3600"},
        ),
        (
            "ja",
            "dev 環境と本番環境の違いを«jname»さんが説明します。dev は毎晩«n»時に消えます。",
            {"REDIS_PASSWORD": "dev"},
        ),
        (
            "ja",
            "mysql の«索引|照合順序|文字コード»について質問です。mysql は «ver» です。",
            {"MYSQL_PASSWORD": "mysql"},
        ),
        ("ja", "株価の key となる指標は«n»つあります。どれが key か教えてください。", {"API_KEY": "key"}),
        ("ja", "サンプルの文書を«n»件用意しました。サンプルは«date»まで使えます。", {"DEMO_TOKEN": "サンプル"}),
        (
            "ja",
            "local で動かすと«速い|遅い|止まる»のですが、local 以外では問題ありません(«ver»)。",
            {"MLFLOW_TRACKING_TOKEN": "local"},
        ),
        ("ja", "welcome と書かれた看板の前で、«time» に«jname»さんと待ち合わせます。", {"SMTP_PASS": "welcome"}),
        (
            "ja",
            "認証方式は oauth2 です。oauth2 の流れを«図|表|文»で説明してください(«n»行以内)。",
            {"AUTH_TOKEN_TYPE": "oauth2"},
        ),
        ("code", "if (mode === 'none') { return null; } // none since v«ver»", {"AUTH_TOKEN": "none"}),
        ("code", "placeholder: &placeholder⏎  text: placeholder⏎  width: «nn»", {"WEATHER_KEY": "placeholder"}),
        ("code", "sudo -u airflow airflow dags list | grep «word» | head -n «n»", {"AIRFLOW_DB_PASSWORD": "airflow"}),
        ("code", "const unused = rows.filter(r => r.state === 'unused').slice(0, «n»)", {"OPENAI_API_KEY": "unused"}),
        ("code", "INSERT INTO roles (name, level) VALUES ('user', «n»), ('editor', «nn»);", {"DB_PASS": "user"}),
        ("code", "log.setLevel('debug'); log.debug('«word» took %d ms', «nn»)", {"SECRET_LOG_LEVEL": "debug"}),
        ("code", "foo, bar = split('«word»-foo'), «n»⏎print(foo, bar)", {"GH_PAT": "foo"}),
    ],
}
ROWS_WITH_ENV, LONG = 72, 4  # of the ordinary rows of a half; long texts for each language
COUNT = {"en": 334, "ja": 333, "code": 333}


def expand(templates, count, texts, lang, extra=None):
    """rows from templates in turn, each new text only"""
    rows, order, misses = [], list(range(len(templates))), 0
    used = collections.Counter()
    while len(rows) < count:
        R.shuffle(order)
        before = len(rows)
        for i in order:
            if len(rows) == count:
                break
            t = templates[i]
            env = None
            if extra is not None:
                env = extra[i]
            text = fill(t).replace("⏎", "\n")
            if text in texts or not 20 <= len(text) <= 3000:
                continue
            texts.add(text)
            used[i] += 1
            row = {"kind": "ordinary", "text": text, "language": lang}
            if env:
                row["environment"] = dict(env)
            rows.append(row)
        misses = misses + 1 if len(rows) == before else 0
        if misses > 20:
            sys.exit(f"too few templates: {lang} {len(rows)} of {count}")
    return rows, used


def make(half, seed, texts):
    global R
    R = random.Random(seed)
    rows, names = [], set()
    for kind, gen, text, env, conn in SECRETS[half]:
        key = GEN[gen]()
        row = {"kind": "secret", "text": fill(text, key), "secret": key, "type": kind}
        if env:
            row["environment"] = {k: fill(v, key) for k, v in env.items()}
        if conn:
            row["connection"] = [fill(v, key) for v in conn]
        assert row["text"] not in texts, row
        texts.add(row["text"])
        rows.append(row)
    stats = {}
    for lang, table in (("en", EN), ("ja", JA), ("code", CODE)):
        ts = [t for t in table[half].strip().split("\n") if t]
        es = [(t, e) for l, t, e in ENVROWS[half] if l == lang]
        got, used = expand([t for t, _ in es], ROWS_WITH_ENV // 3, texts, lang, [e for _, e in es])
        rows += got
        more, used2 = expand(ts, COUNT[lang] - len(got) - LONG, texts, lang)
        rows += more
        for k in range(LONG):  # long texts: ordinary ones put together
            glue = {"en": " ", "ja": "", "code": "\n\n"}[lang]
            while True:
                some = [fill(t).replace("⏎", "\n") for t in R.sample(ts, 6 + 4 * k)]
                text = glue.join(some)
                if text not in texts and 500 <= len(text) <= 3000:
                    break
            texts.add(text)
            rows.append({"kind": "ordinary", "text": text, "language": lang})
        stats[lang] = (len(ts), len(es), max(used2.values()))
    R.shuffle(rows)
    return rows, stats


def check(half, rows):
    secrets = [r for r in rows if r["kind"] == "secret"]
    plain = [r for r in rows if r["kind"] == "ordinary"]
    assert len(secrets) == 100 and len(plain) == 1000, (len(secrets), len(plain))
    assert len({r["text"] for r in rows}) == len(rows)
    assert len({r["secret"] for r in secrets}) == 100
    for r in secrets:
        assert set(r) <= {"kind", "text", "secret", "type", "environment", "connection"}
        assert r["secret"] in r["text"] and len(r["secret"]) >= 10, r
        assert 20 <= len(r["text"]) <= 3000, r
        assert "«" not in r["text"] and "»" not in r["text"], r
        if "environment" in r:
            assert any(r["secret"] in v for v in r["environment"].values()), r
        if "connection" in r:
            assert r["secret"] in r["connection"], r
    for r in plain:
        assert set(r) <= {"kind", "text", "language", "environment"}
        assert "«" not in r["text"] and "»" not in r["text"] and "⏎" not in r["text"], r
        if "environment" in r:
            assert any(v in r["text"] for v in r["environment"].values()), r
        for x in secrets:
            assert x["secret"] not in r["text"]
    assert collections.Counter(r["language"] for r in plain) == COUNT


def halves():
    """Return the rows of both halves, `seen` and `unseen`: the same ones at each call."""
    texts = set()
    made = {half: make(half, seed, texts)[0] for half, seed in (("seen", 41001), ("unseen", 77003))}
    for half, rows in made.items():
        check(half, rows)
    for table in (EN, JA, CODE):
        assert not set(filter(None, table["seen"].split("\n"))) & set(filter(None, table["unseen"].split("\n")))
    assert not {one[2] for one in SECRETS["seen"]} & {one[2] for one in SECRETS["unseen"]}
    return made
