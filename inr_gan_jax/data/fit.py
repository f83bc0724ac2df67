"""What preparation does to each image: crop, resize, convert."""

import dataclasses

from PIL import Image

from inr_gan_jax.data import images
from inr_gan_jax.errors import UserError

CROPS = ("none", "center", "center-wide")


@dataclasses.dataclass(frozen=True)
class Fit:
    """What is done to each image: crop, resize to width x height, perhaps to other channels.

    `none` wants images of the target's aspect ratio. `center` cuts the largest centred window of
    that ratio. `center-wide` does so for a target wider than high, and adds black bars above and
    below: the result is width x width.
    """

    height: int
    width: int
    filter: str = "lanczos"
    crop: str = "none"
    channels: int | None = None

    def __post_init__(self):
        if min(self.height, self.width) < 1:
            raise UserError(f"cannot make {self.width}x{self.height} images: sizes start at 1")
        if self.crop == "center-wide" and self.width < self.height:
            raise UserError(
                f"--crop=center-wide needs a target wider than high, not "
                f"{self.width}x{self.height}: use --crop=center"
            )

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the result."""
        return (self.width if self.crop == "center-wide" else self.height), self.width

    def __call__(self, image: Image.Image, where: str) -> Image.Image:
        """Returns the image so fitted; UserError, naming it by `where`, if it cannot be."""
        image = converted(image, self.channels)
        width, height = image.size
        if self.crop == "none" and width * self.height != height * self.width:
            raise UserError(
                f"{where} is {width}x{height}, which is not the shape of "
                f"{self.width}x{self.height}: use --crop=center"
            )
        window = image.crop(self.window(width, height))
        image = window.resize((self.width, self.height), images.FILTERS[self.filter])
        if self.crop == "center-wide":
            black = {"L": 0, "RGB": (0, 0, 0), "RGBA": (0, 0, 0, 255)}[image.mode]
            square = Image.new(image.mode, (self.width, self.width), black)
            square.paste(image, (0, (self.width - self.height) // 2))
            image = square
        return image

    def window(self, width: int, height: int) -> tuple[int, int, int, int]:
        """The middle of an image, of the target's shape: left, top, right, bottom."""
        across = max(1, min(width, round(height * self.width / self.height)))
        down = max(1, min(height, round(width * self.height / self.width)))
        left, top = (width - across) // 2, (height - down) // 2
        return left, top, left + across, top + down


def converted(image: Image.Image, channels: int) -> Image.Image:
    """An image of so many channels."""
    mode = images.MODES[channels]
    if image.mode == mode:
        return image
    if mode != "RGBA" and image.has_transparency_data:
        # What is hidden under transparency is arbitrary: show the image on white.
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert(mode)
