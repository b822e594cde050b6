"""A company's network: servers with certificates of its own CA, and a proxy that alone knows their names."""

from __future__ import annotations

import datetime
import socket
import socketserver
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

__all__ = ["Proxy", "make_ca", "with_tls"]

_NOW = datetime.datetime(2026, 1, 1)
_LATER = datetime.datetime(2046, 1, 1)


def make_ca(folder: Path, *hosts: str) -> Path:
    """Make a CA and a certificate for hosts, and return the CA's file; `server.pem` beside it is theirs, with its key."""
    key, own = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "A company's CA")])
    names = x509.SubjectAlternativeName(list(map(_name, hosts)))
    of_ca = _signed(issuer, issuer, key.public_key(), key, x509.BasicConstraints(ca=True, path_length=None))
    of_hosts = _signed(x509.Name([]), issuer, own.public_key(), key, names)
    ca = folder / "ca.pem"
    ca.write_bytes(of_ca.public_bytes(Encoding.PEM))
    secret = own.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (folder / "server.pem").write_bytes(secret + of_hosts.public_bytes(Encoding.PEM))
    return ca


def _name(host: str) -> x509.GeneralName:
    return x509.IPAddress(ip_address(host)) if host[0].isdigit() else x509.DNSName(host)


def _signed(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    by: ec.EllipticCurvePrivateKey,
    extension: x509.BasicConstraints | x509.SubjectAlternativeName,
) -> x509.Certificate:
    is_ca = isinstance(extension, x509.BasicConstraints)
    usage = x509.KeyUsage(not is_ca, False, False, False, False, is_ca, is_ca, False, False)
    return (
        x509.CertificateBuilder(issuer, subject, key, x509.random_serial_number(), _NOW, _LATER)
        .add_extension(extension, critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(by.public_key()), critical=False)
        .sign(by, hashes.SHA256())
    )


@contextmanager
def with_tls(port: int, certificate: Path) -> Iterator[int]:
    """Yield the port of a server that speaks TLS, and hands on to the one at a port of this machine."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with suppress(OSError), context.wrap_socket(self.request, server_side=True) as client:
                _joined(client, socket.create_connection(("127.0.0.1", port)))

    with _serving(Handler) as own:
        yield own


class Proxy:
    """An HTTP proxy that knows hosts by name, each at a port of this machine; `asked` are those that it was asked for."""

    def __init__(self, ports: Mapping[str, int]) -> None:
        self.ports = ports
        self.asked: list[str] = []

    @contextmanager
    def running(self) -> Iterator[str]:
        """Yield its address."""
        outer = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                with suppress(OSError):
                    outer._handle(self.request)

        with _serving(Handler) as port:
            yield f"http://127.0.0.1:{port}"

    def _handle(self, client: socket.socket) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            if not (part := client.recv(65536)):
                return
            head += part
        method, target, _ = head.split(b" ", 2)
        host = target.split(b"://")[-1].split(b"/")[0].partition(b":")[0].decode()
        self.asked.append(host)
        port = self.ports.get(host)
        if port is None:
            client.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            return
        server = socket.create_connection(("127.0.0.1", port))
        if method == b"CONNECT":
            client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        else:
            server.sendall(head.replace(target, b"/" + target.split(b"/", 3)[3], 1))
        _joined(client, server)


def _joined(one: socket.socket, other: socket.socket) -> None:
    """Hand on what either says until one of them has no more to say."""
    back = threading.Thread(target=_handed_on, args=(other, one), daemon=True)
    back.start()
    _handed_on(one, other)
    back.join()


def _handed_on(source: socket.socket, to: socket.socket) -> None:
    with suppress(OSError):
        while part := source.recv(65536):
            to.sendall(part)
    for end in (source, to):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


@contextmanager
def _serving(handler: type[socketserver.BaseRequestHandler]) -> Iterator[int]:
    server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
