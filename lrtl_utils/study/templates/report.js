"use strict";
// Tables whose headers sort their rows, and a form that hides the rows it does not name. Without it all are shown.

function key(row, column) {
  const cell = row.cells[column];
  if (!("value" in cell.dataset)) return cell.textContent.trim();
  return cell.dataset.value === "" ? null : Number(cell.dataset.value);
}

function compare(a, b) {
  return typeof a === "number" ? a - b : a.localeCompare(b, "en", { numeric: true });
}

function sort(table, header) {
  const headers = [...header.parentElement.cells];
  const column = headers.indexOf(header);
  const upwards = header.getAttribute("aria-sort") !== "ascending";
  headers.forEach((each) => each.removeAttribute("aria-sort"));
  header.setAttribute("aria-sort", upwards ? "ascending" : "descending");
  const body = table.tBodies[0];
  const keyed = [...body.rows].map((row) => [key(row, column), row]);
  const known = keyed.filter(([value]) => value !== null && !Number.isNaN(value));
  const unknown = keyed.filter(([value]) => value === null || Number.isNaN(value)); // last, either way
  known.sort(([a], [b]) => (upwards ? compare(a, b) : compare(b, a)));
  body.append(...[...known, ...unknown].map(([, row]) => row));
}

for (const table of document.querySelectorAll("table.sortable")) {
  for (const header of table.tHead.rows[0].cells) {
    const button = document.createElement("button"); // so that the keyboard reaches it
    button.type = "button";
    button.append(...header.childNodes);
    button.addEventListener("click", () => sort(table, header));
    header.append(button);
  }
}

const form = document.getElementById("filter");
if (form) {
  const rows = [...document.getElementById("runs").tBodies[0].rows];
  const texts = rows.map((row) => row.textContent.toLowerCase());
  const choices = [...form.querySelectorAll("select")];
  const filter = () => {
    const words = document.getElementById("text").value.toLowerCase().split(/\s+/);
    rows.forEach((row, i) => {
      const chosen = choices.every((one) => !one.value || row.cells[one.dataset.column].textContent === one.value);
      row.hidden = !chosen || !words.every((word) => texts[i].includes(word));
    });
    const shown = rows.filter((row) => !row.hidden).length;
    document.getElementById("shown").textContent = `${shown} of ${rows.length} runs`;
  };
  form.addEventListener("input", filter);
  form.addEventListener("submit", (event) => event.preventDefault());
  filter(); // a page that is gone back to keeps what was typed
}
