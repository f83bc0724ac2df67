"""Suites: modules whose `rows()` give `what` was measured, a `ratio` within one run, `detail`."""

SUITES = ("inference", "train", "input", "render", "start", "growth", "augment", "metrics")
# Run where they are asked for: of a part, or in need of what few machines have.
NAMED = ("convolution", "traffic", "quality", "scales", "view")
