"""A hub of models on this machine: what huggingface_hub asks of one, files in memory.

As the real one: small files come in the commit, large ones by LFS, a name is refused that is taken,
and who has no token, or not an account's, may not write. Every request is kept, with its headers.
"""

import base64
import contextlib
import hashlib
import json
import re
from collections.abc import Iterator

from helpers.web import Handler, at_work

TOKEN, USER = "hf_aSecretThatNobodyMaySee", "jane"


class Hub:
    """`environment` makes a process take it for the real one; `models` is what it holds."""

    def __init__(self, port: int):
        self.address = f"http://127.0.0.1:{port}"
        self.environment = {
            "HF_ENDPOINT": self.address,
            "HF_HUB_DISABLE_XET": "1",  # a storage with a protocol of its own: LFS is spoken here
            "HF_HUB_DISABLE_TELEMETRY": "1",
        }
        self.models: dict[str, list[dict[str, bytes]]] = {}  # a folder for each revision
        self.large: dict[str, bytes] = {}
        self.requests: list[tuple[str, str, str | None]] = []  # method, path, authorization
        self.down = False  # whether it answers nobody

    def commit_of(self, name: str, revision: str) -> tuple[str, dict[str, bytes]] | None:
        """(its hash, its files) of a branch, which is `main`, or of a hash."""
        folders = self.models[name]
        hashes = [hashlib.sha1(f"{name} {k}".encode()).hexdigest() for k in range(len(folders))]
        if revision == "main" and folders:
            return hashes[-1], folders[-1]
        return next((c for c in zip(hashes, folders, strict=True) if c[0] == revision), None)


@contextlib.contextmanager
def serving() -> Iterator[Hub]:
    """A hub at work."""
    with at_work(_Handler) as server:
        server.hub = Hub(server.server_port)
        yield server.hub


class _Handler(Handler):
    def _answer(self, status: int, body=b"", **headers: str) -> None:
        if not isinstance(body, bytes):
            body = json.dumps(body).encode()
        self.send_response(status)
        headers = {"Content-Length": str(len(body))} | headers
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _any(self) -> None:
        hub, path = self.server.hub, self.path.partition("?")[0]
        if hub.down:
            self.close_connection = True
            return None
        hub.requests.append((self.command, path, self.headers["Authorization"]))
        self.body = self.rfile.read(int(self.headers["Content-Length"] or 0))
        for pattern, method in self.ROUTES.items():
            if found := re.fullmatch(pattern, f"{self.command} {path}"):
                return method(self, hub, *found.groups())
        return self._answer(404, {"error": "no such page"})

    do_GET = do_HEAD = do_POST = do_PUT = _any

    def _may_write(self, name: str) -> bool:
        """Whether the token may: answered, where not."""
        if self.headers["Authorization"] != f"Bearer {TOKEN}":
            self._answer(401, {"error": "Invalid username or password."})
        elif name.split("/")[0] != USER:
            self._answer(403, {"error": "forbidden"}, X_Error_Message="not your namespace")
        else:
            return True
        return False

    def _create(self, hub: Hub) -> None:
        asked = json.loads(self.body)
        name = f"{asked.get('organization') or USER}/{asked['name']}"
        if self._may_write(name):
            taken = name in hub.models
            hub.models.setdefault(name, [])
            body = {"url": f"{hub.address}/{name}", "id": name, "name": name}
            self._answer(409 if taken else 200, body)

    def _info(self, hub: Hub, name: str) -> None:
        if name not in hub.models:
            return self._answer(404, {"error": "none"}, X_Error_Code="RepoNotFound")
        return self._answer(200, {"id": name, "modelId": name, "siblings": []})

    def _valid(self, hub: Hub) -> None:
        content = json.loads(self.body)["content"]
        fine = content.startswith("---\n") and "\nlicense: " in f"\n{content}"
        self._answer(200 if fine else 400, {"errors": [], "warnings": []})

    def _preupload(self, hub: Hub, name: str) -> None:
        if self._may_write(name):
            files = [
                {
                    "path": file["path"],
                    "uploadMode": "lfs" if file["path"].endswith(".safetensors") else "regular",
                    "shouldIgnore": False,
                }
                for file in json.loads(self.body)["files"]
            ]
            self._answer(200, {"files": files, "commitOid": "0" * 40})

    def _batch(self, hub: Hub, name: str) -> None:
        if self._may_write(name):
            objects = [
                one | {"actions": {"upload": {"href": f"{hub.address}/large/{one['oid']}"}}}
                for one in json.loads(self.body)["objects"]
            ]
            self._answer(200, {"transfer": "basic", "objects": objects})

    def _large(self, hub: Hub, oid: str) -> None:
        assert hashlib.sha256(self.body).hexdigest() == oid
        hub.large[oid] = self.body
        self._answer(200)

    def _commit(self, hub: Hub, name: str) -> None:
        if not self._may_write(name):
            return
        files = dict(hub.models[name][-1]) if hub.models[name] else {}
        for line in self.body.splitlines():
            part = json.loads(line)
            value = part["value"]
            if part["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif part["key"] == "lfsFile":
                files[value["path"]] = hub.large[value["oid"]]
        hub.models[name].append(files)
        oid, _ = hub.commit_of(name, "main")
        url = f"{hub.address}/{name}/commit/{oid}"
        self._answer(200, {"commitOid": oid, "commitUrl": url, "success": True})

    def _resolve(self, hub: Hub, name: str, revision: str, file: str) -> None:
        if name not in hub.models:
            return self._answer(404, X_Error_Code="RepoNotFound")
        if not (commit := hub.commit_of(name, revision)):
            return self._answer(404, X_Error_Code="RevisionNotFound")
        oid, files = commit
        if file not in files:
            return self._answer(404, X_Error_Code="EntryNotFound", X_Repo_Commit=oid)
        etag = f'"{hashlib.sha256(files[file]).hexdigest()}"'
        return self._answer(200, files[file], X_Repo_Commit=oid, ETag=etag)

    ROUTES = {
        r"POST /api/repos/create": _create,
        r"GET /api/models/([^/]+/[^/]+)": _info,
        r"POST /api/validate-yaml": _valid,
        r"POST /api/models/([^/]+/[^/]+)/preupload/[^/]+": _preupload,
        r"POST /([^/]+/[^/]+)\.git/info/lfs/objects/batch": _batch,
        r"PUT /large/(\w+)": _large,
        r"POST /api/models/([^/]+/[^/]+)/commit/[^/]+": _commit,
        r"(?:GET|HEAD) /([^/]+/[^/]+)/resolve/([^/]+)/(.+)": _resolve,
    }
