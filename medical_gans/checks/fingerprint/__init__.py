"""What weights know: a fingerprint of their training images, and plain words about an input that differs."""

from medical_gans.checks.fingerprint.comparison import Fingerprint

__all__ = ["Fingerprint"]
