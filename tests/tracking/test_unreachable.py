"""Why a server cannot be reached is said in a few words, whatever its client wraps them in."""

from __future__ import annotations

from pathlib import Path

import pytest
from servers import free_port

from pf_mlflow.errors import TrackingDown
from pf_mlflow.tracking.errors import translated_errors
from pf_mlflow.tracking.writer import StoreWriter

POOL = "API request failed with exception HTTPSConnectionPool(host='m', port=443): Max retries exceeded with url: /api "


@pytest.mark.parametrize(
    ("cause", "says"),
    [
        (
            "NewConnectionError(\"HTTPConnection(host='m', port=9): Failed to establish a new connection: [Errno 111] "
            'Connection refused")',
            "Connection refused.",
        ),
        (
            "NameResolutionError(\"HTTPConnection(host='m', port=80): Failed to resolve 'm' ([Errno -2] Name or service "
            'not known)")',
            "Name or service not known.",
        ),
        (
            "SSLError(SSLCertVerificationError(1, '[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: "
            "self-signed certificate (_ssl.c:1006)'))",
            "certificate verify failed: self-signed certificate — let REQUESTS_CA_BUNDLE or "
            "MLFLOW_TRACKING_SERVER_CERT_PATH name a file with its CA.",
        ),
        (
            "ReadTimeoutError(\"HTTPConnectionPool(host='m', port=80): Read timed out. (read timeout=1)\")",
            "Read timed out. (read timeout=1).",
        ),
        (
            "ProxyError('Unable to connect to proxy', NewConnectionError('[Errno 111] Connection refused'))",
            "its proxy: Connection refused — mend HTTP_PROXY and HTTPS_PROXY, or let NO_PROXY name the host.",
        ),
    ],
)
def test_the_cause_is_said_without_its_wrapping(cause: str, says: str) -> None:
    with pytest.raises(TrackingDown) as told, translated_errors("https://m"):
        raise ConnectionError(f"{POOL}(Caused by {cause})")
    assert str(told.value) == f"MLflow at https://m cannot be reached: {says}"


def test_a_server_that_is_down_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    uri = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(TrackingDown) as told:
        StoreWriter(uri, "x", tmp_path).open_experiment()
    assert str(told.value) == f"MLflow at {uri} cannot be reached: Connection refused."
