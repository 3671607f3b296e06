"""What building a data set costs on this machine, beside the loop over patches that one would write first.

    python bench/build.py [--copies 8] [--workers 1 2] [--turns 3] [--record FILE.json]

The archive is `large_archive`'s. The loop opens each patch, warps land cover onto it, judges it and saves it. The build
does so for as many windows, scene by scene, reading the same bands, and more that the loop does not: it pairs files by
every header, checks units, the order of VV and VH and that neighbours agree, places land cover exactly, proves the
split and takes a hash of what it wrote. The pair of images is as large as a tile of Sentinel-2, compressed and on two
grids, and split by blocks; cut into patches of 32 pixels, ninety times as many, it shows what a patch takes of memory.

Each runs in a process of its own, whose peak memory is its own resident set plus the largest worker's, times the
workers, and some 60 MiB of the process that workers are forked from; Linux's /proc tells. They take turns, each with
nothing left to write to the disk, every second time in the opposite order, since what runs after a large pair was seen
to take longer; medians are printed, and of what is compared the median of the turns' ratios, so that a machine which
gets slower or faster meanwhile does not decide it. Two builds of one worker at once, which share nothing and write
twice as much, show how much of a second core this machine gives to such work. Other work on the machine slows
everything down: the load is printed, and the processor's time. A virtual machine may give up memory that is free, and
whoever writes to it next waits until it is back, for half the time of a build: so before each all that is free is
filled with the cache of an empty file, as it is on a machine that has been at work for a day.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import statistics
import tempfile
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import rasterio
from rasterio.warp import Resampling, reproject, transform_bounds

from s2olib.data import archive
from s2olib.data.build import build
from s2olib.data.landcover import merge_codes, merge_table
from s2olib.project import resolve, told_in_a_sentence, write_json

LEGEND = "hrlulc-v21.11"
AS_ONE = {"patches": sum, "cpu_s": sum}  # of what runs at once; of all else the most


def measured(function, *calls: tuple) -> dict:
    """Call with each tuple of arguments, all at once, each in a fresh process.

    Returns seconds, patches, processor seconds, and MiB at the peak of a process and of its largest worker.
    """
    os.sync()  # what the last one wrote would be written meanwhile
    with ProcessPoolExecutor(len(calls), get_context("spawn")) as pool:
        results = [future.result() for future in [pool.submit(_measured, function, *call) for call in calls]]
    return {name: AS_ONE.get(name, max)(result[name] for result in results) for name in results[0]}


def _measured(function, *arguments) -> dict:
    family, over = {}, threading.Event()
    watcher = threading.Thread(target=_watch, args=(family, over))
    watcher.start()
    start, before = time.perf_counter(), time.process_time()
    patches = function(*arguments)
    seconds = time.perf_counter() - start
    over.set()
    watcher.join()
    (own_mib, own_s), *others = family.values()
    return {
        "seconds": seconds,
        "patches": patches,
        "cpu_s": own_s - before + sum(used for _, used in others),  # which other work on the machine hardly changes
        "own_mib": own_mib,
        "worker_mib": max((mib for mib, _ in others), default=0),
    }


def _watch(family: dict[int, tuple[float, float]], over: threading.Event) -> None:
    """Note peak MiB and processor seconds of this process, first, and of all that it has started, until it is over."""
    tick, last = os.sysconf("SC_CLK_TCK"), False
    while not last:
        last = over.wait(0.5)
        parents, used = {}, {}
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):  # it has ended
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
                parents[int(folder.name)], used[int(folder.name)] = int(fields[1]), sum(map(int, fields[11:13])) / tick
        found = [os.getpid()]
        for pid in found:
            found += [child for child, parent in parents.items() if parent == pid]
            with contextlib.suppress(OSError, ValueError):
                lines = Path(f"/proc/{pid}/status").read_text().splitlines()
                (peak,) = (int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))
                family[pid] = peak, used[pid]


def fill_memory(folder: Path) -> None:
    """Read a file without content, as long as memory is free, which the system then keeps for it until it is asked for
    some. It is a new file each time: to cut one that is there would free what it holds."""
    with tempfile.NamedTemporaryFile(dir=folder, buffering=0, delete=False) as stream:
        stream.truncate(os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
        part = bytearray(2**20)
        while stream.readinto(part):
            pass


def ours(target: Path, workers: int, options: dict) -> int:
    """Build with so many workers; returns the number of patches."""
    return sum(build(target, **options, workers=workers)["counts"].values())


def loop(root: Path, target: Path, count: int) -> int:
    """The loop over patches, with rasterio alone; returns the number of patches."""
    target.mkdir()
    tiles = []
    for path in sorted((root / "hrlulc").glob("*.tif")):
        with rasterio.open(path) as tile:
            tiles.append((path, tile.bounds))
    for number, path in enumerate(sorted((root / "sen12ms").glob("ROIs*/s1_*/*.tif"))[:count]):
        with rasterio.open(path) as file:
            sar, crs, grid, bounds = file.read(), file.crs, file.transform, file.bounds
        with rasterio.open(archive.partner(path, "s2")) as file:
            opt = file.read((4, 3, 2))
        codes = np.zeros((256, 256), np.uint8)
        west, south, east, north = transform_bounds(crs, "EPSG:4326", *bounds)
        for tile, box in tiles:
            if west < box.right and east > box.left and south < box.top and north > box.bottom:
                with rasterio.open(tile) as file:
                    part = np.zeros_like(codes)
                    where = {"dst_transform": grid, "dst_crs": crs, "resampling": Resampling.nearest}
                    reproject(rasterio.band(file, 1), part, **where)
                codes = np.where(codes == 0, part, codes)
        merged = merge_codes(codes, merge_table(LEGEND, "four"))
        dark, bright = opt.min(0), opt.max(0)
        cloud = ((dark > 2500) & (bright - dark < 0.25 * bright)).mean()
        if np.isfinite(sar).all(0).mean() > 0.99 and (merged == 255).mean() < 0.5 and cloud < 0.2:
            for name, array in (("sar", sar.astype(np.float16)), ("opt", opt), ("lulc", codes)):
                np.save(target / f"{number}_{name}.npy", array)
    return number + 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--copies", type=int, default=8, help="of the large scene")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2], help="numbers of processes to try")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--record", type=Path, help="also write everything to this JSON file")
    given = parser.parse_args()
    from large_archive import SHAPE, SIDE, write, write_pair  # long to load, and not for workers

    source = resolve("data/embedded")
    source.mkdir(parents=True, exist_ok=True)
    root = Path(tempfile.mkdtemp(dir=source, prefix="bench-"))
    try:
        write(source, root, given.copies)
        write_pair(source, root)
        print(f"{given.copies} scenes of {SHAPE[0]} x {SHAPE[1]} patches, a pair of {SIDE} x {SIDE} pixels,")
        print(f"{os.cpu_count()} cores,", end=" ")
        print(f"load {os.getloadavg()[0]:.1f}, medians of {given.turns} turns\n")
        turns: dict[str, list] = {}
        for turn in range(given.turns):
            count = given.copies * SHAPE[0] * SHAPE[1]
            cases = [*_cases(root, given.workers, count).items()]
            for name, (function, *calls) in reversed(cases) if turn % 2 else cases:
                shutil.rmtree(root / "sen12ms/headers", ignore_errors=True)  # each pays for its own scan
                fill_memory(root)
                turns.setdefault(name, []).append(measured(function, *calls))
                for made in root.glob("made*"):
                    shutil.rmtree(made)
    finally:
        shutil.rmtree(root)
    print("| | patches | s | patches per s | processor s | MiB | MiB of a worker |\n|---|---|---|---|---|---|---|")
    for name in _cases(root, given.workers, count):
        results = turns[name]
        row = {key: statistics.median(result[key] for result in results) for key in results[0]}
        worker = f"{row['worker_mib']:.0f}" if row["worker_mib"] else "–"
        rate = f"{row['seconds']:.1f} | {row['patches'] / row['seconds']:.1f} | {row['cpu_s']:.1f}"
        print(f"| {name} | {row['patches']:.0f} | {rate} | {row['own_mib']:.0f} | {worker} |")
    print()
    first, *more = (f"workers: {number}" for number in given.workers)
    pairs = [("loop", f"build, {first}")]
    pairs += [(f"{of}, {first}", f"{of}, {n}") for of in ("build", "one pair") for n in more]
    for slower, faster in pairs:
        rates = [[result["patches"] / result["seconds"] for result in turns[name]] for name in (slower, faster)]
        ratios = [after / before for before, after in zip(*rates, strict=True)]
        each = ", ".join(f"{ratio:.2f}" for ratio in ratios)
        print(f"{faster}: {statistics.median(ratios):.2f} times as fast as {slower} (by turn {each})")
    if given.record:
        write_json(given.record, turns)


def _cases(root: Path, workers: list[int], count: int) -> dict[str, tuple]:
    """What takes turns: a function, and the arguments of each of its calls."""
    archive = {"source": "sen12ms", "archive_root": root / "sen12ms", "lulc_root": root / "hrlulc", "legend": LEGEND}
    archive |= {"split_file": root / "sen12ms/split.csv", "stride": 128, "max_sea": 1}
    pair = {"source": "folder", "sar_dir": root / "s1", "opt_dir": root / "s2", "sar_bands": ["VV", "VH"]}
    pair |= {"block_m": 15_360, "buffer_m": 0, "test_places": ()}
    cases: dict[str, tuple] = {f"build, workers: {n}": (ours, (root / "made", n, archive)) for n in workers}
    cases["two builds at once, workers: 1"] = (ours, *((root / f"made-{n}", 1, archive) for n in range(2)))
    cases["loop"] = (loop, (root, root / "made", count))
    cases |= {f"one pair, workers: {n}": (ours, (root / "made", n, pair)) for n in workers}
    return cases | {"one pair, small patches": (ours, (root / "made", workers[-1], pair | {"patch_size": 32}))}


if __name__ == "__main__":
    with told_in_a_sentence():
        main()
