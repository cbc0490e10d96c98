"""An OpenAI-compatible server on loopback that fails as it is told to. A process of its own, on the standard library.

usage: python fault_server.py   (prints its port)
POST /_plan  {"faults": [...], "key": ..., "hold": s}   sets what happens to the next requests
GET /_seen   {"requests": [...], "most_at_a_time": n}   what came

A fault: {"match": text in the body or "" for any, "times": how often (-1 = always), "headers": {...}} and one of
  {"status": 429, "body": text}                     an error
  {"sleep": s}                                      silence, then the usual reply
  {"drop": true}                                    half a reply, then the connection is cut
  {"raw": text, "repeat": n}                        HTTP 200 with n times this body (1)
  {"drip": "headers" or "body"}                     the usual reply, from there on a byte every DRIP seconds
  {"choice": {...}, "finish": ...}                  HTTP 200, the reply's choice with these entries
"""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

FRESH: dict[str, Any] = {"faults": [], "key": None, "hold": 0.0, "requests": [], "now": 0, "most": 0}
STATE: dict[str, Any] = dict(FRESH, plan=0)
LOCK = threading.Lock()
DRIP = 0.1
USAGE = {"prompt_tokens": 7, "completion_tokens": 11, "total_tokens": 18}


def usual_choice(chat: bool) -> dict[str, Any]:
    if chat:
        return {"message": {"role": "assistant", "content": "So \\boxed{5}.", "reasoning_content": "2 + 3 = 5\n"}}
    return {"text": "2 + 3 = 5\n</think>So \\boxed{5}."}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        with LOCK:
            seen = {"requests": list(STATE["requests"]), "most_at_a_time": STATE["most"]}
        self.answer(200, json.dumps(seen))

    def do_POST(self) -> None:
        text = self.rfile.read(int(self.headers["Content-Length"])).decode()
        if self.path == "/_plan":
            with LOCK:
                STATE.update(FRESH | {"requests": [], "plan": STATE["plan"] + 1} | json.loads(text))
            self.answer(200, "{}")
            return
        with LOCK:
            STATE["now"] += 1
            STATE["most"] = max(STATE["most"], STATE["now"])
            fault = self.fault(text)
            heard = {"key": self.headers["Authorization"], "organization": self.headers["OpenAI-Organization"]}
            STATE["requests"].append({"time": time.time(), "path": self.path, "body": json.loads(text)} | heard)
            hold, key, plan = STATE["hold"], STATE["key"], STATE["plan"]
        try:
            time.sleep(hold)
            if key is not None and self.headers["Authorization"] != f"Bearer {key}":
                told = {"error": {"message": f"Incorrect API key provided: {self.headers['Authorization']}"}}
                self.answer(401, json.dumps(told))
            else:
                self.respond(fault)
        except OSError:
            pass  # the client gave up
        finally:
            with LOCK:
                STATE["now"] -= plan == STATE["plan"]  # else it is of a client of the plan before

    def fault(self, text: str) -> dict[str, Any]:
        """The first fault of the plan that matches, counted."""
        for fault in STATE["faults"]:
            left = fault.setdefault("times", 1)
            if left != 0 and fault.get("match", "") in text:
                fault["times"] = left - 1
                return fault
        return {}

    def respond(self, fault: dict[str, Any]) -> None:
        time.sleep(fault.get("sleep", 0))
        headers = fault.get("headers", {})
        if "status" in fault:
            self.answer(fault["status"], fault.get("body", ""), headers)
        elif "raw" in fault:
            self.answer(200, fault["raw"], headers, repeat=fault.get("repeat", 1))
        else:
            choice = {"index": 0, "finish_reason": fault.get("finish", "stop")} | usual_choice("chat" in self.path)
            reply = {"model": "served-1", "choices": [choice | fault.get("choice", {})], "usage": USAGE}
            if "drip" in fault:
                self.drip(json.dumps(reply), fault["drip"] == "headers")
            else:
                self.answer(200, json.dumps(reply), headers, half=fault.get("drop", False))

    def answer(
        self, status: int, body: str, headers: dict[str, str] | None = None, half: bool = False, repeat: int = 1
    ) -> None:
        content = body.encode()
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content) * repeat))
        self.end_headers()
        for _ in range(repeat):
            self.wfile.write(content[: len(content) // 2] if half else content)
        if half:
            self.close_connection = True

    def drip(self, body: str, headers_too: bool) -> None:
        head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n"
        self.wfile.write(b"" if headers_too else head.encode())
        for letter in head + body if headers_too else body:
            self.wfile.write(letter.encode())
            time.sleep(DRIP)


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    print(server.server_port, flush=True)
    server.serve_forever()
