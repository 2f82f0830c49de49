"use strict";
// Tables whose headers sort their rows, a form that hides the rows it does not name, and a chart of the runs that are
// shown. Without the script all rows are shown.

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

function add(parent, name, attributes, text = "") {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [attribute, value] of Object.entries(attributes)) made.setAttribute(attribute, value);
  made.textContent = text;
  parent.append(made);
  return made;
}

function ticks(low, high) {
  const least = (high - low) / 6;
  const power = 10 ** Math.floor(Math.log10(least));
  const step = power * [1, 2, 5, 10].find((factor) => factor * power >= least);
  const first = Math.ceil(low / step);
  return Array.from({ length: Math.floor(high / step) - first + 1 }, (_, i) => (first + i) * step);
}

function logarithmicTicks(low, high) {
  const [first, last] = [low, high].map((value) => Math.floor(Math.log10(value)));
  const powers = Array.from({ length: last - first + 1 }, (_, i) => 10 ** (first + i));
  const factors = last - first > 1 ? [1] : [1, 2, 5];
  const round = powers.flatMap((power) => factors.map((factor) => factor * power));
  const found = round.filter((at) => low <= at && at <= high);
  return found.length ? found : [Math.sqrt(low * high)];
}

function written(value) {
  const notation = value >= 1e6 ? "scientific" : "standard";
  return value.toLocaleString("en", { maximumSignificantDigits: 3, notation });
}

// Draws a mark for each row that is shown; the function that it returns draws them anew. The pointer or the arrow keys
// choose a run, which is described with its configuration's mean, and whose configuration stands out.
function chart(table) {
  const [figure, axis, said, link] = ["chart", "axis", "pointed", "open"].map((id) => document.getElementById(id));
  const svg = figure.querySelector("svg");
  const headers = [...table.tHead.rows[0].cells].map((cell) => cell.textContent);
  const score = Number(svg.dataset.score);
  let marks = [];
  let chosen = -1;

  const choose = (at) => {
    if (at < 0 || at >= marks.length || at === chosen) return;
    svg.querySelectorAll(".same").forEach((circle) => circle.classList.remove("same", "chosen"));
    chosen = at;
    const { row, configuration, circle } = marks[at];
    marks.filter((mark) => mark.configuration === configuration).forEach((mark) => mark.circle.classList.add("same"));
    circle.classList.add("chosen");
    svg.append(circle); // above the others
    const numbers = headers.map((header, i) => `${header} ${row.cells[i].textContent}`).slice(5); // behind the names
    said.textContent = `${configuration}: ${row.dataset.mean}; this run: ${numbers.join(", ")}.`;
    const run = row.cells[0].querySelector("a");
    [link.href, link.textContent] = [run.href, `Open ${run.textContent}`];
  };

  const draw = () => {
    const across = Number(axis.value);
    marks = [...table.tBodies[0].rows]
      .filter((row) => !row.hidden && key(row, across) > 0 && key(row, score) !== null)
      .map((row) => ({ row, x: key(row, across), y: key(row, score) }))
      .sort((a, b) => a.x - b.x || a.y - b.y);
    chosen = -1;
    svg.replaceChildren();
    figure.hidden = !marks.length;
    if (!marks.length) return;
    const [left, right, top, bottom] = [48, svg.clientWidth - 12, 8, svg.clientHeight - 40];
    const scores = marks.map((mark) => mark.y);
    const [low, high] = [scores.reduce((a, b) => Math.min(a, b)) - 0.02, scores.reduce((a, b) => Math.max(a, b)) + 0.02];
    const [least, most] = [marks[0].x / 1.2, marks[marks.length - 1].x * 1.2];
    const place = (x) => left + ((right - left) * Math.log(x / least)) / Math.log(most / least);
    const height = (y) => bottom - ((bottom - top) * (y - low)) / (high - low);
    add(svg, "path", { d: `M${left},${top}V${bottom}H${right}`, class: "axis" });
    for (const at of ticks(low, high)) add(svg, "text", { x: left - 6, y: height(at) + 4, class: "score" }, written(at));
    for (const at of logarithmicTicks(least, most)) add(svg, "text", { x: place(at), y: bottom + 16 }, written(at));
    add(svg, "text", { x: (left + right) / 2, y: bottom + 34 }, headers[across]);
    for (const mark of marks) {
      mark.configuration = [1, 2, 3].map((i) => mark.row.cells[i].textContent).join(" · "); // data set, model, method
      [mark.left, mark.top] = [place(mark.x), height(mark.y)];
      mark.circle = add(svg, "circle", { cx: mark.left, cy: mark.top, r: 4 });
    }
  };

  svg.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect();
    const [x, y] = [event.clientX - box.left, event.clientY - box.top];
    const far = marks.map((mark) => Math.hypot(mark.left - x, mark.top - y));
    choose(far.indexOf(far.reduce((a, b) => Math.min(a, b))));
  });
  svg.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1 }[event.key];
    if (step) choose(chosen + step);
    if (step) event.preventDefault();
    if (event.key === "Enter" && chosen >= 0) link.click();
  });
  svg.addEventListener("click", () => chosen >= 0 && link.click());
  figure.hidden = false;
  new ResizeObserver(draw).observe(svg);
  return draw;
}

const form = document.getElementById("filter");
if (form) {
  const draw = chart(document.getElementById("runs"));
  const rows = [...document.getElementById("runs").tBodies[0].rows];
  const texts = rows.map((row) => row.textContent.toLowerCase());
  const choices = [...form.querySelectorAll("select[data-column]")];
  const filter = () => {
    const words = document.getElementById("text").value.toLowerCase().split(/\s+/);
    rows.forEach((row, i) => {
      const chosen = choices.every((one) => !one.value || row.cells[one.dataset.column].textContent === one.value);
      row.hidden = !chosen || !words.every((word) => texts[i].includes(word));
    });
    const shown = rows.filter((row) => !row.hidden).length;
    document.getElementById("shown").textContent = `${shown} of ${rows.length} runs`;
    draw();
  };
  form.addEventListener("input", filter);
  form.addEventListener("submit", (event) => event.preventDefault());
  filter(); // a page that is gone back to keeps what was typed
}
