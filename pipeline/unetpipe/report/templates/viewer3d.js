// The report's cases in NiiVue: the scan, and over it what prediction and reference share and where they differ. Everything comes
// from the page itself.
const KINDS = Object.keys(COLORS);
const LABELS = { // in the overlay, kind k of KINDS is k + 1
  R: [0, ...KINDS.map((kind) => COLORS[kind][0])], G: [0, ...KINDS.map((kind) => COLORS[kind][1])], B: [0, ...KINDS.map((kind) => COLORS[kind][2])],
  A: [0, ...KINDS.map(() => 255)], I: [0, ...KINDS.map((_, position) => position + 1)], labels: ["", ...KINDS],
};
const stage = byId("stage");
let nv, shown, turn = Promise.resolve();

// One after the other: a large case that is still being unpacked must not take the place of the one that was chosen after it.
const inTurn = (work) => () => (turn = turn.then(work, work));

function nifti(view, voxels) {
  // NIfTI-1, one file, 8 bits; our arrays have the last axis fastest, NIfTI the first
  const [width, height, depth] = view.shape, file = new ArrayBuffer(352 + voxels.length), header = new DataView(file);
  header.setInt32(0, 348, true);
  [3, ...view.shape, 1, 1, 1, 1].forEach((size, position) => header.setInt16(40 + 2 * position, size, true));
  header.setInt16(70, 2, true);
  header.setInt16(72, 8, true);
  [1, ...view.spacing].forEach((size, position) => header.setFloat32(76 + 4 * position, size, true));
  header.setFloat32(108, 352, true);
  header.setFloat32(112, 1, true);
  header.setUint8(123, 2);
  header.setInt16(254, 1, true);
  // a picture has no right and left: its columns run to the right and its rows down as it is seen
  for (let axis = 0; axis < 3; axis++) header.setFloat32(280 + 20 * axis, (!view.oriented && axis < 2 ? -1 : 1) * view.spacing[axis], true);
  [0x6e, 0x2b, 0x31, 0].forEach((letter, position) => header.setUint8(344 + position, letter));
  const into = new Uint8Array(file, 352);
  for (let i = 0, from = 0; i < width; i++) for (let j = 0; j < height; j++) for (let k = 0; k < depth; k++, from++) into[i + width * (j + height * k)] = voxels[from];
  return file;
}

function overlay() {
  const prediction = shown.predictions[+byId("view-model").value], chosen = +byId("view-class").value;
  return shown.reference.map((value, place) => {
    const kind = verdict(value, prediction ? prediction[place] : 0, chosen);
    return kind === null ? 0 : KINDS.indexOf(kind) + 1;
  });
}

async function volume(voxels, name, options) {
  return niivue.NVImage.new(nifti(shown.view, voxels), `${name}.nii`, "gray", 1, null, options.cal_min, options.cal_max);
}

async function showOverlay() {
  while (nv.volumes.length > 1) nv.removeVolume(nv.volumes[1]);
  const layer = await volume(overlay(), "overlay", { cal_min: 0, cal_max: KINDS.length });
  layer.setColormapLabel(LABELS);
  nv.addVolume(layer);
  show();
}

async function showCase() {
  const view = data.views[+byId("view-case").value];
  const [image, reference, ...predictions] = await Promise.all([view.image, view.reference, ...view.predictions].map(unpacked));
  shown = { view, reference, predictions };
  for (const old of [...nv.volumes]) nv.removeVolume(old);
  nv.addVolume(await volume(image || new Uint8Array(reference.length), view.case, { cal_min: 0, cal_max: 255 }));
  nv.opts.isOrientationTextVisible = view.oriented;
  await showOverlay();
  const at = view.start.map((slice, axis) => (slice + 0.5) / view.shape[axis]);
  nv.scene.crosshairPos = view.oriented ? at : [1 - at[0], 1 - at[1], at[2]];
  nv.drawScene();
}

function show() {
  document.querySelector(".swap").hidden = +byId("view-class").value >= 0;
  nv.setSliceType(+byId("layout").value);
  nv.setOpacity(0, +byId("scan").value / 100);
  nv.setOpacity(1, +byId("opacity").value / 100);
}

async function start() {
  if (!document.createElement("canvas").getContext("webgl2")) {
    byId("note").textContent = "This browser has no WebGL 2, which the 3-D view needs. The report shows the same cases in planes.";
    return;
  }
  nv = new niivue.Niivue({
    isRadiologicalConvention: true, sagittalNoseLeft: true, multiplanarLayout: 2, multiplanarShowRender: 1, isNearestInterpolation: true,
    backColor: [0, 0, 0, 1], crosshairColor: [1, 1, 1, 0.6], crosshairWidth: 0.2, dragAndDropEnabled: false, logLevel: "error", loadingText: "",
  });
  await nv.attachToCanvas(stage);
  await showCase();
  byId("view-case").addEventListener("input", inTurn(showCase));
  for (const id of ["view-class", "view-model"]) byId(id).addEventListener("input", inTurn(showOverlay));
  for (const id of ["layout", "scan", "opacity"]) byId(id).addEventListener("input", show);
}

fill(byId("view-case"), data.views.map((view) => `${view.case} (${view.why})`));
fill(byId("view-class"), data.classes, "all classes");
fill(byId("view-model"), data.models);
byId("view-model-label").hidden = data.models.length < 2;
start().finally(() => { document.body.dataset.ready = "yes"; });
