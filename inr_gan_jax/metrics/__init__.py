"""How good the images are: detectors, and what is computed from their features."""
