"""The command is strict about what it is told and plain about what goes wrong."""

import errno
import inspect
import os
import subprocess
import sys
import types
from pathlib import Path

import pytest

from medical_gans.cli import command as cli
from medical_gans.cli import config_files
from medical_gans.cli.command_line import arguments, check_value
from medical_gans.errors import InputError, SettingError, user_message

TRAIN = """\
# Trains the generators.

bundle_root: .
dataset_dir: sample                # a folder of patients
output_dir: $@bundle_root + '/out'  # where results go
max_epochs: 7                      # passes over the data
learning_rate: 2.0e-4              # Adam step
amp: false                         # mixed precision, needs a GPU
spacing: [1.0, 1.0, 3.0]           # mm
seed:                              # none draws a new one
train:
  trainer:
    _target_: builtins.dict
    max_epochs: "@max_epochs"
    rest: "$[@learning_rate, @amp, @spacing, @seed]"
initialize:
  - _target_: medical_gans.cli.settings.check_settings
run:
  - $print('ran', @train#trainer)
"""


@pytest.fixture
def configs(tmp_path, monkeypatch) -> Path:
    folder = tmp_path / "configs"
    folder.mkdir()
    (folder / "mr_to_ct_train.yaml").write_text(TRAIN)
    (folder / "mr_to_ct_inference.yaml").write_text("# Writes a synthetic CT.\n\nrun: []\n")
    (folder / "smoke.yaml").write_text("# Seconds, for tests.\n\nmax_epochs: 1\n")
    (folder / "metadata.json").write_text("{}")
    monkeypatch.setattr(cli, "configs_dir", lambda: folder)
    monkeypatch.setattr(config_files, "configs_dir", lambda: folder)
    return folder


@pytest.fixture
def failing_with(monkeypatch, configs):
    """Make the run itself raise."""

    def set_error(error: BaseException):
        def run(_):
            raise error

        monkeypatch.setattr(cli, "_run", run)

    return set_error


def plan(configs: Path, *words: str) -> cli.Run:
    return cli.plan_run("train", configs / "mr_to_ct_train.yaml", words)


def refusal(capsys, *words: str) -> str:
    """The one line on stderr of a command that is refused."""
    assert cli.main(words) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1 and captured.err.startswith("medical-gans: error: ")
    return captured.err


@pytest.mark.parametrize("default", [3, 0.5, True, [1.0, 2.0]])
def test_what_begins_like_an_expression_but_is_none_is_no_number(default):
    with pytest.raises(SettingError, match=r"--seed is '\$x'; it must be"):
        check_value("seed", "$x", default, known={"max_epochs"})
    assert check_value("seed", "$@max_epochs + 1", default, known={"max_epochs"}) == "$@max_epochs + 1"


def test_a_stage_runs_with_its_overrides_and_overlays(configs, capsys):
    words = ["--config_file", "smoke.yaml", "--learning-rate=0.5", "--seed", "3", "--amp"]
    assert cli.main(["mr_to_ct", "train", *words]) == 0
    assert "ran {'max_epochs': 1, 'rest': [0.5, True, [1.0, 1.0, 3.0], 3]}" in capsys.readouterr().out


@pytest.mark.parametrize("given", ["smoke.yaml,{}", "['smoke.yaml', '{}']", "[smoke.yaml,{}]"])
def test_overlays_are_given_between_commas_or_as_a_list(configs, tmp_path, given):
    mine = tmp_path / "mine.yaml"
    mine.write_text("seed: 7\n")
    planned = cli.plan_run("train", configs / "mr_to_ct_train.yaml", ["--config_file", given.format(mine)])
    assert [path.name for path in planned.overlays] == ["smoke.yaml", "mine.yaml"]


def test_nested_entries_are_set_by_their_path(configs):
    for word in ("--train#trainer#max_epochs", "--train::trainer::max_epochs"):
        assert plan(configs, word, "3").overrides == {"train::trainer::max_epochs": 3}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["mr_to_ct", "train", "--max_epoch", "3"], "no setting 'max_epoch' (did you mean 'max_epochs'?)"),
        (["mr_to_ct", "train", "--train#trainer#max_epoch", "3"], "mean 'train#trainer#max_epochs'?)"),
        (["mr_to_ct", "train", "--max_epochs", "ten"], "--max_epochs is 'ten'; it must be a whole number"),
        (["mr_to_ct", "train", "--max_epochs"], "--max_epochs needs a value"),
        (["mr_to_ct", "train", "--max_epochs", "1", "--max-epochs", "2"], "--max-epochs is given twice"),
        (["mr_to_ct", "train", "--train", "3"], "--train is a section; set one of its entries: trainer"),
        (["mr_to_ct", "train", "patient.nii.gz"], "'patient.nii.gz' belongs to no setting"),
        (["mr_to_ct", "train", "--config_file", "smok.yaml"], "there is no config smok.yaml"),
        (["mr_to_ct", "tran"], "no stage 'tran' (did you mean 'train'?); there are train, inference"),
        (["mr_to_ct"], "give a stage of mr_to_ct: train, inference"),
        (["mr2ct", "train"], "'mr2ct' (did you mean 'mr_to_ct'?); there are mr_to_ct, phantom"),
        (["phantom"], "phantom needs a folder to write to"),
        (["phantom", "--patient", "3"], "unknown setting 'patient' of phantom (did you mean 'patients'?)"),
        (["phantom", "--output_dir", "d", "--seed", "x"], "--seed is 'x'; it must be a whole number"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_one_sentence(configs, capsys, words, said):
    assert said in refusal(capsys, *words)


def test_an_overlay_with_a_yaml_trap_is_refused_with_its_line(configs, tmp_path, capsys):
    overlay = tmp_path / "mine.yaml"
    overlay.write_text("# mine\nlearning_rate: 2e-4\n")
    said = refusal(capsys, "mr_to_ct", "train", "--config_file", str(overlay))
    assert "mine.yaml, line 2: YAML reads 2e-4 as text; write 2.0e-4" in said


@pytest.mark.parametrize(
    ("text", "default", "value"),
    [
        ("3", 7, 3),
        ("-1024", 0, -1024),
        ("3", 0.5, 3),
        ("2e-4", 0.5, 2e-4),
        ("$@max_epochs // 2", 7, "$@max_epochs // 2"),
        ("no", True, False),
        ("2024", "sample", "2024"),
        ("none", "sample", "none"),
        ("none", None, None),
        ("2024", None, 2024),
        ("a word", None, "a word"),
        ("[axial, coronal]", None, ["axial", "coronal"]),
        ("2024", "$1 + 1", 2024),
        ("1,2,3", [1.0, 1.0, 1.0], [1, 2, 3]),
        ("[1, 2]", [1.0], [1, 2]),
        ("[1, none, 2]", [1.0, None], [1, None, 2]),
        ("axial,coronal", ["axial"], ["axial", "coronal"]),
    ],
)
def test_a_value_is_of_the_kind_that_the_default_tells(text, default, value):
    checked = check_value("name", text, default)
    assert checked == value and type(checked) is type(value)


@pytest.mark.parametrize(
    ("text", "default"),
    [
        ("2.5", 7),
        ("true", 7),
        ("ten", 0.5),
        ("maybe", True),
        ("3", [1.0]),
        ("a,b", [1.0]),
        (None, 7),
        ("", 7),
    ],
)
def test_a_value_of_another_kind_is_refused(text, default):
    with pytest.raises(SettingError, match="--name"):
        check_value("name", text, default)


def test_paths_stay_text():
    assert check_value("dataset_dir", "2024", None) == "2024"


def test_arguments_take_both_spellings():
    words = ["--a-b", "1", "--c=2=3", "--d", "--e", "-5"]
    assert arguments(words) == [("a_b", "1"), ("c", "2=3"), ("d", None), ("e", "-5")]


def test_a_pattern_that_the_shell_has_expanded_stays_together():
    words = ["--analyse", "a/1.json", "a/2 b.json", "--key", "key.json"]
    (name, text), key = arguments(words)
    assert (name, check_value(name, text, None)) == ("analyse", ["a/1.json", "a/2 b.json"])
    assert key == ("key", "key.json")
    assert arguments(["--analyse", "answers"]) == [("analyse", "answers")]


def test_help_lists_workflows_then_stages_then_settings(configs, capsys):
    assert cli.main(["--help"]) == 0
    top = capsys.readouterr().out
    assert "mr_to_ct: a synthetic CT" in top and "train" in top and "Trains the generators." in top
    assert cli.main(["mr_to_ct", "--help"]) == 0
    assert "Writes a synthetic CT." in capsys.readouterr().out
    assert cli.main(["mr_to_ct", "train", "--help"]) == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "--max_epochs 7 passes over the data" in lines
    assert "--spacing [1.0,1.0,3.0] mm" in lines
    assert lines[lines.index("--output_dir $@bundle_root + '/out'") + 1] == "where results go"
    assert "--seed null none draws a new one" in lines
    assert any("smoke.yaml" in line for line in lines)


def test_help_may_be_read_in_part(repository):
    command = [sys.executable, "-m", "medical_gans", "--help"]
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = subprocess.Popen(command, cwd=repository, env=buffered, **pipes)
    process.stdout.close()
    assert process.stderr.read() == b""
    process.wait()


def test_version_is_that_of_the_package(capsys):
    from medical_gans import __version__

    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"medical-gans {__version__}\n"


def test_tracking_is_passed_on_and_its_own_settings_are_known(configs, monkeypatch):
    monkeypatch.setitem(sys.modules, "mlflow", types.ModuleType("mlflow"))
    monkeypatch.setattr(cli.importlib.util, "find_spec", lambda name: object())
    run = plan(configs, "--tracking", "mlflow", "--experiment_name", "thigh", "--output_dir", "here")
    assert run.tracking == "mlflow"
    assert run.overrides == {"experiment_name": "thigh", "output_dir": "$'here'"}


def test_tracking_without_mlflow_says_what_to_install(configs, monkeypatch):
    monkeypatch.setattr(cli.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SettingError, match=r"pip install 'medical-gans\[tracking\]'"):
        plan(configs, "--tracking", "mlflow")


def test_phantom_writes_the_data_set_that_was_asked_for(monkeypatch, capsys):
    asked = {}
    stand_in = types.ModuleType("medical_gans.phantom")
    stand_in.write_dataset = lambda folder, **values: asked.update(folder=folder, **values)
    stand_in.write_lesion_dataset = None
    monkeypatch.setitem(sys.modules, "medical_gans.phantom", stand_in)
    assert cli.main(["phantom", "--output_dir", "there", "--patients", "2", "--seed=5"]) == 0
    expected = {setting.name: setting.default for setting in cli.PHANTOM_SETTINGS}
    expected |= {"output_dir": "there", "patients": 2, "seed": 5}
    assert str(asked.pop("folder")) == expected.pop("output_dir")
    assert asked == expected


@pytest.mark.parametrize(("text", "value"), [("true", True), ("False", False), ("auto", "auto")])
def test_auto_may_be_answered_by_yes_or_no(text, value):
    from medical_gans.cli.command_line import check_value

    assert check_value("write_dicom", text, "auto") == value


def test_phantom_writes_both_sides_of_a_change_of_scanner(tmp_path):
    for domain, sequence in (("source", "GRE"), ("target", "SWI")):
        words = ["--layout", f"haemorrhage_{domain}", "--patients", "1", "--spacing", "6"]
        assert cli.main(["phantom", "--output_dir", str(tmp_path / domain), *words]) == 0
        names = {path.name for path in (tmp_path / domain / f"{domain}_s0_head_000").iterdir()}
        assert {f"{sequence}.nii.gz", "T1w.nii.gz", "lesion.nii.gz", "brainmask.nii.gz"} <= names


def test_phantom_takes_the_settings_of_the_data_set():
    from medical_gans.phantom import write_dataset

    own = list(inspect.signature(write_dataset).parameters.values())[1:]
    ours = {setting.name: setting.default for setting in cli.PHANTOM_SETTINGS if setting.name != "output_dir"}
    assert {parameter.name: parameter.default for parameter in own} == ours


def wrapped(error: Exception) -> Exception:
    """As MONAI hands it on: a chain of RuntimeErrors."""
    try:
        try:
            raise error
        except Exception as inner:
            raise RuntimeError("applying transform") from inner
    except RuntimeError as middle:
        outer = RuntimeError("Failed to instantiate component")
        outer.__cause__ = middle
        return outer


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (wrapped(InputError("a.nii is empty.")), "medical-gans: error: a.nii is empty.\n"),
        (OSError(errno.ENOSPC, "No space left", "ct.nii.gz"), "The disk is full while writing ct.nii.gz"),
        (wrapped(OSError(errno.ENOSPC, "No space left")), "The disk is full: free some space"),
    ],
)
def test_what_the_user_can_mend_ends_in_one_sentence(failing_with, capsys, error, said):
    failing_with(error)
    assert said in refusal(capsys, "mr_to_ct", "train")


def test_an_error_in_a_data_loader_worker_is_found_in_its_traceback():
    text = (
        "Caught RuntimeError in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\n"
        '  File "x.py", line 1, in f\nmedical_gans.errors.InputError: a.nii is empty.\n\n'
        "The above exception was the direct cause of the following exception:\n\nRuntimeError: in transform"
    )
    assert user_message(RuntimeError(text)) == "a.nii is empty."


def test_an_interrupted_run_says_so_and_returns_130(failing_with, capsys):
    failing_with(KeyboardInterrupt())
    assert cli.main(["mr_to_ct", "train"]) == 130
    assert capsys.readouterr().err == "medical-gans: interrupted.\n"


def test_a_bug_keeps_its_traceback(failing_with, capsys):
    failing_with(ZeroDivisionError("division by zero"))
    assert cli.main(["mr_to_ct", "train"]) == 1
    said = capsys.readouterr().err
    assert "Traceback" in said and "ZeroDivisionError" in said and said.endswith("the lines above.\n")


def test_of_several_processes_only_the_first_complains_about_the_command(configs, monkeypatch, capsys):
    monkeypatch.setenv("RANK", "1")
    assert cli.main(["mr_to_ct", "train", "--max_epoch", "3"]) == 2
    assert capsys.readouterr().err == ""


def test_what_goes_wrong_in_another_process_names_it(failing_with, monkeypatch, capsys):
    monkeypatch.setenv("RANK", "1")
    failing_with(InputError("a.nii is empty."))
    assert cli.main(["mr_to_ct", "train"]) == 2
    assert capsys.readouterr().err == "[process 1] medical-gans: error: a.nii is empty.\n"
