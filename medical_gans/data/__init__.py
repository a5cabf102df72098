"""What a training step sees: views of slices, blocks, patches and lesions, as a function of (seed, epoch, index)."""
