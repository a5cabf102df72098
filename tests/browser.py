"""A headless Chromium, driven through the W3C WebDriver protocol that its chromedriver speaks."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--window-size=1280,900",
)
_ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
KEYS = {"left": "\ue012", "right": "\ue014", "escape": "\ue00c", "enter": "\ue007", "tab": "\ue004", "space": " "}


def missing_browser() -> str | None:
    """Why there is no browser to test with, or None."""
    missing = [name for name in ("chromium", "chromedriver") if shutil.which(name) is None]
    return f"no {' and no '.join(missing)} (Debian: chromium, chromium-driver)" if missing else None


class Browser:
    """One Chromium with an empty profile; downloads go to `folder`/downloads."""

    def __init__(self, folder: Path) -> None:
        self.downloads = folder / "downloads"
        self.downloads.mkdir(parents=True)
        log = folder / "chromedriver.log"
        self._driver = subprocess.Popen(
            ["chromedriver", "--port=0"], stdout=log.open("w"), stderr=subprocess.STDOUT, text=True
        )
        try:
            self._root = f"http://127.0.0.1:{_port(log, self._driver)}/session"
            options = {
                "args": [*_FLAGS, f"--user-data-dir={folder / 'profile'}"],
                "binary": shutil.which("chromium"),
                "prefs": {"download.default_directory": str(self.downloads)},
            }
            wanted = {"browserName": "chrome", "goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
            session = _request("POST", self._root, {"capabilities": {"alwaysMatch": wanted}})["sessionId"]
        except BaseException:
            self._driver.kill()
            raise
        self._session = f"{self._root}/{session}"

    def close(self) -> None:
        try:
            _request("DELETE", self._session)
        finally:
            self._driver.terminate()
            self._driver.wait()

    def open(self, url: str) -> None:
        self._post("url", url=url)

    def reload(self) -> None:
        self._post("refresh")

    def run(self, script: str, *values: Any) -> Any:
        """What a JavaScript function body returns."""
        return self._post("execute/sync", script=script, args=list(values))

    def text(self, css: str) -> str:
        return self.run("return document.querySelector(arguments[0]).innerText", css)

    def waits_for(self, words: str, css: str) -> bool:
        """Whether the text of an element comes to contain words, within some seconds."""
        for _ in range(100):
            if words in self.text(css):
                return True
            time.sleep(0.05)
        return False

    def is_shown(self, css: str) -> bool:
        return self.run("return document.querySelector(arguments[0]).checkVisibility()", css)

    def press(self, keys: str) -> None:
        """Press keys on the keyboard, one after the other; a name of `KEYS` alone is that key."""
        strokes = [{"type": kind, "value": key} for key in KEYS.get(keys, keys) for kind in ("keyDown", "keyUp")]
        self._post("actions", actions=[{"type": "key", "id": "keyboard", "actions": strokes}])

    def click(self, css: str) -> None:
        """Move the mouse to the middle of an element and click."""
        self._post(f"element/{self._element(css)}/click")

    def wheel(self, css: str, delta: int) -> None:
        """Turn the wheel over an element."""
        origin = {_ELEMENT: self._element(css)}
        turn = {"type": "scroll", "x": 0, "y": 0, "deltaX": 0, "deltaY": delta, "origin": origin}
        self._post("actions", actions=[{"type": "wheel", "id": "wheel", "actions": [turn]}])

    def type(self, css: str, text: str) -> None:
        """Type into an input, or give a file to it by its path."""
        self._post(f"element/{self._element(css)}/value", text=text)

    def devtools(self, command: str, **values: Any) -> Any:
        """A command of the DevTools protocol."""
        return self._post("goog/cdp/execute", cmd=command, params=values)

    def screenshot(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(_request("GET", f"{self._session}/screenshot")))

    def resize(self, width: int, height: int) -> None:
        self._post("window/rect", width=width, height=height)

    def complaints(self) -> list[str]:
        """What the page wrote to the console, errors included."""
        return [entry["message"] for entry in self._post("se/log", type="browser")]

    def downloaded(self, name: str) -> Path:
        """A file that is being downloaded, once it is there."""
        path = self.downloads / name
        for _ in range(100):
            if path.is_file() and path.stat().st_size:
                return path
            time.sleep(0.05)
        raise AssertionError(f"{name} was not downloaded; there are {[p.name for p in self.downloads.iterdir()]}")

    def _element(self, css: str) -> str:
        return self._post("element", using="css selector", value=css)[_ELEMENT]

    def _post(self, command: str, **values: Any) -> Any:
        return _request("POST", f"{self._session}/{command}", values)


def _port(log: Path, driver: subprocess.Popen[str]) -> int:
    for _ in range(200):
        for line in log.read_text().splitlines():
            if "started successfully on port" in line:
                return int(line.rstrip(".").rsplit(" ", 1)[1])
        assert driver.poll() is None, log.read_text()
        time.sleep(0.05)
    raise AssertionError(log.read_text())


def _request(method: str, url: str, values: dict[str, Any] | None = None) -> Any:
    data = None if values is None else json.dumps(values).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"}, method=method)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # never ask a proxy for our own machine
    try:
        with opener.open(request, timeout=60) as answer:
            return json.load(answer)["value"]
    except urllib.error.HTTPError as error:
        raise AssertionError(f"{url}: {json.load(error)['value']['message']}") from None
