"""What several tests share: one thread each, and data sets built from three scenes of the synthetic archive."""

import hashlib
import json

import pytest
import torch

torch.set_num_threads(1)  # on a busy machine two threads wait for each other far longer than they compute


@pytest.fixture(scope="session")
def describe():
    """A function (root, **changes): dataset.json, if there or not, tells of the indexes as they are, and of changes."""

    def describe_it(root, **changes):
        path = root / "dataset.json"
        indexes = {index.parent.name: hashlib.sha256(index.read_bytes()) for index in root.glob("*/index.csv")}
        info = json.loads(path.read_text()) if path.is_file() else {}
        info |= {"indexes": {name: digest.hexdigest() for name, digest in indexes.items()}} | changes
        path.write_text(json.dumps(info))
        return info

    return describe_it


@pytest.fixture(scope="session")
def build_synthetic(tmp_path_factory):
    """A function (patch_size, stride) → dataset_root, over three synthetic scenes: one for each split.

    Of those of validation and test a strip is used, so that runs are measured quickly.
    """
    from s2olib.data import archive, build, embedded

    folder = tmp_path_factory.mktemp("synthetic")
    chosen = embedded.scenes()[:3]
    for scene in chosen:
        embedded.write_scene(scene, folder / "sen12ms")
    for tile in sorted({tile for scene in chosen for tile in scene.tiles}):
        embedded.write_tile(*tile, folder / "hrlulc")
    train, validation, test = (scene.id for scene in archive.scan(folder / "sen12ms"))

    def build_it(patch_size, stride):
        root, split_file = folder / f"dataset-{patch_size}", folder / f"split-{patch_size}.csv"
        strip = [f"{row:04d}_{column:04d}" for row in range(0, 192, patch_size) for column in range(0, 512, patch_size)]
        lines = [f"{validation}_{at},validation\n{test}_{at},test" for at in strip]
        split_file.write_text("\n".join(["id,split", f"{train},train", *lines]))
        build.build(
            root,
            source="sen12ms",
            archive_root=folder / "sen12ms",
            lulc_root=folder / "hrlulc",
            legend="hrlulc-v21.11",
            patch_size=patch_size,
            stride=stride,
            split_file=split_file,
        )
        return root

    return build_it


@pytest.fixture(scope="session")
def dataset(build_synthetic):
    """Patches of 64 pixels."""
    return build_synthetic(64, 64)
