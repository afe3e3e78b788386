"""A proxy in front of a server that behaves as real ones do on a bad day: error pages, lost replies, late answers."""

import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

LOST = 0
"""The fault of a reply that never arrives: the server has done what was asked."""
PAGE = b"<html><body><h1>Bad Gateway</h1></body></html>"
Fault = Callable[[str], int | None]
"""From the path of a request to the status of an error page, `LOST`, or None for the server's answer."""


class FaultyProxy:
    """Forwards requests to `server`, unless `fault` says otherwise, after `delay` seconds."""

    def __init__(self, server: str) -> None:
        self.server = server
        self.fault: Fault = lambda path: None
        self.delay = 0.0
        self.requests: list[str] = []
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.address = f"http://127.0.0.1:{self.http.server_address[1]}"

    def lose_once(self, path: str) -> None:
        """Lose the reply to the next request whose path ends with `path`."""
        left = [path]
        self.fault = lambda asked: LOST if left and asked.endswith(left[0]) and left.pop() else None

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                body = self.rfile.read(length) if length else None
                proxy.requests.append(self.path)
                time.sleep(proxy.delay)
                fault = proxy.fault(self.path.partition("?")[0])
                status, headers, content = (fault, {}, PAGE) if fault else proxy.ask(self, body)
                if fault == LOST:
                    self.close_connection = True
                    return
                with suppress(BrokenPipeError, ConnectionResetError):  # a client that did not wait for it
                    self.reply(status, headers, content)

            def reply(self, status: int, headers: dict[str, str], content: bytes) -> None:
                self.send_response(status)
                kind = {"Content-Type": headers.get("Content-Type", "text/html")}
                for name, value in ({**kind, "Content-Length": str(len(content))}).items():
                    self.send_header(name, value)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(content)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = answer  # noqa: N815

            def log_message(self, format: str, *words: object) -> None:  # noqa: A002
                """Print nothing."""

        return Handler

    def ask(self, request: BaseHTTPRequestHandler, body: bytes | None) -> tuple[int, dict[str, str], bytes]:
        """Return status, headers and content of the server's answer to `request`."""
        headers = {name: value for name, value in request.headers.items() if name.lower() not in ("host", "connection")}
        forwarded = urllib.request.Request(f"{self.server}{request.path}", body, headers, method=request.command)
        try:
            with urllib.request.urlopen(forwarded, timeout=60) as answer:
                return answer.status, dict(answer.headers), answer.read()
        except urllib.error.HTTPError as error:
            return error.code, dict(error.headers), error.read()
        except urllib.error.URLError:
            return 502, {}, PAGE


@contextmanager
def faulty_proxy(server: str) -> Iterator[FaultyProxy]:
    """Run a proxy in front of the server at the address `server`."""
    proxy = FaultyProxy(server)
    thread = threading.Thread(target=proxy.http.serve_forever, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        proxy.http.shutdown()
        proxy.http.server_close()
        thread.join()
