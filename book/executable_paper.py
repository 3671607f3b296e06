"""The book's Sphinx extension: numbers come from records, each one linked to its record, and each page says its kind.

- ``{record}`ombria/hat-dsd-s0::metrics.psnr.mean:.2f` `` prints a field of a run's record, linked to the run's page.
- ``{kind}`synthetic` `` (or ``real``, ``talk``) is the one badge that tells what a number or a picture is made from.
- An executed notebook takes the title of ``_toc.yml`` and begins with its badge, run time, record and source, a word
  if that source is another by now, what ``errata.yml`` corrects, and its data's credit if it does not print that; in
  its tables each variant leads to its run's page, or to the list of its runs.
- The first cell of a table's row is its header.
- Beside a run's page stands a link to all runs, in the place of the table of contents.
- Everything in ``book/_generated`` is written anew before pages are read.

A record, run or field that does not exist is a warning with the page's name, which ``-W`` turns into a failed build.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable
from pathlib import Path

import diagrams
import provenance
import results_table
from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxRole

from s2olib import records
from s2olib.project import InputError, parse_yaml

sys.path.append(str(Path(__file__).resolve().parents[1] / "notebooks"))
import execute

EXECUTED = re.compile(r"notebooks/executed/(?P<profile>[^/]+)/(?P<name>(?P<source>\d\d_[a-z]+)[^/]*)")
LABEL = re.compile(r'(:name: |"name": "|numref\}`)(tab|fig)-[\w-]+')  # of a notebook's tables and figures
RUNS = "book/runs"  # the page that lists them
RUN_ENTRIES = re.compile(  # of the contents beside a page, with the arrow that opens them
    r"<details[^>]*><summary>(?:(?!</summary>).)*</summary><ul>\s*"
    r'(?:<li class="toctree-l2[^"]*"><a[^>]*href="[^"]*_generated/runs/[^"]*">[^<]*</a></li>\s*)+</ul>\s*</details>',
    re.DOTALL,
)
LAUNCH = {"binderhub_url": "https://mybinder.org", "colab_url": "https://colab.research.google.com"}


class Record(SphinxRole):
    """A field of a run's record, ``profile/run::dotted.field:format``, linked to the run's page."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        try:
            text, target = self.look_up()
        except (InputError, KeyError, ValueError, TypeError) as error:
            message = self.inliner.reporter.warning(f"no such record field: {self.text} ({error})", line=self.lineno)
            return [nodes.problematic(self.rawtext, self.rawtext)], [message]
        link = pending_xref(
            "", nodes.inline("", text), refdomain="std", reftype="doc", reftarget=target, refexplicit=True,
            refwarn=True, refdoc=self.env.docname,
        )  # fmt: skip
        return [link], []

    def look_up(self) -> tuple[str, str]:
        run, _, field = self.text.partition("::")
        path, _, style = field.partition(":")
        value = records.read(Path(self.env.srcdir) / "book" / "results" / run)
        for key in path.split("."):
            value = value[key]
        return format(value, style).replace("-", "−"), results_table.page_of(*run.split("/"))


class Kind(SphinxRole):
    """The badge: what a number or picture is made from."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        if self.text not in provenance.KINDS:
            known = ", ".join(provenance.KINDS)
            message = self.inliner.reporter.warning(f"kind {self.text!r} is none of {known}", line=self.lineno)
            return [nodes.problematic(self.rawtext, self.rawtext)], [message]
        return [nodes.inline("", provenance.KINDS[self.text], classes=["kind", f"kind-{self.text}"])], []


def titles(root: Path) -> dict[str, str]:
    """The titles that ``_toc.yml`` gives."""
    toc = parse_yaml((root / "_toc.yml").read_bytes())
    return {
        chapter["file"]: chapter["title"] for part in toc["parts"] for chapter in part["chapters"] if "title" in chapter
    }


def open_notebook(app: Sphinx, docname: str, source: list[str]) -> None:
    """Give an executed notebook its title, and under it the badge, run time, record and source."""
    found = EXECUTED.fullmatch(docname)
    if not found:
        return
    root, profile, name = Path(app.srcdir), found["profile"], found["name"]
    runs = provenance.read_results(root / "book" / "results").get(profile, {})
    seconds = provenance.steps_of(root / "book" / "results", profile).get(name, {}).get("seconds")
    kind = provenance.kind_of(runs) if runs else "real"  # what trains nothing looks at other real places
    line = [f"{{kind}}`{kind}`", f"profile *{profile}*"]
    line += [f"executed in {seconds:.0f} s"] if seconds else []
    generator, _, rest = name.removeprefix("03_train_").partition("-")
    run = f"{generator}-{rest or 'dsd-s0'}"
    line += [results_table.link(profile, run, "record") if run in runs else "{doc}`records </book/runs>`"]
    line += [f"{{download}}`source </notebooks/{found['source']}.py>`"]  # the notebook itself: the page's arrow button
    current = execute.is_of(root / f"{docname}.ipynb", root / "notebooks" / f"{found['source']}.py")
    line += [] if current else ["executed from an earlier version of its source"]
    notebook = json.loads(source[0])
    first = notebook["cells"][0]
    heading, _, text = "".join(first["source"]).partition("\n")
    heading = f"# {titles(root)[docname]}" if docname in titles(root) else heading
    for output in (output for cell in notebook["cells"] for output in cell.get("outputs", [])):
        if "text/markdown" in output.get("data", {}):
            output["data"]["text/markdown"] = link_variants("".join(output["data"]["text/markdown"]), profile, runs)
    if docname in (errata := errata_of(root)):
        if current:
            raise InputError(f"book/errata.yml corrects {docname}, which was executed anew: mend it there, or drop it.")
        text = f"\n:::{{admonition}} Correction\n{errata[docname]}\n:::\n{text}"
    credit = execute.read_profile(profile)[0].get("credit", "")
    if credit not in source[0]:  # most pages of real images print it themselves
        text = f"\nData: {credit}\n{text}"
    first["source"] = f"{heading}\n\n{' · '.join(line)}\n{text}"
    source[0] = LABEL.sub(rf"\g<0>-{profile}", json.dumps(notebook)) if profile != "quick" else json.dumps(notebook)


def errata_of(root: Path) -> dict[str, str]:
    """Corrections of executed pages by document name."""
    return parse_yaml((root / "book" / "errata.yml").read_bytes()) or {}


def link_variants(table: str, profile: str, runs: Iterable[str]) -> str:
    """Each variant that stands in a table's first columns (`hat-dsd`), linked to its run's page, or of several seeds to
    the list of runs: a row may be of one seed alone, and says so itself."""
    pages: dict[str, str] = {}
    for run in runs:
        variant = run.rpartition("-s")[0]
        several = f"{{ref}}`{variant} <tab-runs-{profile}>`"
        pages[variant] = several if variant in pages else results_table.link(profile, run, variant)

    def linked(start: re.Match) -> str:
        return re.sub(r"[\w-]+", lambda word: pages.get(word[0], word[0]), start[0])

    return re.sub(r"^\| [\w-]+ \|( [\w-]+ \|)?", linked, table, flags=re.MULTILINE)


def name_rows(app: Sphinx, doctree: nodes.document) -> None:
    """Make the first cell of a table's row its header, which a screen reader says with each of the row's cells."""
    for group in doctree.findall(nodes.tgroup):
        next(group.findall(nodes.colspec))["stub"] = 1


def leave_out_scripts(app: Sphinx, page: str, template: str, context: dict, doctree: nodes.document | None) -> None:
    """Load MathJax where there is math alone, and Thebe, which would ask another server, nowhere."""
    has_math = doctree is not None and any(doctree.findall(lambda n: isinstance(n, nodes.math | nodes.math_block)))
    unwanted = ("thebe",) if has_math else ("thebe", "mathjax")
    context["script_files"][:] = [
        script
        for script in context["script_files"]
        if not any(name in f"{script.filename} {script.attributes.get('body')}".lower() for name in unwanted)
    ]


def shorten_contents(app: Sphinx, page: str, template: str, context: dict, doctree: nodes.document | None) -> None:
    """The contents beside a page do not list every run, and those beside a run's page are a link to all: they would
    weigh a tenth of the book."""
    listed = context.get("generate_toctree_html")
    if page.startswith("book/_generated/runs/"):
        link = f'<a class="reference internal" href="{context["pathto"](RUNS)}">{app.env.titles[RUNS].astext()}</a>'
        contents = f'<ul class="nav bd-sidenav"><li class="toctree-l1">{link}</li></ul>'
        context["generate_toctree_html"] = lambda *_, **__: contents
    elif listed:
        context["generate_toctree_html"] = lambda *of, **how: RUN_ENTRIES.sub("", str(listed(*of, **how)))


def leave_out_files(app: Sphinx, error: Exception | None) -> None:
    """Drop what no page loads: source maps, and the icons' script and old fonts."""
    if error is None and app.builder.format == "html":
        for pattern in ("**/*.map", "vendor/fontawesome/*/js/*", "vendor/fontawesome/*/webfonts/*.ttf"):
            for path in (Path(app.outdir) / "_static").glob(pattern):
                path.unlink()


def write_generated(app: Sphinx, config: object) -> None:
    """Write what the book takes from records and modules, and show launch buttons where there is a repository."""
    root = Path(app.srcdir)
    provenance.write(root)
    diagrams.write(root / "book" / "_generated")
    options = app.config.html_theme_options
    if options.get("repository_url"):
        buttons = {"use_repository_button": True, "use_issues_button": True, "use_edit_page_button": False}
        options |= buttons | {"launch_buttons": {"notebook_interface": "jupyterlab", **LAUNCH}}


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_role("record", Record())
    app.add_role("kind", Kind())
    app.connect("config-inited", write_generated, priority=100)  # before the table of contents looks for files
    app.connect("source-read", open_notebook)
    app.connect("doctree-read", name_rows)
    app.connect("build-finished", leave_out_files)
    app.connect("html-page-context", leave_out_scripts, priority=900)
    app.connect("html-page-context", shorten_contents, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
