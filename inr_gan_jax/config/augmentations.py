"""The names of augmentations: which operations each published pipeline applies, in their order.

Karras et al. 2020, "Training generative adversarial networks with limited data", appendix B.
"""

# Letters of a pipeline -> operations, in the order in which they are applied.
GROUPS = {
    "b": ("xflip", "rotate90", "xint"),
    "g": ("scale", "rotate", "aniso", "rotate_after", "xfrac"),
    "c": ("brightness", "contrast", "lumaflip", "hue", "saturation"),
    "f": ("imgfilter",),
    "n": ("noise",),
    "u": ("cutout",),
}
_LETTERS = {
    "blit": "b",
    "geom": "g",
    "color": "c",
    "filter": "f",
    "noise": "n",
    "cutout": "u",
    "bg": "bg",
    "bgc": "bgc",
    "bgcf": "bgcf",
    "bgcfn": "bgcfn",
    "bgcfnc": "bgcfnu",
}
# The published pipelines -> operations.
PIPELINES: dict[str, tuple[str, ...]] = {
    name: sum((GROUPS[letter] for letter in letters), ()) for name, letters in _LETTERS.items()
}
PSEUDO = "apa"  # in their place: generated images are shown as real (Jiang et al. 2021)
