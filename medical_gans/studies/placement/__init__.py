"""A nodule of a patch becomes a body in space, and part of a CT volume."""

from medical_gans.studies.placement.blending import place_nodule
from medical_gans.studies.placement.body import NoduleBody, nodule_body
from medical_gans.studies.placement.segmentation import segment_nodule

__all__ = ["NoduleBody", "nodule_body", "place_nodule", "segment_nodule"]
