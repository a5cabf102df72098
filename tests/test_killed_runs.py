"""A cohort that is killed again and again ends as if nothing had happened, and its inputs are as they were."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from test_outputs import image, tree

from medical_gans.networks import ResnetGenerator
from medical_gans.weights import WeightsCard, save_weights

MOMENTS = int(os.environ.get("MEDICAL_GANS_KILLS", "4"))
"""How often the run is killed; 50 were done once, by hand."""

_RUN = """
import sys
sys.path[:0] = [{repository!r}]
from medical_gans.report import cases
for kind in ("overview", "contact_sheet", "histogram", "thumbnail"):
    def draw(volumes, path):
        path.write_bytes(b"picture")
    draw.__name__ = kind
    setattr(cases, kind, draw)
from medical_gans.cli.command import main
print("begun", flush=True)
sys.exit(main(sys.argv[1:]))
"""


def results(folder: Path) -> dict[str, str]:
    """All results of a run but what tells when it was made."""
    left = tree(folder)
    timed = ("manifest.json", "report.html", "case.json", "made_from.json")
    return {name: content if not name.endswith(timed) else "" for name, content in left.items()}


@pytest.mark.slow
def test_a_cohort_killed_at_random_moments_ends_as_an_undisturbed_one(tmp_path, repository):
    data = tmp_path / "data"
    for number in range(6):
        image(data / f"p{number}" / "T1.nii.gz", number)
    save_weights(tmp_path / "small.pt", ResnetGenerator(width=2, blocks=0))
    network_def = {"_target_": "medical_gans.networks.ResnetGenerator", "width": 2, "blocks": 0}
    WeightsCard([None] * 3, network_def=network_def).save(tmp_path / "small.pt")
    script = tmp_path / "run.py"
    script.write_text(_RUN.format(repository=str(repository)))
    before = tree(data)

    def start(out: Path) -> subprocess.Popen:
        words = ["mr_to_ct", "inference", "--dataset_dir", data, "--output_dir", out, "--device", "cpu"]
        words += ["--weights", tmp_path / "small.pt"]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        command = [sys.executable, script, *words]
        return subprocess.Popen(list(map(str, command)), env=environment, stdout=subprocess.PIPE, text=True)

    undisturbed = start(tmp_path / "whole")
    assert undisturbed.stdout is not None
    undisturbed.stdout.readline()
    begin = time.perf_counter()
    undisturbed.communicate()
    lasted = time.perf_counter() - begin
    assert undisturbed.returncode == 0
    draws = random.Random(0)
    out = tmp_path / "out"
    for _ in range(MOMENTS):
        killed = start(out)
        assert killed.stdout is not None
        killed.stdout.readline()
        time.sleep(draws.uniform(0.0, lasted))
        killed.send_signal(signal.SIGKILL)
        killed.communicate()
        for name in tree(out) if out.exists() else ():
            folder = out / Path(name).parts[0]
            if folder.name.startswith("p") and folder.is_dir():
                assert (folder / "synthetic_ct.nii.gz").is_file() and (folder / "made_from.json").is_file()
    last = start(out)
    last.communicate()
    assert last.returncode == 0
    assert results(out) == results(tmp_path / "whole")
    assert not [path for path in out.rglob(".*")]
    assert tree(data) == before
