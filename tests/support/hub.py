"""A small hub on loopback: as much of the real one as its client asks for, and what can go wrong with it."""

import base64
import hashlib
import http.server
import json
import os
import threading
from collections import defaultdict
from contextlib import contextmanager
from urllib.parse import unquote, urlsplit

TOKEN = "hf_of_the_loopback_hub"
LARGE = (".parquet", ".safetensors")  # kept by their SHA-256, the others by git's hash


@contextmanager
def serve():
    """A hub at `address`. `holds` maps a repository (`models/org/name`) and a revision to its files; `asked` are the
    requests as (verb, last part of the path, range); `faults` are what the next such requests meet, by (verb, part);
    a large file is uploaded as ("PUT", "large").
    `pushed` are the files of repositories that were uploaded to with the token `TOKEN`, by their id; `created` is what
    was asked for new ones."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.holds, server.asked, server.faults = {}, [], defaultdict(list)
    server.pushed, server.created, server.large = {}, [], {}  # large files, by their SHA-256, until a commit names them
    server.address = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


def environment(server, folder):
    """Variables of a process that has this hub, no mirror, and no cache but the one in `folder`."""
    proxies = {"http_proxy", "https_proxy", "all_proxy"}
    kept = {k: v for k, v in os.environ.items() if not k.startswith("HF_") and k.lower() not in proxies}
    places = {"LRTL_MIRROR": str(folder / "mirror"), "HF_HOME": str(folder / "hub")}
    return kept | places | ({"HF_ENDPOINT": server.address} if server else {})


class Hub(http.server.BaseHTTPRequestHandler):
    """`/api/<section>/<id>/revision/<branch>`, `/api/…/tree/<commit>`, and the files below `/…/resolve/<commit>/`."""

    def do_GET(self):
        path = unquote(urlsplit(self.path).path)
        part = path.rpartition("/")[2]
        self.server.asked.append((self.command, part, self.headers.get("Range")))
        faults = self.server.faults[self.command, part]
        self.fault = faults.pop(0) if faults else None
        if isinstance(self.fault, int):
            return self.answer(self.fault, b"", {"Retry-After": "0"} if self.fault == 429 else {})
        if path == "/":
            return self.answer(200, b"")
        for name, asked in created(self.server).items():
            if path == f"/api/models/{name}":
                known = {"id": name, "private": asked.get("visibility") == "private"}
                return self.answer(200, json.dumps(known).encode())
        for (place, revision), files in self.server.holds.items():
            resolve = f"/{place.removeprefix('models/')}/resolve/{revision}/"
            if path in (f"/api/{place}", f"/api/{place}/revision/main"):
                return self.answer(200, json.dumps({"id": place, "sha": revision}).encode())
            if path == f"/api/{place}/tree/{revision}":
                return self.answer(200, json.dumps([listed(*file) for file in files.items()]).encode())
            if path.startswith(resolve) and (name := path.removeprefix(resolve)) in files:
                headers = {"ETag": f'"{etag(name, files[name])}"', "X-Repo-Commit": revision}
                return self.answer(200, files[name], headers)
        return self.answer(404, b"", {"X-Error-Code": "RevisionNotFound"})

    do_HEAD = do_GET

    def do_POST(self):
        """What a commit asks for: the repository, its card checked, where each file goes, and the commit itself."""
        self.fault, path = None, unquote(urlsplit(self.path).path)
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.asked.append((self.command, path.rpartition("/")[2], None))
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self.answer(401, b"", {"X-Error-Message": "Invalid username or password."})
        if path.endswith("/commit/main"):
            return self.commit(path.split("/")[3:5], [json.loads(line) for line in body.splitlines()])
        asked, found = json.loads(body), {}
        if path == "/api/repos/create":
            name = f"{asked['organization']}/{asked['name']}"
            found = {"url": f"{self.server.address}/{name}"}
            if name in created(self.server):
                return self.answer(409, json.dumps(found).encode())
            self.server.created.append(asked)
        if path.endswith("/validate-yaml") and "license: free" in asked["content"]:
            return self.answer(400, b'{"errors": [{"message": "\\"license\\" must be one of [mit]"}]}')
        if path.endswith("/preupload/main"):
            names = [file["path"] for file in asked["files"]]
            modes = {name: "lfs" if name.endswith(LARGE) else "regular" for name in names}
            found = {"files": [{"path": name, "uploadMode": modes[name], "shouldIgnore": False} for name in names]}
        if path.endswith("/objects/batch"):
            href = f"{self.server.address}/large/"
            found = {"objects": [o | {"actions": {"upload": {"href": href + o["oid"]}}} for o in asked["objects"]]}
        return self.answer(200, json.dumps(found).encode())

    def do_PUT(self):
        content = self.rfile.read(int(self.headers["Content-Length"]))
        self.fault, self.server.large[hashlib.sha256(content).hexdigest()] = None, content
        faults = self.server.faults[self.command, "large"]
        self.answer(faults.pop(0) if faults else 200, b"")

    def commit(self, names, lines):
        files = self.server.pushed.setdefault("/".join(names), {})
        for kind, value in ((line["key"], line["value"]) for line in lines):
            if kind == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            if kind == "lfsFile":
                files[value["path"]] = self.server.large[value["oid"]]
        url = f"{self.server.address}/{'/'.join(names)}/commit/{'c' * 40}"
        self.answer(200, json.dumps({"commitUrl": url, "commitOid": "c" * 40}).encode())

    def answer(self, status, body, headers=()):
        first = int((self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").partition("-")[0])
        if first:
            status, headers = 206, {**dict(headers), "Content-Range": f"bytes {first}-{len(body) - 1}/{len(body)}"}
        body = body[first:]
        if self.fault == "short":  # whole, as far as the connection tells
            body = body[:-1]
        if self.fault == "flip":
            body = bytes([body[0] ^ 1]) + body[1:]
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **dict(headers)}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[: len(body) // 2] if self.fault == "drop" else body)

    def log_message(self, *_):
        pass


def created(server):
    """What was asked for each new repository, by its id."""
    return {f"{asked['organization']}/{asked['name']}": asked for asked in server.created}


def listed(name, content):
    entry = {"type": "file", "path": name, "size": len(content), "oid": git_hash(content)}
    large = {"oid": etag(name, content), "size": len(content), "pointerSize": 130}
    return entry | ({"lfs": large} if name.endswith(LARGE) else {})


def etag(name, content):
    return hashlib.sha256(content).hexdigest() if name.endswith(LARGE) else git_hash(content)


def git_hash(content):
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
