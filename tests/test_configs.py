"""Every config that is shipped: readable, explained, complete, and in step with its workflow."""

import ast
import functools
import pydoc
from collections.abc import Iterator
from pathlib import Path

import pytest

from medical_gans.cli import config_files, settings

CONFIGS = Path(__file__).resolve().parent.parent / "configs"
STAGES = [
    pytest.param(workflow, stage, id=f"{workflow}_{stage}")
    for workflow, files in config_files.stages().items()
    for stage in files
]
FILES = sorted(CONFIGS.glob("*.yaml"))
OVERLAYS = config_files.overlays()


def config_of(workflow: str, stage: str) -> Path:
    return config_files.stages()[workflow][stage]


@functools.cache
def merged(*paths: Path) -> dict:
    from monai.bundle import ConfigParser

    return ConfigParser.load_config_files([str(path) for path in paths])


def components(workflow: str, stage: str, config: object = None) -> Iterator[dict]:
    """Everything in a config that MONAI builds."""
    config = merged(config_of(workflow, stage)) if config is None else config
    if settings.is_component(config):
        yield config
    entries = config.values() if isinstance(config, dict) else config if isinstance(config, list) else ()
    for entry in entries:
        if isinstance(entry, dict | list):
            yield from components(workflow, stage, entry)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_config_means_what_it_looks_like(path):
    assert config_files.yaml_problems(path) == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_config_says_what_it_does_and_what_its_numbers_mean(path):
    assert config_files.description(path)
    assert config_files.uncommented_numbers(path) == []


@pytest.mark.parametrize(("workflow", "stage"), STAGES)
def test_every_setting_is_read_and_every_reference_leads_somewhere(workflow, stage):
    config = merged(config_of(workflow, stage))
    assert settings.unused_settings(config) == []
    assert settings.unknown_references(config) == []


@pytest.mark.parametrize(("workflow", "stage"), STAGES)
def test_every_component_has_the_arguments_it_is_given(workflow, stage):
    from monai.bundle import ConfigParser

    parser = ConfigParser(merged(config_of(workflow, stage)))
    assert dict(settings.unknown_arguments(parser.get(), parser)) == {}


@pytest.mark.parametrize(("workflow", "stage"), STAGES)
def test_every_component_exists(workflow, stage):
    from monai.bundle import ComponentLocator, ConfigComponent

    locator = ComponentLocator()
    targets = {ConfigComponent(one, locator=locator).resolve_module_name() for one in components(workflow, stage)}
    assert [target for target in sorted(targets) if target[0] != "$" and pydoc.locate(target) is None] == []


@pytest.mark.parametrize(("workflow", "stage"), STAGES)
def test_every_import_binds_the_names_it_lists(workflow, stage):
    """MONAI binds the first name only, and nothing for a dotted module without an alias."""
    for line in merged(config_of(workflow, stage)).get("imports", []):
        statement = ast.parse(line.removeprefix("$")).body[0]
        assert isinstance(statement, ast.Import | ast.ImportFrom) and len(statement.names) == 1, line
        alias = statement.names[0]
        assert isinstance(statement, ast.ImportFrom) or "." not in alias.name or alias.asname, line


@pytest.mark.parametrize(("workflow", "stage"), STAGES)
def test_the_first_thing_a_stage_does_is_to_check_its_settings(workflow, stage):
    path = config_of(workflow, stage)
    first = dict(merged(path)["initialize"][0])
    assert first.pop("config", path.name) == path.name
    assert first == {"_target_": "medical_gans.cli.settings.check_settings"}


@pytest.mark.parametrize(("workflow", "stage"), STAGES)
def test_a_config_works_from_any_folder(workflow, stage):
    text = config_of(workflow, stage).read_text(encoding="utf-8")
    assert ".yaml#" not in text and ".yaml::" not in text, "a macro of another file works in one folder only"


@pytest.mark.parametrize("overlay", OVERLAYS, ids=lambda path: path.name)
def test_an_overlay_fits_some_stage(overlay):
    problems = {}
    for workflow, files in config_files.stages().items():
        for stage, path in files.items():
            try:
                config = merged(path, overlay)
            except KeyError as missing:  # sets a part of a component that this stage has not
                problems[workflow, stage] = [str(missing)]
                continue
            problems[workflow, stage] = settings.unused_settings(config) + settings.unknown_references(config)
    assert [] in problems.values(), problems


@pytest.mark.parametrize("workflow", config_files.stages())
def test_what_uses_a_network_has_that_of_the_training_or_the_cards(workflow):
    configs = {stage: merged(path) for stage, path in config_files.stages()[workflow].items()}
    # a further training (pretrain, features, anomaly_train) may train another network: its card says which
    users = {stage: config for stage, config in configs.items() if stage == "train" or "train" not in config}
    networks = {stage: dict(config["network_def"]) for stage, config in users.items()}
    for network in networks.values():  # a stage that uses weights takes the number of slices from them
        network.update({k: "@adjacent" for k, v in network.items() if v == "$@adjacent or 1"})
    own = {stage: one for stage, one in networks.items() if one.get("_target_") != "medical_gans.weights.load_network"}
    assert all(network == own["train"] for network in own.values()), own


@pytest.mark.parametrize(("workflow", "stage"), STAGES)
def test_a_stage_has_the_properties_of_a_bundle(workflow, stage):
    from monai.bundle import ConfigParser
    from monai.bundle.properties import InferProperties, MetaProperties, TrainProperties

    parser = ConfigParser(merged(config_of(workflow, stage)))
    parser.read_meta(str(CONFIGS / "metadata.json"))
    properties = (TrainProperties if stage in ("train", "pretrain") else InferProperties) | MetaProperties
    required = [str(one["id"]) for one in properties.values() if one["required"]]
    assert [name for name in required if name not in parser] == []


def test_the_metadata_is_that_of_this_version():
    import json

    from medical_gans import __version__

    metadata = json.loads((CONFIGS / "metadata.json").read_text(encoding="utf-8"))
    assert metadata["version"] == __version__
    assert __version__ in metadata["changelog"]
