// Tables of numbers can be sorted by their headers, what is wider than the page scrolls by keyboard, and the arrows
// of the sidebar have names. Pages read well without it.
document.addEventListener("DOMContentLoaded", () => {
  const value = (row, i) => {
    const text = row.cells[i].textContent.trim().replace("−", "-").replaceAll(",", "");
    return text === "–" ? -Infinity : parseFloat(text);
  };
  for (const table of document.querySelectorAll(".bd-article table")) {
    const body = table.tBodies[0], header = table.tHead?.rows[0];
    if (!header || body.rows.length < 3 || [...body.rows].some(row => row.cells.length !== header.cells.length)) continue;
    [...header.cells].forEach((cell, i) => {
      const texts = [...body.rows].map(row => row.cells[i].textContent.trim());
      if (!texts.some(text => /\d/.test(text)) || !texts.every(text => /^([−+]?[\d.,]+( [([].*)?|–)$/.test(text))) return;
      const button = document.createElement("button");
      button.append(...cell.childNodes);
      button.className = "sort";
      button.title = "Sort by this column";
      cell.append(button);
      button.addEventListener("click", () => {
        const up = cell.getAttribute("aria-sort") !== "ascending";
        [...header.cells].forEach(other => other.removeAttribute("aria-sort"));
        cell.setAttribute("aria-sort", up ? "ascending" : "descending");
        body.append(...[...body.rows].sort((a, b) => (value(a, i) - value(b, i)) * (up ? 1 : -1)));
      });
    });
  }
  document.querySelectorAll(".citation-list[role=list]").forEach(list => list.removeAttribute("role")); // no items in it
  for (const summary of document.querySelectorAll(".bd-sidebar summary")) {
    const page = summary.closest("li").querySelector("a").textContent.trim();
    summary.setAttribute("aria-label", `Pages below ${page}`);
  }
});
for (const event of ["load", "resize"]) {
  window.addEventListener(event, () => {
    const wide = "figure.align-default, .pst-scrollable-table-container, div.math, mjx-container[display]";
    for (const box of document.querySelectorAll(`.bd-article :is(${wide})`)) {
      const scrolls = getComputedStyle(box).overflowX === "auto" && box.scrollWidth > box.clientWidth;
      scrolls ? box.tabIndex = 0 : box.removeAttribute("tabindex");
    }
  });
}
