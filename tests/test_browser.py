"""The built book, read as readers read it: its files and links, and every page in a real Chromium.

Each page is loaded once at 1440 px, looked at in light and dark, and made 375 px wide. Where no Chromium is installed
(Debian: ``apt install chromium``) the tests of the browser are skipped; those of the files are not.
"""

import functools
import http.server
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from bs4 import BeautifulSoup
from playwright.sync_api import Page, sync_playwright

from s2olib.project import root

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
FLAGS += ["--disable-component-update", "--disable-sync"]
MARKUP = r"```|:::|\$\$|\\\[|\\\(|\{(?:doc|cite|numref|eq|ref|record|kind|glue|download)[^}]*\}`|\*\*\S|\]\(|</\w+>"
MEGABYTE = 2**20
CODE_IS_JUDGED_ON = ("book/method.html", "notebooks/executed/quick/02_models.html")
FACTS = """() => {
  const article = document.querySelector('article') || document.body;
  const prose = article.cloneNode(true);
  prose.querySelectorAll('pre, code, script, style, mjx-container').forEach(e => e.remove());
  return {
    text: prose.textContent,
    math: article.querySelectorAll('.math').length,
    rendered: article.querySelectorAll('.math mjx-container').length,
    errors: article.querySelectorAll('mjx-merror, [data-mjx-error], .output.traceback, .system-message').length,
    images: [...document.querySelectorAll('img')].map(
      e => [e.currentSrc.slice(0, 80), e.complete && e.naturalWidth > 0, e.alt]),
  }
}"""
RECOLOURED = """() => [...document.querySelectorAll('.bd-article img')].map(
  e => [getComputedStyle(e).filter, e.alt]).filter(([filter, alt]) => filter !== 'none')"""
PAINTED = "() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"
WIDER = """() => [...document.querySelectorAll('body *')].filter(
  e => e.getBoundingClientRect().right > document.documentElement.clientWidth + 1 && getComputedStyle(e).position
       !== 'fixed').slice(0, 3).map(e => e.tagName + '.' + e.className)"""


@pytest.fixture(scope="session")
def html() -> Path:
    """The book, built as anyone builds it."""
    (root() / "_build/book.fingerprint").unlink(missing_ok=True)  # `make book` must not take these pages for its own
    shutil.rmtree(root() / "_build" / "html", ignore_errors=True)  # pages that are no more
    command = [Path(sys.executable).with_name("jupyter-book"), "build", ".", "--all", "-W", "-n", "--keep-going"]
    result = subprocess.run([*command, "--quiet"], cwd=root(), capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-3000:]
    return root() / "_build" / "html"


@pytest.fixture(scope="session")
def pages(html) -> dict[str, BeautifulSoup]:
    """Every page of the table of contents, parsed."""
    names = sorted(
        str(p.relative_to(html)) for folder in ("book", "notebooks") for p in (html / folder).rglob("*.html")
    )
    return {name: BeautifulSoup((html / name).read_text(), "html.parser") for name in names}


@pytest.fixture(scope="session")
def server(html):
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=html)) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{httpd.server_port}/"
        httpd.shutdown()


@pytest.fixture(scope="session")
def page(server):
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed (Debian: apt install chromium)")
    with sync_playwright() as playwright, playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS) as browser:
        yield browser.new_page(viewport={"width": 1440, "height": 900}, reduced_motion="reduce")


def go(page: Page, address: str) -> None:
    """Load a page and wait until its math is set."""
    page.goto(address)
    page.evaluate("() => window.MathJax?.startup?.promise")


@pytest.fixture(scope="session")
def visits(page, server, html, pages) -> dict[str, dict]:
    """What was found on each page: problems by kind, and the bytes that it loaded."""
    found: dict[str, dict] = {}
    current: dict[str, list] = {}
    loaded: set[str] = set()
    here = (urlsplit(server).netloc, "")  # the latter: data that the page holds itself
    page.on("console", lambda m: current["console"].append(m.text) if m.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: current["console"].append(str(error)))
    page.on("request", lambda r: current["outside"].append(r.url) if urlsplit(r.url).netloc not in here else None)
    page.on("request", lambda r: loaded.add(r.url))
    record_pages = {name.rsplit("/", 1)[1].split("-")[0]: name for name in pages if "_generated" in name}
    for name in pages:
        if "_generated" in name and name not in record_pages.values():
            continue  # one page of records for each profile: the others are made by the same lines
        current = {kind: [] for kind in ("console", "outside", "markup", "math", "images", "width", "axe")}
        loaded.clear()
        go(page, server + name)
        facts = page.evaluate(FACTS)
        current["markup"] = re.findall(MARKUP, facts["text"])
        if facts["math"] != facts["rendered"] or facts["errors"]:
            current["math"] = [{key: facts[key] for key in ("math", "rendered", "errors")}]
        current["images"] = [image for image in facts["images"] if not (image[1] and image[2])]
        files = {html / unquote(urlsplit(url).path.lstrip("/")) for url in loaded if url.startswith(server)}
        current["bytes"] = sum(file.stat().st_size for file in files)
        but_code = {"exclude": [["pre"]]}
        judged = None if name in CODE_IS_JUDGED_ON else but_code  # thousands of words in few colours
        for theme, width, context, rules in (
            ("light", 1440, judged, {}),
            ("dark", 1440, judged, {"runOnly": ["color-contrast"]}),
            ("dark", 375, but_code, {"runOnly": ["scrollable-region-focusable"]}),  # the theme sees to code in a while
        ):
            page.set_viewport_size({"width": width, "height": 900})
            page.evaluate("theme => { document.documentElement.dataset.theme = theme }", theme)
            page.evaluate(PAINTED)  # the page hears of its size with the next frame
            options = {"preload": False, "resultTypes": ["violations"], **rules}
            for violation in Axe().run(page, context, options).response["violations"]:
                if violation["impact"] in ("serious", "critical"):
                    nodes = [(node["target"], node["html"][:120]) for node in violation["nodes"][:3]]
                    current["axe"].append((theme, width, violation["id"], nodes))
            current["images"] += [(theme, *image) for image in page.evaluate(RECOLOURED)]
            if page.evaluate("() => document.documentElement.scrollWidth > document.documentElement.clientWidth"):
                current["width"].append((width, page.evaluate(WIDER)))
        page.set_viewport_size({"width": 1440, "height": 900})
        found[name] = current
    return found


@pytest.mark.parametrize("kind", ["console", "outside", "markup", "math", "images", "width", "axe"])
def test_every_page_is_free_of(visits, kind):
    assert {name: facts[kind] for name, facts in visits.items() if facts[kind]} == {}


def test_pages_are_light(visits, html, pages):
    assert {name: v["bytes"] / MEGABYTE for name, v in visits.items() if v["bytes"] > 3 * MEGABYTE} == {}
    assert sum(path.stat().st_size for path in html.rglob("*") if path.is_file()) <= len(pages) * MEGABYTE / 5


def test_contents_beside_a_page_lead_to_all_runs_and_list_none(pages):
    beside = {name: soup.select("nav.bd-links a[href]") for name, soup in pages.items()}
    links = {name: [urlsplit(link["href"]).path for link in found] for name, found in beside.items()}
    assert [name for name, found in links.items() if not any("runs.html" in link for link in found)] == [
        "book/runs.html"  # itself
    ]
    assert not any("_generated/runs/" in link for found in links.values() for link in found)


def test_no_link_leads_nowhere(html, pages):
    broken = []
    for name, soup in pages.items():
        for tag, attribute in (("a", "href"), ("img", "src"), ("script", "src"), ("link", "href")):
            for element in soup.find_all(tag, attrs={attribute: True}):
                link = urlsplit(element[attribute])
                if link.scheme or link.netloc:
                    continue
                target = (html / name).parent / unquote(link.path) if link.path else html / name
                if not target.exists():
                    broken.append((name, element[attribute]))
                elif link.fragment and target.suffix == ".html":
                    other = pages.get(str(target.resolve().relative_to(html.resolve())))
                    if other and not other.find(attrs={"id": unquote(link.fragment)}):
                        broken.append((name, element[attribute]))
    assert broken == []


def test_pages_have_one_title_each(pages):
    titles = [soup.find("article").find("h1").get_text() for soup in pages.values()]
    assert len(set(titles)) == len(titles)
    assert {name for name, soup in pages.items() if len(soup.find("article").find_all("h1")) != 1} == set()


@pytest.mark.parametrize("name", ["book/intro.html", "notebooks/executed/quick/05_compare_kaga_land.html"])
def test_sliders_move_by_mouse_and_by_keyboard(page, server, name):
    go(page, server + name)
    figure = page.locator("figure[id^=swipe]").first
    view = figure.locator(".view")

    def cut() -> float:
        return figure.evaluate("e => parseFloat(e.style.getPropertyValue('--cut'))")

    view.scroll_into_view_if_needed()
    box = view.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.2, box["y"] + box["height"] / 2, steps=4)
    page.mouse.up()
    dragged = cut()
    assert dragged == pytest.approx(20, abs=3)
    for _ in range(5):
        page.keyboard.press("ArrowRight")
    assert cut() == pytest.approx(dragged + 5)
    line = figure.locator(".line").bounding_box()
    assert line["x"] == pytest.approx(box["x"] + box["width"] * cut() / 100, abs=2)


def test_sliders_move_by_touch_and_let_the_page_scroll(page, server):
    context = page.context.browser.new_context(viewport={"width": 375, "height": 812}, has_touch=True, is_mobile=True)
    phone = context.new_page()
    go(phone, server + "book/intro.html")
    figure = phone.locator("figure[id^=swipe]").first
    figure.scroll_into_view_if_needed()
    box = figure.locator(".view").bounding_box()
    finger = context.new_cdp_session(phone)

    def touch(*path: tuple[float, float]) -> float:
        """Where the line is after a finger went along a path, in parts of the picture's width and height."""
        points = [{"x": box["x"] + box["width"] * x, "y": box["y"] + box["height"] * y} for x, y in path]
        for kind, at in [("touchStart", points[:1]), *(("touchMove", [point]) for point in points), ("touchEnd", [])]:
            finger.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": at})
        return figure.evaluate("e => parseFloat(e.style.getPropertyValue('--cut'))")

    assert touch((0.5, 0.5), (0.4, 0.5), (0.3, 0.5), (0.2, 0.5)) == pytest.approx(20, abs=3)
    assert touch((0.2, 0.5), (0.5, 0.5), (0.8, 0.5)) == pytest.approx(80, abs=3)
    before = phone.evaluate("scrollY")
    touch(*((0.8, 0.9 - 0.1 * i) for i in range(8)))  # a finger that moves up scrolls the page
    phone.wait_for_function("before => scrollY > before", arg=before)
    context.close()


def test_a_table_of_numbers_is_sorted_by_its_header(page, server):
    go(page, server + "book/runs.html")
    table = page.locator(".bd-article table", has=page.locator("th", has_text="PSNR")).first
    column = table.locator("th", has_text="PSNR").first
    for order, expected in (("ascending", False), ("descending", True)):
        column.locator("button").press("Enter")
        assert column.get_attribute("aria-sort") == order
        values = [float(text) for text in table.locator("tbody tr td:nth-child(2)").all_inner_texts()]
        assert values == sorted(values, reverse=expected) and len(values) > 1
