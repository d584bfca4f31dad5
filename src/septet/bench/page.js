// Sorts a ranking by the column whose head is clicked; unknown values stay last.
for (const head of document.querySelectorAll("th[data-sort]")) {
  head.addEventListener("click", () => {
    const body = head.closest("table").tBodies[0];
    const place = head.cellIndex;
    const falling = head.getAttribute("aria-sort") !== "descending";
    for (const other of head.parentNode.cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", falling ? "descending" : "ascending");
    const value = (row) => row.cells[place].dataset.v;
    const sign = falling ? -1 : 1;
    const order = (a, b) => {
      const [x, y] = [value(a), value(b)];
      if (!x || !y) return (x ? 0 : 1) - (y ? 0 : 1);
      const [p, q] = [Number(x), Number(y)];
      return p === q ? 0 : sign * (p < q ? -1 : 1);
    };
    body.append(...[...body.rows].sort(order));
  });
}
