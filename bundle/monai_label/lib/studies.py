"""A folder of studies: MONAI Label's, in which folders are images too."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from monailabel.config import settings
from monailabel.datastore.local import LocalDatastore

from medical_gans.io.formats import holds_dicom_images, image_suffix, visible_entries


class Studies(LocalDatastore):
    """Image files, and folders with one DICOM series or the sequences of one case; a folder's name is its id.

    Args:
        folder: of the studies.
    """

    def __init__(self, folder: str) -> None:
        super().__init__(
            folder,
            extensions=tuple(dict.fromkeys([*settings.MONAI_LABEL_DATASTORE_FILE_EXT, "*.mha"])),
            auto_reload=settings.MONAI_LABEL_DATASTORE_AUTO_RELOAD,
            read_only=settings.MONAI_LABEL_DATASTORE_READ_ONLY,
        )

    def _list_files(self, path: str, patterns: Sequence[str]) -> dict[str, str]:
        found = dict(super()._list_files(path, patterns))
        if os.path.realpath(path) == os.path.realpath(self._datastore.image_path()):
            found |= {entry.name: entry.name for entry in visible_entries(Path(path)) if self._is_study(entry)}
        return found

    def _to_id(self, file: str) -> tuple[str, str]:
        if Path(self._datastore.image_path(), file).is_dir():
            return file, ""
        name, suffix = super()._to_id(file)
        return (file.removesuffix(suffix), suffix) if suffix else (name, suffix)

    def _is_study(self, entry: Path) -> bool:
        if not entry.is_dir() or entry.name == self._datastore.labels_dir:
            return False
        inside = visible_entries(entry)
        return any(image_suffix(one) for one in inside) or any(map(holds_dicom_images, [entry, *_folders(inside)]))


def _folders(entries: Sequence[Path]) -> list[Path]:
    return [entry for entry in entries if entry.is_dir()]
