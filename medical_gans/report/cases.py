"""Cases of a run: pictures and ``case.json`` in a folder each, and ``report.html`` with all of them on one page.

A cohort may be interrupted, continued or shared among processes: what is on disk is what the page shows. The page
moves with its folder and needs no network.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from html import escape
from itertools import chain
from pathlib import Path
from statistics import fmean, stdev
from typing import Any
from urllib.parse import quote

import numpy as np

from medical_gans.errors import InputError, UserError
from medical_gans.io.ownership import Origin, remove_ours
from medical_gans.io.writing import check_writable, whole_folder
from medical_gans.report.page import html_sentences, html_settings, html_table, publishable, write_framed
from medical_gans.report.pictures import contact_sheet, histogram, overview, spoken, thumbnail
from medical_gans.report.viewer import GREY, MAP, VIEWER, Place, ViewedImage, write_viewer
from medical_gans.report.views import CaseVolumes

logger = logging.getLogger(__name__)

CASES_FOLDER = "report"
_RECORD = "case.json"
_UNKNOWN = Origin("report")


def write_case_report(
    folder: str | Path,
    name: str,
    mr: np.ndarray,
    synthetic_ct: np.ndarray,
    affine: np.ndarray,
    *,
    reference: np.ndarray | None = None,
    mask: np.ndarray | None = None,
    standard_deviation: np.ndarray | None = None,
    metrics: Mapping[str, float] | None = None,
    warnings: Sequence[str] = (),
    inputs: Mapping[str, str] | None = None,
    seconds: Mapping[str, float] | None = None,
    tables: Mapping[str, Sequence[Mapping[str, str]]] | None = None,
    pictures: Mapping[str, tuple[Callable[[CaseVolumes, Path], object], str]] | None = None,
    structures: Iterable[tuple[str, np.ndarray]] = (),
    places: Sequence[Place] = (),
    viewer: bool = True,
    origin: Origin = _UNKNOWN,
) -> Path:
    """Draw a case and keep its record under ``<folder>/report/<name>``.

    Arrays are on one grid, in stored order, and may be memory-mapped: only what is drawn is read, and no
    copy of a volume is made.

    Args:
        folder: output folder of the run; `write_page` and `Manifest.write` take the same.
        name: of the case, safe as a file name, without anything that identifies the patient.
        mr: ``(i, j, k)``, any scale.
        synthetic_ct: HU.
        affine: ``(4, 4)``, index to RAS+ mm.
        reference: true CT in HU; adds reference and difference to pictures and histogram.
        mask: where the difference is shown and the histogram is counted; every value but 0 counts.
        standard_deviation: HU; adds the uncertainty.
        metrics: figures by name, as `metrics.synthetic_ct_metrics` gives them.
        warnings: sentences.
        inputs: SHA-256 of each input file by its name inside the data set, as `input_hashes` gives them.
        seconds: time per stage.
        tables: rows of text by heading; cells of a column ``light`` are coloured by what they say.
        pictures: more of them by name: what draws each to a file, and its caption.
        structures: name and mask of what is outlined in ``viewer.html``.
        places: that the report and ``viewer.html`` lead to.
        viewer: write ``viewer.html``, the volumes as a page that can be scrolled.
        origin: run and images; pictures of another one are not replaced.

    Returns:
        The folder of the case.

    Raises:
        InputError: the arrays are not all of one shape.
        OutputError: the folder cannot be written.
    """
    others = {"synthetic_ct": synthetic_ct, "reference": reference, "mask": mask, "deviation": standard_deviation}
    _check_one_grid(name, mr, others)
    volumes = CaseVolumes.from_stored(
        mr,
        synthetic_ct,
        np.asarray(affine, dtype=np.float64),
        reference=reference,
        mask=mask,
        standard_deviation=standard_deviation,
    )
    more = pictures or {}
    drawings = {draw.__name__: draw for draw in (overview, contact_sheet, histogram, thumbnail)}
    record = _record(name, warnings, metrics, inputs, seconds, tables)
    record["shape"] = mr.shape
    record["spacing"] = np.linalg.norm(np.asarray(affine)[:3, :3], axis=0).round(4).tolist()
    record["more_pictures"] = {kind: caption for kind, (_, caption) in more.items()}
    record["places"] = [place._asdict() for place in places]
    with whole_folder(_place(folder, name), origin) as place:
        shown = {"MR": mr, **{kind: array for kind, array in others.items() if array is not None}}
        with ThreadPoolExecutor(1) as beside:  # packing runs outside of Python's lock, drawing inside
            page = (place / VIEWER, name, shown, affine, structures, places, warnings)
            pages = [beside.submit(_write_viewer, *page)] if viewer else []
            for kind, draw in (drawings | {kind: draw for kind, (draw, _) in more.items()}).items():
                draw(volumes, place / f"{kind}.png")
            for written in pages:
                written.result()
        _write_record(place, record)
    return _place(folder, name)


def write_record(
    folder: str | Path,
    name: str,
    *,
    draw: Callable[[Path], Mapping[str, str]],
    tables: Mapping[str, Sequence[Mapping[str, str]]] | None = None,
    metrics: Mapping[str, float] | None = None,
    warnings: Sequence[str] = (),
    inputs: Mapping[str, str] | None = None,
    seconds: Mapping[str, float] | None = None,
    places: Sequence[Place] = (),
    origin: Origin = _UNKNOWN,
) -> Path:
    """Keep the record of a case whose pictures its caller draws.

    Args:
        folder: output folder of the run.
        name: of the case.
        draw: draws ``<name>.png`` and ``thumbnail.png`` into the folder it is given, and ``viewer.html`` where there is
            one; returns captions by name.
        tables, metrics, warnings, inputs, seconds, places, origin: as for `write_case_report`.

    Returns:
        The folder of the case.

    Raises:
        OutputError: the folder cannot be written.
    """
    record = _record(name, warnings, metrics, inputs, seconds, tables)
    record["places"] = [place._asdict() for place in places]
    with whole_folder(_place(folder, name), origin) as place:
        _write_record(place, {**record, "pictures": dict(draw(place))})
    return _place(folder, name)


def write_failed_case(
    folder: str | Path,
    name: str,
    reason: str,
    *,
    inputs: Mapping[str, str] | None = None,
    origin: Origin = _UNKNOWN,
) -> Path:
    """Record a case that had to be skipped, and the sentence that says why.

    Raises:
        OutputError: the folder cannot be written.
    """
    record = {"name": name, "status": "failed", "warnings": [reason], "inputs": dict(inputs or {})}
    with whole_folder(_place(folder, name), origin) as place:
        _write_record(place, {**record, "metrics": {}, "seconds": {}})
    return _place(folder, name)


def skip_case(folder: str | Path, name: str, error: Exception, origin: Origin = _UNKNOWN) -> str:
    """Log and record a case that failed, so that the others go on; gives back the reason.

    Raises:
        OutputError: the folder cannot be written.
    """
    reason = str(error)
    if not isinstance(error, UserError):
        reason = f"unexpected {type(error).__name__}: {error}"
        logger.error("%s failed unexpectedly", name, exc_info=error)
    logger.error("%s is skipped: %s", name, reason)
    write_failed_case(folder, name, reason, origin=origin)
    return reason


def forget_cases(folder: str | Path, run: str, keep: Collection[str] = ()) -> None:
    """Remove what an earlier run of the same kind left of cases, but for those named; all else stays."""
    for record in sorted((Path(folder) / CASES_FOLDER).glob(f"*/{_RECORD}")):
        if record.parent.name not in keep:
            remove_ours(record.parent, run)


def case_records(folder: str | Path) -> list[dict[str, Any]]:
    """Records of all cases under an output folder, by name."""
    found = sorted((Path(folder) / CASES_FOLDER).glob(f"*/{_RECORD}"))
    return [json.loads(path.read_text(encoding="utf-8")) for path in found]


def _write_viewer(
    path: Path,
    title: str,
    shown: Mapping[str, np.ndarray],
    affine: np.ndarray,
    structures: Iterable[tuple[str, np.ndarray]],
    places: Sequence[Place],
    warnings: Sequence[str],
) -> None:
    """The page of an MR, its synthetic CT and what is known beside them."""
    images = [ViewedImage("MR", shown["MR"], GREY, ""), ViewedImage("synthetic CT", shown["synthetic_ct"])]
    differences = []
    if "reference" in shown:
        differences.append((1, len(images)))
        images.append(ViewedImage("reference CT", shown["reference"]))
    if "deviation" in shown:
        images.append(ViewedImage("standard deviation", shown["deviation"], MAP))
    masks = [("mask", shown["mask"])] if "mask" in shown else []
    write_viewer(
        path,
        title,
        images,
        affine,
        differences=differences,
        structures=chain(masks, structures),
        places=places,
        warnings=warnings,
        within="mask",
    )


def _place(folder: str | Path, name: str) -> Path:
    """Where the pictures of a case lie, in a folder that is there."""
    return check_writable(Path(folder) / CASES_FOLDER) / name


def _check_one_grid(name: str, mr: np.ndarray, others: Mapping[str, np.ndarray | None]) -> None:
    for kind, array in others.items():
        if array is not None and array.shape != mr.shape:
            raise InputError(f"{name}: {kind} has shape {array.shape} but the MR has {mr.shape}; both need one grid.")


def _record(
    name: str,
    warnings: Sequence[str],
    metrics: Mapping[str, float] | None,
    inputs: Mapping[str, str] | None,
    seconds: Mapping[str, float] | None,
    tables: Mapping[str, Sequence[Mapping[str, str]]] | None,
) -> dict[str, Any]:
    """What every case that was done has."""
    return {
        "name": name,
        "status": "warning" if warnings else "done",
        "warnings": list(warnings),
        "metrics": dict(metrics or {}),
        "inputs": dict(inputs or {}),
        "seconds": dict(seconds or {}),
        "tables": {title: list(rows) for title, rows in (tables or {}).items()},
    }


def _write_record(place: Path, record: Mapping[str, Any]) -> None:
    shown = {**record, "viewer": (place / VIEWER).is_file()}
    text = json.dumps(publishable(shown), indent=1, allow_nan=False)
    (place / _RECORD).write_text(text, encoding="utf-8")


_WIDTH = 2140  # pixels: that of the pictures
_UNITS = {"mae": "HU", "mean_error": "HU", "psnr": "dB"}
_STATUS = {"done": "done", "warning": "look at warnings", "failed": "failed"}
_LIGHTS = {"green": "done", "amber": "warning", "red": "failed"}
_CAPTIONS = {
    "overview": "Three planes through the middle of the bone; the patient's right is on the left. R, L, A, "
    "P, S, I: right, left, anterior, posterior, superior, inferior. Positions in mm of the file's own space.",
    "contact_sheet": "Axial slices through the whole body.",
    "histogram": "Share of voxels by HU, logarithmic.",
}


def write_page(
    folder: str | Path,
    title: str,
    *,
    settings: Mapping[str, Any] | None = None,
    summary: Sequence[Mapping[str, str | float]] = (),
) -> Path:
    """Put the records of all cases under `folder` together as ``<folder>/report.html``.

    Args:
        folder: output folder of the run, as given to `write_case_report`.
        title: heading.
        settings: of the run, shown at the end.
        summary: rows of a table at the top, such as methods compared.

    Raises:
        OutputError: the page cannot be written.
    """
    records = case_records(folder)
    failed = sum(record["status"] == "failed" for record in records)
    sections = [_section(record, number) for number, record in enumerate(records)]
    return write_framed(
        Path(folder) / "report.html",
        title,
        [_plain_table(summary), _index(records), *sections, html_settings(settings or {})],
        note=f"{len(records)} case{'s' * (len(records) != 1)}, {failed} failed.",
        width=_WIDTH,
    )


def _index(records: Sequence[Mapping[str, Any]]) -> str:
    names = list(dict.fromkeys(name for record in records for name in record["metrics"]))
    heads = "".join(f'<th class="n">{_label(name)}</th>' for name in names)
    rows = []
    for number, record in enumerate(records):
        figures = "".join(f'<td class="n">{_figure(record["metrics"].get(name))}</td>' for name in names)
        picture = "" if record["status"] == "failed" else _picture(record, "thumbnail", number)
        total = sum(record["seconds"].values())
        rows.append(
            f'<tr><td>{picture}</td><td><a href="#case{number}">{escape(record["name"])}</a></td>'
            f'<td class="{record["status"]}">{_STATUS[record["status"]]}</td>{figures}'
            f'<td class="n">{f"{total:.1f}" if total else ""}</td></tr>'
        )
    means = ""
    if names and len(records) > 1:
        cells = "".join(f'<td class="n">{_mean([r["metrics"].get(name) for r in records])}</td>' for name in names)
        means = f"<tfoot><tr><td></td><td>mean &plusmn; SD</td><td></td>{cells}<td></td></tr></tfoot>"
    return (
        f'<div class="scroll"><table><thead><tr><th></th><th>case</th><th>status</th>{heads}'
        f'<th class="n">seconds</th></tr></thead><tbody>{"".join(rows)}</tbody>{means}</table></div>'
    )


def _section(record: Mapping[str, Any], number: int) -> str:
    parts = [f'<section id="case{number}"><h2>{escape(record["name"])}</h2>']
    if "shape" in record:
        shape, spacing = (" x ".join(f"{value:g}" for value in record[key]) for key in ("shape", "spacing"))
        parts.append(f'<p class="note">{shape} voxels of {spacing} mm</p>')
    if record.get("viewer"):
        parts.append(f'<p><a href="{_viewer(record)}">Scroll through the volumes</a>{_ways(record)}</p>')
    parts.append(html_sentences(record["warnings"], record["status"]))
    for title, rows in record.get("tables", {}).items():
        parts.append(f'<p class="note">{escape(title)}</p>{_plain_table(rows)}')
    if record["status"] != "failed":
        captions = {**record.get("pictures", _CAPTIONS), **record.get("more_pictures", {})}
        for kind, caption in captions.items():
            picture = _picture(record, kind, number, link=True)
            parts.append(f"<figure>{picture}<figcaption>{caption}</figcaption></figure>")
    return "".join([*parts, "</section>"])


def _viewer(record: Mapping[str, Any], position: Sequence[float] | None = None) -> str:
    place = "" if position is None else "#mm=" + ",".join(f"{value:.1f}" for value in position)
    return quote(f"{CASES_FOLDER}/{record['name']}/{VIEWER}") + place


def _ways(record: Mapping[str, Any]) -> str:
    """Links to the places of a case."""
    places = record.get("places", ())
    links = [f'<a href="{_viewer(record, one["position"])}">{escape(one["label"])}</a>' for one in places]
    return f", or go to {', '.join(links)}" if links else ""


def _picture(record: Mapping[str, Any], kind: str, number: int, *, link: bool = False) -> str:
    source = quote(f"{CASES_FOLDER}/{record['name']}/{kind}.png")
    image = f'<img src="{source}" alt="{kind.replace("_", " ")} of {escape(record["name"])}" loading="lazy">'
    return f'<a href="{source if link else f"#case{number}"}">{image}</a>'


def _plain_table(rows: Sequence[Mapping[str, str | float]]) -> str:
    if not rows:
        return ""
    names = list(dict.fromkeys(name for row in rows for name in row))
    return html_table(map(_label, names), ([_cell(name, row.get(name)) for name in names] for row in rows))


def _cell(name: str, value: str | float | None) -> str:
    """One cell; that of a column `light` is coloured."""
    colour = _LIGHTS.get(str(value), "") if name == "light" else ""
    return f'<td class="{colour}">{_figure(value)}</td>' if colour else f"<td>{_figure(value)}</td>"


def _label(name: str) -> str:
    unit = next((unit for start, unit in _UNITS.items() if name.startswith(start)), None)
    return escape(f"{spoken(name)} ({unit})" if unit else spoken(name))


def _figure(value: str | float | None) -> str:
    if value is None:
        return "&ndash;"
    return escape(value) if isinstance(value, str) else f"{value:.4g}"


def _mean(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return "&ndash;"
    return f"{fmean(known):.4g}" + (f" &plusmn; {stdev(known):.2g}" if len(known) > 1 else "")
