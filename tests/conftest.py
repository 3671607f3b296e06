"""What several tests share: one thread each, and data sets built from three scenes of the synthetic archive."""

import pytest
import torch

torch.set_num_threads(1)  # on a busy machine two threads wait for each other far longer than they compute


@pytest.fixture(scope="session")
def build_synthetic(tmp_path_factory):
    """A function (patch_size, stride) → dataset_root, over three synthetic scenes: one for each split."""
    from s2olib.data import archive, build, embedded

    folder = tmp_path_factory.mktemp("synthetic")
    chosen = embedded.scenes()[:3]
    for scene in chosen:
        embedded.write_scene(scene, folder / "sen12ms")
    for tile in sorted({tile for scene in chosen for tile in scene.tiles}):
        embedded.write_tile(*tile, folder / "hrlulc")
    splits = zip((scene.id for scene in archive.scan(folder / "sen12ms")), ("train", "validation", "test"), strict=True)

    def build_it(patch_size, stride):
        root = folder / f"dataset-{patch_size}"
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

    split_file = folder / "split.csv"
    split_file.write_text("id,split\n" + "".join(f"{scene},{split}\n" for scene, split in splits))
    return build_it


@pytest.fixture(scope="session")
def dataset(build_synthetic):
    """Patches of 64 pixels."""
    return build_synthetic(64, 64)
