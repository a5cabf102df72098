"""Archives whose bytes depend on their content alone."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest that a zip archive can name
_IDENTITY = "/.data/serialization_id"
_ALIGNMENT = 64  # bytes, of the tensors in a TorchScript archive


def zip_folder(folder: Path, archive: Path) -> None:
    """Compress a folder under its own name, files in the order of their names."""
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as target:
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            entry = _entry(path.relative_to(folder.parent).as_posix())
            entry.compress_type = zipfile.ZIP_DEFLATED
            target.writestr(entry, path.read_bytes())


def without_source_paths(archive: Path) -> None:
    """Take from a TorchScript archive its debug records: they name the folders it was made in.

    The number that identifies the archive depends on them, and is made anew from what stays. Records stay uncompressed,
    and tensors aligned, so that the file can still be mapped into memory.
    """
    with zipfile.ZipFile(archive) as source:
        records = {name: source.read(name) for name in source.namelist() if not name.endswith(".debug_pkl")}
    digest = hashlib.sha256()
    for name, content in records.items():
        digest.update(b"" if name.endswith(_IDENTITY) else f"{name} {len(content)} ".encode() + content)
    number = f"{int(digest.hexdigest(), 16):040}"[:40].encode()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as target:
        for name, content in records.items():
            entry = _entry(name)
            header = 30 + len(name.encode())
            padding = -(target.start_dir + header + 4) % _ALIGNMENT
            entry.extra = b"FB" + padding.to_bytes(2, "little") + b"Z" * padding
            target.writestr(entry, number if name.endswith(_IDENTITY) else content)


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, _EPOCH)
    entry.external_attr = 0o644 << 16
    entry.create_system = 3
    return entry
