"""Prove that what is printed is what runs: execute the committed notebooks again, elsewhere, and compare.

    python notebooks/check.py quick

The committed notebooks are copied beside a ``pyproject.toml`` into ``_build/check``, where relative paths start anew,
so nothing of an earlier run can be found. nbval executes them once and compares the output of every cell tagged
``nbval-check-output`` (counts, shapes: what no machine changes). The synthetic archive and metrics are floats and
differ between kinds of processors: metrics are compared with the committed records within `TOLERANCE`. First the data
set, then what needs nothing else, then what shows runs: notebooks of one such stage are executed side by side, each on
one thread, as the committed ones were.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

import execute

from s2olib import records
from s2olib.project import InputError, root, told_in_a_sentence, writable

# dB and units. The same machine gives the same digits; another kind of processor sums in another order, as another
# number of threads does, which trainings of three epochs amplify to 0.6 dB and 0.07.
TOLERANCE = {"psnr": 1.2, "ssim": 0.12}


def main() -> int:
    """0 if every notebook runs, every tagged output is the same and every metric is near its record, else 1, or 2 for
    what cannot be checked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("profile", help="a file of notebooks/profiles without its ending")
    profile = parser.parse_args().profile
    with told_in_a_sentence():
        return check(profile)


def check(profile: str) -> int:
    """0 or 1, as `main` says; `InputError` for a profile that is unknown or has no executed notebooks."""
    steps = execute.plan(profile, {})
    source, copy = root() / "notebooks" / "executed" / profile, root() / "_build" / "check"
    if not [*source.glob("*.ipynb")]:
        raise InputError(f"{source} holds no executed notebooks: `make notebooks PROFILE={profile}` makes them.")
    if old := stale(profile):
        print(*old, sep="\n", file=sys.stderr)
        return 1
    target = copy / "notebooks" / "executed" / profile
    with writable("the folder of checks", copy):
        shutil.rmtree(copy, ignore_errors=True)
        target.mkdir(parents=True)
        shutil.copyfile(root() / "pyproject.toml", copy / "pyproject.toml")
        shutil.copytree(root() / "notebooks" / "profiles", copy / "notebooks" / "profiles")
    for stage in stages(steps):
        for name in stage:
            shutil.copyfile(source / f"{name}.ipynb", target / f"{name}.ipynb")
        if code := reexecute([target / f"{name}.ipynb" for name in stage], copy):
            return code
    return compare(root() / "book" / "results" / profile, copy / "runs" / profile)


def stages(steps: list[execute.Step]) -> list[list[str]]:
    """The steps' names, in three lists at most: those of one need nothing of each other, only of the lists before."""
    found: dict[int, list[str]] = {}
    for step in steps:
        stem = step.source.stem
        rank = 0 if stem == execute.DATASET else 1 if stem in execute.OF_DATA_ALONE else 2
        found.setdefault(rank, []).append(step.name)
    return [names for _, names in sorted(found.items())]


def reexecute(notebooks: list[Path], folder: Path) -> int:
    """Execute notebooks, as many at once as there are cores, and compare what is tagged: 0, or pytest's exit code."""
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--rootdir", folder, "--nbval-lax"]
    command += ["--nbval-current-env", "--nbval-cell-timeout", "2400", "-x", "-v", "--no-header", "-o", "addopts="]
    command += ["-n", "auto", "--maxprocesses", str(len(notebooks)), "--dist", "loadfile", "--no-loadscope-reorder"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    return subprocess.run([*command, *notebooks], cwd=folder, env=environment).returncode


def stale(profile: str) -> list[str]:
    """One sentence for each committed notebook whose cells are not its source's, or that is missing or left over."""
    folder = root() / "notebooks" / "executed" / profile
    command = f"`make notebooks PROFILE={profile}` refreshes it."
    left, problems = {path.stem for path in folder.glob("*.ipynb")}, []
    for step in execute.plan(profile, {}):
        path = folder / f"{step.name}.ipynb"
        left.discard(step.name)
        if not path.is_file():
            problems.append(f"{path.relative_to(root())} is missing: {command}")
            continue
        if not execute.is_of(path, step.source):
            problems.append(f"{path.relative_to(root())} is older than notebooks/{step.source.name}: {command}")
        elif execute.given_to(path) != step.parameters:
            problems.append(f"{path.relative_to(root())} has other parameters than its profile and plan: {command}")
    return problems + [
        f"notebooks/executed/{profile}/{name}.ipynb has no source any more: delete it." for name in sorted(left)
    ]


def compare(published: Path, executed: Path) -> int:
    """Compare the metrics of two folders of runs; print each difference beyond `TOLERANCE`."""
    failures = 0
    try:
        expected, found = records.find(published), records.find(executed)
    except InputError as error:
        print(error, file=sys.stderr)
        return 1
    if set(expected) != set(found):
        print(f"published runs {sorted(expected)} are not the executed ones {sorted(found)}", file=sys.stderr)
        return 1
    for name, record in expected.items():
        for metric, tolerance in TOLERANCE.items():
            was, now = record["metrics"][metric]["mean"], found[name]["metrics"][metric]["mean"]
            verdict = "ok" if abs(was - now) <= tolerance else f"differs by more than {tolerance}"
            failures += verdict != "ok"
            print(f"{name} {metric}: published {was:.4f}, executed again {now:.4f}: {verdict}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
