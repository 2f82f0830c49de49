"""Headless Chromium, driven over its DevTools protocol on loopback: what a page shows, asks for and complains of."""

import itertools
import json
import shutil
import subprocess
import time
from contextlib import contextmanager, suppress

CHROMIUM = shutil.which("chromium")
OPTIONS = ("--headless=new", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-sync")
OPTIONS += ("--no-sandbox", "--disable-dev-shm-usage")  # as root and in containers, on pages of the tests' own making
PATIENCE = 60.0


class Browser:
    """One tab. `requested` are the URLs it asked for, `complaints` the errors of its console, since the last `open`."""

    def __init__(self, socket):
        self.socket, self.numbers = socket, itertools.count(1)
        self.requested, self.complaints, self.events = [], [], []
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.ask(f"{domain}.enable")

    def ask(self, method, **parameters):
        number = next(self.numbers)
        self.socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while (answer := self._next()).get("id") != number:
            pass
        assert "error" not in answer, answer
        return answer["result"]

    def open(self, page):
        """Load a file, or an address, to its end."""
        self.requested.clear(), self.complaints.clear(), self.events.clear()
        self.ask("Page.navigate", url=page if isinstance(page, str) else page.as_uri())
        self.wait_for_load()

    def wait_for_load(self):
        while "Page.loadEventFired" not in self.events:
            self._next()
        self.evaluate("1")  # what was complained of until now has come in

    def evaluate(self, expression):
        """The value of a JavaScript expression; exempt from the page's policy, as the console is."""
        found = self.ask("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def wait_for(self, text):
        """Wait until the page shows a text, as one does that a script fills."""
        until = time.monotonic() + PATIENCE
        while text not in (shown := self.evaluate("document.body.innerText")):
            assert time.monotonic() < until, shown
            time.sleep(0.2)

    def point(self, selector):
        """Move the mouse to the middle of an element; its place."""
        place = f"document.querySelector({json.dumps(selector)})"
        self.evaluate(f"{place}.scrollIntoView({{block: 'center', inline: 'center'}})")
        x, y = self.evaluate(f"(b => [b.x + b.width / 2, b.y + b.height / 2])({place}.getBoundingClientRect())")
        self.ask("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
        return x, y

    def click(self, selector):
        """A press of the mouse in the middle of an element."""
        self.events.clear()
        x, y = self.point(selector)
        for kind in ("mousePressed", "mouseReleased"):
            self.ask("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def press(self, key):
        """A key, on what has the focus."""
        text = {"text": "\r"} if key == "Enter" else {}
        for kind in ("keyDown", "keyUp"):
            code = {"Enter": 13, "ArrowLeft": 37, "ArrowRight": 39}.get(key, 0)
            self.ask("Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=code, **text)

    def type(self, selector, text):
        self.click(selector)
        self.ask("Input.insertText", text=text)

    def look(self, width=1200, scheme="light"):
        """Show pages this wide, in a light or dark scheme."""
        self.ask("Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=width < 600)
        self.ask("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def _next(self):
        message = json.loads(self.socket.recv())
        kind, about = message.get("method"), message.get("params", {})
        self.events.append(kind)
        if kind == "Network.requestWillBeSent":
            self.requested.append(about["request"]["url"])
        if kind == "Runtime.exceptionThrown":
            self.complaints.append(about["exceptionDetails"])
        if kind == "Runtime.consoleAPICalled" and about["type"] in ("error", "warning", "assert"):
            self.complaints.append(about["args"])
        if kind == "Log.entryAdded" and about["entry"]["level"] in ("error", "warning"):
            self.complaints.append(about["entry"])
        return message


@contextmanager
def chromium(folder):
    """A `Browser` whose profile is in `folder`; no host but loopback resolves in it."""
    import websocket

    options = [*OPTIONS, "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", f"--user-data-dir={folder}"]
    command = [CHROMIUM, *options, "--remote-debugging-port=0", "about:blank"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        stated, until = folder / "DevToolsActivePort", time.monotonic() + PATIENCE
        while not stated.is_file() or "\n" not in stated.read_text():
            assert process.poll() is None, f"Chromium ended with {process.returncode}."
            assert time.monotonic() < until, "Chromium did not start."
            time.sleep(0.05)
        port, path = stated.read_text().split()
        browser = f"ws://127.0.0.1:{port}"
        socket = websocket.create_connection(browser + path, suppress_origin=True, timeout=PATIENCE)
        socket.send(json.dumps({"id": 0, "method": "Target.getTargets"}))
        targets = json.loads(socket.recv())["result"]["targetInfos"]
        tab = next(target["targetId"] for target in targets if target["type"] == "page")
        page = websocket.create_connection(f"{browser}/devtools/page/{tab}", suppress_origin=True, timeout=PATIENCE)
        yield Browser(page)
        socket.send(json.dumps({"id": 1, "method": "Browser.close"}))
        with suppress(subprocess.TimeoutExpired):
            process.wait(PATIENCE)
    finally:
        process.kill()
        process.wait()
