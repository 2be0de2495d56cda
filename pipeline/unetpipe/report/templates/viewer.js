// Three planes through a case, with what prediction and reference share and where they differ. Volumes are RAS+, last axis
// fastest; planes are drawn as radiologists see them: right on the left, anterior and superior on top.
const PLANES = [
  { name: "Axial", through: 2, across: 0, down: 1, letters: { w: "R", e: "L", n: "A", s: "P" } },
  { name: "Coronal", through: 1, across: 0, down: 2, letters: { w: "R", e: "L", n: "S", s: "I" } },
  { name: "Sagittal", through: 0, across: 1, down: 2, letters: { w: "A", e: "P", n: "S", s: "I" } },
];
const redraws = [];

async function addCard(view) {
  const [image, reference, ...predictions] = await Promise.all([view.image, view.reference, ...view.predictions].map(unpacked));
  const strides = [view.shape[1] * view.shape[2], view.shape[2], 1];
  const shade = { level: 50, window: 100 };
  const planes = view.oriented ? PLANES : [{ ...PLANES[0], name: "Image", letters: {} }];
  const drawn = planes.map((plane) => addPlane(plane));
  const card = element("article", { class: "card" },
    element("h3", {}, view.case, " ", element("span", {}, view.why)), element("p", { class: "scores" }),
    element("div", { class: "planes" }, ...drawn.map((plane) => plane.figure)));
  if (image) card.append(element("div", { class: "window" }, shader("Level", "level", 0), shader("Window", "window", 1)));
  byId("cards").append(card);
  redraws.push(redraw);
  redraw();

  function redraw() {
    const model = +byId("view-model").value, rows = data.rows.filter((row) => row[0] === model && data.cases[row[1]] === view.case);
    const dice = rows.map((row) => `${data.classes[row[2]]} ${text(row[FIRST_METRIC], "Dice")}`);
    card.querySelector(".scores").textContent = predictions[model] ? `Dice: ${dice.slice(0, 8).join(" · ")}${dice.length > 8 ? " · …" : ""}` : "no prediction";
    for (const plane of drawn) plane.draw();
  }

  function shader(title, key, min) {
    const input = element("input", { type: "range", min, max: key === "window" ? 200 : 100, value: shade[key] });
    const output = element("output", {});
    const show = () => {
      const value = (shade[key] / 100) * (view.high - view.low) + (key === "level" ? view.low : 0);
      output.textContent = value.toLocaleString("en", { maximumSignificantDigits: 3 });
      input.value = shade[key];
    };
    input.addEventListener("input", () => {
      shade[key] = +input.value;
      show();
      redraw();
    });
    show();
    shade[`show ${key}`] = show;
    return element("label", {}, title, input, output);
  }

  function addPlane({ name, through, across, down, letters }) {
    const width = view.shape[across], height = view.shape[down], count = view.shape[through];
    const ratio = (width * view.spacing[across]) / (height * view.spacing[down]);
    const canvas = element("canvas", { width, height, tabindex: 0, role: "img", style: `aspect-ratio:${ratio};${ratio > 1 ? "width:100%" : "height:100%"}` });
    const slider = element("input", { type: "range", min: 0, max: count - 1, value: view.start[through], "aria-label": `${name} slice` });
    const output = element("output", {});
    const screen = element("div", { class: "screen" }, canvas, ...Object.entries(letters).map(([edge, letter]) => element("b", { class: edge }, letter)));
    const pixels = new ImageData(width, height), context = canvas.getContext("2d");
    const flip = view.oriented;

    function draw() {
      const prediction = predictions[+byId("view-model").value], chosen = +byId("view-class").value;
      const strength = +byId("opacity").value / 100, slice = +slider.value;
      const low = (shade.level - shade.window / 2) * 2.55, gain = 255 / Math.max(1, shade.window * 2.55);
      for (let y = 0, at = 0; y < height; y++) {
        for (let x = 0; x < width; x++, at += 4) {
          const place = slice * strides[through] + (flip ? width - 1 - x : x) * strides[across] + (flip ? height - 1 - y : y) * strides[down];
          const grey = image ? (image[place] - low) * gain : 24;
          const kind = verdict(reference[place], prediction ? prediction[place] : 0, chosen);
          const share = kind === null ? 0 : image ? strength * (kind === "tp" ? 0.65 : 1) : Math.max(strength, 0.3);
          const tone = image || kind !== "tp" ? 1 : 0.7 + 0.3 * ((reference[place] * 0.618) % 1); // tells neighbours apart
          for (let part = 0; part < 3; part++) pixels.data[at + part] = Math.min(255, Math.max(0, grey)) * (1 - share) + (kind ? COLORS[kind][part] * share * tone : 0);
          pixels.data[at + 3] = 255;
        }
      }
      context.putImageData(pixels, 0, 0);
      output.textContent = `${slice + 1} / ${count}`;
      canvas.setAttribute("aria-label", `${name} slice ${slice + 1} of ${count} of ${view.case}`);
    }

    function step(by) {
      slider.value = +slider.value + by;
      draw();
    }
    slider.addEventListener("input", draw);
    canvas.addEventListener("keydown", (event) => {
      const by = { ArrowUp: 1, ArrowRight: 1, ArrowDown: -1, ArrowLeft: -1, PageUp: 5, PageDown: -5 }[event.key];
      if (!by) return;
      event.preventDefault();
      step(by);
    });
    canvas.addEventListener("wheel", (event) => {
      if (document.activeElement !== canvas) return; // the page scrolls until somebody has chosen an image
      event.preventDefault();
      step(event.deltaY < 0 ? 1 : -1);
    }, { passive: false });
    canvas.addEventListener("pointermove", (event) => {
      if (!image || !(event.buttons & 1) || event.pointerType === "touch") return;
      shade.level = Math.min(100, Math.max(0, shade.level - event.movementY / 3));
      shade.window = Math.min(200, Math.max(1, shade.window + event.movementX / 2));
      shade["show level"]();
      shade["show window"]();
      redraw();
    });
    return { figure: element("figure", {}, element("figcaption", {}, name), screen, ...(count > 1 ? [element("label", {}, "Slice", slider, output)] : [])), draw };
  }
}

fill(byId("view-class"), data.classes, "all classes");
fill(byId("view-model"), data.models);
byId("view-model-label").hidden = data.models.length < 2;
for (const id of ["view-class", "view-model", "opacity"]) byId(id).addEventListener("input", () => {
  document.querySelector(".swap").hidden = +byId("view-class").value >= 0;
  for (const redraw of redraws) redraw();
});
(async () => {
  for (const view of data.views) await addCard(view);
  document.body.dataset.ready = "yes";
})();
