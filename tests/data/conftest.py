"""Small data sets that the tests of this folder share."""

import io
import json
import zipfile

import pytest
from helpers.samples import picture


@pytest.fixture
def make_folder(tmp_path):
    """make(labels=...) -> a folder with 0.png, 1.png, b/2.png, b/3.png, c/4.png of RGB noise."""

    def make(labels=None, name="photos", size=(6, 6), channels=3):
        root = tmp_path / name
        for index, file in enumerate(["0.png", "1.png", "b/2.png", "b/3.png", "c/4.png"]):
            (root / file).parent.mkdir(parents=True, exist_ok=True)
            picture(index, *size, channels).save(root / file)
        if labels is not None:
            (root / "dataset.json").write_text(json.dumps({"labels": labels}))
        return root

    return make


@pytest.fixture
def to_zip(tmp_path):
    """to_zip(folder, "x.zip") -> a zip of all files of the folder."""

    def pack(folder, name="x.zip", compression=zipfile.ZIP_STORED):
        target = tmp_path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(target, "w", compression) as archive:
            for file in sorted(folder.rglob("*")):
                if file.is_file():
                    archive.write(file, file.relative_to(folder).as_posix())
        return target

    return pack


@pytest.fixture(scope="session")
def tfds_dir(tmp_path_factory):
    """A folder with real TFDS data sets: `tiny_shapes` is 10 images of 6x6 RGB in 3 classes,
    `plain_shapes` has no labels, `varied_shapes` no size."""
    import tensorflow_datasets as tfds

    class TinyShapes(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            features = {
                "image": tfds.features.Image(shape=(6, 6, 3)),
                "label": tfds.features.ClassLabel(num_classes=3),
            }
            return tfds.core.DatasetInfo(
                builder=self, features=tfds.features.FeaturesDict(features)
            )

        def _split_generators(self, manager):
            return {"train": self._generate_examples(10), "test": self._generate_examples(4)}

        def _generate_examples(self, count):
            for index in range(count):
                data = io.BytesIO()
                picture(index).save(data, "PNG")
                data.seek(0)
                yield index, {"image": data, "label": index % 2}

    class PlainShapes(TinyShapes):
        SHAPE = (6, 6, 3)

        def _info(self):
            features = {"image": tfds.features.Image(shape=self.SHAPE)}
            return tfds.core.DatasetInfo(
                builder=self, features=tfds.features.FeaturesDict(features)
            )

        def _generate_examples(self, count):
            for index, example in super()._generate_examples(count):
                yield index, {"image": example["image"]}

    class VariedShapes(PlainShapes):
        SHAPE = (None, None, 3)

    root = tmp_path_factory.mktemp("tfds")
    for builder in (TinyShapes, PlainShapes, VariedShapes):
        builder(data_dir=root, file_format="array_record").download_and_prepare()
    return str(root)
