"""How good the images are: detectors, and what is computed from their features.

A generator is measured as the object that users hold (model.Model); training is not known here.
"""
