"""Is this input, or this output, usual? Fingerprints of the training data, quality lights, critic."""
