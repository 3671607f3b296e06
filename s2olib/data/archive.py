"""SEN12MS (Schmitt et al., 2019): 256 x 256 patches of Sentinel-1 and Sentinel-2, put back together into scenes.

Layout: ``ROIs1158_spring/s2_124/ROIs1158_spring_s2_124_p100.tif`` and its partner under ``s1_124``; ``lc_124`` has the
labels that SEN12MS itself brings, MODIS land cover of 500 m. Patches of a scene overlap by half and are pixel-identical
there; they share a lattice whose origin is off the round 10 m of UTM. It is published as one tar archive per season and
kind, which `extract` reads as a stream: unpacked, some 450 GB by the patches' types and sizes.
"""

from __future__ import annotations

import gzip
import json
import os
import re
import tarfile
import time
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
from rasterio.io import MemoryFile
from rasterio.transform import Affine
from tqdm import tqdm

from s2olib.data.landcover import OWN_LAYER
from s2olib.data.rasters import (
    RGB,
    Box,
    Grid,
    Header,
    Scene,
    check_order,
    check_units,
    codes_on,
    header,
    headers,
    optical_bands,
    optical_no_data,
    read_bands,
    remove_offset,
    sar_bands,
    sar_no_data,
    sidecars,
    state_of,
)
from s2olib.project import InputError, resolve, writable, write_json, writing

Result = TypeVar("Result")
SIZE = 256
LONG = 0.1  # seconds for the headers of a scene
NAME = re.compile(r"(ROIs\d+_(spring|summer|fall|winter))_(s1|s2|lc)_(\d+)_p(\d+)\.tif")
OTHER_ARCHIVE = re.compile(r"\.(tar\.(xz|bz2|zst|lz4|Z|br)|tbz2?|txz|zip|7z|rar)$|\.tar\b.*\.gz$", re.I)
# What SEN12MS holds: bands and type. 12 bands are Level-2A, as re-downloads of the same patches have them; the last of
# four layers of bytes may count as transparency.
EXPECTED = {"s1": ((2,), ("float32",)), "s2": ((12, 13), ("uint16",)), "lc": ((3, 4), ("uint8", "uint16"))}
# When its images were taken, by the product's description.
DATES = {
    "winter": ("2016-12-01", "2017-02-28"),
    "spring": ("2017-03-01", "2017-05-30"),
    "summer": ("2017-06-01", "2017-08-31"),
    "fall": ("2017-09-01", "2017-11-30"),
}


class _Twice(Exception):
    """Two archives contradict each other."""


def partner(path: Path, kind: str) -> Path:
    """A patch's file of another kind: only that part of the folder's and of the file's name changes."""
    match = NAME.fullmatch(path.name)
    name = path.name[: match.start(3)] + kind + path.name[match.end(3) :]
    return path.parent.parent / f"{kind}_{match[4]}" / name


def extract(tar_root: str | Path, archive_root: str | Path, covers: Callable[[Grid], bool], key: str) -> dict[str, int]:
    """Unpack those patches from SEN12MS's tar archives whose footprint `covers` wants; count the others by scene.

    Each archive is read once, as a stream, and nothing else of it touches the disk but the corner of each whole scene,
    from which `scan` counts as if all of it were there. `key` names what `covers` stands for: an archive that was
    finished with the same key is not read again while its patches are there. Raises InputError, naming the archive,
    for one that is missing, broken, holds a patch that is no raster or another one than a second archive, and where
    `archive_root` cannot be written to.
    """
    found = sorted(path for path in Path(tar_root).glob("[!.]*"))
    tars = [path for path in found if re.search(r"\.(tar|tar\.gz|tgz)$", path.name, re.I)]
    for path in (path for path in found if path not in tars and OTHER_ARCHIVE.search(path.name)):
        raise InputError(f"'{path}' would be left out: have .tar, .tar.gz and .tgz in tar_root, or move it elsewhere")
    for path in tars:
        if not path.is_file():
            raise InputError(f"'{path}' is no file: remove the folder or dangling link, or rename it")
    if not tars:
        raise InputError(f"tar_root '{tar_root}' holds no archive such as ROIs1158_spring_s1.tar.gz")
    root, outside, states = Path(archive_root), set(), {}
    present = {path: {"size": path.stat().st_size, "time": path.stat().st_mtime_ns} for path in tars}
    for path in tars:  # what cannot be read is made again
        with suppress(OSError, ValueError, KeyError, TypeError):
            before = json.loads((root / f"{path.name}.json").read_bytes())
            states[path] = before | {name: before[name] for name in ("kept", "left", "corners")}
    for path in tars:
        state = present[path] | {"key": key}
        before = states.get(path, {})
        if not before or before | state != before or not all((root / name).is_file() for name in before["kept"]):
            if not os.access(path, os.R_OK):
                raise InputError(f"'{path}' may not be read: change its permissions")
            read = {tar: known for tar, known in states.items() if tar != path and known | present[tar] == known}
            others = {name: tar for tar, known in read.items() for name in known["kept"]}
            with writable("archive_root", root):
                states[path] = state | _extract(path, root, covers, others)
                write_json(root / f"{path.name}.json", states[path])
        outside.update((scene, patch) for scene, patches in states[path]["left"].items() for patch in patches)
    return dict(Counter(scene for scene, _ in outside))  # a patch counts once, though two archives may have it


def _extract(path: Path, archive_root: Path, covers: Callable[[Grid], bool], others: dict[str, Path]) -> dict:
    """Unpack one archive: the numbers of a scene's patches that are `left` out, the names of files `kept`, and the
    upper left `corners` of scenes in their CRS. `others` are files that other archives have given."""
    left, kept, corners, written = defaultdict(list), [], {}, []
    size = path.stat().st_size
    try:
        with (
            open(path, "rb") as stream,
            tqdm.wrapattr(stream, "read", total=size, desc=path.name) as counted,
            # tarfile's own reader of gzip checks no sum, and takes what it cannot read for the end
            gzip.GzipFile(fileobj=counted) if path.suffix.lower() != ".tar" else nullcontext(counted) as plain,
            tarfile.open(fileobj=plain, mode="r|") as tar,
        ):
            for member in tar:
                match = NAME.fullmatch(Path(member.name).name)
                if match is None or not member.isfile():
                    continue
                content = tar.extractfile(member).read()
                name = f"{match[1]}/{match[3]}_{match[4]}/{match[0]}"
                scene, target = f"{match[1]}_{match[4]}", archive_root / name
                with MemoryFile(content) as file:
                    grid = header(Path(file.name)).grid
                if grid.crs is None:
                    raise InputError(f"'{member.name}' has no coordinate reference system")
                west, _, _, north = grid.bounds
                corner = corners.get(scene, (west, north))
                corners[scene] = min(corner[0], west), max(corner[1], north)
                if not (target.is_file() and target.read_bytes() == content):
                    if not covers(grid):
                        if match[3] == "s2":
                            left[scene].append(int(match[5]))
                        continue
                    if name in others and target.is_file():
                        raise _Twice(
                            f"'{path}' and '{others[name]}' have different files '{match[0]}': keep one archive"
                        )
                    with writing(target) as aside:
                        aside.write_bytes(content)
                    written.append(target)
                kept.append(name)
            behind = tar.fileobj.read(2**20)  # the last file: zeros, of which `tar` has read some
            if not behind:
                raise tarfile.ReadError("it ends too early")
            while behind:
                if any(behind):  # a header that makes no sense ends an archive quietly
                    raise tarfile.ReadError("a part of it is no archive")
                behind = tar.fileobj.read(2**20)
    except _Twice as error:
        for target in written:  # of an archive that may not be the one to keep
            target.unlink(missing_ok=True)
        raise InputError(str(error)) from None
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile, ValueError) as error:  # an InputError is one
        raise InputError(f"'{path}' is broken: fetch it again ({error})") from error
    return {"left": left, "kept": kept, "corners": corners}


def scan(
    archive_root: str | Path,
    *,
    own_layer: bool = False,
    polarisations: Sequence[str] | None = None,
    colours: Sequence[str] = RGB,
    opt_offset: float = 0,
) -> list[Scene]:
    """Every scene of the four seasons, from file headers alone (`rasters.headers`); pixels are read when a scene is.

    With `own_layer` a scene has SEN12MS's own labels, in the legend "igbp". `opt_offset` is for files of processing
    baseline 04.00 and later. Raises InputError, naming the file, for a missing or empty archive, a name that does not
    fit its folder, a patch without its partner or twice there, a wrong number of bands, size or type, and grids that
    contradict each other.
    """
    root = resolve(archive_root)
    if not root.is_dir():
        raise InputError(
            f"archive_root '{archive_root}' is not a folder: give the folder that holds ROIs1158_spring and the others"
        )
    kinds = ("s1", "s2", "lc") if own_layer else ("s1", "s2")
    scenes = _patches(root, kinds)
    if not scenes:
        raise InputError(
            f"archive_root '{archive_root}' holds no patch like ROIs1158_spring/s2_124/ROIs1158_spring_s2_124_p100.tif"
        )
    options, corners = (kinds, polarisations, colours, opt_offset), _corners(root)
    calls = [partial(_scene, root, *place, scenes[place], corners, *options) for place in scenes]
    found: list[Scene] = []
    levels: dict[int, str] = {}
    for scene, level in tqdm(_called(calls), total=len(calls), desc="headers", unit="scene", leave=False):
        found.append(scene)
        levels |= level
        if len(levels) > 1:
            said = " and ".join(f"'{path}' has {count} bands" for count, path in levels.items())
            raise InputError(f"{said}: 13 are Level-1C and 12 Level-2A, whose reflectance is another; build each apart")
    return found


def _patches(root: Path, kinds: Sequence[str]) -> dict[tuple[str, str], np.ndarray]:
    """The numbers of each scene's patches, as text and in order, by season and scene; each file is where it belongs and
    has its partner."""
    folders: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for season in (entry for entry in _listed(str(root)) if entry.is_dir()):
        for folder in (entry for entry in _listed(season.path) if entry.is_dir()):
            kind, _, scene = folder.name.partition("_")
            folders.setdefault((season.name, scene), []).append((kind, folder.path))
    found, alone = {}, ""
    for (season, scene), of in sorted(folders.items(), key=lambda item: (item[0][0], len(item[0][1]), item[0][1])):
        there: dict[int, dict[str, str]] = {}  # by number, of each kind the number's text
        for kind, folder in sorted(of):
            names = sorted(entry.name for entry in _listed(folder) if entry.name.lower().endswith((".tif", ".tiff")))
            for path in (os.path.join(folder, name) for name in names):
                match = NAME.fullmatch(os.path.basename(path))
                if match is None or (match[1], match[3], match[4]) != (season, kind, scene):
                    raise InputError(
                        f"{path!r} does not fit its folder: SEN12MS names a patch "
                        "<season>_<s1|s2|lc>_<scene>_p<number>.tif"
                    )
                pair = there.setdefault(int(match[5]), {}) if kind in kinds else {}
                if kind in pair:
                    twin = match[0].replace(f"_p{match[5]}.", f"_p{pair[kind]}.")
                    raise InputError(f"'{path}' and '{twin}' are the same patch: keep one of them")
                pair[kind] = match[5]
        for pair in (pair for pair in there.values() if not alone):
            kind, number = next(iter(pair.items()))
            for other in (other for other in kinds if pair.get(other) != number):
                path = root / season / f"{kind}_{scene}" / f"{season}_{kind}_{scene}_p{number}.tif"
                alone = f"'{path}' has no partner '{partner(path, other)}': fetch it, or remove the patch"
        if there:
            found[season, scene] = np.array([next(iter(there[number].values())) for number in sorted(there)])
    if alone:  # perhaps of a file that is in another folder, which is said first
        raise InputError(alone)
    return found


def _called(calls: Sequence[Callable[[], Result]]) -> Iterator[Result]:
    """What each call gives, in order: by several threads after one that took long and mostly waited for the disk, since
    they would wait for each other otherwise."""
    for number, call in enumerate(calls, 1):
        begin, busy = time.perf_counter(), time.thread_time()
        result = call()
        taken, busy = time.perf_counter() - begin, time.thread_time() - busy
        yield result
        if taken > max(LONG, 2 * busy):
            pool = ThreadPoolExecutor()
            try:
                yield from pool.map(lambda call: call(), calls[number:])
            finally:
                pool.shutdown(cancel_futures=True)
            return


def _corners(root: Path) -> dict[str, list[tuple[float, float]]]:
    """The upper left corners of scenes of which `extract` has unpacked a part, one of each archive that has some."""
    found: dict[str, list[tuple[float, float]]] = {}
    for entry in _listed(str(root)):
        if re.search(r"\.(tar|tar\.gz|tgz)\.json$", entry.name, re.I):
            with suppress(OSError, ValueError, AttributeError):  # `extract` makes it again
                for scene, corner in json.loads(Path(entry.path).read_bytes()).get("corners", {}).items():
                    found.setdefault(scene, []).append(tuple(corner))
    return found


def _listed(folder: str) -> list[os.DirEntry]:
    """What lies in a folder, but for hidden names; a disk that does not say it must not make an archive smaller."""
    try:
        with os.scandir(folder) as entries:
            return [entry for entry in entries if not entry.name.startswith(".")]
    except OSError as error:
        raise InputError(
            f"{folder!r} cannot be listed ({error.strerror}): change its permissions, or leave it out"
        ) from error


def _check(pair: dict[str, str], heads: dict[str, Header]) -> None:
    for kind, path in pair.items():
        head, (counts, dtypes) = heads[path], EXPECTED[kind]
        if head.count not in counts:
            raise InputError(f"'{path}' has {head.count} bands, not {' or '.join(map(str, counts))}")
        if head.dtype not in dtypes:
            raise InputError(f"'{path}' is {head.dtype}, not {dtypes[0]}: an older loader may have cast it")
        if (head.grid.height, head.grid.width) != (SIZE, SIZE):
            raise InputError(f"'{path}' is {head.grid.height} x {head.grid.width} pixels, not {SIZE} x {SIZE}")
        if head.grid.crs is None:
            raise InputError(f"'{path}' has no coordinate reference system")
        if head.grid != heads[pair["s1"]].grid:
            raise InputError(f"'{pair['s1']}' and '{Path(path).name}' lie on different grids")


@dataclass(frozen=True)
class Patches:
    """The patches of a scene: their numbers as text, and of each which of the `heads` its files have and where its
    upper left pixel lies in the scene, all (N,).

    `heads` are headers by kind, polarisations and colours with their bands' places, of which a scene has few.
    """

    folder: str  # of the season
    scene: str
    numbers: np.ndarray
    heads: list[tuple[dict[str, Header], dict[str, int], tuple[int, ...]]]
    which: np.ndarray
    row: np.ndarray
    column: np.ndarray

    def path(self, kind: str, number: str) -> str:
        """Of a patch's file."""
        name = f"{os.path.basename(self.folder)}_{kind}_{self.scene}_p{number}.tif"
        return os.path.join(self.folder, f"{kind}_{self.scene}", name)


def _scene(
    root: Path, season: str, scene: str, numbers: np.ndarray, corners, kinds, polarisations, colours, opt_offset
) -> tuple[Scene, dict[int, str]]:
    """A scene, and a file of Sentinel-2 by the number of its bands."""
    patches = Patches(str(root / season), scene, numbers, [], *np.zeros((3, len(numbers)), np.int32))
    pairs = [{kind: patches.path(kind, number) for kind in kinds} for number in numbers]
    files, name = [path for pair in pairs for path in pair.values()], f"{season}_{scene}"
    beside = sidecars(files)
    heads = headers(files, beside, root / "headers" / f"{name}.json")
    levels: dict[int, str] = {}
    for pair in pairs:
        _check(pair, heads)
        levels.setdefault(heads[pair["s2"]].count, pair["s2"])
    first = heads[pairs[0]["s2"]].grid
    inverse, places = ~first.transform, []
    for pair in pairs:
        grid = heads[pair["s2"]].grid
        column, row = inverse @ (grid.transform.c, grid.transform.f)
        off = max(abs(column - round(column)), abs(row - round(row)))
        if grid.crs != first.crs or (grid.transform.a, grid.transform.e) != (first.transform.a, first.transform.e):
            off = 1
        if off > 0.01:
            raise InputError(
                f"'{pair['s2']}' is off the lattice of its scene's first patch '{Path(pairs[0]['s2']).name}'"
            )
        places.append((round(row), round(column)))
    # also where no patch of its first row or column is there
    whole = [inverse @ corner for corner in corners.get(name, [])]
    top, left = np.min([*places, *((round(row), round(column)) for column, row in whole)], 0).tolist()
    height, width = (np.max(places, 0) - (top, left) + SIZE).tolist()
    grid = Grid(first.crs, first.transform @ Affine.translation(left, top), height, width)
    known: dict[tuple, int] = {}
    for i, (pair, place) in enumerate(zip(pairs, places, strict=True)):
        own = {kind: heads[path] for kind, path in pair.items()}
        alike = tuple((head.count, head.names, head.dtype, head.start) for head in own.values())
        if alike not in known:  # one for many, so that little is kept and sent to a worker
            known[alike] = len(known)
            sar = sar_bands(Path(pair["s1"]), own["s1"], polarisations)
            patches.heads.append((own, sar, optical_bands(Path(pair["s2"]), own["s2"], colours)))
        patches.which[i], patches.row[i], patches.column[i] = known[alike], place[0] - top, place[1] - left
    read, bands = partial(_read, patches, grid, opt_offset), tuple(patches.heads[patches.which[-1]][1])
    about = {"season": season.split("_")[1], "opt_offset": opt_offset, "synthetic": heads[files[0]].synthetic}
    return Scene(name, grid, state_of(files, beside), read, bands, name, **about), levels


def _read(patches: Patches, grid: Grid, opt_offset: float, boxes: Sequence[Box] | None = None):
    """The scene's mosaic. Every second patch of every second row has nearly all of it, and so is read first; of the
    others those that add something, and every sixteenth to see that the archive is of one piece."""
    top, left, bottom, right = np.reshape(boxes or [(0, 0, grid.height, grid.width)], (-1, 4)).T
    first, last = top.min(), bottom.max()
    heads, *bands = patches.heads[patches.which[0]]
    count, shape = map(len, bands), (last - first, grid.width)
    sar, opt = (np.empty((channels, *shape), np.float32) for channels in count)
    laid, whole = (np.zeros(shape, bool) for _ in range(2))  # by any patch, in all bands
    codes = np.zeros(shape, np.uint8) if "lc" in heads else None
    rank = (patches.row % SIZE > 0).astype(int) + (patches.column % SIZE > 0)
    for number, i in enumerate(rank.argsort(kind="stable").tolist()):
        row, column = int(patches.row[i]), int(patches.column[i])
        if not ((top < row + SIZE) & (bottom > row) & (left < column + SIZE) & (right > column)).any():
            continue
        place = (..., slice(max(row - first, 0), row - first + SIZE), slice(column, column + SIZE))
        rows = (..., slice(max(first - row, 0), last - row), slice(None))  # of the patch
        if number % 16 and whole[place].all():
            continue
        heads, polarisations, colours = patches.heads[patches.which[i]]
        pair = {kind: Path(patches.path(kind, patches.numbers[i])) for kind in heads}
        part = sar_no_data(read_bands(pair["s1"], tuple(polarisations.values()), heads["s1"]), pair["s1"])
        check_units(part, "dB", pair["s1"])
        check_order(part, list(polarisations), pair["s1"])
        _lay(sar[place], laid[place], part[rows], pair["s1"])
        part = optical_no_data(read_bands(pair["s2"], colours, heads["s2"]), "reflectance x 10000")
        check_units(part, "reflectance x 10000", pair["s2"])
        part = remove_offset(part, opt_offset, pair["s2"])
        _lay(opt[place], laid[place], part[rows], pair["s2"])
        laid[place] = True
        whole[place] = np.isfinite(sar[place]).all(0) & np.isfinite(opt[place]).all(0)
        if codes is not None:
            codes[place] = codes_on(pair["lc"], grid.window(row, column, SIZE), OWN_LAYER)[rows]
    if not laid.all():
        for image in (sar, opt):
            image[:, ~laid] = np.nan
    return sar, opt, codes


def _lay(place: np.ndarray, laid: np.ndarray, patch: np.ndarray, path: Path) -> None:
    """Put a patch (C, H, W) in its place, but for what patches that were `laid` (H, W) before have there."""
    if laid.any():
        before = np.isfinite(place) & laid
        if (before & np.isfinite(patch) & (place != patch)).any():
            raise InputError(
                f"'{path}' differs from its neighbours where they overlap: the archive mixes versions of a scene"
            )
        if not before.all():
            np.copyto(place, patch, where=~before)
    else:
        place[...] = patch
