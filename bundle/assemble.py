"""Plain MONAI bundles, one per workflow, each of which works alone: ``python bundle/assemble.py --output_dir DIR``.

The same source gives the same bytes.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))

import yaml  # noqa: E402
from bundle_archives import without_source_paths, zip_folder  # noqa: E402
from bundle_configs import PACKAGE, serving, stage_config, with_package  # noqa: E402
from bundle_documents import metadata, needed_packages, readme  # noqa: E402
from bundle_recipes import RECIPES, STAGES, Recipe  # noqa: E402

from medical_gans.errors import InputError, UserError  # noqa: E402
from medical_gans.io.ownership import Origin, check_replaceable  # noqa: E402
from medical_gans.io.writing import check_writable, prepare_output, whole_file, whole_folder  # noqa: E402

PAGES = Path(__file__).resolve().parent


def missing_sources(recipe: Recipe, repository: Path = REPOSITORY) -> list[str]:
    """What the repository lacks for a bundle, relative to its root."""
    needed = [f"configs/{recipe.workflow}_{stage}.yaml" for stage in STAGES]
    needed += [f"models/{stem}{suffix}" for stem in recipe.weights.values() for suffix in (".pt", ".json")]
    needed += [f"docs/models/{stem}.md" for stem in recipe.weights.values()]
    return [name for name in needed if not (repository / name).is_file()]


def assemble(recipe: Recipe, output_dir: Path, repository: Path = REPOSITORY) -> Path:
    """Write a bundle as ``output_dir/<name>``, whole or not at all.

    Raises:
        InputError: the repository lacks a config, weights, or their card.
        OutputError: the folder cannot be written.
    """
    if missing := missing_sources(recipe, repository):
        raise InputError(f"{recipe.name} needs {missing[0]}, which is not there. Train the weights, or get the file.")
    check_writable(output_dir)
    origin = Origin(f"assembly of {recipe.name}", inputs=[repository])
    check_replaceable(output_dir / recipe.name, origin)
    with whole_folder(output_dir / recipe.name, origin) as folder:
        _write_code(repository, folder)
        _write_weights(recipe, repository, folder)
        _write_configs(recipe, repository, folder)
        _write_pages(recipe, repository, folder)
        _export_torchscript(folder)
    return output_dir / recipe.name


def _write_code(repository: Path, folder: Path) -> None:
    """The whole package: a part of it would be another program than the one that was tested."""
    shutil.copytree(repository / PACKAGE, folder / PACKAGE, ignore=shutil.ignore_patterns("__pycache__", "*.pyc", ".*"))
    shutil.copyfile(repository / "LICENSE", folder / "LICENSE")


def _write_weights(recipe: Recipe, repository: Path, folder: Path) -> None:
    """Weights with all that lies beside them: card, limits of quality, critic."""
    for place, stem in recipe.weights.items():
        for pattern in ("{}.pt", "{}.json", "{}_quality.json", "critics/{}.pt", "critics/{}.json"):
            source = repository / "models" / pattern.format(stem)
            target = (folder / "models" / place).parent / pattern.format(Path(place).name)
            if source.is_file():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, target)
    offered = sorted(path.name for path in (folder / "models").glob("*.pt"))
    if offered != ["model.pt"]:
        raise InputError(f"MONAI Label would offer {', '.join(offered)}; in models/ itself only model.pt may lie.")


def _write_configs(recipe: Recipe, repository: Path, folder: Path) -> None:
    configs = repository / "configs"
    (folder / "configs").mkdir()
    for stage in STAGES:
        path = configs / f"{recipe.workflow}_{stage}.yaml"
        own = recipe.renamed if stage == "inference" else {}
        content = stage_config(path, recipe.settings, own, recipe.targets)
        card = json.loads((folder / "models" / "model.json").read_text(encoding="utf-8"))
        # training goes on from the weights of the bundle, whatever network the recipe begins with
        if stage == "train" and content["network_def"]["_target_"] != card["network_def"]["_target_"]:
            content |= with_package({"network_def": card["network_def"]})
        if recipe.workflow == "brain_lesion" and stage in ("train", "inference"):
            content |= with_package({"network_def": _for_any_sequences(card["network_def"])})
        if stage == "inference":
            content = serving(content, recipe.inference)
        _write_json(folder / "configs" / f"{stage}.json", content)
    overlay = yaml.safe_load((configs / "multi_gpu.yaml").read_text(encoding="utf-8"))
    _write_json(folder / "configs" / "multi_gpu_train.json", overlay)
    shutil.copyfile(configs / "logging.conf", folder / "configs" / "logging.conf")


def _for_any_sequences(network_def: Mapping[str, Any]) -> dict[str, Any]:
    """A segmenter as its card tells, or each member of an ensemble, for as many sequences and classes as are set."""
    made = dict(network_def)
    if "members" in made:
        made["members"] = [_for_any_sequences(member) for member in made["members"]]
    return made | ({"in_channels": "$len(@channels)", "out_channels": "@num_classes"} if "in_channels" in made else {})


def _write_pages(recipe: Recipe, repository: Path, folder: Path) -> None:
    own, shared, weights = (
        json.loads(path.read_text(encoding="utf-8"))
        for path in (
            PAGES / recipe.name / "metadata.json",
            repository / "configs" / "metadata.json",
            folder / "models" / "model.json",
        )
    )
    cards = {f"models/{place}.pt": _card(repository, stem) for place, stem in recipe.weights.items()}
    _write_json(
        folder / "configs" / "metadata.json", metadata(shared, own, {"channels": [], **weights}, cards.values())
    )
    (folder / "docs" / "models").mkdir(parents=True)
    for card in cards.values():
        shutil.copyfile(card, folder / "docs" / "models" / card.name)
    shutil.copyfile(PAGES / recipe.name / "data_license.txt", folder / "docs" / "data_license.txt")
    template = (PAGES / "bundle_readme.md").read_text(encoding="utf-8")
    stages = {stage: repository / "configs" / f"{recipe.workflow}_{stage}.yaml" for stage in STAGES}
    parts = {"name": recipe.name, "example": recipe.example, "needs": needed_packages(repository)}
    page = readme(template, own, stages, cards, **parts)
    (folder / "docs" / "README.md").write_text(page, encoding="utf-8")


def _card(repository: Path, stem: str) -> Path:
    return repository / "docs" / "models" / f"{stem}.md"


def _export_torchscript(folder: Path) -> None:
    """By MONAI's own command, in a process of its own: names inside depend on what was scripted before."""
    names = {
        "filepath": "models/model.ts",
        "ckpt_file": "models/model.pt",
        "meta_file": "configs/metadata.json",
        "config_file": "configs/inference.json",
    }
    words = [word for name, value in names.items() for word in (f"--{name}", value)]
    command = [sys.executable, "-W", "ignore", "-m", "monai.bundle", "ckpt_export", "network_def", *words]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONHASHSEED": "0"}  # torch writes sets of names
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"The TorchScript export of {folder.name} failed:\n{done.stderr[-3000:]}")
    without_source_paths(folder / "models" / "model.ts")


def _write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=4, ensure_ascii=False) + "\n", encoding="utf-8")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    parser = argparse.ArgumentParser(description="Make plain MONAI bundles, one per workflow.")
    parser.add_argument("--output_dir", type=Path, required=True, help="folder that gets a folder per bundle")
    parser.add_argument("--bundle", nargs="+", choices=sorted(RECIPES), help="only these; all, if not given")
    parser.add_argument("--zip", action="store_true", help="also write each as <name>_v<version>.zip")
    given = parser.parse_args(argv)
    failed = False
    for name in given.bundle or sorted(RECIPES):
        try:
            folder = assemble(RECIPES[name], given.output_dir)
            print(folder)
            if given.zip:
                print(_zipped(folder))
        except UserError as error:  # the other bundles are made all the same
            print(f"assemble: error: {error}", file=sys.stderr)
            failed = True
    return 2 if failed else 0


def _zipped(folder: Path) -> Path:
    version = json.loads((folder / "configs" / "metadata.json").read_text(encoding="utf-8"))["version"]
    archive = folder.with_name(f"{folder.name}_v{version}.zip")
    prepare_output(folder.parent, Origin("assembly of bundles"), [archive.name])
    with whole_file(archive) as temporary:
        zip_folder(folder, temporary)
    return archive


if __name__ == "__main__":
    sys.exit(main())
