"""From a scanner to an archive: every series once, whatever ends, fills up or is away in between."""

import json
import os
import signal
import urllib.error
import urllib.request

import numpy as np
import pydicom
import pytest
from pydicom.uid import CTImageStorage, RTStructureSetStorage

from medical_gans.io import read_volume
from medical_gans.io.dicom.masks import read_dicom_structure
from medical_gans.io.dicom.structure_set import structure_from_mask, write_structure_set

SLICES = 20
WANTED = [("CT", SLICES), ("RTSTRUCT", 1)]


def until_done(clinic, node, archive, count, seconds=120):
    clinic.wait_for(
        lambda: node.listens() and node.is_idle() and len(archive.made_from()) >= count, seconds, "all series stored"
    )


def latest(node):
    return {entry["series"]: entry for entry in node.state()["latest"]}


def of_kind(archive, kind, folder):
    """All objects of a kind that the archive holds, as files of a folder."""
    folder.mkdir()
    for number in archive.get("instances"):
        path = folder / f"{number}.dcm"
        path.write_bytes(archive.file(f"instances/{number}/file"))
        if pydicom.dcmread(path, stop_before_pixels=True).SOPClassUID != kind:
            path.unlink()
    return folder


def test_an_mr_and_its_structures_come_back_as_the_ct_and_structures_of_inference(
    clinic, start_node, archive, forks, weights, tmp_path
):
    folder = clinic.write_series(tmp_path / "mr", 1, SLICES)
    mr = read_volume(folder)
    mask = np.zeros(mr.array.shape, dtype=bool)
    mask[20:30, 18:26, 6:12] = True
    (tmp_path / "rs").mkdir()
    structure, _ = structure_from_mask("GTV", mask, mr.affine, "GTV")
    write_structure_set(tmp_path / "rs" / "RS.dcm", [structure], mr.headers, label="drawn")
    node = start_node()
    assert clinic.send(tmp_path / "rs", node.port).wait() == 0
    assert clinic.send(folder, node.port).wait() == 0
    until_done(clinic, node, archive, 1)
    assert archive.made_from() == {clinic.series_uid(1): WANTED}

    def left():
        return {path.parent.parent.name for path in node.folder.rglob("*") if path.suffix in (".dcm", ".gz", ".png")}

    clinic.wait_for(lambda: left() == {"structures"}, 60, "all gone but structures, for another MR of the study")
    assert node.end() == 0
    out = tmp_path / "out"
    words = ["mr_to_ct", "inference", "--dataset_dir", folder, "--weights", weights, "--output_dir", out]
    assert forks.wait(forks.start([*map(str, words), "--device", "cpu"], tmp_path / "inference.log")) == 0
    (made,) = out.glob("*/synthetic_ct.nii.gz")
    hounsfield = read_volume(made)
    ct = read_volume(of_kind(archive, CTImageStorage, tmp_path / "ct"))
    assert np.array_equal(ct.array, hounsfield.array) and np.allclose(ct.affine, hounsfield.affine, atol=1e-4)
    assert ct.headers[0].StudyInstanceUID == mr.headers[0].StudyInstanceUID
    (contours,) = of_kind(archive, RTStructureSetStorage, tmp_path / "contours").iterdir()
    assert np.array_equal(read_dicom_structure(contours, "GTV", ct).array, mask)
    assert read_dicom_structure(contours, "BODY", ct).array.any()


@pytest.mark.slow
def test_a_node_that_is_killed_at_random_moments_loses_and_doubles_nothing(
    clinic, campaign, forks, weights, tmp_path, capsys
):
    """Cut lines, series sent twice and an archive that is away among it: `benchmarks/dicom_node.py` does it with 50."""
    assert campaign.rough(tmp_path, weights, forks, count=6, at_once=3, kills=4), capsys.readouterr().out
    assert campaign.names_in_logs(tmp_path) == []


@pytest.mark.slow
def test_a_disk_that_is_full_for_a_while_loses_and_doubles_nothing(clinic, campaign, forks, weights, tmp_path, capsys):
    good = campaign.full(tmp_path, weights, forks, count=4)
    said = capsys.readouterr().out
    if "left out" in said:
        pytest.skip(said)
    assert good and "none taken while full: True" in said, said


def test_every_moment_of_a_kill_ends_with_one_series(clinic, start_node, archive, tmp_path):
    """Killed after each step that is written down: the next node does what is left, and tells it once."""
    series = clinic.write_series(tmp_path / "mr", 1, SLICES)
    node = start_node(silence=2)
    assert clinic.send(series, node.port).wait() == 0
    steps = ("came", "to be translated", "to be stored", "objects stored")
    for step in steps:
        clinic.wait_for(lambda step=step: step in (node.folder / "record.jsonl").read_text(), 60, step)
        node.kill()
        node.start()
    until_done(clinic, node, archive, 1)
    assert archive.made_from() == {clinic.series_uid(1): WANTED}
    lines = [json.loads(line) for line in (node.folder / "record.jsonl").read_text().splitlines()]
    assert sum(line["what"] == "stored" for line in lines) == 1
    assert not list((node.folder / "work").iterdir()) and not list((node.folder / "received").iterdir())


def test_a_series_that_is_refused_is_told_and_taken_when_it_is_sent_whole(clinic, start_node, archive, tmp_path):
    whole = clinic.write_series(tmp_path / "mr", 1, SLICES)
    gap = tmp_path / "gap"
    gap.mkdir()
    for number, path in enumerate(sorted(whole.iterdir())):
        if number != 7:
            os.link(path, gap / path.name)
    node = start_node()
    assert clinic.send(gap, node.port).wait() == 0
    clinic.wait_for(lambda: [one for one in latest(node).values() if one["what"] == "refused"], 60, "the refusal")
    (entry,) = latest(node).values()
    assert "missing" in entry["sentence"] or "gap" in entry["sentence"]
    assert clinic.series_uid(1) not in entry["sentence"] and not (node.folder / "work" / entry["series"]).exists()
    assert clinic.send(whole, node.port).wait() == 0
    until_done(clinic, node, archive, 1)
    assert archive.made_from() == {clinic.series_uid(1): WANTED}
    assert entry["sentence"] in node.log.read_text()


def test_a_part_of_a_series_is_never_taken_for_the_whole(clinic, start_node, archive, tmp_path):
    series = clinic.write_series(tmp_path / "mr", 1, SLICES)
    node = start_node(resend=4)
    clinic.send_a_part(series, node.port, SLICES // 2)
    clinic.wait_for(lambda: [one for one in latest(node).values() if one["what"] == "refused"], 60, "the refusal")
    (entry,) = latest(node).values()
    assert "Only 10 images came (its association was cut), and it was not sent again within 4 s" in entry["sentence"]
    assert archive.made_from() == {}


def test_more_of_a_series_that_is_done_makes_a_new_ct_only_of_the_whole(clinic, start_node, archive, tmp_path):
    """A sender that closes in order after half of a series, and sends the rest later, then all."""
    whole = clinic.write_series(tmp_path / "mr", 1, SLICES)
    parts = [tmp_path / "first", tmp_path / "rest"]
    for number, path in enumerate(sorted(whole.iterdir())):
        part = parts[number // 10]
        part.mkdir(exist_ok=True)
        os.link(path, part / path.name)
    node = start_node()
    for folder, what, word in (
        (parts[0], "stored", "11 objects"),
        (parts[1], "refused", "Send the whole series again"),
    ):
        assert clinic.send(folder, node.port).wait() == 0
        clinic.wait_for(lambda what=what: [one for one in latest(node).values() if one["what"] == what], 60, what)
        assert word in next(iter(latest(node).values()))["sentence"]
    assert clinic.send(whole, node.port).wait() == 0
    clinic.wait_for(lambda: "21 objects" in str(latest(node)), 60, "the new CT")
    counts = archive.made_from()[clinic.series_uid(1)]
    assert counts == [("CT", 10), ("CT", 20), ("RTSTRUCT", 1), ("RTSTRUCT", 1)]


def test_the_status_page_tells_what_came_to_this_machine_only(clinic, start_node, tmp_path):
    node = start_node()
    assert clinic.send(clinic.write_series(tmp_path / "mr", 1, 1), node.port).wait() == 0
    clinic.wait_for(lambda: [one for one in latest(node).values() if one["what"] == "refused"], 60, "the refusal")
    (name,) = latest(node)
    place = f"http://127.0.0.1:{node.status}/"
    with urllib.request.urlopen(place, timeout=30) as answer:
        page = answer.read().decode()
    assert name in page and "refused" in page and "Research use only" in page and "SCANNER at 127.0.0.1" in page
    assert "appel" not in page and "1.2.826" not in page
    foreign = urllib.request.Request(place, headers={"Host": "evil.example:80"})
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(foreign, timeout=30)


def test_a_folder_has_one_node(clinic, start_node):
    node = start_node()
    second = start_node(wait=False)
    assert second.forks.wait(second.process) == 2
    second.process = 0
    assert "Another node works in" in node.log.read_text()
    assert node.end(signal.SIGINT) == 0


def test_what_is_missing_or_wrong_is_told_before_anything_is_written(forks, weights, tmp_path):
    log = tmp_path / "log"
    for words, said in (
        ([], "Say where the CT go: --archive host:port."),
        (["--archive", "pacs"], "give host:port"),
        (["--archive", "pacs:104", "--silence", "-1"], "silence is -1 s"),
        (["--archive", "pacs:104", "--allowed_addresses", "scanner1"], "allowed_addresses has 'scanner1'"),
        (["--archive", "pacs:104", "--dataset_dir", str(tmp_path)], "Leave dataset_dir out"),
    ):
        words = ["mr_to_ct", "serve", "--weights", str(weights), "--output_dir", str(tmp_path / "node"), *words]
        assert forks.wait(forks.start(words, log)) == 2, words
        assert said in log.read_text() and "Traceback" not in log.read_text()
    assert not (tmp_path / "node").exists()
