// The table of every case: sorted by any column, filtered by name, class, outcome and model.
const SHORT = 200; // rows before somebody asks for all
const columns = [
  { title: "Case", value: (row) => data.cases[row[1]] },
  ...(data.models.length > 1 ? [{ title: "Model", value: (row) => data.models[row[0]] }] : []),
  { title: "Class", value: (row) => data.classes[row[2]] },
  { title: "Outcome", value: (row) => data.outcomes[row[3]] },
  ...data.metrics.map((metric, position) => ({ title: metric.title, number: true, value: (row) => row[FIRST_METRIC + position] })),
  { title: "Reference (ml)", number: true, value: (row) => row[4] },
  { title: "Prediction (ml)", number: true, value: (row) => row[5] },
];
let sorting = { column: columns.findIndex((column) => column.title === "Dice"), direction: 1 }, shown = SHORT;

const collator = new Intl.Collator(undefined, { numeric: true });

function order(a, b) {
  const { value, number } = columns[sorting.column], first = value(a), second = value(b);
  if (first === null || second === null) return (first === null) - (second === null); // not defined: last, both ways
  return sorting.direction * (number ? first - second : collator.compare(first, second));
}

function drawTable() {
  const find = byId("find").value.trim().toLowerCase();
  const [model, item, outcome] = ["filter-model", "filter-class", "filter-outcome"].map((id) => +byId(id).value);
  const wanted = (choice, position) => choice < 0 || choice === position;
  const rows = data.rows.filter((row) => wanted(model, row[0]) && wanted(item, row[2]) && wanted(outcome, row[3]) && data.cases[row[1]].toLowerCase().includes(find)).sort(order);
  const body = rows.slice(0, shown).map((row) => element("tr", {}, ...columns.map(({ title, number, value }, position) => {
    const cell = number ? text(value(row), title) : value(row);
    return position ? element("td", number ? { class: "num" } : title === "Outcome" && row[3] && row[3] !== 3 ? { class: "alert" } : {}, cell) : element("th", { scope: "row" }, cell);
  })));
  byId("cases").tBodies[0].replaceChildren(...body);
  byId("count").textContent = `${Math.min(shown, rows.length)} of ${rows.length} rows${rows.length < data.rows.length ? `, ${data.rows.length} without filters` : ""}`;
  byId("more").hidden = rows.length <= shown;
  byId("cases").tHead.querySelectorAll("th").forEach((head, position) => {
    if (position === sorting.column) head.setAttribute("aria-sort", sorting.direction > 0 ? "ascending" : "descending");
    else head.removeAttribute("aria-sort");
  });
}

function showCase(name) {
  byId("reset").click();
  byId("find").value = name;
  drawTable();
  byId("table").scrollIntoView();
}

byId("cases").tHead.append(element("tr", {}, ...columns.map(({ title, number }, position) => {
  const button = element("button", { type: "button" }, title);
  button.addEventListener("click", () => {
    sorting = { column: position, direction: sorting.column === position ? -sorting.direction : 1 };
    drawTable();
  });
  return element("th", { scope: "col", class: number ? "num" : "" }, button);
})));
fill(byId("filter-class"), data.classes, "all");
fill(byId("filter-outcome"), data.outcomes, "all");
fill(byId("filter-model"), data.models, "all");
byId("filter-model-label").hidden = data.models.length < 2;
for (const id of ["find", "filter-class", "filter-outcome", "filter-model"]) byId(id).addEventListener("input", drawTable);
byId("reset").addEventListener("click", () => {
  byId("find").value = "";
  for (const id of ["filter-class", "filter-outcome", "filter-model"]) byId(id).value = -1;
  drawTable();
});
byId("more").addEventListener("click", () => {
  shown = Infinity;
  drawTable();
});
drawTable();
