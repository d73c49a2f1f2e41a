"""An HTTP proxy before an S3 or tracking server, which answers some requests itself as S3 does when it is busy."""

from __future__ import annotations

import http.client
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import urlsplit

Answer = tuple[int, str]
"""Status and S3's error code."""


@contextmanager
def proxy(
    server: str, before: Callable[[str, str], Answer | None], *, forward: bool = False
) -> Iterator[str]:
    """URL of a proxy; `before` is asked with method and path, and its answer given instead of the server's.

    With `forward` the request reaches the server all the same: only its answer is lost.
    """

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_one(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            answer = before(self.command, self.path)
            if answer is None or forward:
                upstream = http.client.HTTPConnection(urlsplit(server).netloc)
                upstream.request(self.command, self.path, body, dict(self.headers))
                given = upstream.getresponse()
                status, headers, content = given.status, given.getheaders(), given.read()
                upstream.close()
            if answer is not None:
                status, headers = answer[0], []
                content = f"<Error><Code>{answer[1]}</Code><Message>-</Message></Error>".encode()
            self.send_response(status)
            for name, value in headers:
                if name.lower() not in (
                    "connection",
                    "content-length",
                    "date",
                    "server",
                    "transfer-encoding",
                ):
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_PUT = do_POST = do_PATCH = do_DELETE = handle_one

        def log_message(self, format: str, *args: object) -> None:
            """Nothing: a test says what it saw."""

    running = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    running.daemon_threads = True
    thread = Thread(target=running.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{running.server_port}"
    finally:
        running.shutdown()
        thread.join()
        running.server_close()
