"""Build and drive the parts of a bundle as MONAI Label's stock app does: ``served_process.py BUNDLE IMAGE OUTPUT``."""

import sys
from pathlib import Path

sys.path[:] = [place for place in sys.path if not (Path(place) / "medical_gans").is_dir()]

import numpy as np  # noqa: E402
import torch  # noqa: E402
from monai.bundle import ConfigParser  # noqa: E402

bundle, image, output = sys.argv[1:]
parser = ConfigParser()
parser.read_config(f"{bundle}/configs/inference.json")
parser.config.update({"bundle_root": bundle, "device": "cpu"})
network = parser.get_parsed_content("network_def")
network.load_state_dict(torch.load(f"{bundle}/models/model.pt", weights_only=True), strict=False)
network.eval()
data = {"image": image, "image_path": image, "device": "cpu", "result_dtype": None}
for transform in parser.get_parsed_content("preprocessing").transforms:
    data = transform(data)
inferer = parser.get_parsed_content("inferer")
with torch.no_grad():
    data["pred"] = inferer(data["image"][None].to("cpu"), network)[0]
for transform in parser.get_parsed_content("postprocessing").transforms:
    data = transform(data)
assert data["image_path"] == image
assert tuple(data["pred"].shape[1:]) == tuple(data["image"].meta["spatial_shape"]), "Label would resize it"
np.savez(output, pred=np.asarray(data["pred"]), affine=data["image"].meta["original_affine"])
