"""A real HTTP server on this machine that answers like an OpenAI-compatible endpoint."""

import json
import math
import threading
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

NO_WAIT = {"retry-after-ms": "1"}


def completion(text: str, probs: dict[str, float] | None = None) -> dict:
    """A chat completion as servers send it; `probs` are those of the first token."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text}}
    if probs is not None:
        top = [{"token": t, "logprob": math.log(p), "bytes": None} for t, p in probs.items()]
        choice["logprobs"] = {"content": [{**top[0], "top_logprobs": top}]}
    return {"id": "1", "choices": [choice], "usage": {"prompt_tokens": 42, "completion_tokens": 1}}


GOOD = (200, completion("A", {"A": 0.6, " B": 0.3, "C": 0.1}))


class Server:
    """Answers each request as `reply(number, body)` says: status and body, and headers if any.

    The status None closes the connection instead.
    """

    def __init__(self) -> None:
        self.reply: Callable = lambda _number, _body: GOOD
        self.bodies: list[dict] = []
        self.keys: list[str] = []
        self.busy = self.most_busy = 0
        self._lock = threading.Lock()
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                with server._lock:
                    number = len(server.bodies)
                    server.bodies.append(body)
                    server.keys.append(self.headers["authorization"])
                    server.busy += 1
                    server.most_busy = max(server.most_busy, server.busy)
                status, content, *headers = server.reply(number, body)
                with server._lock:
                    server.busy -= 1
                if status is None:
                    self.close_connection = True
                    return
                raw = content if isinstance(content, bytes) else json.dumps(content).encode()
                with suppress(BrokenPipeError, ConnectionResetError):  # the client gave up
                    self.send(status, raw, headers[0] if headers else {})

            def send(self, status: int, raw: bytes, headers: dict[str, str]) -> None:
                self.send_response(status)
                for name, value in {**NO_WAIT, **headers}.items():
                    self.send_header(name, value)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(raw)))
                self.end_headers()
                self.wfile.write(raw)

            def log_message(self, *_: object) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}/v1"

    def close(self) -> None:
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()
