"""A synthetic CT of the MR that is loaded, by a MONAI Label server: a scripted module for 3D Slicer 5."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import slicer
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleWidget,
)

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))  # where the client lies, also when run from a console

import synthetic_ct_client as client

ADDRESS = "http://127.0.0.1:8000"
_WINDOW, _LEVEL = 400, 40  # HU: soft tissue


class SyntheticCT(ScriptedLoadableModule):
    """What Slicer lists."""

    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        parent.title = "Synthetic CT"
        parent.categories = ["Radiotherapy"]
        parent.contributors = ["medical-gans"]
        parent.helpText = (
            "Sends an MR to a MONAI Label server with the app of medical-gans and loads the synthetic CT (HU) beside "
            "it. Research use only."
        )


class SyntheticCTWidget(ScriptedLoadableModuleWidget):
    """Address, MR, site, a button, and what the server has to say."""

    def setup(self):
        """Build the panel."""
        import qt

        ScriptedLoadableModuleWidget.setup(self)
        form = qt.QFormLayout()
        self.address = qt.QLineEdit(slicer.app.settings().value("SyntheticCT/address") or ADDRESS)
        self.mr = slicer.qMRMLNodeComboBox()
        self.mr.nodeTypes = ["vtkMRMLScalarVolumeNode"]
        self.mr.addEnabled = self.mr.removeEnabled = False
        self.mr.setMRMLScene(slicer.mrmlScene)
        self.site = qt.QComboBox()
        self.site.addItems(["head", "thigh"])
        self.flips = qt.QCheckBox("average with the mirror image (slower, smoother)")
        self.button = qt.QPushButton("Make synthetic CT")
        self.said = qt.QPlainTextEdit()
        self.said.readOnly = True
        for name, part in (("Server", self.address), ("MR", self.mr), ("Site", self.site), ("", self.flips)):
            form.addRow(name, part)
        form.addRow(self.button)
        form.addRow(self.said)
        self.layout.addLayout(form)
        self.layout.addStretch(1)
        self.button.connect("clicked(bool)", self.make)

    def make(self, _checked=False):
        """What the button does."""
        slicer.app.settings().setValue("SyntheticCT/address", self.address.text)
        self.said.setPlainText("The server works; a head takes about a minute.")
        slicer.app.processEvents()
        with slicer.util.tryWithErrorDisplay("No synthetic CT was made.", waitCursor=True):
            made = SyntheticCTLogic().translate(
                self.mr.currentNode(), self.address.text, site=self.site.currentText, flips=self.flips.checked
            )
            self.said.setPlainText("\n".join(made.warnings) or "The server has nothing to warn of.")


class Made:
    """A synthetic CT in the scene.

    Attributes:
        node: its volume node, in HU.
        warnings: of the server, as sentences.
    """

    def __init__(self, node, warnings):
        self.node, self.warnings = node, warnings


class SyntheticCTLogic(ScriptedLoadableModuleLogic):
    """From a volume node to a volume node; needs no panel."""

    def translate(self, mr, address=ADDRESS, **settings):
        """Send an MR and load its synthetic CT on the same grid, shown over it.

        Args:
            mr: volume node.
            address: of the server.
            settings: of ``mr_to_ct inference``: site, flips, strict.

        Raises:
            ServerError: the server is not there or refuses, or the MR stands under a transform.
        """
        if mr is None:
            raise client.ServerError("Choose the MR to translate.")
        if mr.GetParentTransformNode() is not None:
            raise client.ServerError("The MR stands under a transform. Harden the transform, or take the MR out of it.")
        with tempfile.TemporaryDirectory() as folder:
            sent, answer = Path(folder, "mr.nii.gz"), Path(folder, "synthetic_ct.nii.gz")
            if not slicer.util.saveNode(mr, str(sent)):
                raise client.ServerError("Slicer could not write the MR to a temporary file. Is the disk full?")
            said = client.synthetic_ct(address, sent, answer, **settings)
            node = slicer.util.loadVolume(str(answer), {"name": f"{mr.GetName()} synthetic CT", "singleFile": True})
        shown = node.GetDisplayNode()
        if shown is not None:
            shown.AutoWindowLevelOff()
            shown.SetWindowLevel(_WINDOW, _LEVEL)
        slicer.util.setSliceViewerLayers(background=mr, foreground=node, foregroundOpacity=0.5)
        return Made(node, [str(one) for one in said.get("warnings", [])])


def translate(name, address=ADDRESS, **settings):
    """For Slicer's Python console: the synthetic CT of the volume of that name; prints warnings, returns its node."""
    made = SyntheticCTLogic().translate(slicer.util.getNode(name), address, **settings)
    for sentence in made.warnings:
        print(sentence)
    return made.node
