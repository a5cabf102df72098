"""Cases of several MR sequences, and the volume in which a network sees one."""

from medical_gans.io.sequences.cases import SequenceCase, check_apart, find_sequence_cases
from medical_gans.io.sequences.volume import SequenceVolume, read_sequence_case

__all__ = ["SequenceCase", "SequenceVolume", "check_apart", "find_sequence_cases", "read_sequence_case"]
