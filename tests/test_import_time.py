"""The command answers at once: heavy libraries are imported when they are needed."""

import subprocess
import sys
import time

import pytest

HEAVY = ("torch", "monai", "scipy", "SimpleITK", "nibabel", "pydicom", "matplotlib", "ignite")


def seconds_of(code: str) -> float:
    """Best of some runs, for the machine may be busy."""
    best = float("inf")
    for _ in range(3):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
        best = min(best, time.perf_counter() - start)
    return best


@pytest.mark.parametrize(
    "code",
    [
        "import medical_gans",
        "import medical_gans.cli",
        "from medical_gans.cli import main; main(['--help'])",
        "from medical_gans.cli import main; main(['mr_to_ct', 'train', '--help'])",
        "from medical_gans.cli import main; main(['mr_to_ct', 'train', '--no_such_setting', '1'])",
        "from medical_gans.cli import main; main([])",
        "from medical_gans.cli import main; main(['mr_to_ct', 'inference', '--dataset_dir', 'no/such/place'])",
        "from medical_gans.cli import main; main(['check', '--help'])",
    ],
)
def test_answers_import_nothing_heavy(code):
    check = f"{code}; import sys; print('imported:', *sorted(set({HEAVY}) & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", check], check=True, capture_output=True, text=True)
    assert result.stdout.splitlines()[-1].strip() == "imported:", result.stdout


def test_import_takes_less_than_a_third_of_a_second():
    assert seconds_of("import medical_gans") < 1 / 3


def test_help_takes_less_than_a_second():
    assert seconds_of("from medical_gans.cli import main; main(['--help'])") < 1


def test_a_mistyped_path_is_answered_within_a_second():
    words = ["mr_to_ct", "inference", "--dataset_dir", "T1.nii"]
    assert seconds_of(f"from medical_gans.cli import main; main({words})") < 1
