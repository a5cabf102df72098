"""A run has the settings its user meant, however it was started."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from medical_gans.cli import command as cli
from medical_gans.cli import config_files, settings
from medical_gans.cli.kinds import wrong_kinds
from medical_gans.errors import SettingError

CONFIG = """\
# Trains a line
# on a few points.

imports:
  - $import medical_gans.cli.settings as settings
bundle_root: .
dataset_dir: sample    # a folder of patients
max_epochs: 7          # passes over the data
spacing: [1.0, 2.0]    # mm, row and column
points: 4              # training points
train:
  loss_weights: {cycle: 10.0, identity: 0.0}
  trainer:
    _target_: torch.nn.Linear
    in_features: "@max_epochs"
    out_features: "@points"
  summary: "$[@train#loss_weights, @##spacing, @#trainer.out_features]"
initialize:
  - _target_: medical_gans.cli.settings.check_settings
  - '$settings.require(@points >= 1, f"points is {@points}; give 1 or more.")'
run:
  - $print('ran with', @train#summary, @max_epochs)
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "mr_to_ct_train.yaml"
    path.write_text(CONFIG)
    return path


def run_bundle(config, **overrides):
    from monai.bundle import run

    run(config_file=config if isinstance(config, list) else str(config), **overrides)


def cause_of(error: BaseException) -> BaseException:
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def test_a_run_with_known_settings_runs(config, capsys):
    run_bundle(config, max_epochs=3, **{"train#loss_weights#cycle": 5.0})
    assert "ran with [{'cycle': 5.0, 'identity': 0.0}, [1.0, 2.0], 4] 3" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("misspelt", "meant"),
    [
        ("max_epoch", "max_epochs"),
        ("spacin", "spacing"),
        ("train#trainer#in_feature", "train#trainer#in_features"),
        ("train::summry", "train#summary"),
    ],
)
def test_a_misspelt_override_is_refused_with_the_nearest_name(config, misspelt, meant):
    with pytest.raises(Exception, match="check_settings") as raised:
        run_bundle(config, **{misspelt: 3})
    error = cause_of(raised.value)
    assert isinstance(error, SettingError)
    assert f"'{misspelt.replace('::', '#')}' (did you mean '{meant}'?)" in str(error)


def test_a_misspelt_name_in_an_overlay_is_refused(config, tmp_path):
    overlay = tmp_path / "more.yaml"
    overlay.write_text("max_epochz: 3\n")
    with pytest.raises(RuntimeError) as raised:
        run_bundle([str(config), str(overlay)])
    assert "max_epochz" in str(cause_of(raised.value))


def test_an_overlay_may_bring_what_it_uses_itself(config, tmp_path, capsys):
    overlay = tmp_path / "more.yaml"
    overlay.write_text("doubled: 2\nmax_epochs: $2 * @doubled\n")
    run_bundle([str(config), str(overlay)])
    assert capsys.readouterr().out.endswith(" 4\n")


def test_the_check_finds_its_parser_in_a_workflow_made_by_hand(config):
    from monai.bundle import ConfigWorkflow

    workflow = ConfigWorkflow(str(config), workflow_type="train", nonsense=1)
    with pytest.raises(RuntimeError) as raised:
        workflow.initialize()
    assert "unknown setting 'nonsense'" in str(cause_of(raised.value))


def test_a_value_out_of_range_is_refused_in_words(config):
    with pytest.raises(RuntimeError) as raised:
        run_bundle(config, points=0)
    assert str(cause_of(raised.value)) == "points is 0; give 1 or more."


def test_the_module_door_ends_with_one_sentence(config):
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", str(config), "--max_epoch", "3"]
    environment = os.environ | {"PYTHONPATH": str(Path(settings.__file__).parent.parent)}
    result = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert result.returncode != 0
    assert "medical-gans: error: unknown setting 'max_epoch' (did you mean 'max_epochs'?)." in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("stage", "setting", "value", "words"),
    [
        ("mr_to_ct_inference", "spacing", 2.5, "spacing is 2.5; give three positive numbers in mm"),
        ("mr_to_ct_inference", "planes", True, "planes is True; give axial, coronal, sagittal, or a list"),
        ("mr_to_ct_inference", "slice_batch", "banana", "slice_batch is 'banana'; give a whole number"),
        ("mr_to_ct_inference", "tile", [1, 2], "tile is [1, 2]; give a whole number"),
        ("mr_to_ct_inference", "weights", None, "weights is null; give a path"),
        ("brain_lesion_inference", "channels", [1, 2], "channels is [1, 2]; give a list of names"),
        ("brain_lesion_inference", "missing", [0], "missing is [0]; give a list of names"),
        ("brain_lesion_inference", "spacing", [0, 0, 0], "spacing is [0, 0, 0]; give three positive numbers in mm"),
        ("brain_lesion_inference", "weights", "", "weights is ''; give a path"),
        ("brain_lesion_evaluate", "weights", {}, "weights is {}; give a path, a list of paths, or methods by name"),
        ("mr_to_ct_evaluate", "weights", {"a": "a.pt"}, "weights is {'a': 'a.pt'}; give a path"),
        ("brain_lesion_train", "spacing", [1, 2], "spacing is [1, 2]; give three positive numbers in mm"),
        ("lung_nodule_train", "spacing", [1, 2], "spacing is [1, 2]; give a number"),
        ("lung_nodule_inference", "truncation", [2], "truncation is [2]; give a number"),
    ],
)
def test_a_setting_of_another_kind_is_named_with_what_it_must_be(stage, setting, value, words):
    shipped = config_files.read_config(config_files.configs_dir() / f"{stage}.yaml")
    (said,) = wrong_kinds({**shipped, setting: value}, shipped)
    assert said.startswith(words)
    assert not list(wrong_kinds({**shipped, "spacing": "$[1, 1, 1]", "weights": Path("a.pt")}, shipped))
    nodules = config_files.read_config(config_files.configs_dir() / "lung_nodule_evaluate.yaml")
    assert not list(wrong_kinds({**nodules, "weights": {"benign": "a.pt", "malignant": "b.pt"}}, nodules))


def test_methods_by_name_are_weights_of_an_evaluation_of_lesions():
    shipped = config_files.read_config(config_files.configs_dir() / "brain_lesion_evaluate.yaml")
    methods = {"source_only": "a.pt", "adapted": ["b.pt", "c.pt"], "oracle": {"weights": "d.pt", "missing": ["GRE"]}}
    assert not list(wrong_kinds({**shipped, "weights": methods}, shipped))


def test_a_setting_of_another_kind_is_refused_in_one_sentence(tmp_path, capsys):
    (tmp_path / "d").mkdir()
    given = ["mr_to_ct", "inference", "--dataset_dir", str(tmp_path / "d"), "--output_dir", str(tmp_path / "out")]
    assert cli.main([*given, "--spacing", "2.5"]) == 2
    (said,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("medical-gans: error:")]
    assert "spacing is 2.5; give three positive numbers in mm" in said and not (tmp_path / "out").exists()


def test_what_we_ship_is_of_the_kinds_that_the_names_of_settings_tell():
    stages = {path.name: config_files.read_config(path) for path in config_files.configs_dir().glob("*.yaml")}
    stages = {name: content for name, content in stages.items() if "run" in content}
    assert len(stages) > 15
    for name, shipped in stages.items():
        for other in (one for one in stages if one[:8] == name[:8]):  # of the same workflow
            same = {key: stages[other].get(key, value) for key, value in shipped.items() if key not in ("weights",)}
            assert not list(wrong_kinds({**same, "weights": shipped.get("weights")}, shipped)), (name, other)


def test_outside_a_run_the_check_says_where_it_belongs():
    with pytest.raises(RuntimeError, match="initialize"):
        settings.check_settings()


def test_what_nothing_reads_is_unused():
    config = {
        "read": 1,
        "dead": 2,
        "section": {"read": 3, "dead": 4},
        "handed_over": {"whole": 5},
        "list": [6, 7],
        "component": {"_target_": "builtins.dict", "a": "@read", "b": "@section#read", "c": "@handed_over"},
        "steps": ["$@component.clear(@list#0)"],
        "dataset_dir": "read by MONAI",
    }
    assert settings.unused_settings(config) == ["dead", "section::dead", "steps"]


def test_references_to_nothing_are_found():
    config = {"a": "@b#0", "b": ["$@c + @missing"], "c": "%d", "e": {"f": "@##a", "g": "@#f", "h": "@#a"}}
    assert settings.unknown_references(config) == ["d", "e::a", "missing"]


def test_a_word_with_an_at_sign_is_no_reference():
    assert settings.unknown_references({"author": "somebody@example.org"}) == []


def test_settings_are_listed_with_default_meaning_and_heading(tmp_path):
    path = tmp_path / "listed.yaml"
    path.write_text(
        "# What the stage does\n# in two lines.\n\n"
        "# --- what most people set ---\n"
        "wiring: $1 + 1\n"
        "dataset_dir: sample   # a folder,\n                      # or a file\n"
        "# mm\nspacing:\n  - 1.0\n"
        'tag: "a # b"  # text\n\n'
        "# --- more ---\n"
        "planes: [axial]  # one or more\nseed:  # none draws a new one\n"
        "network_def:  # not a setting\n  _target_: torch.nn.ReLU\n  inplace: false  # saves memory\n"
        "  # not a continuation\n  other: 1\n"
    )
    found = [(one.name, one.default, one.comment, one.heading) for one in config_files.settings_of(path)]
    assert found == [
        ("dataset_dir", "sample", "a folder, or a file", "what most people set"),
        ("spacing", [1.0], "mm", "what most people set"),
        ("tag", "a # b", "text", "what most people set"),
        ("planes", ["axial"], "one or more", "more"),
        ("seed", None, "none draws a new one", "more"),
        ("network_def#inplace", False, "saves memory", "more"),
        ("network_def#other", 1, "not a continuation", "more"),
    ]
    assert config_files.description(path) == "What the stage does in two lines."


def test_the_description_of_a_file_is_no_comment_of_its_first_entry(tmp_path):
    path = tmp_path / "first.yaml"
    path.write_text("# What the stage does\nfirst: 1\n")
    assert config_files.settings_of(path) == []


def test_numbers_without_a_meaning_are_found(tmp_path):
    path = tmp_path / "numbers.yaml"
    path.write_text(
        "# About\n\nplain: 3\nsaid: 4  # mm\nflag: true\ntext: three\nsection:\n  width: 5\n"
        "component:\n  _target_: builtins.dict\n  width: 6\n"
    )
    assert config_files.uncommented_numbers(path) == ["plain", "section#width"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3\n", "line 3: 'a' is given twice"),
        ("a:\n  b: 1\n  b: 2\n", "line 3: 'b' is given twice"),
        ("lr: 2e-4\n", r"line 1: YAML reads 2e-4 as text; write 2\.0e-4"),
        ("n: [1.0, 1.5e6]\n", r"line 1: YAML reads 1\.5e6 as text; write 1\.5e\+6"),
        ("n: 08\n", r"YAML reads 08 as text; write 8\.0"),
        ("x: &x {a: 1}\ny:\n  <<: *x\n", "line 3: MONAI cannot read the merge key"),
        ("norm: off\n", "line 1: YAML reads off as a truth value"),
        ("a: [1\n", "is not YAML"),
        ("just a word\n", "must consist of entries"),
    ],
)
def test_yaml_that_says_something_else_than_it_looks_like_is_refused(tmp_path, text, message):
    path = tmp_path / "trap.yaml"
    path.write_text(text)
    with pytest.raises(SettingError, match=message):
        config_files.read_config(path)


def test_what_yaml_reads_as_it_looks_is_taken(tmp_path):
    path = tmp_path / "fine.yaml"
    path.write_text("a: 2.0e-4\nb: '2e-4'\nc: true\nd: 1.5.0\ne: -1024\nf: 1_000\ng: .5\nh: infinity\n")
    expected = {"a": 2e-4, "b": "2e-4", "c": True, "d": "1.5.0", "e": -1024, "f": 1000, "g": 0.5}
    expected["h"] = "infinity"
    assert config_files.read_config(path) == expected
