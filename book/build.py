"""Build the book: ``python book/build.py [--executed FOLDER]`` leaves it in ``_build/html``.

The sources are staged in ``_build/source``, so that building never touches a committed file; FOLDER's freshly executed
notebooks, and the records, times and pictures beside it, stand there in the place of the committed ones of the profile
quick. With ``--pdf`` the whole book is printed to ``_build/book.pdf`` by Chromium as well.
Any warning is an error, and so are a missing page, a notebook that was not run or holds an error, and a page that
would ask another server for anything. When nothing has changed since the last build, nothing is done.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

from s2olib.project import InputError, fingerprint, parse_yaml, told_in_a_sentence, writable, writing

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = "notebooks/executed/quick"
OUTSIDE = re.compile(r"""<(?:script|img|iframe|source|link)\b[^>]*?\b(?:src|href)=["'](?:https?:)?//[^"']+["']""")


def stage(source: Path, executed: Path | None) -> None:
    """Copy what the book is made of to the folder `source`, anew."""
    if executed is not None and not any(executed.glob("*.ipynb")):
        raise InputError(f"--executed '{executed}' holds no notebooks: give the folder that they were executed to.")
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(source)
    source.mkdir(parents=True)
    for name in ("_config.yml", "_toc.yml"):
        shutil.copy2(ROOT / name, source / name)
    ignore = shutil.ignore_patterns("__pycache__", ".*", "_generated")
    for name in ("book", "s2olib", "notebooks/executed", "notebooks/profiles"):
        shutil.copytree(ROOT / name, source / name, ignore=ignore)
    for script in (ROOT / "notebooks").glob("*.py"):
        shutil.copy2(script, source / "notebooks" / script.name)
    if executed is None:
        return
    shutil.rmtree(source / NOTEBOOKS)
    (source / NOTEBOOKS).mkdir()
    for notebook in executed.glob("*.ipynb"):
        shutil.copy2(notebook, source / NOTEBOOKS / notebook.name)
    results = source / "book/results/quick"
    for path in (
        *executed.parent.glob("*/record.json"),
        *executed.parent.glob("*/patches.csv"),
        *executed.glob("steps.json"),
    ):
        target = results / (path.name if path.parent == executed else f"{path.parent.name}/{path.name}")
        target.parent.mkdir(exist_ok=True)
        shutil.copy2(path, target)
    if (executed.parent / "pictures").is_dir():
        shutil.copytree(executed.parent / "pictures", results / "pictures", dirs_exist_ok=True)


def pages(source: Path) -> list[Path]:
    """The files of the table of contents, checked: each exists, each notebook ran to its end without an error."""
    toc = parse_yaml((source / "_toc.yml").read_bytes())
    names = [toc["root"], *(chapter["file"] for part in toc["parts"] for chapter in part["chapters"])]
    files = []
    for name in names:
        found = [path for suffix in (".md", ".ipynb") if (path := source / f"{name}{suffix}").is_file()]
        if not found:
            raise InputError(f"_toc.yml names {name}, which does not exist: execute the notebooks or mend _toc.yml.")
        files.append(found[0])
        if found[0].suffix == ".ipynb":
            _check_notebook(found[0], name)
    return files


def _check_notebook(path: Path, name: str) -> None:
    cells = [cell for cell in json.loads(path.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]
    for number, cell in enumerate(cells, 1):
        for output in cell["outputs"]:
            if output["output_type"] == "error":
                raise InputError(f"{name}.ipynb, code cell {number}, ended with {output['ename']}: {output['evalue']}.")
        if "".join(cell["source"]).strip() and cell["execution_count"] is None:
            raise InputError(f"{name}.ipynb, code cell {number}, was never run: execute the notebook again.")


def outside_requests(html: Path) -> list[str]:
    """Every tag of every page that would load something from another server."""
    found = []
    for page in sorted(html.rglob("*.html")):
        for tag in OUTSIDE.findall(page.read_text(encoding="utf-8")):
            if not re.search(r'rel=["\'](?:canonical|license)', tag):
                found.append(f"{page.relative_to(html)}: {tag}")
    return found


def build(executed: Path | None = None) -> bool:
    """Build if anything changed since the last time; True if it was built."""
    target, source = ROOT / "_build", ROOT / "_build/source"
    with writable("the folder of the book", target):
        stage(source, executed)
    pages(source)
    state = target / "book.fingerprint"
    now = fingerprint(source) + " jupyter-book " + importlib.metadata.version("jupyter-book")
    if state.is_file() and state.read_text(encoding="utf-8") == now and (target / "html/index.html").is_file():
        return False
    state.unlink(missing_ok=True)
    shutil.rmtree(target / "html", ignore_errors=True)
    command = [
        Path(sys.executable).with_name("jupyter-book"),
        "build",
        str(source),
        "--path-output",
        str(ROOT),
        "--all",
    ]
    failed = subprocess.run([*command, "-W", "-n", "--keep-going"], cwd=ROOT).returncode
    if failed or not (target / "html/index.html").is_file():
        raise InputError("jupyter-book warned or failed: mend what it names above.")
    if found := outside_requests(target / "html"):
        raise InputError("A page would ask another server: " + "; ".join(found[:5]))
    state.write_text(now, encoding="utf-8")
    return True


def print_pdf() -> Path:
    """The whole book as one page, printed to ``_build/book.pdf``; needs a Chromium."""
    from playwright.sync_api import sync_playwright

    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        raise InputError("Chromium is not installed, and it prints the PDF (Debian: apt install chromium).")
    source, folder, target = ROOT / "_build/source", ROOT / "_build/pdf", ROOT / "_build/book.pdf"
    command = [Path(sys.executable).with_name("jupyter-book"), "build", source, "--path-output", folder, "--quiet"]
    if subprocess.run([*command, "--builder", "singlehtml"], cwd=ROOT).returncode:
        raise InputError("jupyter-book failed: mend what it names above.")
    single = folder / "_build/singlehtml"
    page_file = single / "whole.html"
    # Written for the folder of the first page, whose links to styles and pictures then miss by one level.
    text = (single / "book/intro.html").read_text(encoding="utf-8")
    page_file.write_text(text.replace('="../', '="'), encoding="utf-8")
    with sync_playwright() as playwright, writing(target) as aside:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page()
        page.goto(page_file.as_uri())
        page.evaluate("() => window.MathJax?.startup?.promise")
        page.pdf(
            path=aside,
            format="A4",
            print_background=True,
            margin=dict.fromkeys(("top", "bottom", "left", "right"), "18mm"),
        )
        browser.close()
    return target


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--executed", type=Path, help="folder of freshly executed notebooks")
    parser.add_argument("--pdf", action="store_true", help="print the whole book to _build/book.pdf as well")
    arguments = parser.parse_args()
    with told_in_a_sentence():
        built = build(arguments.executed)
        if arguments.pdf:
            print(f"printed: {print_pdf()}")
    print(f"{'built' if built else 'unchanged'}: {ROOT / '_build/html/index.html'}")


if __name__ == "__main__":
    main()
