"""A W&B server on this machine: what wandb's own library asks of one, runs in memory.

Rows of a history are kept as they come, by their offset, and a run that goes on is told how far it
was. What a run tells besides (its files, its telemetry) is taken and forgotten.
"""

import contextlib
import gzip
import json
import re
from collections.abc import Iterator

from helpers.web import Handler, at_work

KEY = "a" * 40  # an API key


class Server:
    """`environment` makes a process take it for the real one; `rows` is what it has of runs."""

    def __init__(self, port: int):
        self.address = f"http://127.0.0.1:{port}"
        self.environment = {"WANDB_BASE_URL": self.address, "WANDB_API_KEY": KEY,
                            "WANDB_MODE": "online"}  # fmt: skip
        self.rows: dict[str, list[dict]] = {}

    def answer(self, operation: str, asked: dict) -> dict:
        """The data of a GraphQL operation."""
        viewer = {"id": "V", "entity": "jane", "username": "jane", "flags": "{}", "email": "",
                  "teams": {"edges": []}, "apiKeys": {"edges": []}, "admin": False}  # fmt: skip
        entity = {"id": "E", "name": "jane"}
        project = {"id": "P", "name": asked.get("project"), "entity": entity, "entityName": "jane"}
        name = asked.get("name") or asked.get("run")
        if operation == "UpsertBucket":
            name = name or "UnVu"
            new = name not in self.rows
            self.rows.setdefault(name, [])
            bucket = self.run(name) | {"project": project}
            return {"upsertBucket": {"bucket": bucket, "inserted": new}}
        if operation == "RunResumeStatus":
            known = self.run(name) if name in self.rows else None
            return {"model": project | {"bucket": known}}
        if operation == "CreateRunFiles":
            places = [{"name": n, "uploadUrl": f"{self.address}/put/{n}"} for n in asked["files"]]
            return {"createRunFiles": {"runID": "R", "uploadHeaders": [], "files": places}}
        if operation in ("Viewer", "GetDefaultEntity", "ServerFeaturesQuery", "ServerInfo"):
            return {"viewer": viewer, "serverInfo": {"features": []}}
        if operation in ("Run", "RunHistoryKeys"):
            return {"project": project | {"run": self.run(name) if name in self.rows else None}}
        if operation == "RunParquetHistory":
            live = {"parquetUrls": [], "liveData": self.rows[asked["runName"]]}
            return {"project": {"run": {"parquetHistory": live}}}
        if operation == "HistoryPage":
            low, high = asked["minStep"], asked["maxStep"]
            rows = [json.dumps(row) for row in self.rows[name] if low <= row["_step"] < high]
            return {"project": {"run": {"history": rows}}}
        return {}

    def run(self, name: str) -> dict:
        rows = self.rows[name]
        last = json.dumps(rows[-1]) if rows else None
        return {
            "id": "UnVu", "name": name, "displayName": name, "config": "{}", "tags": [],
            "summaryMetrics": last or "{}", "historyLineCount": len(rows), "logLineCount": 0,
            "eventsLineCount": 0, "historyTail": json.dumps([last] if rows else []),
            "eventsTail": "[]", "wandbConfig": "{}", "projectId": "1", "state": "running",
            "historyKeys": {"lastStep": rows[-1]["_step"] if rows else -1, "keys": {}},
            **dict.fromkeys(("group", "jobType", "commit", "description", "notes", "sweepName",
                             "systemMetrics", "heartbeatAt")),
            "user": {"name": "jane", "username": "jane"}, "readOnly": False,
            "createdAt": "2026-01-01T00:00:00Z",
        }  # fmt: skip

    def stream(self, name: str, asked: dict) -> None:
        """Rows of a run's history, from an offset on."""
        history = asked.get("files", {}).get("wandb-history.jsonl")
        if history:
            rows = self.rows[name]
            assert history["offset"] == len(rows), "a gap, or rows told twice"
            rows += map(json.loads, history["content"])


@contextlib.contextmanager
def serving() -> Iterator[Server]:
    """A server at work."""
    with at_work(_Handler) as server:
        server.wandb = Server(server.server_port)
        yield server.wandb


class _Handler(Handler):
    def handle(self) -> None:
        with contextlib.suppress(ConnectionError):  # of a client that was killed
            super().handle()

    def _any(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"] or 0))
        if self.headers["Content-Encoding"] == "gzip":
            body = gzip.decompress(body)
        answer = {}
        if self.path == "/graphql":
            asked = json.loads(body)
            operation = re.search(r"(?:query|mutation)\s+(\w+)", asked["query"])
            name = operation[1] if operation else asked["query"]
            answer = {"data": self.server.wandb.answer(name, asked.get("variables") or {})}
        elif found := re.fullmatch(r"/files/[^/]+/[^/]+/([^/]+)/file_stream", self.path):
            self.server.wandb.stream(found[1], json.loads(body))
        data = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = do_PUT = _any
