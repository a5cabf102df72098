"""What the queue has taken it holds, whole or waiting, whatever ends in between."""

import json
import os
import time

import pytest

from medical_gans.errors import OutputError, SettingError
from medical_gans.studies.dicom_node.record import STORED, Record, plain, short_name
from medical_gans.studies.dicom_node.series_queue import NoRoomError, QueueLimits, Sender, SeriesQueue

UID = "1.2.840.113619.2.55.3"


@pytest.fixture
def limits():
    return QueueLimits(free_gib=0.0)


@pytest.fixture
def queue(tmp_path, limits):
    return SeriesQueue(tmp_path / "node", limits)


def again(queue):
    """The queue as the next process finds it."""
    return SeriesQueue(queue.folder, queue.limits)


def scan(queue, images, series=UID, close="release"):
    """An association that sends images by number, and ends."""
    sender = Sender("SCANNER")
    queue.opened(sender)
    for number in images:
        queue.add_image(sender, series, f"{series}.{number}", b"image %d" % number)
    if close == "release":
        queue.released(sender)
    if close:
        queue.closed(sender)
    return sender


def whole(queue, quiet=0.0, resend=1e6):
    return [(one.images, bool(one.cut)) for one in queue.ended(quiet, resend)]


def test_a_series_is_whole_when_its_association_is_closed_and_quiet(queue):
    sender = scan(queue, range(4), close=None)
    assert whole(queue) == []
    queue.released(sender)
    assert whole(queue, quiet=60) == []
    assert whole(queue) == [(4, False)]


def test_a_series_that_was_cut_waits_and_is_whole_once_it_was_sent_again(queue):
    scan(queue, range(2), close="cut")
    assert whole(queue) == []
    scan(queue, range(4))
    assert whole(queue) == [(4, False)]


def test_a_series_that_was_cut_and_is_not_sent_again_is_told_with_what_came(queue):
    scan(queue, range(2), close="cut")
    assert whole(queue, resend=0.0) == [(2, True)]


def test_what_another_association_cuts_later_is_not_mended_by_one_that_began_before(queue):
    first = scan(queue, range(2), close=None)
    scan(queue, range(2, 4), close="cut")
    queue.released(first)
    assert whole(queue) == [], "the second association may have had more to send"


def test_a_node_that_is_killed_takes_open_associations_for_cut_and_closed_ones_for_whole(queue):
    scan(queue, range(3), close=None)
    scan(queue, range(5), series=f"{UID}.9")
    queue = again(queue)
    assert whole(queue) == [(5, False)]
    scan(queue, range(3))
    assert sorted(whole(queue)) == [(3, False), (5, False)]


def test_the_same_image_twice_is_one_and_the_first_stays(queue, tmp_path):
    scan(queue, [0, 1, 1])
    sender = Sender("OTHER")
    queue.opened(sender)
    queue.add_image(sender, UID, f"{UID}.1", b"another")
    queue.released(sender)
    (one,) = queue.ended(0, 0)
    assert one.images == 2
    assert {path.read_bytes() for path in queue.images_of(one)} == {b"image 0", b"image 1"}


def test_a_claimed_series_is_found_again_after_a_kill_and_its_images_with_it(queue):
    scan(queue, range(3))
    (one,) = queue.ended(0, 0)
    job = queue.claim(one, "1.2.3")
    job.made = True
    queue.keep(job)
    queue = again(queue)
    assert queue.jobs() == [job] and len(list(queue.images(job).iterdir())) == 3
    assert whole(queue) == []
    queue.finish(job, STORED, "done")
    assert queue.outcome(job.series) == (job.token, STORED, one.objects)
    queue.remove_folder(queue.images(job).parent)
    assert again(queue).jobs() == []


def test_what_comes_while_a_series_is_worked_on_waits_for_its_end(queue):
    scan(queue, range(3))
    (one,) = queue.ended(0, 0)
    job = queue.claim(one, "1.2.3")
    scan(queue, range(3))
    assert whole(queue) == []
    queue.finish(job, STORED, "done")
    queue.remove(job)
    assert whole(queue) == [(3, False)]


def test_a_series_of_which_more_came_is_not_claimed(queue):
    scan(queue, range(3))
    (one,) = queue.ended(0, 0)
    scan(queue, [7])
    assert queue.claim(one, "1.2.3") is None
    queue.drop(one)
    assert whole(queue) == [(4, False)], "nor dropped"


def test_a_folder_that_is_half_removed_is_not_taken_for_a_series(queue, monkeypatch):
    scan(queue, range(3))
    (one,) = queue.ended(0, 0)
    monkeypatch.setattr("shutil.rmtree", lambda *given, **named: None)  # killed there
    queue.drop(one)
    monkeypatch.undo()
    queue = again(queue)
    assert whole(queue) == [] and not any((queue.folder / "trash").iterdir())


def test_an_image_that_was_not_taken_leaves_its_series_waiting_to_be_sent_again(tmp_path, limits):
    queue = SeriesQueue(tmp_path / "node", QueueLimits(free_gib=0.0, images=3))
    sender = Sender("SCANNER")
    queue.opened(sender)
    for number in range(3):
        queue.add_image(sender, UID, f"{UID}.{number}", b"image")
    with pytest.raises(NoRoomError, match=r"more than 3 images, the limit \(largest_series\)"):
        queue.add_image(sender, UID, f"{UID}.3", b"image")
    queue.released(sender)
    queue.closed(sender)
    assert whole(queue) == []
    assert [one.cut for one in queue.ended(0, 0)] == ["The series has more than 3 images, the limit (largest_series)."]


def test_an_image_that_was_taken_at_the_second_try_is_taken(queue, monkeypatch):
    sender = Sender("SCANNER")
    queue.opened(sender)
    queue.add_image(sender, UID, f"{UID}.0", b"image")
    with monkeypatch.context() as full:
        full.setattr("os.fsync", lambda handle: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        with pytest.raises(NoRoomError, match="No space left"):
            queue.add_image(sender, UID, f"{UID}.1", b"image")
    assert not any((queue.folder / "incoming").iterdir())
    queue.add_image(sender, UID, f"{UID}.1", b"image")
    queue.released(sender)
    assert whole(queue) == [(2, False)]


def test_limits_of_size_number_and_disk_are_told(tmp_path):
    sender = Sender("SCANNER")
    small = SeriesQueue(tmp_path / "small", QueueLimits(object_mib=0.001, free_gib=0.0))
    with pytest.raises(NoRoomError, match=r"larger than the limit of 0\.001 \(largest_object\)"):
        small.add_image(sender, UID, "1", bytes(2000))
    few = SeriesQueue(tmp_path / "few", QueueLimits(series=1, free_gib=0.0))
    few.add_image(sender, UID, "1", b"image")
    with pytest.raises(NoRoomError, match=r"1 series wait already.*\(largest_queue\)"):
        few.add_image(sender, f"{UID}.1", "1", b"image")
    full = SeriesQueue(tmp_path / "full", QueueLimits(free_gib=1e9))
    with pytest.raises(NoRoomError, match=r"are to stay free \(free_disk\)"):
        full.add_image(sender, UID, "1", b"image")
    with pytest.raises(SettingError, match="limit images of the node is 0"):
        QueueLimits(images=0)
    assert issubclass(NoRoomError, OutputError)


def test_structure_sets_wait_for_their_study_and_are_removed_when_they_are_old(queue):
    queue.add_structure_set("1.2.3", "1.2.3.4", b"structures")
    queue.add_structure_set("9.9.9", "9.9.9.4", b"others")
    scan(queue, range(3))
    (one,) = queue.ended(0, 0)
    job = queue.claim(one, "1.2.3")
    beside = queue.images(job).parent / "structures"
    assert [path.read_bytes() for path in beside.iterdir()] == [b"structures"]
    assert queue.old_structure_sets() == 0
    for path in (queue.folder / "structures").rglob("*.dcm"):
        os.utime(path, (0, 0))
    assert queue.old_structure_sets() == 2 and not any((queue.folder / "structures").iterdir())


def test_only_the_owner_can_look_into_the_folders_of_images(queue):
    for name in ("received", "work", "structures", "incoming"):
        assert (queue.folder / name).stat().st_mode & 0o077 == 0


def test_the_record_outlasts_a_kill_in_the_middle_of_a_line(tmp_path):
    record = Record(tmp_path)
    record.add(STORED, "20 objects stored.", "abc", sender="SCANNER", images=20)
    record.close()
    with record.path.open("ab") as file:
        file.write(b'{"time": "2026')
    record = Record(tmp_path)
    record.add("note", "Somebody was turned away.")
    record.close()
    record = Record(tmp_path)
    assert [(one.series, one.what, one.images) for one in record.latest()] == [("abc", STORED, 20)]
    assert record.notes()[0].sentence == "Somebody was turned away." and record.counts == {STORED: 1}


def test_sentences_lose_uids_folders_and_line_breaks():
    said = plain(f"Series {UID} in /home/somebody/x has gaps of 12.5 mm;\nsee 1.2.840.10008.1.2.1.")
    assert UID not in said and "somebody" not in said and "\n" not in said
    assert short_name(UID) in said and "12.5 mm" in said


def test_done_series_are_a_line_of_names_without_uids(queue):
    scan(queue, range(2))
    (one,) = queue.ended(0, 0)
    queue.finish(queue.claim(one, "1.2.3"), STORED, "stored")
    (path,) = (queue.folder / "done").iterdir()
    assert UID not in path.read_text() and json.loads(path.read_text())["outcome"] == STORED
    assert time.time() - path.stat().st_mtime < 60
