"""Anomaly detection by generators of normal anatomy: AnoGAN and f-AnoGAN (Schlegl et al. 2017, 2019)."""

from medical_gans.anomaly.calibration import Calibration
from medical_gans.anomaly.detector import AnomalyDetector
from medical_gans.anomaly.encoder_step import EncoderStep
from medical_gans.anomaly.lung_patches import AnomalySplit, LungPatches, NormalViews, read_patches, split_patches
from medical_gans.anomaly.networks import PatchCritic, PatchEncoder
from medical_gans.anomaly.scores import SCORES, anomaly_scores
from medical_gans.anomaly.scoring import AnomalyScoring
from medical_gans.anomaly.search import LatentSearch
from medical_gans.anomaly.trained import TrainedDetector, load_detector
from medical_gans.anomaly.training import PhasedTraining

__all__ = [
    "SCORES",
    "AnomalyDetector",
    "AnomalyScoring",
    "AnomalySplit",
    "Calibration",
    "EncoderStep",
    "LatentSearch",
    "LungPatches",
    "NormalViews",
    "PatchCritic",
    "PatchEncoder",
    "PhasedTraining",
    "TrainedDetector",
    "anomaly_scores",
    "load_detector",
    "read_patches",
    "split_patches",
]
