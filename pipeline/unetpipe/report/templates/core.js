// What all parts of the page share: the data, and making elements.
const data = JSON.parse(document.getElementById("data").textContent);
const FIRST_METRIC = 6; // rows are [model, case, class, outcome, reference ml, prediction ml, ...metrics]
const byId = (id) => document.getElementById(id);

function element(name, attributes = {}, ...children) {
  const svg = ["svg", "g", "line", "rect", "circle", "path", "text", "title"].includes(name);
  const made = svg ? document.createElementNS("http://www.w3.org/2000/svg", name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

function fill(select, names, everything) {
  const options = names.map((name, position) => element("option", { value: position }, name));
  select.replaceChildren(...(everything ? [element("option", { value: -1 }, everything)] : []), ...options);
}

function digits(title) {
  return /%|Lesions/.test(title) ? 1 : /mm|ml/.test(title) ? 2 : 3;
}

function text(value, title) {
  if (value === null) return "–";
  const small = value !== 0 && Math.abs(value) < 0.5 * 10 ** -digits(title) && /mm|ml/.test(title); // such as volumes of cells
  return (small ? value.toPrecision(3) : value.toFixed(digits(title))).replace("-", "−");
}

const color = (model) => `var(--m${model % 10})`;
