"""Networks known at nodes: one continuous function, however it is evaluated."""

import dataclasses
import functools
import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st

from inr_gan_jax.config import base, parse
from inr_gan_jax.errors import UserError
from inr_gan_jax.models import inr, practice
from inr_gan_jax.models import nodes as nodes_module
from inr_gan_jax.models.families import inr_spec
from inr_gan_jax.models.fourier import Embedding, embed
from inr_gan_jax.models.networks import networks_of
from inr_gan_jax.models.parameters import weights
from inr_gan_jax.project import compare
from inr_gan_jax.render.image import ContinuousImage, open_image
from inr_gan_jax.render.inr_file import KEY

WIDTH, HEIGHT = 8, 16
both = pytest.mark.parametrize("nodes", nodes_module.READS)


def configured(family="inr_gan_any", table=3, nodes="bilinear", **waves):
    """Nodes of one level, or of two that are read by splines; `waves` as an embedding has them."""
    config = base(family, height=HEIGHT, width=WIDTH, channels=1, z_dim=8, w_dim=8,
                  channel_base=128, channel_max=8, rank=2, fine_from=16, nodes=nodes,
                  input_resolution=4 if nodes == "spline" else 8)  # fmt: skip
    model = config.model
    for embedding in (model.embedding_coarse, model.embedding_fine):
        embedding.update(log=32, **waves)
    model.embedding_coarse.table = model.embedding_fine.table = table
    model.embedding_fine.random = 4
    model.embedding_fine.finest = 64 if family == "inr_gan_any" else 0
    config.data.source = "digits"
    return config


@functools.cache
def image(nodes="bilinear", **waves) -> ContinuousImage:
    config = parse(configured(nodes=nodes, **waves))
    networks = networks_of(config.model, config.discriminator)
    generator = networks.generator(*networks.init_generator(jax.random.key(0)))
    ws = jax.random.normal(jax.random.key(1), (1, networks.num_styles, 8))
    return ContinuousImage(generator.inr_params(ws)[0])


def centres(width, height, window=(-1, -1, 1, 1)):
    left, bottom, right, top = window
    x = left + (right - left) * (np.arange(width) + 0.5) / width
    y = top - (top - bottom) * (np.arange(height) + 0.5) / height
    return np.stack(np.meshgrid(x, y), -1).reshape(-1, 2)


@both
def test_the_grid_is_a_render_is_points(nodes):
    """At the middles of pixels, each with its own footprint."""
    params = image(nodes).params
    native = inr.grid_one(params)
    assert native.std() > 0.1
    np.testing.assert_allclose(image(nodes).render(), native, atol=1e-5)
    at = jnp.asarray(centres(WIDTH, HEIGHT), jnp.float32)
    footprint = jnp.asarray([2 / WIDTH, 2 / HEIGHT])
    points = inr.points_one(params, at, footprint=footprint)
    np.testing.assert_allclose(points.reshape(native.shape), native, atol=1e-5)


@both
@settings(max_examples=3, derandomize=True)
@given(
    st.integers(1, 40),
    st.integers(1, 40),
    *(st.integers(-190, 150).map(lambda n: n / 100) for _ in range(2)),
    st.integers(1, 200).map(lambda n: n / 100),
)
def test_any_window_is_its_points(nodes, width, height, left, bottom, side):
    """Beyond the frame too, and in tiles."""
    window = (left, bottom, left + side, bottom + side)
    made = image(nodes).render(width, height, window=window)
    at = centres(width, height, window)
    footprint = jnp.asarray([side / width, side / height])
    points = inr.points_one(
        image(nodes).params, jnp.asarray(at, jnp.float32), footprint=footprint, reach=4.0
    )
    np.testing.assert_allclose(points.reshape(made.shape), made, atol=5e-5)
    if width == height:
        points = image(nodes).points(at, footprint=side / width)
        np.testing.assert_allclose(points.reshape(made.shape), made, atol=5e-5)
    for top, first, pixels in image(nodes).tiles(width, height, tile=17, window=window):
        h, w, _ = pixels.shape
        np.testing.assert_allclose(pixels, made[top : top + h, first : first + w], atol=5e-5)


@both
def test_of_its_formula(nodes):
    """Point by point: every node that it needs, beyond the ends too, and what it weighs by hand."""
    params, spec = image(nodes).params, image(nodes).params.spec
    made = weights(params)

    def weighs(away):  # B-splines are boxes as wide as a node's part, folded
        away = abs(away)
        if nodes == "bilinear":
            return max(0, 1 - away)
        return 0.75 - away**2 if away < 0.5 else max(0, 1.5 - away) ** 2 / 2

    def act(x):
        return np.where(x > 0, x, 0.2 * x) * 2**0.5

    def table_at(table, x, y):
        h, w = table.shape[1:]
        row, column = np.clip((y + 1) / 2, 0, 1) * (h - 1), np.clip((x + 1) / 2, 0, 1) * (w - 1)
        total = 0
        for i in range(h):
            for j in range(w):
                part = max(0, 1 - abs(row - i)) * max(0, 1 - abs(column - j))
                total = total + part * np.asarray(table[:, i, j], np.float64)
        return total

    def features(block, x, y, footprint):
        shared = params.shared[block.name]["embedding"]
        directions = block.embedding.log_directions(block.size)
        if "random" in shared:
            directions = np.concatenate([directions, shared["random"]])
        phases = directions @ [x, y]
        keeps = np.exp(-(directions**2) @ np.square(footprint) / 24)
        fixed = len(block.embedding.log_directions(block.size))
        lengths = np.linalg.norm(directions[:fixed], axis=1)
        keeps[:fixed] *= lengths.min() / lengths  # falloff 1
        waves = np.concatenate([np.sin(phases) * keeps, np.cos(phases) * keeps])
        return np.concatenate([waves, table_at(shared["table"], x, y)])

    @functools.cache
    def at(level, x, y):
        """(h, rgb) after all blocks of a level."""
        h = rgb = None
        if level:
            m = spec.levels[level - 1]
            h, rgb = 0, 0
            for i in range(-1, m[0] + 1):
                for j in range(-1, m[1] + 1):
                    node = 2 * j / (m[1] - 1) - 1, 2 * i / (m[0] - 1) - 1
                    part = weighs((y - node[1]) * (m[0] - 1) / 2)
                    part *= weighs((x - node[0]) * (m[1] - 1) / 2)
                    if part:
                        below = at(level - 1, *node)
                        h, rgb = h + part * below[0], rgb + part * below[1]
        last = level == len(spec.levels) - 1
        footprint = (2 / WIDTH, 2 / HEIGHT) if last else (0, 0)
        for block in (b for b in spec.blocks if b.size == spec.levels[level]):
            for number, layer in enumerate(block.layers):
                w = {k: np.asarray(v, np.float64) for k, v in made[block.name][layer.name].items()}
                value = w["bias"]
                if "h" in w:
                    value = value + w["h"] @ h
                if "e" in w and number == 0:
                    value = value + w["e"] @ features(block, x, y, footprint)
                h = act(value)
            w = made[block.name]["rgb"]
            emitted = np.asarray(w["h"], np.float64) @ h + w["bias"]
            rgb = emitted if rgb is None else rgb + emitted
        return h, rgb

    native = inr.grid_one(params)
    for row, column in ((0, 0), (3, 5), (15, 7), (9, 2)):
        x, y = (2 * column + 1) / WIDTH - 1, (2 * row + 1) / HEIGHT - 1
        found = at(len(spec.levels) - 1, x, y)[1]
        np.testing.assert_allclose(native[row, column], found, rtol=2e-4, atol=2e-5)


def test_it_has_no_seams():
    """Nothing jumps on the lines through nodes, nor anywhere else; cells of the old kind do."""
    x = np.linspace(-1, 1, 4001)
    steps = []
    for one in (image("spline"), image(), _of_cells()):
        values = np.asarray(one.points(np.stack([x, 0.3 * x], -1), superres_from=None))
        steps.append(np.abs(np.diff(values[:, 0])).max() / values.std())
    assert max(steps[:2]) < 0.05 < 0.3 < steps[2]


@both
def test_slopes_of_splines_do_not_jump(nodes):
    """Read bilinearly they do, on the lines through nodes; along both paths."""
    level = nodes_module.Nodes.reaching((8, 4), (1.0, 1.0), nodes == "spline")
    values = jnp.asarray(np.random.default_rng(0).standard_normal((1, np.prod(level.shape))))
    y = jnp.linspace(-1, 1, 3 * 7 * 200 + 1)  # nodes and the middles between them are among them
    x = jnp.full_like(y, 0.123)
    for read in (
        lambda y: level.read(values, x, y)[0],
        lambda y: level.read_sides(values, x[:1], y)[0],
    ):
        slope = jax.jvp(read, (y,), (jnp.ones_like(y),))[1]
        jump = np.abs(np.diff(slope)).max() / np.abs(slope).max()
        assert jump < 0.02 if nodes == "spline" else jump > 0.3


@functools.cache
def _of_cells() -> ContinuousImage:
    config = parse(configured("inr_gan"))
    networks = networks_of(config.model, config.discriminator)
    generator = networks.generator(*networks.init_generator(jax.random.key(0)))
    ws = jax.random.normal(jax.random.key(1), (1, networks.num_styles, 8))
    return ContinuousImage(generator.inr_params(ws)[0])


@both
def test_its_gradient_is_that_of_differences(nodes):
    """Off the lines through entries of the last level's table, and through nodes if bilinear."""
    rng = np.random.default_rng(0)
    at = rng.uniform(-0.9, 0.9, (40, 2)).astype(np.float32)
    for intervals in ((7, 15), (3, 7))[: 1 + (nodes == "bilinear")]:
        from_middle = np.abs((at + 1) / 2 * intervals % 1 - 0.5)
        at = at[(from_middle < 0.45).all(axis=1)]
    exact, step = image(nodes).gradient(at, footprint=0.1), 5e-4
    for axis in (0, 1):
        moved = np.eye(2, dtype=np.float32)[axis] * step
        here, ahead, behind = (
            image(nodes).points(at + m, footprint=0.1) for m in (0, moved, -moved)
        )
        sides = np.stack([(ahead - here), (here - behind)]) / step  # one may cross a ReLU's bend
        error = np.abs(sides - exact[..., axis]).min(axis=0)
        assert error.max() < 0.05 * np.abs(exact).max()
    corners = np.asarray([[-1, -1], [1, 1], [0, 0], [-1 + 2 / 3, 1]])
    assert np.isfinite(image(nodes).gradient(corners)).all()


@both
def test_a_level_costs_its_nodes(nodes):
    """At any size and window no level below the last takes more than its own nodes.

    For a small window so many as it spans, and two; of splines, everywhere, one more a side.
    """
    more = nodes == "spline"
    for width, height, window in (
        (4096, 64, (-1, -1, 1, 1)),
        (64, 4096, (-1, -1, 1, 1)),
        (256, 256, (-0.1, 0.2, 0.05, 0.3)),
        (5, 5, (0.5, 0.5, 0.500001, 0.500001)),
    ):
        view = image(nodes).view(width, height, window=window)
        spec = image(nodes).params.spec
        for axes, side in zip(image(nodes).axis_tiles(view, 256), (0, 1), strict=True):
            for axis in axes:
                for level, size in zip(axis.levels[:-1], spec.levels, strict=False):
                    assert len(level.coordinate) <= size[side] + 2 * more
                    if window[2] - window[0] < 0.2:
                        assert len(level.coordinate) <= 4 + more
    params = image(nodes).params  # and so it is for the grid and points
    for block in params.spec.blocks[:-1]:
        h, w = block.size
        place = inr.on_grid(params.spec)(block)
        assert place.x.shape == ((h + 2 * more) * (w + 2 * more),)


def test_waves_are_weakened_to_their_means():
    """Of a pixel's square, as far as a Gaussian of its variance is one; long waves stay."""
    embedding = Embedding(log=32, cosine=True, finest=64)
    rng = np.random.default_rng(1)
    centre, side = rng.uniform(-0.5, 0.5, 2), 0.05
    offsets = (np.arange(101) - 50) / 101 * side
    x, y = np.meshgrid(centre[0] + offsets, centre[1] + offsets)

    def waves(x, y, footprint=None):
        at = jnp.asarray(x), jnp.asarray(y)
        return embed(embedding, {}, {}, *at, (8, 8), None, None, footprint)

    mean = waves(x.ravel(), y.ravel()).mean(1)
    one = waves(centre[:1], centre[1:], jnp.asarray([side, side]))[:, 0]
    np.testing.assert_allclose(one, mean, atol=0.01)
    many = waves(centre[:1], centre[1:], jnp.asarray([2.0, 2.0]))[:, 0]
    lengths = 2 * np.pi / np.linalg.norm(embedding.log_directions((8, 8)), axis=1)
    assert np.abs(np.tile(lengths < 0.9, 2) * many).max() < 1e-6
    assert len(lengths) == 2 * math.log2(64)


def test_amplitudes_fall_off_with_frequency():
    """Of log directions alone; by half for twice the frequency, where it is 1."""
    at = jnp.asarray([0.3]), jnp.asarray([-0.2])
    shared = {"random": jnp.asarray([[3.0, 1.0]])}
    plain = Embedding(log=32, random=1, cosine=True)
    flat, falling = (
        embed(one, shared, {}, *at, (16, 16), None)[:, 0]
        for one in (plain, dataclasses.replace(plain, falloff=1.0))
    )
    octaves = np.array([1, 2, 4, 8, 1, 2, 4, 8, 1])  # the last is random: as it was
    np.testing.assert_allclose(falling * np.tile(octaves, 2), flat, rtol=1e-5)


def test_turned_directions_share_no_axis():
    """Of the same frequencies, at right angles within an octave, and spread over all angles."""
    plain = Embedding(log=32, finest=128)
    turned = dataclasses.replace(plain, turned=True).log_directions((16, 16))
    lengths = np.linalg.norm(turned, axis=1)
    np.testing.assert_allclose(lengths, np.linalg.norm(plain.log_directions((16, 16)), axis=1))
    first, second = np.split(turned, 2)
    np.testing.assert_allclose((first * second).sum(1), 0, atol=1e-9)
    angles = np.sort(np.arctan2(first[:, 1], first[:, 0]) % (np.pi / 2))
    gaps = np.diff(angles, append=angles[0] + np.pi / 2)
    assert gaps.min() > np.pi / 2 / len(first) / 3 and gaps.max() < 3 * np.pi / 2 / len(first)


def test_a_spiral_shares_no_frequency_and_no_axis():
    """As many as are asked for, from the same lowest to the same highest, over all axes."""
    plain = Embedding(log=32, finest=128)
    spiral = dataclasses.replace(plain, spiral=True).log_directions((16, 16))
    lengths = np.linalg.norm(spiral, axis=1)
    ends = np.linalg.norm(plain.log_directions((16, 16)), axis=1)
    assert len(spiral) == 32 and np.allclose(lengths[[0, -1]], [ends.min(), ends.max()])
    np.testing.assert_allclose(lengths[1:] / lengths[:-1], 64 ** (1 / 31))
    for some in (spiral, spiral[-8:]):  # of the finest alone too
        axes = np.sort(np.arctan2(some[:, 1], some[:, 0]) % np.pi)
        gaps = np.diff(axes, append=axes[0] + np.pi) * len(some) / np.pi
        assert gaps.min() > 1 / 3 and gaps.max() < 3
    with pytest.raises(ValueError, match="in place of turned and diagonal"):
        Embedding(log=8, spiral=True, turned=True)


def test_as_a_file_of_its_own(tmp_path):
    """Versions of what older releases do not know; without nodes 1, with no later keys."""
    made = {
        2: image("bilinear", turned=False),
        3: image("spline", turned=False),
        4: image("spline"),
        5: image("bilinear", turned=False, diagonal=False, spiral=True),
    }
    for version, one in made.items():
        one.save(tmp_path / "one.inr", overwrite=True)
        opened = open_image(tmp_path / "one.inr")
        np.testing.assert_array_equal(opened.render(20, 30), one.render(20, 30))
        with safetensors.safe_open(tmp_path / "one.inr", "np") as file:
            assert json.loads(file.metadata()[KEY])["version"] == version
    _of_cells().save(tmp_path / "old.inr")
    with safetensors.safe_open(tmp_path / "old.inr", "np") as file:
        header = json.loads(file.metadata()[KEY])
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    for block in header["spec"]["blocks"]:
        if block["embedding"]:
            for key in ("finest", "falloff", "turned", "spiral"):
                del block["embedding"][key]

    def write(version):
        metadata = {KEY: json.dumps(header | {"version": version})}
        safetensors.numpy.save_file(arrays, tmp_path / "old.inr", metadata)

    write(1)
    np.testing.assert_array_equal(open_image(tmp_path / "old.inr").render(), _of_cells().render())
    write(6)
    with pytest.raises(UserError, match="version 6 of the .inr format; .* reads 1, 2, 3, 4, 5"):
        open_image(tmp_path / "old.inr")


def test_what_it_cannot_be():
    config = configured()
    config.kernels = "pallas"
    with pytest.raises(UserError, match="kernels=pallas: there are none for inr_gan_any; use xla"):
        parse(config)
    config = configured()
    config.model.upsampling = "nearest"
    with pytest.raises(UserError, match="means config.model.upsampling='continuous'"):
        parse(config)
    for family, nodes, said in (
        ("inr_gan_any", "cubic", "'cubic' is not one of bilinear, spline"),
        ("inr_gan", "spline", "model.nodes=spline needs nodes"),
    ):
        with pytest.raises(UserError, match=said):
            parse(configured(family, nodes=nodes))
    with pytest.raises(ValueError, match="continuous everywhere"):
        image().render(superres_from=1)
    with pytest.raises(ValueError, match="no further than 4"):
        image().points([[17.0, 0.0]])
    with pytest.raises(ValueError, match="no footprint: leave it 0"):
        _of_cells().points([[0.0, 0.0]], footprint=0.1)
    with pytest.raises(ValueError, match="footprint must be 0 or more"):
        image().points([[0.0, 0.0]], footprint=-0.1)


def test_jitter_moves_the_last_level_within_its_pixels():
    params = image().params
    moved = [practice.levels_one(params, jitter_key=jax.random.key(i))[-1] for i in range(3)]
    for one in moved:
        assert np.abs(one - inr.grid_one(params)).mean() > 1e-4
    assert dataclasses.replace(params.spec).rgb_levels == ()


def test_finest_waves_are_the_last_level_s_and_tables_of_any_side():
    """Also where the last level is a coarse one; a table's own size decides how it is read."""
    draft = configured()
    draft.model.fine_from, draft.patches.largest = 128, 64
    spec = inr_spec(parse(draft).model)
    finest = {b.size: b.embedding.finest for b in spec.blocks if b.embedding}
    assert finest == {(8, 4): 0, (16, 8): 64}
    draft = configured()
    draft.model.embedding_coarse.table_side = draft.model.embedding_fine.table_side = 5
    config = parse(draft)
    networks = networks_of(config.model, config.discriminator)
    generator = networks.generator(*networks.init_generator(jax.random.key(0)))
    ws = jax.random.normal(jax.random.key(1), (1, networks.num_styles, 8))
    one = ContinuousImage(generator.inr_params(ws)[0])
    np.testing.assert_allclose(one.render(), inr.grid_one(one.params), atol=1e-5)


def test_a_photo_is_compared_as_it_is_rendered():
    """Project's distance to the image's own render of a window is nothing."""
    pixels = image().render(20, 40, window=(-0.5, -0.5, 0.5, 0.5))
    photo = compare.Photo(pixels, np.ones((40, 20), bool), (-0.5, -0.5, 0.5, 0.5))
    goal = compare.goal_of(photo, image().params.spec)
    assert goal.points is not None
    _, error, _ = compare.differences(image().params, goal, jax.random.key(0), 0.0)
    assert float(error) < 1e-9


def test_older_functions_take_points_anywhere():
    assert np.isfinite(_of_cells().points([[20.0, 0.0]])).all()
    at = jnp.zeros((3, 2))
    np.testing.assert_allclose(jax.jit(_of_cells().points)(at), _of_cells().points(at), rtol=1e-5)
