"""A proxy on loopback before an object store: it counts requests, and lets some of them fail."""

import http.client
import http.server
import threading
import time
import urllib.parse
from collections.abc import Callable
from typing import Any, Literal, Self

Fault = Literal["error", "busy", "cut", "slow"]


class Proxy:
    """Forwards to an endpoint while the context is open.

    Attributes:
        requests: The method and the path of each request.
        faults: Says of a request, by its number and its method, what goes wrong with it, if anything does.
    """

    def __init__(self, endpoint: str) -> None:
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.faults: Callable[[int, str], Fault | None] = lambda number, method: None
        self._upstream = urllib.parse.urlsplit(endpoint).netloc
        self._lock = threading.Lock()
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True

    @property
    def endpoint(self) -> str:
        """Where the proxy listens."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _next_fault(self, method: str, path: str, headers: dict[str, str]) -> Fault | None:
        with self._lock:
            self.requests.append((method, path, headers))
            return self.faults(len(self.requests), method)

    def _handler(proxy) -> type[http.server.BaseHTTPRequestHandler]:  # noqa: N805
        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _forward(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                fault = proxy._next_fault(self.command, self.path, dict(self.headers))
                if fault in ("error", "busy"):
                    self.send_response(500 if fault == "error" else 503)
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                if fault == "slow":
                    time.sleep(0.05)
                upstream = http.client.HTTPConnection(proxy._upstream)
                headers = {name: value for name, value in self.headers.items() if name.lower() != "expect"}
                upstream.request(self.command, self.path, body, headers)
                answer = upstream.getresponse()
                data = answer.read()
                self.send_response_only(answer.status)
                for name, value in answer.getheaders():
                    if name.lower() not in ("connection", "transfer-encoding", "content-length"):
                        self.send_header(name, value)
                length = answer.getheader("Content-Length", "0") if self.command == "HEAD" else str(len(data))
                self.send_header("Content-Length", length)
                self.end_headers()
                upstream.close()
                if fault == "cut":
                    self.wfile.write(data[: len(data) // 2])
                    self.close_connection = True
                elif self.command != "HEAD":
                    self.wfile.write(data)

            do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _forward  # noqa: N815

            def log_message(self, *_: Any) -> None:
                """Says nothing."""

        return Handler
