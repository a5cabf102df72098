"""Asks a MONAI Label server with the app of this project for the synthetic CT of an MR; Python 3.9, its library only.

3D Slicer brings a Python of its own, without this package; this file and `SyntheticCT.py` are all it needs.
"""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from email import message_from_bytes, policy
from pathlib import Path
from typing import Any
from uuid import uuid4

MODEL = "mr_to_ct"
_SECONDS = 3600  # for a whole head on a busy machine without a GPU
_SHORT = 20


class ServerError(Exception):
    """What the server, or its absence, says: one sentence for the person who asked."""


def sites(address: str) -> list[str]:
    """The sites that the server has weights for, such as head and thigh.

    Raises:
        ServerError: no MONAI Label server is there, or it does not offer synthetic CT.
    """
    info = json.loads(_ask(urllib.request.Request(_place(address, "/info/")), _SHORT)[0])
    model = info.get("models", {}).get(MODEL) if isinstance(info, dict) else None
    if model is None:
        raise ServerError(
            f"The server at {address} does not offer {MODEL}. Start it with --app bundle/monai_label of medical-gans."
        )
    found = model.get("config", {}).get("site", ["head", "thigh"])
    return [found] if isinstance(found, str) else list(found)


def synthetic_ct(address: str, mr: str | Path, target: str | Path, **settings: Any) -> dict[str, Any]:
    """Send an MR and write the answer: int16 HU on the grid of the MR.

    Args:
        address: of the server, such as ``http://127.0.0.1:8000``.
        mr: NIfTI, NRRD or MHA file.
        target: file to write, ``.nii.gz``.
        settings: of ``mr_to_ct inference``: site, flips, strict.

    Returns:
        What else the server has to say: ``warnings`` as sentences, ``tables`` of checks.

    Raises:
        ServerError: it cannot be reached, or refuses; nothing is written then.
    """
    mr, target = Path(mr), Path(target)
    params = {**settings, "result_extension": ".nii.gz"}
    kind, body = _form({"params": json.dumps(params)}, mr)
    place = _place(address, f"/infer/{MODEL}?output=all")
    content, answer = _ask(urllib.request.Request(place, body, {"Content-Type": kind}, method="POST"), _SECONDS)
    parts = _parts(answer, content)
    if "image" not in parts:
        raise ServerError(f"The server at {address} sent no image. Its log says why.")
    partial = target.with_name(f".{target.name}")
    partial.write_bytes(parts["image"])
    partial.replace(target)
    return dict(json.loads(parts.get("params", b"{}")))


def _place(address: str, path: str) -> str:
    address = address.strip().rstrip("/")
    if not address.startswith(("http://", "https://")):
        raise ServerError(f"{address!r} is no address of a server; give one such as http://127.0.0.1:8000.")
    return address + path


def _ask(request: urllib.request.Request, seconds: float) -> tuple[bytes, str]:
    """Body and content type of an answer."""
    try:
        with urllib.request.urlopen(request, timeout=seconds) as answer:
            return answer.read(), answer.headers.get("Content-Type", "")
    except urllib.error.HTTPError as error:
        raise ServerError(_detail(error)) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        place = request.full_url.partition("?")[0]
        raise ServerError(
            f"No MONAI Label server answers at {place} ({reason}). Start it, or check the address."
        ) from None


def _detail(error: urllib.error.HTTPError) -> str:
    """The sentence of a refusal."""
    try:
        said = json.loads(error.read())["detail"]
    except (ValueError, KeyError, TypeError, OSError):
        said = None
    return said if isinstance(said, str) else f"The server refuses (HTTP {error.code} {error.reason})."


def _form(fields: dict[str, str], file: Path) -> tuple[str, bytes]:
    """Content type and body of a form with a file; the file goes by a name that says nothing of the patient."""
    border = uuid4().hex
    suffix = "".join(file.suffixes[-2:]) if file.name.endswith(".gz") else file.suffix
    lines = [
        f'--{border}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in fields.items()
    ]
    lines.append(f'--{border}\r\nContent-Disposition: form-data; name="file"; filename="mr{suffix}"\r\n')
    lines.append("Content-Type: application/octet-stream\r\n\r\n")
    return f"multipart/form-data; boundary={border}", b"".join(
        ["".join(lines).encode(), file.read_bytes(), f"\r\n--{border}--\r\n".encode()]
    )


def _parts(content_type: str, body: bytes) -> dict[str, bytes]:
    """The parts of a multipart answer by name; an answer of one part is its ``params``."""
    if not content_type.startswith("multipart/"):
        return {"params": body}
    message = message_from_bytes(b"Content-Type: " + content_type.encode() + b"\r\n\r\n" + body, policy=policy.HTTP)
    return {
        str(part.get_param("name", header="content-disposition")): part.get_payload(decode=True)
        for part in message.iter_parts()
    }
