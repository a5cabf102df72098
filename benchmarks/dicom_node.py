"""A day of a DICOM node in minutes: what comes, comes out once, whatever happens between. Needs dcmtk and Orthanc.

Three games, each with a node and an archive of its own and a network so small that a series takes a second:

- steady: 50 series, 10 senders at once; the memory of the node.
- rough: 50 series, 10 senders at once; lines cut half-way, series sent twice, the archive away, the node killed
  (kill -9) at random moments.
- full: 10 series to a disk that is full, then is not (a tmpfs; needs root).

Prints how many series were sent, found once in the archive, lost and doubled. Wanted: none lost, none doubled.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import dicom_clinic as clinic

SLICES = 20
WANTED = [("CT", SLICES), ("RTSTRUCT", 1)]


def send_until_taken(folder: Path, node: clinic.Node, pause: float = 1.0) -> int:
    """As a scanner does: send a series again until every image was taken; how often it was sent."""
    tries = 1
    while clinic.send(folder, node.port).wait() != 0:
        tries += 1
        time.sleep(pause)
    return tries


def verdict(name: str, archive: clinic.Orthanc, count: int) -> bool:
    """Print what of the series sent is in the archive, and whether all are there once."""
    found = archive.made_from()
    uids = [clinic.series_uid(number) for number in range(count)]
    once = sum(found.get(uid) == WANTED for uid in uids)
    lost = sum(uid not in found for uid in uids)
    doubled = sum(len(found.get(uid, [])) > len(WANTED) for uid in uids)
    print(f"{name}: {count} series sent, {once} found once and whole, {lost} lost, {doubled} doubled", flush=True)
    return once == count


def wait_until_stored(node: clinic.Node, archive: clinic.Orthanc, count: int, seconds: float) -> None:
    """Until the archive holds all series and the node has nothing left to do."""

    def all_there() -> bool:
        return node.listens() and node.is_idle() and len(archive.made_from()) >= count

    try:
        clinic.wait_for(all_there, seconds, "all series stored")
    except TimeoutError as error:
        print(error)


def steady(place: Path, weights: Path, forks: clinic.Forks, count: int, at_once: int) -> bool:
    """Nothing goes wrong; memory after each tenth of the series."""
    archive = clinic.Orthanc(place / "orthanc")
    archive.start()
    node = clinic.Node(forks, place / "node", weights, f"{clinic.HOST}:{archive.port}")
    node.start()
    series = [clinic.write_series(place / "mr", number, SLICES) for number in range(count)]
    begin, seen = time.monotonic(), {}
    try:
        with ThreadPoolExecutor(at_once) as senders:
            sent = [senders.submit(send_until_taken, folder, node) for folder in series]
            while not (all(one.done() for one in sent) and node.is_idle()):
                stored = int(node.state()["stored"])
                seen.setdefault(stored // 5 * 5, node.memory_mib())
                time.sleep(0.5)
        seen[count] = node.memory_mib()
        wait_until_stored(node, archive, count, 60)
        print(f"steady: {time.monotonic() - begin:.0f} s; resident MiB by series stored:", end=" ")
        print(", ".join(f"{stored}: {memory:.0f}" for stored, memory in sorted(seen.items())))
        return verdict("steady", archive, count)
    finally:
        node.end()
        archive.stop()


def rough(place: Path, weights: Path, forks: clinic.Forks, count: int, at_once: int, kills: int) -> bool:
    """All that goes wrong in a clinic, at once."""
    archive, draws = clinic.Orthanc(place / "orthanc"), random.Random(0)
    node = clinic.Node(forks, place / "node", weights, f"{clinic.HOST}:{archive.port}")
    node.start()  # the archive is away at first
    series = [clinic.write_series(place / "mr", number, SLICES) for number in range(count)]
    tries: list[int] = []

    def scan(number: int) -> None:
        folder = series[number]
        if number % 5 == 0:
            clinic.send_a_part(folder, node.port, SLICES // 2)
        tries.append(send_until_taken(folder, node))
        if number % 4 == 0:
            time.sleep(draws.uniform(0, 10))
            tries.append(send_until_taken(folder, node))

    begin = time.monotonic()
    try:
        with ThreadPoolExecutor(at_once) as senders:
            sent = [senders.submit(scan, number) for number in range(count)]
            for kill in range(kills):
                time.sleep(draws.uniform(0.2, 8))
                node.kill()
                if kill == kills // 4:
                    archive.start()
                if kill == kills // 2:
                    archive.stop()
                if kill == 3 * kills // 4:
                    archive.start()
                node.start(wait=False)
            if archive.process is None:
                archive.start()
            for one in sent:
                one.result()
        wait_until_stored(node, archive, count, 900)
        times = f"{sum(tries)} associations of storescu, {len(range(0, count, 5))} cut half-way, {kills} kills"
        print(f"rough: {time.monotonic() - begin:.0f} s; {times}, archive away twice; node says {summary(node)}")
        return verdict("rough", archive, count)
    finally:
        node.end()
        archive.stop()


def full(place: Path, weights: Path, forks: clinic.Forks, count: int) -> bool:
    """The disk of the node is full for a while, before and after series were taken."""
    disk = place / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(disk)], capture_output=True)
    if mounted.returncode != 0:
        print("full: left out, no small disk can be mounted here")
        return True
    archive = clinic.Orthanc(place / "orthanc")
    archive.start()
    node = clinic.Node(forks, disk / "node", weights, f"{clinic.HOST}:{archive.port}")
    node.log = place / "node.log"
    node.start()
    series = [clinic.write_series(place / "mr", number, SLICES) for number in range(count)]
    filler = disk / "filler"
    try:
        with ThreadPoolExecutor(count) as senders:
            fill(filler)
            sent = [senders.submit(send_until_taken, folder, node) for folder in series]
            time.sleep(5)
            none_taken = not any(one.done() for one in sent)
            filler.unlink()
            clinic.wait_for(lambda: any(one.done() for one in sent), 60, "a first series")
            fill(filler)  # now that some wait to be translated
            time.sleep(10)
            filler.unlink()
            tries = sum(one.result() for one in sent)
        wait_until_stored(node, archive, count, 300)
        waits = sum('"waits"' in line for line in (disk / "node" / "record.jsonl").read_text().splitlines())
        print(
            f"full: none taken while full: {none_taken}; {tries} associations, {waits} waits; node says {summary(node)}"
        )
        return verdict("full", archive, count)
    finally:
        node.end()
        archive.stop()
        subprocess.run(["umount", str(disk)], check=False)


def fill(path: Path) -> None:
    """Write until there is no room left."""
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            return


def summary(node: clinic.Node) -> str:
    """The counts of the status page."""
    state = node.state()
    return ", ".join(f"{name} {state[name]}" for name in ("stored", "refused", "came again", "still coming"))


def names_in_logs(place: Path) -> list[str]:
    """Logs and records that hold a patient's name or number, or a UID."""
    words = ("zappel", "quirin", "qx7731904", clinic.series_uid(0)[:-1])
    files = [*place.rglob("*.log"), *place.rglob("record.jsonl"), *place.rglob("*.json")]
    own = [path for path in files if "orthanc" not in path.parts]
    return [str(path) for path in own if any(word in path.read_text(errors="replace").lower() for word in words)]


def main() -> int:
    """Play the games; exit code 1 where a series was lost or doubled."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--series", type=int, default=50)
    parser.add_argument("--at_once", type=int, default=10, help="senders")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--games", default="steady,rough,full")
    parser.add_argument("--no_pictures", action="store_true", help="draw none for the reports")
    options = parser.parse_args()
    if missing := clinic.what_is_missing():
        parser.error(f"{missing} missing: apt-get install dcmtk orthanc")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    good, forks = True, clinic.Forks(pictures=not options.no_pictures)
    with tempfile.TemporaryDirectory() as name:
        weights = clinic.write_weights(Path(name, "small.pt"))
        for game in options.games.split(","):
            place = Path(name, game)
            place.mkdir()
            if game == "steady":
                good &= steady(place, weights, forks, options.series, options.at_once)
            elif game == "rough":
                good &= rough(place, weights, forks, options.series, options.at_once, options.kills)
            else:
                good &= full(place, weights, forks, min(options.series, 10))
            if named := names_in_logs(place):
                print(f"{game}: a patient or a UID is named in {named}")
                good = False
    forks.stop()
    return 0 if good else 1


if __name__ == "__main__":
    raise SystemExit(main())
