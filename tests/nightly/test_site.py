"""The site that `make docs` builds: its links and pictures, and some of its pages in Chromium without a network."""

import base64
import re
import subprocess
import sys
import threading
from contextlib import contextmanager
from functools import partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from browser import CHROMIUM, chromium

from lrtl_utils.files import ROOT

BIN = Path(sys.executable).parent


@pytest.fixture(scope="module")
def docs(tmp_path_factory):
    """The folder with the sources of the site in `pages` and the site in `site`."""
    folder = tmp_path_factory.mktemp("docs")
    make = ["make", "--old-file", ".venv/installed", f"BIN={BIN}", f"DOCS={folder}", "docs"]
    done = subprocess.run(make, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


class Page(HTMLParser):
    """The targets of a page's links and pictures, and the names that a link can lead to in it."""

    def __init__(self, path):
        super().__init__()
        self.targets, self.names = [], {""}
        self.feed(path.read_text())

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.targets += [given[name] for name in ("href", "src") if name in given]
        self.names.add(given.get("id"))


def test_every_link_and_picture_of_the_site_is_there(docs):
    pages = {path: Page(path) for path in (docs / "site").rglob("*.html") if path.name != "404.html"}
    assert {docs / "site/index.html", docs / "site/docs/progressive.html"} < pages.keys()
    broken = []
    for path, page in pages.items():
        for address in map(urlsplit, page.targets):
            target = Path(path.parent / unquote(address.path)).resolve() if address.path else path
            there = target.is_file() and (target not in pages or address.fragment in pages[target].names)
            if not there and address.scheme not in ("https", "data"):
                broken.append((path.name, address.geturl()))
    assert broken == []


def test_a_broken_link_ends_the_build(docs, tmp_path):
    (tmp_path / "pages").mkdir()
    (tmp_path / "pages/README.md").write_text("# Start\n\n[A page](absent.md)\n")
    (tmp_path / "mkdocs.yml").write_text((docs / "mkdocs.yml").read_text().partition("nav:")[0])
    build = [BIN / "zensical", "build", "--strict", "--config-file", tmp_path / "mkdocs.yml"]
    done = subprocess.run(build, capture_output=True, text=True)
    assert done.returncode != 0
    assert "page does not exist" in done.stderr


@contextmanager
def served(folder):
    """The address of a server of `folder` on loopback."""
    handler = partial(SimpleHTTPRequestHandler, directory=folder)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.mark.skipif(CHROMIUM is None, reason="there is no `chromium` on the path (apt-get install chromium)")
def test_pages_ask_for_nothing_beyond_loopback(docs, tmp_path):
    with served(docs / "site") as address, chromium(tmp_path) as browser:
        for page in ("index.html", "docs/progressive.html", "notebooks/20_accuracy_vs_data.html"):
            browser.open(address + page)
            assert browser.evaluate("[...document.images].every((image) => image.naturalWidth)")
            assert browser.evaluate("document.querySelectorAll('nav a').length") > 20
            assert browser.complaints == []
            assert [url for url in browser.requested if not url.startswith((address, "data:"))] == []


@pytest.mark.skipif(CHROMIUM is None, reason="there is no `chromium` on the path (apt-get install chromium)")
def test_the_note_on_the_recipe_has_at_most_four_printed_pages(docs, tmp_path):
    with chromium(tmp_path) as browser:
        browser.open(docs / "site/docs/progressive.html")
        a4 = browser.ask("Page.printToPDF", paperWidth=8.27, paperHeight=11.69)
    assert 3 <= len(re.findall(rb"/Type\s*/Page\b", base64.b64decode(a4["data"]))) <= 4
