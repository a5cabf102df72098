"""Promises of what bundles are made from: configs that keep their meaning, figures read from cards, steady archives."""

import json
import re
import tomllib
import zipfile

import pytest
from assemble import _for_any_sequences, assemble
from bundle_archives import without_source_paths, zip_folder
from bundle_configs import serving, stage_config
from bundle_documents import figures_of, metadata
from bundle_processes import REPOSITORY
from bundle_recipes import RECIPES, STAGES

from medical_gans.cli import config_files, settings
from medical_gans.errors import InputError

CASES = [(name, stage) for name in RECIPES for stage in STAGES]


def stage_of(name, stage):
    recipe = RECIPES[name]
    path = REPOSITORY / "configs" / f"{recipe.workflow}_{stage}.yaml"
    if not path.is_file():
        pytest.skip(f"{path.name} missing")
    renamed = recipe.renamed if stage == "inference" else {}
    config = stage_config(path, recipe.settings, renamed, recipe.targets)
    return serving(config, recipe.inference) if stage == "inference" else config


@pytest.mark.parametrize(("name", "stage"), CASES)
def test_every_reference_leads_somewhere_and_every_setting_is_read(name, stage):
    config = stage_of(name, stage)
    assert settings.unknown_references(config) == []
    served = RECIPES[name].inference if stage == "inference" else {}
    assert set(settings.unused_settings(config)) <= set(served)


def test_a_bundle_preprocesses_word_for_word_as_the_configs_do():
    written = config_files.read_config(REPOSITORY / "configs" / "mr_to_ct_inference.yaml")["preprocessing"]
    for stage in STAGES:
        assert without_waiting(stage_of("mr_to_ct_synthesis", stage)["preprocessing"]) == written


def without_waiting(value):
    """Without the entries that make a component wait for the package of the bundle."""
    if isinstance(value, dict):
        return {key: without_waiting(entry) for key, entry in value.items() if key != "_requires_"}
    return [without_waiting(entry) for entry in value] if isinstance(value, list) else value


def test_each_member_of_an_ensemble_takes_as_many_sequences_as_are_set():
    unet = {"_target_": "monai.networks.nets.UNet", "in_channels": 1, "out_channels": 2, "norm": "batch"}
    free = unet | {"in_channels": "$len(@channels)", "out_channels": "@num_classes"}
    assert _for_any_sequences(unet) == free
    ensemble = {"_target_": "medical_gans.networks.Ensemble", "members": [unet, unet], "mirrored": True}
    assert _for_any_sequences(ensemble) == ensemble | {"members": [free, free]}


@pytest.mark.parametrize("name", ["mr_to_ct_synthesis", "brain_lesion_segmentation"])
def test_a_bundle_that_reads_images_takes_the_words_that_choose_one(name):
    config = stage_of(name, "inference")
    assert config["select"] is None and '"@select"' in json.dumps(config)


@pytest.mark.parametrize(("name", "stage"), CASES)
def test_a_stage_keeps_the_properties_of_a_bundle(name, stage):
    from monai.bundle import ConfigParser
    from monai.bundle.properties import InferProperties, TrainProperties

    parser = ConfigParser(stage_of(name, stage))
    properties = TrainProperties if stage == "train" else InferProperties
    assert [str(one["id"]) for one in properties.values() if one["required"] and str(one["id"]) not in parser] == []


@pytest.mark.parametrize(("name", "stage"), CASES)
def test_no_stage_needs_data_before_it_runs(name, stage):
    """`monai.bundle.load` evaluates `initialize` and wants the network only."""
    config = stage_of(name, stage)
    assert "initialize" not in config
    assert config["run"][0]["_target_"] == "medical_gans.cli.settings.check_settings"


@pytest.mark.parametrize(("name", "stage"), CASES)
def test_nothing_is_imported_from_the_package_before_it_is_found(name, stage):
    config = stage_of(name, stage)
    assert [line for line in config["imports"] if "medical_gans" in line] == []
    texts = [text for text in strings(config) if text.startswith("$") and "import" in text and "@" in text]
    assert texts == [], "MONAI parses expressions with 'import' in them before it replaces '@'"


@pytest.mark.parametrize(("name", "stage"), CASES)
def test_weights_are_those_of_the_bundle(name, stage):
    texts = list(strings(stage_of(name, stage)))
    assert [text for text in texts if "models_dir" in text] == []
    for stem in RECIPES[name].weights.values():
        assert [text for text in texts if f"{stem}.pt" in text] == []


def strings(value):
    if isinstance(value, dict):
        value = list(value.values())
    for entry in value if isinstance(value, list) else [value]:
        if isinstance(entry, dict | list):
            yield from strings(entry)
        elif isinstance(entry, str):
            yield entry


def test_the_figures_of_a_card_are_the_rows_in_bold(tmp_path):
    card = tmp_path / "card.md"
    rows = [
        "| of | a | b |",
        "|---|---|---|",
        "| x | 1 | 2 |",
        "| **y** | **3.5** | 4 (3 to 5) |",
        "",
        "| | |",
        "| z | 1 |",
    ]
    card.write_text("\n".join(rows))
    assert figures_of(card) == {"of: y": {"a": 3.5, "b": "4 (3 to 5)"}}


def test_the_sequences_and_classes_of_a_segmenter_are_those_of_its_weights():
    own = json.loads((REPOSITORY / "bundle/brain_lesion_segmentation/metadata.json").read_text())
    weights = {"channels": ["T1", "T2"], "classes": ["background", "core", "oedema"]}
    formats = metadata({}, own, weights, [])["network_data_format"]
    assert formats["inputs"]["image"]["num_channels"] == 2
    assert formats["outputs"]["pred"]["channel_def"] == {"0": "background", "1": "core", "2": "oedema"}


def test_the_metadata_name_every_package_that_a_bundle_needs():
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    needed = {re.match(r"[\w-]+", package)[0].lower() for package in project["dependencies"]}
    known = json.loads((REPOSITORY / "configs/metadata.json").read_text())["required_packages_version"]
    assert needed - {"torch", "monai", "numpy"} == {name.lower() for name in known}


def test_a_bundle_that_lacks_something_is_refused_and_nothing_is_written(tmp_path):
    with pytest.raises(InputError, match="mr_to_ct_synthesis needs configs/"):
        assemble(RECIPES["mr_to_ct_synthesis"], tmp_path / "out", repository=tmp_path)
    assert not (tmp_path / "out").exists()


def test_an_archive_depends_on_its_content_alone(tmp_path):
    import os

    archives = []
    for number in (1, 2):
        folder = tmp_path / str(number) / "name"
        folder.mkdir(parents=True)
        for file in ("b", "a")[:: 1 if number == 1 else -1]:
            (folder / file).write_text(file)
        os.utime(folder / "a", (number * 10**6, number * 10**6))
        zip_folder(folder, tmp_path / f"{number}.zip")
        archives.append((tmp_path / f"{number}.zip").read_bytes())
    assert archives[0] == archives[1]
    assert zipfile.ZipFile(tmp_path / "1.zip").namelist() == ["name/a", "name/b"]


def test_a_torchscript_archive_keeps_nothing_of_where_it_was_made(tmp_path):
    archives = []
    for folder in ("one", "another"):
        archive = tmp_path / f"{folder}.ts"
        with zipfile.ZipFile(archive, "w") as written:
            written.writestr("model/data/0", b"numbers")
            written.writestr("model/code/network.py.debug_pkl", f"/home/{folder}/network.py")
            written.writestr("model/.data/serialization_id", str(hash(folder)))
        without_source_paths(archive)
        archives.append(archive.read_bytes())
    assert archives[0] == archives[1]
    assert b"/home" not in archives[0]
    assert archives[0].index(b"numbers") % 64 == 0, "torch maps tensors that are aligned"
    assert zipfile.ZipFile(tmp_path / "one.ts").testzip() is None
