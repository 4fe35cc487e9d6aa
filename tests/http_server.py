"""A small HTTP server on loopback whose every answer a test decides, failures included."""

import gzip
import json
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit


@dataclass(frozen=True)
class Asked:
    """A request: path, query parameters, headers, and the how manyth it is."""

    path: str
    query: dict
    headers: dict
    number: int


@dataclass(frozen=True)
class Reply:
    """An answer; `cut`: the connection is dropped after so many bytes of the body; `hold`: seconds of silence first."""

    body: object = b""
    status: int = 200
    headers: dict = field(default_factory=dict)
    cut: int | None = None
    hold: float = 0.0
    packed: bool = False

    @property
    def data(self):
        data = self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()
        return gzip.compress(data) if self.packed else data


class Endpoint:
    """A running server: `url`, and all it was `asked`."""

    def __init__(self, answer):
        self.asked = []
        self._answer = answer
        self._ended = threading.Event()
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                endpoint._serve(self)

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def close(self):
        self._ended.set()
        self._server.shutdown()
        self._server.server_close()

    def _serve(self, handler):
        parts = urlsplit(handler.path)
        asked = Asked(parts.path, dict(parse_qsl(parts.query)), dict(handler.headers), len(self.asked) + 1)
        self.asked.append(asked)
        reply = self._answer(asked)
        reply = reply if isinstance(reply, Reply) else Reply(reply)
        self._ended.wait(reply.hold)
        try:
            handler.send_response(reply.status)
            given = {"Content-Length": str(len(reply.data))} | ({"Content-Encoding": "gzip"} if reply.packed else {})
            for name, value in (given | reply.headers).items():
                handler.send_header(name, value)
            handler.end_headers()
            handler.wfile.write(reply.data[: reply.cut])
            handler.close_connection = handler.close_connection or reply.cut is not None
        except OSError:
            handler.close_connection = True  # who asked has gone


@contextmanager
def serving(answer):
    """An endpoint for the length of a block; `answer`: Asked to Reply, or to a body (bytes, or what becomes JSON)."""
    endpoint = Endpoint(answer)
    try:
        yield endpoint
    finally:
        endpoint.close()
