"""Keep which test patches without geography show ground that another split shows as well: `s2olib.data.ground`.

    python bench/ground.py data/ombria-20m --record book/results/ground/ombria-20m.json

The book's tables of known ground are made from these files.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from s2olib.data.ground import same_ground
from s2olib.data.triplets import Triplets
from s2olib.project import told_in_a_sentence, write_json


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset_root", type=Path)
    parser.add_argument("--record", type=Path, required=True, help="JSON file of the pairs")
    given = parser.parse_args()
    data = Triplets(given.dataset_root, "test").info["fingerprint"]
    write_json(given.record, {"data": data, "pairs": same_ground(given.dataset_root)})


if __name__ == "__main__":
    with told_in_a_sentence():
        main()
