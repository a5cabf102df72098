"""A nodule of a patch becomes a body in space, and part of a CT volume."""

from medical_gans.studies.placement.body import NoduleBody, nodule_body, segment_nodule
from medical_gans.studies.placement.placing import place_nodule

__all__ = ["NoduleBody", "nodule_body", "place_nodule", "segment_nodule"]
