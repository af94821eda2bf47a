"""Headless Chromium, driven through its DevTools pipe: what it shows, logs and asks the network."""

import base64
import json
import os
import pathlib
import shutil
import subprocess
import sys
import time

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--disable-dev-shm-usage", "--hide-scrollbars", "--remote-debugging-pipe"),
)
SECONDS = 60.0
BECOME = """
import os, sys
first, second = os.dup(int(sys.argv[1])), os.dup(int(sys.argv[2]))
os.dup2(first, 50), os.dup2(second, 51), os.dup2(50, 3), os.dup2(51, 4)
os.execv(sys.argv[3], sys.argv[3:])
"""
"""Chromium reads commands from descriptor 3 and answers on 4, whatever they were before."""


class Browser:
    """One page in one browser, which ends with the block.

    Attributes:
        requests: addresses that the page asked for, data: ones apart.
        problems: what it logged as a warning or an error, and requests that failed.
    """

    def __init__(self, profile: pathlib.Path):
        self.requests, self.problems = [], []
        self._number, self._session, self._buffer = 0, None, b""
        ours_in, theirs_out = os.pipe()
        theirs_in, ours_out = os.pipe()
        command = [str(CHROMIUM), *FLAGS, f"--user-data-dir={profile}", "about:blank"]
        descriptors = [str(theirs_in), str(theirs_out)]
        self._process = subprocess.Popen(
            [sys.executable, "-c", BECOME, *descriptors, *command],
            pass_fds=(theirs_in, theirs_out),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self._in, self._out = ours_in, ours_out
        os.set_blocking(self._in, False)

    def __enter__(self):
        try:
            target = self._call("Target.createTarget", url="about:blank")["targetId"]
            attached = self._call("Target.attachToTarget", targetId=target, flatten=True)
            self._session = attached["sessionId"]
            for domain in ("Page", "Runtime", "Log", "Network"):
                self._call(f"{domain}.enable")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self._process.terminate()
        self._process.wait(SECONDS)
        os.close(self._in)
        os.close(self._out)

    def open(self, path: pathlib.Path, *, width: int, scheme: str = "light", media: str = "screen"):
        """Loads a file at this width, in a "light" or "dark" scheme."""
        feature = {"name": "prefers-color-scheme", "value": scheme}
        self._call("Emulation.setEmulatedMedia", media=media, features=[feature])
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
        self._call("Emulation.setDeviceMetricsOverride", **size)
        self._call("Page.navigate", url=path.resolve().as_uri())
        self._wait("Page.loadEventFired")

    def value(self, expression: str):
        """What a JavaScript expression is on the page."""
        return self._call("Runtime.evaluate", expression=expression, returnByValue=True)["result"][
            "value"
        ]

    def screenshot(self, path: pathlib.Path):
        """The whole page as a PNG file."""
        image = self._call("Page.captureScreenshot", captureBeyondViewport=True)["data"]
        path.write_bytes(base64.b64decode(image))

    def _call(self, method, **parameters):
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        answer = self._until(lambda found: found.get("id") == self._number)
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']}")
        return answer["result"]

    def _wait(self, event):
        self._until(lambda found: found.get("method") == event)

    def _until(self, wanted):
        deadline = time.monotonic() + SECONDS
        while time.monotonic() < deadline:
            while b"\0" in self._buffer:
                line, _, self._buffer = self._buffer.partition(b"\0")
                found = json.loads(line)
                self._note(found.get("method", ""), found.get("params", {}))
                if wanted(found):
                    return found
            try:
                self._buffer += os.read(self._in, 1 << 20)
            except BlockingIOError:
                time.sleep(0.02)
        raise TimeoutError(f"the browser was silent for {SECONDS:g} s")

    def _note(self, event, facts):
        if event == "Network.requestWillBeSent":
            url = facts["request"]["url"]
            if not url.startswith("data:"):
                self.requests.append(url)
        elif event == "Network.loadingFailed":
            self.problems.append(f"request failed: {facts['errorText']}")
        elif event == "Log.entryAdded" and facts["entry"]["level"] in ("warning", "error"):
            self.problems.append(facts["entry"]["text"])
        elif event == "Runtime.consoleAPICalled" and facts["type"] in ("warning", "error"):
            self.problems.append(str(facts["args"]))
        elif event == "Runtime.exceptionThrown":
            self.problems.append(str(facts["exceptionDetails"]))
