"""From a picture to styles: the image of a generator that is nearest to what is known."""
