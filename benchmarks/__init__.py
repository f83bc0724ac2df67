"""Suites: modules whose `rows()` give `what` was measured, a `ratio` within one run, `detail`."""

SUITES = ("inference", "train", "input", "render", "start", "growth", "augment", "metrics")
NAMED = ("traffic",)  # run where they are asked for: they need what few machines have
