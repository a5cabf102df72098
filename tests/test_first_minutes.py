"""What somebody meets first: advice, a check of the installation, quiet runs, and where to look at the end."""

import json
import subprocess
import sys
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from medical_gans.cli import command, installation
from medical_gans.cli.command import main, say_where
from medical_gans.cli.installation import _fits

TINY = """\
# Says something.

imports:
  - $import logging
output_dir: out # folder
run:
  - "$logging.getLogger('medical_gans.some.module').info('an event')"
  - "$logging.getLogger('medical_gans.some.module').warning('a doubt')"
"""


def test_the_command_alone_says_what_to_try(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    said = capsys.readouterr().out
    for words in ("medical-gans check", "mr_to_ct inference", "--dataset_dir T1.nii.gz", "phantom", "--help"):
        assert words in said
    assert max(map(len, said.splitlines())) <= 80


@pytest.mark.parametrize(
    ("found", "wanted", "fits"),
    [
        ("2.13.0+cpu", ">=2.8,<2.14", True),
        ("2.14.0", ">=2.8,<2.14", False),
        ("2.8", ">=2.8.0", True),
        ("1.10.1", ">=1.9", True),
        ("0.5.0", "==0.5.0", True),
        ("3.0.0rc1", "", True),
    ],
)
def test_versions_are_compared_as_numbers(found: str, wanted: str, fits: bool) -> None:
    assert _fits(found, wanted) is fits


def test_a_missing_package_is_named_with_the_command_that_brings_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    there = installation.version

    def version(name: str) -> str:
        if name in ("nibabel", "mlflow"):
            raise PackageNotFoundError(name)
        return "1.0" if name == "scipy" else there(name)

    monkeypatch.setattr(installation, "version", version)
    assert main(["check"]) == 2
    said = capsys.readouterr()
    assert "nibabel is missing" in said.err and "scipy is 1.0, but" in said.err
    assert "pip install 'nibabel>=5.2'" in said.out
    assert "pip install 'medical-gans[tracking]'" in said.out
    assert "Workflows" not in said.out  # what cannot run is not tried


def test_a_workflow_that_does_not_run_fails_the_check(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = {"brain_lesion": ("brain_lesion", "inference", "--dataset_dir", "{mr}", "--channels", "[none_such,two]")}
    monkeypatch.setattr(installation, "_TRIES", tries)
    assert main(["check"]) == 2
    said = capsys.readouterr()
    assert "brain_lesion does not run" in said.err and "FAILED" in said.out


@pytest.mark.slow
def test_each_workflow_is_tried_and_the_check_ends_well() -> None:
    words = [sys.executable, "-m", "medical_gans", "check"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
    for workflow in ("mr_to_ct", "lung_nodule", "brain_lesion"):
        assert f"ok        {workflow}" in done.stdout
    assert "All is well." in done.stdout and done.stderr == ""


@pytest.mark.parametrize("words", [[], ["--quiet"]])
def test_a_quiet_run_tells_doubts_and_where_to_look(words: list[str], tmp_path: Path) -> None:
    config = tmp_path / "configs" / "mr_to_ct_train.yaml"
    config.parent.mkdir()
    config.write_text(TINY)
    (config.parent / "metadata.json").write_text("{}")
    shipped = Path(command.configs_dir()) / "logging.conf"
    (config.parent / "logging.conf").write_text(shipped.read_text())
    (tmp_path / "out").mkdir()
    code = (
        "import sys, pathlib; from medical_gans.cli import command;"
        "command._run(command.plan_run('train', pathlib.Path(sys.argv[1]), sys.argv[2:]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(config), *words], capture_output=True, text=True, cwd=tmp_path, timeout=200
    )
    assert done.returncode == 0, done.stderr
    log, last = done.stdout.splitlines(), done.stderr.splitlines()[-1]
    assert [line[9:].split() for line in log] == ([["INFO", "an", "event"]] if not words else []) + [
        ["WARNING", "a", "doubt"]
    ]
    assert last.startswith("Done in ") and last.endswith((tmp_path / "out").as_uri())


def test_the_last_line_counts_cases_and_leads_to_the_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number, status in enumerate(["done", "warning", "failed", "warning"]):
        case = tmp_path / "report" / f"case {number}"
        case.mkdir(parents=True)
        (case / "case.json").write_text(json.dumps({"status": status}))
    report = tmp_path / "report.html"
    report.write_text("<html>")
    say_where(tmp_path, report.stat().st_mtime - 65)
    said = capsys.readouterr().err.strip()
    assert said.startswith("Done in 1 min ") and ", 4 cases, 2 with warnings, 1 failed: file://" in said
    assert Path(unquote(urlsplit(said.rsplit(" ", 1)[1]).path)) == report.resolve()


def test_an_old_report_is_not_taken_for_that_of_the_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = tmp_path / "report.html"
    report.write_text("<html>")
    say_where(tmp_path, report.stat().st_mtime + 60)
    assert capsys.readouterr().err.strip().endswith(tmp_path.resolve().as_uri())
