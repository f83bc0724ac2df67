"""From a picture to styles: the image of a generator that is nearest to what is known.

Targets, the search, and what it leaves behind; how images are rendered is render/'s business.
"""
