"""From answers to figures; answers that cannot be trusted are refused, with what, where and remedy."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from turing_test.studies import answers_file, truthful, write_study

from medical_gans.errors import InputError, OutputError, SettingError, UserError
from medical_gans.studies.turing_test import TuringAnalysis
from medical_gans.studies.turing_test.answers import checksum


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    write_study(folder, number=8)
    return folder


@pytest.fixture(scope="module")
def key(study):
    return json.loads((study / "key.json").read_text())


def analyse(study: Path, answers, folder: Path, **settings) -> dict:
    TuringAnalysis(answers, study / "key.json", folder / "analysis", **settings).run()
    return json.loads((folder / "analysis" / "figures.json").read_text())


def value(found: dict, reader: str, figure: str, malignancy: str = "all") -> float:
    rows = [r for r in found["figures"] if (r["reader"], r["class"], r["figure"]) == (reader, malignancy, figure)]
    assert len(rows) == 1
    return rows[0]["value"]


def refusal(study: Path, answers, folder: Path, **settings) -> str:
    with pytest.raises(UserError) as error:
        analyse(study, answers, folder, **settings)
    assert not (folder / "analysis").exists(), "bad input is refused before anything is written"
    return str(error.value)


def test_answers_become_figures_tables_pictures_and_a_page(study, key, tmp_path):
    right = truthful(key)
    wrong_on_benign = [
        -one if image["malignancy"] == "benign" else one for one, image in zip(right, key["images"], strict=True)
    ]
    answers_file(tmp_path / "answers" / "answers_a.json", key, right, "AB")
    answers_file(tmp_path / "answers" / "answers_b.json", key, wrong_on_benign, "CD")
    answers_file(tmp_path / "answers" / "answers_c.json", key, [2] * 16, "EF")
    found = analyse(study, tmp_path / "answers", tmp_path)
    assert value(found, "AB", "accuracy") == value(found, "AB", "auc") == 1
    assert value(found, "CD", "accuracy", "benign") == 0 and value(found, "CD", "accuracy", "malignant") == 1
    assert value(found, "EF", "frr") == 1 and value(found, "EF", "auc") == 0.5
    assert value(found, "all readers", "frr") == pytest.approx((0 + 0.5 + 1) / 3, abs=1e-5)
    assert value(found, "all readers", "seconds") == 1.5
    assert [row["method"] for row in found["agreement"]] == ["Cohen"] * 3 + ["Fleiss"]
    names = {path.name for path in (tmp_path / "analysis").iterdir()}
    assert names == {"figures.csv", "figures.json", "figures.png", "images.csv", "images.png"} | {
        "made_from.json",
        "manifest.json",
        "report.html",
    }
    page = (tmp_path / "analysis" / "report.html").read_text()
    assert "FRR" in page and "accuracy" in page and "AUC" in page and "images.png" in page


def test_the_table_of_images_says_who_was_taken_in(study, key, tmp_path):
    answers_file(tmp_path / "a.json", key, truthful(key, 4), "AB")
    answers_file(tmp_path / "b.json", key, [2] * 16, "CD")
    analyse(study, [tmp_path / "a.json", tmp_path / "b.json"], tmp_path)
    with open(tmp_path / "analysis" / "images.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == [image["id"] for image in key["images"]]
    assert [row["source"] for row in rows] == [image["source"] for image in key["images"]]
    for row in rows:
        expected = ("2", "3.0") if row["truth"] == "real" else ("1", "-1.0")
        assert (row["judged_real"], row["mean_rating"]) == expected


def test_without_the_page_beside_the_key_there_are_no_images(study, key, tmp_path):
    (tmp_path / "key.json").write_bytes((study / "key.json").read_bytes())
    analyse(tmp_path, answers_file(tmp_path / "a.json", key, truthful(key)), tmp_path)
    assert not (tmp_path / "analysis" / "images.png").exists()
    assert "images.png" not in (tmp_path / "analysis" / "report.html").read_text()


def test_an_analysis_twice_gives_the_same_figures(study, key, tmp_path):
    rng = np.random.default_rng(0)
    for reader in ("AB", "CD"):
        ratings = [int(one) for one in rng.choice([-4, -2, 1, 3], 16)]
        answers_file(tmp_path / "answers" / f"{reader}.json", key, ratings, reader)
    first = analyse(study, tmp_path / "answers", tmp_path / "1")
    assert analyse(study, str(tmp_path / "answers" / "*.json"), tmp_path / "2") == first
    assert analyse(study, tmp_path / "answers", tmp_path / "3", seed=1) != first


def test_incomplete_answers_are_refused_or_analysed_as_asked(study, key, tmp_path):
    ratings = [None, None, None, *truthful(key)[3:]]
    file = answers_file(tmp_path / "a.json", key, ratings)
    assert "3 of 16 answers are missing" in refusal(study, file, tmp_path)
    found = analyse(study, file, tmp_path, allow_incomplete=True)
    assert found["readers"] == [{"reader": "AB", "years_of_experience": 7, "answers": 13}]
    assert value(found, "AB", "accuracy") == 1
    assert "AB left 3 of 16 images" in (tmp_path / "analysis" / "report.html").read_text()


def test_a_reader_who_saw_one_kind_only_has_no_auc(study, key, tmp_path):
    ratings = [3 if image["truth"] == "real" else None for image in key["images"]]
    found = analyse(study, answers_file(tmp_path / "a.json", key, ratings), tmp_path, allow_incomplete=True)
    assert value(found, "AB", "auc") is None and value(found, "AB", "frr") is None
    assert value(found, "AB", "trr") == 1


def test_an_answer_without_confidence_is_missing(study, key, tmp_path):
    file = answers_file(tmp_path / "a.json", key, truthful(key))
    data = json.loads(file.read_text())
    data["content"]["answers"][0]["confidence"] = None
    data["checksum"] = checksum(data["content"])
    file.write_text(json.dumps(data))
    assert "1 of 16 answers are missing" in refusal(study, file, tmp_path)


def test_edited_answers_are_refused(study, key, tmp_path):
    file = answers_file(tmp_path / "a.json", key, truthful(key))
    file.write_text(file.read_text().replace('"confidence": 3', '"confidence": 5', 1))
    assert "was edited" in refusal(study, file, tmp_path)


def test_a_file_that_was_only_laid_out_anew_is_taken(study, key, tmp_path):
    file = answers_file(tmp_path / "a.json", key, truthful(key), reader="Jos\u00e9 \u00c5")
    file.write_text("\ufeff" + json.dumps(json.loads(file.read_text()), indent=4, sort_keys=True, ensure_ascii=False))
    assert analyse(study, file, tmp_path)["readers"][0]["reader"] == "Jos\u00e9 \u00c5"


def test_answers_of_another_study_are_refused(study, tmp_path):
    other = write_study(tmp_path / "other", number=8, seed=1)
    file = answers_file(tmp_path / "a.json", other, truthful(other))
    message = refusal(study, file, tmp_path)
    assert other["study"] in message and "a.json" in message


@pytest.mark.parametrize("second", ["AB", "ab", " AB "])
def test_a_reader_counts_once(study, key, tmp_path, second):
    files = [
        answers_file(tmp_path / f"{place}.json", key, truthful(key), reader)
        for place, reader in enumerate(("AB", second))
    ]
    assert "is there 2 times" in refusal(study, files, tmp_path)


@pytest.mark.parametrize("content", ["", "{", "[1, 2]", "\x00\xff", '{"content": 3}', '{"content": {"format": 9}}'])
def test_what_is_no_answers_file_is_refused(study, tmp_path, content):
    (tmp_path / "a.json").write_text(content, encoding="latin-1")
    assert "a.json" in refusal(study, tmp_path / "a.json", tmp_path)


def test_answers_that_the_page_cannot_give_are_refused(study, key, tmp_path):
    for change in ({"id": "0" * 12}, {"confidence": 6}, {"judgement": "perhaps"}, {"milliseconds": "long"}):
        file = answers_file(tmp_path / "a.json", key, truthful(key))
        data = json.loads(file.read_text())
        data["content"]["answers"][0].update(change)
        data["checksum"] = checksum(data["content"])
        file.write_text(json.dumps(data))
        assert "cannot give" in refusal(study, file, tmp_path)


def test_all_problems_are_told_at_once(study, key, tmp_path):
    (tmp_path / "answers").mkdir()
    (tmp_path / "answers" / "x.json").write_text("{")
    answers_file(tmp_path / "answers" / "y.json", key, [None, *truthful(key)[1:]])
    message = refusal(study, tmp_path / "answers", tmp_path)
    assert "x.json" in message and "y.json" in message


def test_missing_files_are_named(study, key, tmp_path):
    with pytest.raises(SettingError, match="--key"):
        TuringAnalysis(tmp_path, None, tmp_path / "analysis").run()
    with pytest.raises(InputError, match=r"no key .*key\.json"):
        TuringAnalysis(tmp_path, tmp_path / "key.json", tmp_path / "analysis").run()
    assert "no answers at" in refusal(study, tmp_path / "nowhere" / "*.json", tmp_path)
    file = answers_file(tmp_path / "a.json", key, truthful(key))
    with pytest.raises(InputError, match="is no key"):
        TuringAnalysis(file, file, tmp_path / "analysis").run()
    assert "no answers file" in refusal(study, study / "key.json", tmp_path)


def test_the_study_is_not_overwritten_by_its_analysis(study, key, tmp_path):
    before = {path.name: path.read_bytes() for path in study.iterdir()}
    with pytest.raises(OutputError, match="another output_dir"):
        TuringAnalysis(answers_file(tmp_path / "a.json", key, truthful(key)), study, study).run()
    assert {path.name: path.read_bytes() for path in study.iterdir()} == before


def test_the_class_is_analysed_where_it_was_asked(tmp_path):
    key = write_study(tmp_path, number=8, ask_malignancy=True)
    found = analyse(tmp_path, answers_file(tmp_path / "a.json", key, truthful(key)), tmp_path)
    assert value(found, "AB", "malignancy_real") == value(found, "AB", "malignancy_generated") == 0.5
    assert value(found, "AB", "malignancy_real", "benign") == 1
