"""A blinded reader study: the page for the readers, and the key that stays with who runs it."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medical_gans.errors import OutputError
from medical_gans.io.nodules import NodulePatches, split_by_patient
from medical_gans.io.ownership import Origin
from medical_gans.io.writing import prepare_output, whole_file
from medical_gans.report import Manifest, input_hashes
from medical_gans.studies.turing_test.answers import FORMAT
from medical_gans.studies.turing_test.nodules import (
    StudyNodules,
    check_alike,
    choose_generated,
    choose_real,
    counts_by_label,
    generate,
    telling_artefacts,
)
from medical_gans.studies.turing_test.page import encoded_range, grey_values, page_content, write_page

if TYPE_CHECKING:
    from medical_gans.inference.nodules.sampling import NoduleSampler

PAGE, KEY, README = "study.html", "key.json", "README.txt"


_FOR_WHO_RUNS_IT = """Visual Turing Test, study {study}

study.html      send this file to the readers, and nothing else of this folder
key.json        tells real from generated: keep it from the readers until all have answered
manifest.json   how the study was made; its seed makes the same study again, so keep it from the readers too

Readers open study.html by a double click in a current Chromium, Chrome, Edge or Firefox. No network is needed, nothing
is sent anywhere. They return a file answers_<reader>_{study}.json. Collect these in a folder and analyse them:

    medical-gans lung_nodule turing_test --analyse FOLDER --key key.json --output_dir analysis

Consent. The first page says that taking part is voluntary and which data are kept: initials, years of experience,
answers, time per image. Readers are research participants: ask your ethics board, and put its reference and whom to
contact into the setting `notice`. The images of patients are in study.html: give it only to whom the licence of the
data set allows.

Blinding. Order and names of the images are random, all have the same size, window, encoding and length, and the page
does not say how many are real. It cannot prevent that somebody who has the data set or the weights looks images up.

Agree before the first reading on the number of images and the figures that will be reported.
"""

logger = logging.getLogger(__name__)


class TuringStudy:
    """Writes a study: ``study.html``, ``key.json``, ``README.txt`` and ``manifest.json``.

    Args:
        read_patches: gives the real nodules.
        load_sampler: gives the generator; called only where `generated_dir` is None.
        output_dir: folder for the study.
        dataset_dir: data set that the real nodules are read from, for the manifest.
        weights: of the generator, for the manifest.
        generated_dir: output folder of an inference run whose nodules are shown; None generates now.
        num_real: real nodules.
        num_generated: generated nodules.
        malignancy: ``both`` (in equal numbers), ``benign``, ``malignant``, or ``any`` (as they come).
        split: patients that real nodules are taken from: ``test``, ``validation``, ``train`` or ``all``.
        split_fractions: of the patients in training, validation, test, as in training.
        split_seed: as in training.
        truncation: of the latent numbers.
        window: HU shown black and white.
        second_window: another one that readers may switch to.
        ask_malignancy: ask readers for benign or malignant as well.
        notice: text for the first page.
        seed: of choice, latent seeds, order and tokens.
        device: for the manifest.
    """

    def __init__(
        self,
        read_patches: Callable[[], NodulePatches],
        load_sampler: Callable[[], NoduleSampler],
        output_dir: str | Path,
        *,
        dataset_dir: str | Path = ".",
        weights: str | Path | None = None,
        generated_dir: str | Path | None = None,
        num_real: int = 50,
        num_generated: int = 50,
        malignancy: str = "both",
        split: str = "test",
        split_fractions: Sequence[float] = (0.6, 0.1, 0.3),
        split_seed: int = 0,
        truncation: float | None = None,
        window: Sequence[float] = (-1000.0, 400.0),
        second_window: Sequence[float] | None = None,
        ask_malignancy: bool = False,
        notice: str | None = None,
        seed: int = 0,
        device: str = "cpu",
    ) -> None:
        self.read_patches, self.load_sampler = read_patches, load_sampler
        self.output_dir = Path(output_dir)
        self.dataset_dir, self.weights, self.generated_dir = dataset_dir, weights, generated_dir
        self.num_real, self.num_generated, self.malignancy = num_real, num_generated, malignancy
        self.split, self.split_fractions, self.split_seed = split, split_fractions, split_seed
        self.truncation = truncation
        self.windows = [window] if second_window is None else [window, second_window]
        self.ask_malignancy = ask_malignancy
        self.notice = "" if notice is None else str(notice)
        self.seed, self.device = seed, device

    @property
    def settings(self) -> dict[str, Any]:
        """What decides which nodules are shown, and how."""
        return {
            name: getattr(self, name)
            for name in (
                *("dataset_dir", "generated_dir", "num_real", "num_generated", "malignancy", "truncation"),
                *("split", "split_fractions", "split_seed", "windows", "ask_malignancy", "notice"),
            )
        }

    def run(self) -> None:
        """Write the study.

        Raises:
            SettingError: a setting is out of range.
            InputError: too few nodules, or real and generated ones of another size or spacing.
            OutputError: there is a study already, or the folder cannot be written.
        """
        shades = encoded_range(self.windows)
        for number in (self.num_real, self.num_generated):
            counts_by_label(number, self.malignancy)
        if (self.output_dir / KEY).exists():
            raise OutputError(
                f"{self.output_dir} holds a study already, and without its key its answers are worth nothing. "
                "Choose another output_dir."
            )
        names = (KEY, PAGE, README, "manifest.json")
        origin = Origin("lung_nodule turing_test")
        prepare_output(self.output_dir, origin, names, writes=False)
        manifest = Manifest("lung_nodule", "turing_test", settings=self.settings, seed=self.seed, device=self.device)
        with manifest.timed("nodules"):
            real, generated = self._nodules()
        check_alike(real, generated)
        for sentence in telling_artefacts(*(grey_values(one.hounsfield, *shades) for one in (real, generated))):
            manifest.add_warning(sentence)
            logger.warning(sentence)
        content, key = blinded(
            real,
            generated,
            windows=self.windows,
            ask_malignancy=self.ask_malignancy,
            notice=self.notice,
            seed=self.seed,
        )
        prepare_output(self.output_dir, origin, names)
        if self.generated_dir is None and self.weights is not None:
            manifest.add_weights(self.weights)
        if Path(self.dataset_dir).is_file():
            manifest.inputs = input_hashes(self.dataset_dir, dataset_dir=self.dataset_dir)
        _write_key(self.output_dir / KEY, key)  # first: a page without its key is worth nothing
        write_page(self.output_dir / PAGE, content)
        with whole_file(self.output_dir / README) as temporary:
            temporary.write_text(_FOR_WHO_RUNS_IT.format(study=content["id"]), encoding="utf-8")
        manifest.write(self.output_dir)
        logger.info("Send %s to the readers, and keep %s.", self.output_dir / PAGE, self.output_dir / KEY)

    def _nodules(self) -> tuple[StudyNodules, StudyNodules]:
        draws_of_real, draws_of_generated = np.random.default_rng(self.seed).spawn(2)
        patches = self.read_patches()
        if self.split != "all":
            patches = split_by_patient(patches, self.split, self.split_fractions, self.split_seed)
        real = choose_real(patches, self.num_real, self.malignancy, draws_of_real)
        if self.generated_dir is not None:
            generated = choose_generated(self.generated_dir, self.num_generated, self.malignancy, draws_of_generated)
        else:
            generated = generate(
                self.load_sampler(), self.num_generated, self.malignancy, draws_of_generated, self.truncation
            )
        return real, generated


def blinded(
    real: StudyNodules,
    generated: StudyNodules,
    *,
    windows: Sequence[Sequence[float]],
    ask_malignancy: bool,
    notice: str,
    seed: int,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Mix real and generated nodules.

    Order and tokens follow from the seed *and* from all images, so that nobody finds the order from the page by
    trying seeds.

    Returns:
        Content of the page, and the key: what each token stands for.
    """
    grey = grey_values(np.concatenate([real.hounsfield, generated.hounsfield]), *encoded_range(windows))
    drawn_from = hashlib.sha256(f"{seed} ".encode() + grey.tobytes()).digest()
    rng = np.random.default_rng(np.frombuffer(drawn_from, dtype=np.uint32))
    order = rng.permutation(len(grey))
    tokens = _tokens(len(grey), rng)
    content = page_content(
        grey[order], tokens, spacing=real.spacing, windows=windows, ask_malignancy=ask_malignancy, notice=notice
    )
    rows = [
        {"truth": truth, "malignancy": malignancy, "source": source}
        for truth, nodules in (("real", real), ("generated", generated))
        for malignancy, source in zip(nodules.malignancy, nodules.source, strict=True)
    ]
    images = [{"id": token, **rows[index]} for token, index in zip(tokens, order, strict=True)]
    key = {
        "note": "Tells real from generated. Keep it from the readers until all have answered.",
        "format": FORMAT,
        "study": content["id"],
        "ask_malignancy": ask_malignancy,
        "images": images,
    }
    return content, key


def _tokens(number: int, rng: np.random.Generator) -> list[str]:
    tokens: dict[str, None] = {}
    while len(tokens) < number:
        tokens[rng.bytes(6).hex()] = None
    return list(tokens)


def _write_key(path: Path, key: Mapping[str, Any]) -> None:
    """A line per image, so that a person can read it."""
    about = json.dumps({name: value for name, value in key.items() if name != "images"}, indent=1)
    rows = ",\n  ".join(json.dumps(image) for image in key["images"])
    with whole_file(path) as temporary:
        temporary.write_text(f'{about[:-2]},\n "images": [\n  {rows}\n ]\n}}\n', encoding="utf-8")
