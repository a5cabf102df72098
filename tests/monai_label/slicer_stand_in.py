"""As much of 3D Slicer as the module's logic touches: volume nodes that are files, saved and loaded by nibabel."""

import shutil
import sys
import types
from pathlib import Path

import nibabel
import numpy as np


class VolumeNode:
    """A volume of the scene: voxels and affine."""

    def __init__(self, name: str, file: Path, transform: object = None) -> None:
        image = nibabel.load(file)
        self.name, self.file, self.transform, self.window = name, file, transform, None
        self.array, self.affine = np.asarray(image.dataobj), image.affine

    def GetName(self) -> str:
        return self.name

    def GetParentTransformNode(self) -> object:
        return self.transform

    def GetDisplayNode(self) -> "VolumeNode":
        return self

    def AutoWindowLevelOff(self) -> None:
        self.window = ()

    def SetWindowLevel(self, window: float, level: float) -> None:
        self.window = (window, level)


def install() -> types.SimpleNamespace:
    """Put a module `slicer` in the place of Slicer's; gives the scene: nodes by name, and what the viewers show."""
    scene = types.SimpleNamespace(nodes={}, shown={})

    def load(path: str, properties: dict) -> VolumeNode:
        node = VolumeNode(properties["name"], Path(path))
        scene.nodes[node.name] = node
        return node

    util = types.SimpleNamespace(
        saveNode=lambda node, path: bool(shutil.copyfile(node.file, path)),
        loadVolume=load,
        setSliceViewerLayers=lambda **layers: scene.shown.update(layers),
        getNode=lambda name: scene.nodes[name],
    )
    slicer = types.ModuleType("slicer")
    slicer.util = util
    loadable = types.ModuleType("slicer.ScriptedLoadableModule")
    for name in ("ScriptedLoadableModule", "ScriptedLoadableModuleLogic", "ScriptedLoadableModuleWidget"):
        setattr(loadable, name, type(name, (), {"__init__": lambda self, parent=None: None}))
    sys.modules["slicer"], sys.modules["slicer.ScriptedLoadableModule"] = slicer, loadable
    return scene
