"""Names and layouts: where each of our arrays stands in the published state dictionaries."""

from collections.abc import Callable, Iterable, Mapping

import jax
import numpy as np

from inr_gan_jax.errors import UserError


def _generator_name(path: tuple[str, ...]) -> str:
    network, *rest = path
    if network == "mapping":
        return ".".join(["mapping", rest[0].replace("dense", "fc"), *rest[1:]])
    resolution, part, *leaf = rest[0].removeprefix("block"), *rest[1:]
    prefix = f"synthesis.b{resolution}"
    if part == "constant":
        return f"{prefix}.input.input"
    if part == "embedding":
        prefix += ".input.input.coord_fuser" if resolution == "4" else ".coord_fuser"
        names = {"random": "random_basis", "table": "const_embs"}
        return ".".join([prefix, names.get(leaf[0], leaf[0]), *leaf[1:]])
    if part == "rgb":
        part = "torgb"
    elif part.startswith("layer"):  # the first block has no layer before its "conv1"
        index = int(part.removeprefix("layer")) + (resolution == "4")
        part = f"conv{index}" if index < 2 else f"extra_convs.{index - 2}"
    elif int(part.removeprefix("conv")) > 1:
        part = f"extra_convs.{int(part.removeprefix('conv')) - 2}"
    leaf = ["noise_const" if name == "noise" else name for name in leaf]
    return ".".join([prefix, part, *leaf])


def _discriminator_name(path: tuple[str, ...]) -> str:
    part, *leaf = path
    if part == "mapping":
        return ".".join(["mapping", leaf[0].replace("dense", "fc"), *leaf[1:]])
    if part.startswith("block"):
        leaf = ["fromrgb" if name == "from_rgb" else name for name in leaf]
        return ".".join([f"b{part.removeprefix('block')}", *leaf])
    return ".".join(["b4", {"dense": "fc", "from_rgb": "fromrgb"}.get(part, part), *leaf])


def _paper_name(path: tuple[str, ...], resolutions: list[int]) -> str:
    network, part, *leaf = path
    if network == "mapping":
        index = part.removeprefix("dense")
        name = "main_branch_weight" if leaf[0] == "alpha" else f"transform.0.{leaf[0]}"
        return f"mapping_network.{index}.{name}"
    if not part.startswith("block"):
        return f"connector.{part}"
    block = f"inr.model.b_{resolutions.index(int(part.removeprefix('block')))}"
    layer, matrix = leaf[0].rsplit("_", 1)
    if layer == "connector":
        name = {"h": "lr_feat_embedder", "e": "hr_coord_embedder"}[matrix]
        return f"{block}.connector._inr_modules.0.{name}.weight"
    return f"{block}.transform._inr_modules.{2 * int(layer.removeprefix('layer'))}.weight"


def _ours(array: np.ndarray, path: tuple[str, ...], shape: tuple[int, ...]) -> np.ndarray:
    """One published array in our layout: OIHW -> HWIO, 1x1 -> matrix, CHW -> HWC constants."""
    if array.ndim == 4 and len(shape) == 4:
        array = array.transpose(2, 3, 1, 0)
    elif array.ndim == 4 and path[-1] == "table":
        array = array[0]
    elif array.ndim == 4:
        array = array[:, :, 0, 0]
        array = array.T if array.shape != shape or path[0] == "synthesis" else array
    elif path[-1] == "constant":
        array = array.transpose(1, 2, 0)
    return array


def _names(key_path, network: str, paper_resolutions) -> tuple[tuple[str, ...], str]:
    """A leaf's path in our nested dicts, and the published name of the same array."""
    path = tuple(str(key.key) for key in key_path)
    if network == "paper":
        return path, _paper_name(path, list(paper_resolutions))
    return path, (_generator_name if network == "generator" else _discriminator_name)(path)


def unused(arrays: Iterable[str], template: dict, *, network: str) -> list[str]:
    """The published names that no leaf of `template` stands for (see `from_published`)."""
    leaves = jax.tree_util.tree_leaves_with_path(template)
    used = {_names(key_path, network, ())[1] for key_path, _ in leaves}
    return [name for name in arrays if name not in used]


def from_published(
    arrays: Mapping[str, np.ndarray],
    template: dict,
    *,
    network: str,
    paper_resolutions=(),
    of: Callable[[np.ndarray], np.ndarray] = lambda array: array,
) -> dict:
    """Fills a nested dict shaped like `template` from a published state dictionary.

    Args:
      arrays: PyTorch names -> arrays (weights `[out, in, kh, kw]`, dense `[out, in]`).
      template: our parameters or buffers, arrays or shapes.
      network: `generator`, `discriminator` or `paper`.
      paper_resolutions: the resolutions of the blocks, for `paper`.
      of: what becomes of each array, one after the other.

    Raises UserError for an array that is missing or has another shape.
    """

    def fill(key_path, leaf):
        path, name = _names(key_path, network, paper_resolutions)
        if name not in arrays:
            raise UserError(f"the published network has no array {name} (for {'.'.join(path)})")
        if np.prod(arrays[name].shape) != np.prod(leaf.shape):  # before it is read
            raise UserError(f"{name} is {arrays[name].shape}, not {leaf.shape} in our layout")
        array = _ours(np.asarray(arrays[name]), path, leaf.shape)
        if array.shape != leaf.shape:
            raise UserError(f"{name} is {array.shape} in our layout, not {leaf.shape}")
        return of(array)

    return jax.tree_util.tree_map_with_path(fill, template)
