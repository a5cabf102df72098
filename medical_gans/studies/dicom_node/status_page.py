"""What came, what went and why not, as a page on this machine only."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from html import escape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from medical_gans.errors import UserError
from medical_gans.studies.dicom_node.record import AGAIN, RECEIVED, Entry

_HOST = "127.0.0.1"
_SHOWN = 200  # series
_WORDS = {RECEIVED: "in work", AGAIN: "stored before"}
_STYLE = """
:root { color-scheme: light dark; font: 15px/1.45 system-ui, sans-serif }
body { margin: 1.5rem auto; max-width: 75rem; padding: 0 1rem }
table { border-collapse: collapse; width: 100% } th, td { text-align: left; padding: .3rem .7rem; vertical-align: top }
tr { border-bottom: 1px solid #8885 } td:first-child { white-space: nowrap } code { font-size: .95em }
.refused { color: #c33 } .waits { color: #b70 } .stored { color: #383 }
@media (prefers-color-scheme: dark) { .refused { color: #f88 } .waits { color: #fb5 } .stored { color: #8c8 } }
"""


class StatusPage:
    """A page at ``http://127.0.0.1:port/`` and the same as ``/status.json``.

    Args:
        port: 0 takes any that is free.
        content: what is shown: ``about`` (words by heading), ``latest`` and ``notes`` (entries), newest first.

    Raises:
        UserError: the port is taken.
    """

    def __init__(self, port: int, content: Callable[[], dict[str, Any]]) -> None:
        try:
            self._server = ThreadingHTTPServer((_HOST, port), _handler(content))
        except OSError as error:
            raise UserError(
                f"The status page cannot be at port {port} ({error.strerror}). Choose another status_port, or 0 for "
                "none."
            ) from error
        self._server.daemon_threads = True
        self.port = int(self._server.server_address[1])
        threading.Thread(target=self._server.serve_forever, name="status page", daemon=True).start()

    def stop(self) -> None:
        """Close it."""
        self._server.shutdown()
        self._server.server_close()


def _handler(content: Callable[[], dict[str, Any]]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        server_version, sys_version = "medical-gans", ""

        def do_GET(self) -> None:
            host = (self.headers.get("Host") or "").rpartition(":")[0]
            if host not in (_HOST, "localhost"):  # a page elsewhere whose name was pointed here
                self.send_error(403)
                return
            if self.path == "/status.json":
                shown = content()
                for name in ("latest", "notes"):
                    shown[name] = [entry.__dict__ for entry in shown[name]]
                self._answer("application/json", json.dumps(shown))
            elif self.path == "/":
                self._answer("text/html; charset=utf-8", page(content()))
            else:
                self.send_error(404)

        def _answer(self, kind: str, body: str) -> None:
            encoded = body.encode()
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(encoded)))
            self.send_header("Cache-Control", "no-store")
            self.send_header("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'")
            self.end_headers()
            self.wfile.write(encoded)

        def log_message(self, *given: Any) -> None:
            """Who looks is not written down."""

    return Handler


def page(content: dict[str, Any]) -> str:
    """The page as HTML."""
    latest: list[Entry] = content["latest"][:_SHOWN]
    about = "".join(
        f"<tr><th>{escape(name)}</th><td>{escape(str(value))}</td></tr>" for name, value in content["about"]
    )
    rows = "".join(map(_row, latest))
    notes = "".join(f"<li>{_time(one)}: {escape(one.sentence)}</li>" for one in content["notes"])
    headings = "".join(f"<th>{name}</th>" for name in ("last news", "series", "from", "images", "state", "in words"))
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<meta http-equiv="refresh" content="10"><title>DICOM node</title><style>{_STYLE}</style></head>
<body><h1>DICOM node</h1><p>MR series to synthetic CT. Research use only.</p>
<table>{about}</table>
<h2>Series</h2>
<table><thead><tr>{headings}</tr>
</thead><tbody>{rows or '<tr><td colspan="6">None came yet.</td></tr>'}</tbody></table>
<h2>Other news</h2><ul>{notes or "<li>None.</li>"}</ul>
<p>A series is named by the first 12 digits of the SHA-256 of its SeriesInstanceUID.</p></body></html>
"""


def _row(one: Entry) -> str:
    state = f'<td class="{escape(one.what.replace(" ", "-"))}">{escape(_WORDS.get(one.what, one.what))}</td>'
    cells = (_time(one), f"<code>{escape(one.series)}</code>", escape(one.sender), str(one.images or ""))
    before = "".join(f"<td>{cell}</td>" for cell in cells)
    return f"<tr>{before}{state}<td>{escape(one.sentence)}</td></tr>"


def _time(one: Entry) -> str:
    return escape(one.time[:19].replace("T", " "))
