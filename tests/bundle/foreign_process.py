"""Run by the tests in a process that knows neither this repository nor an installed package: what a bundle can do.

    python foreign_process.py BUNDLE DATA OUTPUT

Writes OUTPUT/results.json: for each check null, or how it failed.
"""

import gzip
import importlib.util
import json
import shutil
import sys
import time
import traceback
import warnings
from pathlib import Path

sys.path[:] = [place for place in sys.path if not (Path(place) / "medical_gans").is_dir()]
sys.path.remove(str(Path(__file__).parent))
warnings.simplefilter("ignore")

import nibabel  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
from monai import bundle  # noqa: E402

BUNDLE, DATA, OUTPUT = (Path(word) for word in sys.argv[1:])
WORKFLOW = BUNDLE.name
NETWORK = {
    "net_id": "network_def",
    "meta_file": str(BUNDLE / "configs/metadata.json"),
    "config_file": str(BUNDLE / "configs/inference.json"),
}
SMOKE = {
    "mr_to_ct_synthesis": {
        "train": {"max_epochs": 1, "views_per_epoch": 2, "crop_size": [32, 32], "network_def#widths": [4] * 5},
        "inference": {},
    },
    "lung_nodule_generation": {
        "train": {
            "max_epochs": 1,
            "views_per_epoch": 16,
            "batch_size": 8,
            "size": 16,
            "width": 2,
            "discriminator_width": 2,
            "features": "$None",  # MONAI drops None
        },
        "inference": {"num_samples": 2},
    },
    "brain_lesion_segmentation": {
        "train": {"max_epochs": 1, "views_per_epoch": 4, "batch_size": 2, "patch_size": [16, 16, 16]},
        "inference": {},
    },
}


def the_repository_is_unknown():
    assert importlib.util.find_spec("medical_gans") is None


def monai_loads_the_network_with_its_weights():
    for stage in ("train", "inference"):
        network = bundle.load(BUNDLE.name, bundle_dir=str(BUNDLE.parent), workflow_type=stage)
        weights = torch.load(BUNDLE / "models/model.pt", weights_only=True)
        assert network.state_dict().keys() == weights.keys()
        assert all(torch.equal(tensor, weights[name]) for name, tensor in network.state_dict().items())
    ours = sys.modules.get("medical_gans")  # a network of MONAI needs nothing of ours
    assert ours is None or Path(ours.__file__).is_relative_to(BUNDLE)


def weights_that_the_configs_name_are_there():
    for stage in ("train", "evaluate", "inference"):
        parser = bundle.ConfigParser()
        parser.read_config(str(BUNDLE / f"configs/{stage}.json"))
        parser["bundle_root"] = str(BUNDLE)
        for site in ("head", "thigh") if "site" in parser else (None,):
            if site:
                parser["site"] = site
            for name in {"weights", "features"} & parser.get().keys():
                assert Path(parser.get_parsed_content(name)).is_file(), (stage, site, name)


def the_network_takes_and_gives_what_the_metadata_say():
    """As the model zoo asks, with its smallest size, and with a larger one."""
    bundle.verify_net_in_out(**NETWORK, device="cpu")
    bundle.verify_net_in_out(**NETWORK, device="cpu", n=3)


def the_torchscript_that_ships_equals_the_network():
    shipped = torch.jit.load(BUNDLE / "models/model.ts")
    assert difference(shipped) < 1e-5


def an_exported_torchscript_equals_the_network():
    file = OUTPUT / "exported.ts"
    bundle.ckpt_export(**NETWORK, filepath=str(file), ckpt_file=str(BUNDLE / "models/model.pt"))
    assert difference(torch.jit.load(file)) < 1e-5


def the_export_works_with_default_arguments():
    copy = OUTPUT / "copy"
    shutil.copytree(BUNDLE, copy)
    (copy / "models/model.ts").unlink()
    bundle.ckpt_export(config_file=str(copy / "configs/inference.json"), bundle_root=str(copy))
    assert difference(torch.jit.load(copy / "models/model.ts")) < 1e-5
    shutil.rmtree(copy)


def an_exported_onnx_network_equals_the_network():
    import onnxruntime
    import onnxscript  # noqa: F401  # that torch exports with

    file = OUTPUT / "exported.onnx"
    bundle.onnx_export(
        **NETWORK,
        filepath=str(file),
        ckpt_file=str(BUNDLE / "models/model.pt"),
        input_shape=list(example().shape),
    )
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    assert difference(lambda image: torch.from_numpy(session.run(None, {name: image.numpy()})[0])) < 1e-4


def inference_runs():
    run("inference", **({} if WORKFLOW == "lung_nodule_generation" else {"dataset_dir": str(DATA / "inference")}))
    assert (OUTPUT / "inference/report.html").is_file()


def odd_inputs_end_as_by_the_command():
    """The second volume of 4D files whose headers say that voxels begin inside them: named, then chosen by words."""
    if WORKFLOW == "lung_nodule_generation":
        return
    odd = OUTPUT / "odd"
    for file in (DATA / "inference").rglob("*.nii.gz"):
        place = odd / file.relative_to(DATA / "inference")
        place.parent.mkdir(parents=True, exist_ok=True)
        image = nibabel.load(file)
        values = np.asarray(image.dataobj)
        several = values[..., None] if "lesion" in file.name else np.stack([values[::-1], values], axis=-1)
        content = bytearray(nibabel.Nifti1Image(several, image.affine).to_bytes())
        content[108:112] = bytes(4)
        place.write_bytes(gzip.compress(bytes(content)))
    try:
        run("inference", "refused", dataset_dir=str(odd))
    except Exception as error:
        said = "".join(traceback.format_exception(error))
        assert 'such as --select "volume 1" (to "volume 2")' in said, said
        assert not list((OUTPUT / "refused").rglob("*.nii.gz"))
    else:
        raise AssertionError("4D files were read without a choice")
    run("inference", "chosen", dataset_dir=str(odd), select="volume 2")
    for name in ("synthetic_ct.nii.gz", "lesions.nii.gz"):
        made, expected = (sorted((OUTPUT / out).rglob(name)) for out in ("chosen", "inference"))
        assert len(made) == len(expected)
        for first, second in zip(made, expected, strict=True):
            first, second = nibabel.load(first), nibabel.load(second)
            assert np.array_equal(first.dataobj, second.dataobj) and np.allclose(first.affine, second.affine)


def training_runs():
    run("train", dataset_dir=str(next(DATA.glob("train*"))))
    assert (OUTPUT / "train/model.pt").is_file()


def run(stage, output=None, **settings):
    """As ``python -m monai.bundle run``, which would cost a process more."""
    config = str(BUNDLE / f"configs/{stage}.json")
    device = {"device": "cpu", "output_dir": str(OUTPUT / (output or stage))}
    bundle.run(config_file=config, **device, **SMOKE[WORKFLOW][stage], **settings)


def example():
    """Random input of the network, the same every time."""
    metadata = json.loads((BUNDLE / "configs/metadata.json").read_text())
    image = metadata["network_data_format"]["inputs"]["image"]
    edges = [16 for _ in image["spatial_shape"]]
    return torch.rand(2, image["num_channels"], *edges, generator=torch.Generator().manual_seed(0)) * 2 - 1


def difference(exported):
    """Largest difference of what an exported network and the one in the bundle make of the same input."""
    network = bundle.load(BUNDLE.name, bundle_dir=str(BUNDLE.parent), device="cpu").eval()
    with torch.inference_mode():
        expected = network(example())
    assert float(expected.std()) > 0
    return float(np.abs(exported(example()).detach().numpy() - expected.numpy()).max())


CHECKS = [
    the_repository_is_unknown,
    monai_loads_the_network_with_its_weights,
    weights_that_the_configs_name_are_there,
    the_network_takes_and_gives_what_the_metadata_say,
    the_torchscript_that_ships_equals_the_network,
    an_exported_torchscript_equals_the_network,
    the_export_works_with_default_arguments,
    an_exported_onnx_network_equals_the_network,
    inference_runs,
    odd_inputs_end_as_by_the_command,
    training_runs,
]


def main():
    results = {}
    for check in CHECKS:
        before = time.process_time()
        try:
            check()
            results[check.__name__] = None
        except ModuleNotFoundError as missing:
            results[check.__name__] = f"skip: {missing}" if "onnx" in str(missing.name) else traceback.format_exc()
        except BaseException:
            results[check.__name__] = traceback.format_exc()
        print(f"{check.__name__}: {time.process_time() - before:.1f} s", flush=True)
    (OUTPUT / "results.json").write_text(json.dumps(results))


main()
