"""One adversarial method per paper, to be read beside it."""
