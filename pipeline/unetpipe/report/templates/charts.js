// Strip and box plots of a metric, and the two plots of volumes. Drawn for the width at hand, so that text stays readable.
function ticks(low, high, count) {
  const rough = (high - low) / count || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= rough);
  const marks = [];
  for (let n = Math.ceil(low / step); n * step <= high + step * 1e-6; n++) marks.push(+(n * step).toPrecision(6) || 0); // not -0
  return marks;
}

const MOST_DOTS = 20000; // that a page draws quickly

function extent(values, pad) {
  if (!values.length) return [0, 1];
  let low = Infinity, high = -Infinity; // not Math.min(...values): a hundred thousand arguments are too many
  for (const value of values) [low, high] = [Math.min(low, value), Math.max(high, value)];
  const room = (high - low || Math.abs(high) || 1) * pad;
  return [low - room, high + room];
}

function quantile(sorted, share) {
  const place = (sorted.length - 1) * share, below = Math.floor(place), above = Math.ceil(place);
  return sorted[below] + (sorted[above] - sorted[below]) * (place - below);
}

// A dot's place across its row: from its case's number, so that it stays where it is.
const spread = (position) => ((position * 0.618034) % 1) - 0.5;

function dot(row, x, y, note) {
  const made = element("circle", { class: "dot", cx: x, cy: y, r: 3.5, fill: color(row[0]) });
  const model = data.models.length > 1 ? `${data.models[row[0]]}, ` : "";
  made.append(element("title", {}, `${data.cases[row[1]]}, ${model}${data.classes[row[2]]}: ${note}`));
  made.addEventListener("click", () => showCase(data.cases[row[1]]));
  return made;
}

function xAxis(svg, scale, low, high, top, bottom, title, width) {
  for (const mark of ticks(low, high, Math.max(3, width / 110))) {
    svg.append(element("line", { class: "grid", x1: scale(mark), x2: scale(mark), y1: top, y2: bottom }));
    svg.append(element("text", { x: scale(mark), y: bottom + 16, "text-anchor": "middle" }, String(mark).replace("-", "−")));
  }
  if (title) svg.append(element("text", { x: width - 8, y: bottom + 33, "text-anchor": "end" }, title));
}

function drawStrips() {
  const holder = byId("strips"), metric = +byId("metric").value, { title, key, higher } = data.metrics[metric];
  const known = data.rows.filter((row) => row[FIRST_METRIC + metric] !== null);
  const value = (row) => row[FIRST_METRIC + metric];
  const width = Math.max(300, holder.clientWidth), left = Math.min(150, width * 0.3), models = data.models.length;
  const lane = data.classes.length * models > 30 ? 22 : data.classes.length * models > 8 ? 38 : 60, rowHeight = lane * models + 6;
  const height = rowHeight * data.classes.length + 44;
  let [low, high] = extent(known.map(value), 0.03);
  if (higher && known.every((row) => value(row) >= 0 && value(row) <= 1)) [low, high] = [Math.max(0, low), 1];
  const scale = (x) => left + ((x - low) / (high - low)) * (width - left - 12);
  const svg = element("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `${title} of every case, by class` });
  const many = known.length > MOST_DOTS;
  xAxis(svg, scale, low, high, 0, height - 40, many ? `${title} (dots: beyond the whiskers)` : title, width);
  data.classes.forEach((name, position) => {
    const label = element("text", { class: "name", x: left - 10, y: position * rowHeight + (rowHeight - 6) / 2 + 4, "text-anchor": "end" });
    label.append(name.length * 7 > left - 10 ? `${name.slice(0, Math.floor(left / 7) - 2)}…` : name, element("title", {}, name));
    svg.append(label);
    for (let model = 0; model < models; model++) {
      const rows = known.filter((row) => row[0] === model && row[2] === position);
      const middle = position * rowHeight + model * lane + lane / 2;
      for (const row of many ? outliers(rows, value) : rows) svg.append(dot(row, scale(value(row)), middle + spread(row[1]) * lane * 0.8, `${title} ${text(value(row), title)}`));
      if (rows.length > 1) svg.append(box(rows.map(value), scale, middle, lane * 0.26));
    }
  });
  svg.dataset.metric = key;
  holder.replaceChildren(svg);
}

function outliers(rows, value) {
  const sorted = rows.map(value).toSorted((a, b) => a - b), [q1, q3] = [0.25, 0.75].map((share) => quantile(sorted, share));
  return rows.filter((row) => value(row) < q1 - 1.5 * (q3 - q1) || value(row) > q3 + 1.5 * (q3 - q1));
}

function box(values, scale, middle, half) {
  const sorted = values.toSorted((a, b) => a - b), [q1, median, q3] = [0.25, 0.5, 0.75].map((share) => quantile(sorted, share));
  const reach = 1.5 * (q3 - q1), first = sorted.find((v) => v >= q1 - reach), last = sorted.findLast((v) => v <= q3 + reach);
  const mean = scale(sorted.reduce((sum, v) => sum + v, 0) / sorted.length);
  const line = (x1, x2, y1, y2, kind) => element("line", { class: kind, x1, x2, y1, y2 });
  return element("g", {},
    line(scale(first), scale(q1), middle, middle, "whisker"), line(scale(q3), scale(last), middle, middle, "whisker"),
    element("rect", { class: "box", x: scale(q1), y: middle - half, width: Math.max(1, scale(q3) - scale(q1)), height: 2 * half }),
    line(scale(median), scale(median), middle - half, middle + half, "median"),
    element("path", { class: "mean", d: `M${mean} ${middle - 6}l6 6l-6 6l-6 -6z` }));
}

function drawVolumes() {
  const wanted = +byId("volume-class").value;
  const rows = data.rows.filter((row) => row[2] === wanted && data.outcomes[row[3]] !== "no prediction" && (row[4] || row[5]));
  const all = rows.flatMap((row) => [row[4], row[5]]);
  const [low, high] = [0, extent(all, 0.05)[1]];
  plot("scatter", rows, [low, high], [low, high], (row) => [row[4], row[5]], "Reference (ml)", "Prediction (ml)", (svg, x, y) => {
    svg.append(element("line", { class: "guide", x1: x(low), y1: y(low), x2: x(high), y2: y(high) }));
  });
  const differences = rows.map((row) => row[5] - row[4]);
  const limits = data.models.map((_, model) => {
    const own = rows.filter((row) => row[0] === model).map((row) => row[5] - row[4]);
    const mean = own.reduce((sum, v) => sum + v, 0) / own.length;
    return own.length < 2 ? [NaN, NaN] : [mean, Math.sqrt(own.reduce((sum, v) => sum + (v - mean) ** 2, 0) / Math.max(1, own.length - 1))];
  });
  const bounds = limits.flatMap(([mean, sd]) => [mean - 2 * sd, mean + 2 * sd]).filter(Number.isFinite);
  plot("bland", rows, [low, high], extent([...differences, ...bounds, 0], 0.05), (row) => [(row[4] + row[5]) / 2, row[5] - row[4]], "Mean of both (ml)", "Difference (ml)", (svg, x, y, right) => {
    svg.append(element("line", { class: "grid", x1: x(low), x2: right, y1: y(0), y2: y(0) }));
    limits.forEach(([mean, sd], model) => {
      if (!Number.isFinite(mean)) return;
      for (const [level, kind] of [[mean, "bias"], [mean - 1.96 * sd, "guide"], [mean + 1.96 * sd, "guide"]]) {
        svg.append(element("line", { class: kind, x1: x(low), x2: right, y1: y(level), y2: y(level), style: data.models.length > 1 ? `stroke:${color(model)}` : "" }));
        const place = kind === "bias" ? { x: x(low) + 4, y: y(level) - 4 } : { x: right, y: y(level) + (level < mean ? 12 : -4), "text-anchor": "end" };
        svg.append(element("text", place, `${kind === "bias" ? "mean" : "± 1.96 SD"} ${text(level, "ml")}`)); // apart where lines are close
      }
    });
  });
}

function drawPredicted() {
  if (!byId("foresight")) return;
  const wanted = +byId("predicted-class").value, place = 6 + data.metrics.findIndex((metric) => metric.key === "dice");
  const pairs = new Map(data.predicted.map(([index, dice]) => [data.rows[index], dice]));
  const rows = [...pairs.keys()].filter((row) => row[2] === wanted && row[place] !== null);
  const low = rows.length ? Math.min(0.7, extent(rows.flatMap((row) => [pairs.get(row), row[place]]), 0)[0]) : 0.7;
  plot("foresight", rows, [low, 1], [low, 1], (row) => [pairs.get(row), row[place]], "Predicted Dice", "Measured Dice", (svg, x, y) => {
    svg.append(element("line", { class: "guide", x1: x(low), y1: y(low), x2: x(1), y2: y(1) }));
  });
}

function plot(id, rows, [x0, x1], [y0, y1], place, xTitle, yTitle, decorate) {
  const holder = byId(id), width = Math.max(280, holder.clientWidth), height = Math.min(400, width * 0.8), left = 48, bottom = height - 42;
  const x = (v) => left + ((v - x0) / (x1 - x0)) * (width - left - 10), y = (v) => bottom - ((v - y0) / (y1 - y0)) * (bottom - 22);
  const svg = element("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `${yTitle} against ${xTitle}` });
  xAxis(svg, x, x0, x1, 22, bottom, xTitle, width);
  for (const mark of ticks(y0, y1, 5)) {
    svg.append(element("line", { class: "grid", x1: left, x2: width - 10, y1: y(mark), y2: y(mark) }));
    svg.append(element("text", { x: left - 6, y: y(mark) + 4, "text-anchor": "end" }, String(mark).replace("-", "−")));
  }
  svg.append(element("text", { x: 0, y: 12 }, yTitle));
  for (const row of rows) svg.append(dot(row, ...place(row).map((v, axis) => (axis ? y : x)(v)), `reference ${text(row[4], "ml")} ml, prediction ${text(row[5], "ml")} ml`));
  decorate(svg, x, y, width - 10);
  holder.replaceChildren(svg);
}

fill(byId("metric"), data.metrics.map((metric) => metric.title));
fill(byId("volume-class"), data.classes);
byId("metric").addEventListener("change", drawStrips);
if (byId("foresight")) {
  fill(byId("predicted-class"), data.classes);
  byId("predicted-class").addEventListener("change", drawPredicted);
}
byId("volume-class").addEventListener("change", drawVolumes);
let drawnWidth = 0;
function drawCharts() {
  if (byId("strips").clientWidth === drawnWidth) return;
  drawnWidth = byId("strips").clientWidth;
  drawStrips();
  drawVolumes();
  drawPredicted();
}
addEventListener("resize", drawCharts);
drawCharts();
