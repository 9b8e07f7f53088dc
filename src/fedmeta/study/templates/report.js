for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0], heads = [...table.tHead.rows[0].cells];
  const value = (row, place) => {
    const text = row.cells[place].textContent.trim(), plain = text.replace(/,/g, "");
    if (/^[+-]?(inf$|\d)/.test(plain)) return plain.includes("inf") ? (plain[0] === "-" ? -Infinity : Infinity) : parseFloat(plain);
    return text === "-" || text === "" ? NaN : text;
  };
  heads.forEach((head, place) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      const up = head.getAttribute("aria-sort") !== "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const order = (a, b) => {
        if (typeof a === "number" && typeof b === "number") {
          // What has no figure comes last in both orders.
          if (isNaN(a) || isNaN(b)) return isNaN(a) - isNaN(b);
          return a === b ? 0 : up === a < b ? -1 : 1;
        }
        return String(a).localeCompare(String(b), undefined, { numeric: true }) * (up ? 1 : -1);
      };
      const rows = [...body.rows].map((row) => [value(row, place), row]);
      body.append(...rows.sort((a, b) => order(a[0], b[0])).map((pair) => pair[1]));
    });
  });
}
