"""A real S3 server, and a way to it that drops connections."""

from __future__ import annotations

import itertools
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import boto3
import pytest
from moto.server import ThreadedMotoServer


@contextmanager
def s3_server() -> Iterator[tuple[str, int]]:
    """Run a server on a free port, with an empty bucket called ``bucket``; give its address."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    keys = {"aws_access_key_id": "key", "aws_secret_access_key": "secret", "region_name": "us-east-1"}
    boto3.client("s3", endpoint_url=f"http://{host}:{port}", **keys).create_bucket(Bucket="bucket")
    try:
        yield host, port
    finally:
        server.stop()


class DroppingProxy:
    """Passes connections on to a server, and cuts some of them off in the middle.

    Args:
        server: its address.
        every: of so many connections one is cut off; 0 cuts none.
        after_bytes: once so many bytes have gone through it, either way.
    """

    def __init__(self, server: tuple[str, int], *, every: int, after_bytes: int = 20_000) -> None:
        self.every, self.after_bytes = every, after_bytes
        self.dropped = 0
        self._server = server
        self._numbers = itertools.count(1)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.address: tuple[str, int] = self._listening.getsockname()
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)  # wakes the thread that waits there
        self._listening.close()

    def _accept(self) -> None:
        with suppress(OSError):  # closed
            while True:
                near, _ = self._listening.accept()
                far = socket.create_connection(self._server)
                number = next(self._numbers)
                left = [self.after_bytes if self.every and number % self.every == 0 else 1 << 60]
                for source, target in ((near, far), (far, near)):
                    threading.Thread(target=self._pass_on, args=(source, target, left), daemon=True).start()

    def _pass_on(self, source: socket.socket, target: socket.socket, left: list[int]) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                left[0] -= len(data)
                if left[0] < 0:
                    self.dropped += 1
                    break
                target.sendall(data)
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()


def credentials(monkeypatch: pytest.MonkeyPatch, address: tuple[str, int]) -> None:
    """Let whoever looks for S3 find it there, as a user would."""
    import s3fs

    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://{}:{}".format(*address))
    s3fs.S3FileSystem.clear_instance_cache()
