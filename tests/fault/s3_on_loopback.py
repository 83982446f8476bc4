"""An S3 server on this machine, and a network in front of it that breaks when it is told to."""

from __future__ import annotations

import contextlib
import logging
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

# How a connection may break: where the request is cut, what becomes of the answer.
BREAKS = ("reset", "half a request", "no answer", "half an answer", "500", "503")
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_MAX_ATTEMPTS": "1",
}


@contextlib.contextmanager
def s3_server() -> Iterator[tuple[str, int]]:
    """Runs an empty S3; yields its host and port."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        yield server.get_host_and_port()
    finally:
        server.stop()


@dataclass
class Network:
    """A proxy that passes HTTP requests on, one a connection, and breaks those it is told to.

    Attributes:
        strike: receives a request's number, counted from 1, and returns how it breaks; None for a good one.
        seen: method and path of every request.
    """

    upstream: tuple[str, int]
    strike: Callable[[int], str | None] = lambda _number: None
    seen: list[str] = field(default_factory=list)
    port: int = 0

    @contextlib.contextmanager
    def running(self) -> Iterator[Network]:
        """Listens on `port` within the block."""
        with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
            self.port = listener.getsockname()[1]
            threading.Thread(target=self._accept, args=(listener,), daemon=True).start()
            yield self

    def restart(self, strike: Callable[[int], str | None]) -> None:
        """Counts from 1 again, and breaks others."""
        self.seen, self.strike = [], strike

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            client.settimeout(10)
            head, body = _read_request(client)
            if not head:
                return
            self.seen.append(head.split(b" HTTP/", 1)[0].decode())
            how = self.strike(len(self.seen))
            if how == "reset":
                _reset(client)
                return
            if how in ("500", "503"):
                code = {"500": "InternalError", "503": "ServiceUnavailable"}[how]
                text = f"<Error><Code>{code}</Code><Message>{code}</Message></Error>"
                client.sendall(
                    f"HTTP/1.1 {how} {code}\r\nContent-Type: application/xml\r\nContent-Length: {len(text)}\r\n"
                    f"Connection: close\r\n\r\n{text}".encode()
                )
                return
            request = head + body
            if how == "half a request":
                request = request[: len(head) + len(body) // 2] if body else request[: len(request) // 2]
            answer = self._ask(request, whole=how != "half a request")
            if how in ("no answer", "half a request"):
                _reset(client)
            else:
                client.sendall(answer if how is None else answer[: len(answer) // 2])

    def _ask(self, request: bytes, *, whole: bool) -> bytes:
        with socket.create_connection(self.upstream, timeout=10) as server:
            server.sendall(request)
            if not whole:
                _reset(server)
                return b""
            answer = bytearray()
            while piece := server.recv(1 << 16):
                answer += piece
        return bytes(answer)


def _read_request(client: socket.socket) -> tuple[bytes, bytes]:
    data = bytearray()
    while b"\r\n\r\n" not in data:
        if not (piece := client.recv(1 << 16)):
            return b"", b""
        data += piece
    head, _, body = bytes(data).partition(b"\r\n\r\n")
    lines = [line for line in head.split(b"\r\n") if not line.lower().startswith((b"expect:", b"connection:"))]
    length = next((int(line.split(b":")[1]) for line in lines if line.lower().startswith(b"content-length:")), 0)
    if b"expect: 100-continue" in head.lower():
        client.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
    parts: list[Any] = [body]
    missing = length - len(body)
    while missing > 0:
        if not (piece := client.recv(min(missing, 1 << 20))):
            return b"", b""
        parts.append(piece)
        missing -= len(piece)
    return b"\r\n".join([*lines, b"Connection: close"]) + b"\r\n\r\n", b"".join(parts)


def _reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()
