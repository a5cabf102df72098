"""The module for 3D Slicer, without Slicer: its client, and its logic against a running MONAI Label server."""

import ast
import http.server
import importlib
import importlib.util
import json
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from monai_label import slicer_stand_in
from monai_label.label_server import bundle_runs, copy_app, running_server, stored, write_studies

from medical_gans.cli.config_files import configs_dir

MODULE = Path(__file__).resolve().parents[2] / "bundle" / "slicer" / "SyntheticCT"


@pytest.fixture(scope="module")
def scene():
    """What Slicer holds and shows; the module can be imported while this lasts."""
    before = {name: sys.modules.get(name) for name in ("slicer", "slicer.ScriptedLoadableModule")}
    scene = slicer_stand_in.install()
    sys.path.insert(0, str(MODULE))
    yield scene
    for name, module in before.items():
        sys.modules.pop(name)
        if module is not None:
            sys.modules[name] = module
    sys.path[:] = [place for place in sys.path if place != str(MODULE)]


@pytest.fixture(scope="module")
def module(scene):
    return importlib.import_module("SyntheticCT")


@contextmanager
def answering(status, content_type, body):
    """A server that answers everything alike; gives its address and what it was asked."""
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            length = int(self.headers.get("Content-Length") or 0)
            asked.append((self.path, self.headers.get("Content-Type"), self.rfile.read(length)))
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST

        def log_message(self, *given):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", asked
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("path", sorted(MODULE.glob("*.py")), ids=lambda path: path.name)
def test_the_module_is_python_of_slicer_5(path):
    ast.parse(path.read_text(), feature_version=(3, 9))


def test_an_answer_of_two_parts_is_taken_apart_to_the_byte(module, tmp_path):
    image = bytes(range(256)) * 9 + b"\r\n--x\r\n\r\n--"
    body = b'--b1\r\nContent-Disposition: form-data; name="params"\r\nContent-Type: application/json\r\n\r\n'
    body += b'{"warnings": ["A sentence."]}\r\n--b1\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n'
    body += b"Content-Type: application/gzip\r\n\r\n" + image + b"\r\n--b1--\r\n"
    (tmp_path / "Zappelphilipp.nii.gz").write_bytes(b"\x1f\x8b an MR \r\n")
    with answering(200, "multipart/form-data; boundary=b1", body) as (address, asked):
        target = tmp_path / "ct.nii.gz"
        said = module.client.synthetic_ct(f"{address}/", tmp_path / "Zappelphilipp.nii.gz", target, site="thigh")
    assert target.read_bytes() == image and said == {"warnings": ["A sentence."]}
    ((path, _, sent),) = asked
    assert path == "/infer/mr_to_ct?output=all" and b"\x1f\x8b an MR \r\n" in sent
    assert json.dumps({"site": "thigh", "result_extension": ".nii.gz"}).encode() in sent
    assert b"Zappel" not in sent and b'filename="mr.nii.gz"' in sent


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (422, b'{"detail": "The MR is constant."}', "The MR is constant."),
        (500, b"<html>", r"The server refuses \(HTTP 500"),
        (200, b'{"warnings": []}', "sent no image"),
    ],
)
def test_a_refusal_is_a_sentence_and_nothing_is_written(module, tmp_path, status, body, said):
    (tmp_path / "mr.nii.gz").write_bytes(b"an MR")
    refused = pytest.raises(module.client.ServerError, match=said)
    with answering(status, "application/json", body) as (address, _), refused:
        module.client.synthetic_ct(address, tmp_path / "mr.nii.gz", tmp_path / "ct.nii.gz")
    assert [path.name for path in tmp_path.iterdir()] == ["mr.nii.gz"]


def test_a_server_that_is_not_there_or_another_one_is_told(module):
    with pytest.raises(module.client.ServerError, match=r"No MONAI Label server answers at http://127\.0\.0\.1:9/"):
        module.client.sites("http://127.0.0.1:9")
    with pytest.raises(module.client.ServerError, match="is no address of a server"):
        module.client.sites("127.0.0.1:8000")
    refused = pytest.raises(module.client.ServerError, match="does not offer mr_to_ct")
    with answering(200, "application/json", b'{"models": {"other": {}}}') as (address, _), refused:
        module.client.sites(address)


def test_an_mr_that_cannot_be_sent_as_it_stands_is_told(module, tmp_path):
    studies = write_studies(tmp_path / "studies")
    with pytest.raises(module.client.ServerError, match="Choose the MR"):
        module.SyntheticCTLogic().translate(None)
    moved = slicer_stand_in.VolumeNode("MR", studies / "mr.nii.gz", transform=object())
    with pytest.raises(module.client.ServerError, match="stands under a transform"):
        module.SyntheticCTLogic().translate(moved)


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.skipif(importlib.util.find_spec("monailabel") is None, reason="python bundle/monai_label/install.py")
def test_the_loaded_mr_comes_back_as_the_synthetic_ct_of_the_bundle(module, scene, tmp_path):
    app, studies = copy_app(tmp_path / "app"), write_studies(tmp_path / "studies")
    mr = slicer_stand_in.VolumeNode("Head", studies / "mr.nii.gz")
    scene.nodes["Head"] = mr
    with running_server(app, studies, "--conf", "models", "mr_to_ct") as address:
        assert set(module.client.sites(address)) == {"head", "thigh"}
        node = module.translate("Head", address, site="thigh")
        broken = slicer_stand_in.VolumeNode("Head", studies / "mr.nii.gz")
        broken.file = studies / "broken.nii.gz"
        with pytest.raises(module.client.ServerError, match=r"truncated|damaged"):
            module.SyntheticCTLogic().translate(broken, address)
    settings = {"dataset_dir": str(studies / "mr.nii.gz"), "output_dir": str(tmp_path / "out"), "device": "cpu"}
    stage = str(configs_dir() / "mr_to_ct_inference.yaml")
    bundle_runs([(stage, {**settings, "site": "thigh", "write_dicom": False})], tmp_path / "bundle.log")
    (made,) = (tmp_path / "out").glob("*/synthetic_ct.nii.gz")
    expected, affine = stored(made)
    assert node.array.dtype == np.int16 and np.array_equal(node.array, expected)
    assert np.allclose(node.affine, affine, atol=1e-5) and np.allclose(node.affine, mr.affine, atol=1e-4)
    assert node.name == "Head synthetic CT" and node.window == (400, 40)
    assert scene.shown == {"background": mr, "foreground": node, "foregroundOpacity": 0.5}
