import hashlib
import http.server
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from lrtl_utils import sources, tasks
from lrtl_utils.config import InputError

AG_NEWS = "fancyzhx/ag_news"
FILES = {
    "README.md": b"not asked for",
    "data/train-00000-of-00001.parquet": b"train rows",
    "data/test-00000-of-00001.parquet": b"test rows",
}
FIND = "import json\nfrom lrtl_utils import tasks\nprint(json.dumps(tasks.find('ag_news').describe()))"


class Hub(http.server.BaseHTTPRequestHandler):
    """As much of the hub as its client asks for: a listing of one repository, and its files."""

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        path = unquote(urlsplit(self.path).path)
        self.server.asked.append(path)
        listing = f"/api/datasets/{AG_NEWS}/tree/{self.server.revision}"
        files = f"/datasets/{AG_NEWS}/resolve/{self.server.revision}/"
        name = path.removeprefix(files)
        if path == "/" or path in self.server.broken:
            self.answer(b"", status=500 if path in self.server.broken else 200)
        elif path == listing:
            rows = [{"type": "file", "path": k, "size": len(v), "oid": oid(v)} for k, v in FILES.items()]
            self.answer(json.dumps(rows).encode(), {"Content-Type": "application/json"})
        elif path.startswith(files) and name in FILES:
            headers = {"ETag": f'"{oid(FILES[name])}"', "X-Repo-Commit": self.server.revision}
            self.answer(FILES[name], headers)
        else:
            self.answer(b"", {"X-Error-Code": "RevisionNotFound"}, status=404)

    def answer(self, body, headers=None, status=200):
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_):
        pass


def oid(content):
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


@pytest.fixture
def hub():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.revision, server.asked, server.broken = tasks.TASKS["ag_news"].revision, [], set()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def python(code, tmp_path, **variables):
    """Run code in a fresh process that has no mirror, no cache and no proxy but those that are given."""
    kept = {k: v for k, v in os.environ.items() if not k.upper().startswith(("HF_", "HUGGING", "HTTP", "ALL_PROXY"))}
    empty = {"LRTL_MIRROR": str(tmp_path / "mirror"), "HF_HOME": str(tmp_path / "hub"), "HF_HUB_DISABLE_TELEMETRY": "1"}
    return subprocess.run(
        [sys.executable, *([code] if isinstance(code, str) else code)][:1] + (["-c", code] if isinstance(code, str) else code),
        env=kept | empty | variables, capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path,
    )


def test_x(hub, tmp_path):
    end = f"http://127.0.0.1:{hub.server_port}"
    t=time.time(); r=python(FIND, tmp_path, HF_ENDPOINT=end); print(r, time.time()-t); print(*hub.asked, sep="\n")
    hub.asked.clear(); t=time.time(); r=python(FIND, tmp_path, HF_ENDPOINT=end, HF_HUB_OFFLINE="1"); print(r, time.time()-t); print(*hub.asked, sep="\n")
    for b in [f"/datasets/{AG_NEWS}/resolve/{hub.revision}/data/test-00000-of-00001.parquet", f"/api/datasets/{AG_NEWS}/tree/{hub.revision}"]:
        p=tmp_path/str(len(b)); p.mkdir()
        hub.broken={b}; hub.asked.clear(); t=time.time(); r=python(FIND, p, HF_ENDPOINT=end); print(r, time.time()-t); print(*hub.asked, sep="\n")
        hub.broken=set(); hub.asked.clear(); t=time.time(); r=python(FIND, p, HF_ENDPOINT=end); print(r, time.time()-t); print(*hub.asked, sep="\n")
    hub.revision="0"*40
    p=tmp_path/"r"; p.mkdir(); t=time.time(); r=python(FIND, p, HF_ENDPOINT=end); print(r, time.time()-t); 
    import socket
    with socket.socket() as s:
        s.bind(("127.0.0.1",0)); s.listen()
        p=tmp_path/"s"; p.mkdir(); t=time.time(); r=python(FIND, p, HF_ENDPOINT=f"http://127.0.0.1:{s.getsockname()[1]}"); print(r, time.time()-t); 
    assert 0
