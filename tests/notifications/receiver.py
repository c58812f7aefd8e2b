"""A receiver of webhooks that does as it is told: real sockets, real HTTP."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Receiver:
    """Answers as `behaviour` says: a status, "hang" (no answer), "drip" (a byte now and then) or "cut".

    Of several, each is for one request, and the last for all that follow.
    """

    def __init__(self, *behaviour: int | str) -> None:
        self.behaviour = list(behaviour) or [200]
        self.received: list[tuple[str, dict[str, str], bytes]] = []
        self.released = threading.Event()

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers["Content-Length"]))
        self.received.append((handler.path, dict(handler.headers), body))
        behaviour = self.behaviour.pop(0) if len(self.behaviour) > 1 else self.behaviour[0]
        if behaviour == "hang":
            self.released.wait()
        elif behaviour == "drip":
            self._drip(handler)
        elif behaviour != "cut":
            handler.send_response(int(behaviour))
            if int(behaviour) in {301, 302, 307, 308}:
                handler.send_header("Location", "/elsewhere")
            handler.end_headers()

    def _drip(self, handler: BaseHTTPRequestHandler) -> None:
        while not self.released.wait(0.05):
            try:
                handler.wfile.write(b"H")
            except OSError:
                return


@contextmanager
def serving(receiver: Receiver) -> Iterator[str]:
    """The address of the receiver while it serves."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            receiver.answer(self)

        def log_message(self, *_: object) -> None:
            """The tests look at what was received."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/hooks/c4nary-path?key=c4nary-query"
    finally:
        receiver.released.set()
        server.shutdown()
        server.server_close()
        thread.join()
