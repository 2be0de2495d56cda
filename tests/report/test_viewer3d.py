"""viewer.html: what NiiVue gets to show, and that it shows it."""

import base64
import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from unetpipe.config.evaluate import EvaluateConfig
from unetpipe.errors import UnetpipeError
from unetpipe.imaging.files import write_image, write_labels
from unetpipe.imaging.geometry import Grid
from unetpipe.report.viewer3d import find_niivue
from unetpipe.stages.evaluate import EvaluateResult, evaluate

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine: the viewer was not looked at")
FLAGS = ("--headless", "--no-sandbox", "--disable-background-networking", "--enable-logging=stderr")
SOFTWARE_WEBGL = ("--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist")

# LPS axes, so that the way to RAS is not the identity; nothing is cropped, the labels are close to every border
GRID = Grid.of((8, 10, 6), np.array([[-2.0, 0, 0, 30], [0, -1.5, 0, 20], [0, 0, 3, -10], [0, 0, 0, 1]]))

STUB = """
var niivue = { NVImage: { new: async (buffer, name) => ({ buffer, name, setColormapLabel() {} }) } };
niivue.Niivue = class {
  constructor(opts) { this.opts = opts; this.volumes = []; this.scene = {}; window.stub = this; }
  async attachToCanvas() {}
  addVolume(volume) { this.volumes.push(volume); }
  removeVolume(volume) { this.volumes = this.volumes.filter((one) => one !== volume); }
  setSliceType() {}
  setOpacity() {}
  drawScene() {}
};"""
CHECK = """<script>
(async () => {
  const pause = () => new Promise((done) => setTimeout(done, 20));
  for (let wait = 0; !document.body.dataset.ready && wait < 500; wait++) await pause();
  const found = {};
  const choose = async (id, value) => {
    document.getElementById(id).value = value;
    document.getElementById(id).dispatchEvent(new Event("input"));
    await pause();
  };
  const failures = [];
  try {
%s
  } catch (error) { failures.push(String(error)); }
  found.failures = failures;
  const out = document.createElement("pre");
  out.id = "found";
  out.textContent = JSON.stringify(found);
  document.documentElement.replaceChildren(out);
})();
</script>"""


def labels() -> tuple[np.ndarray, np.ndarray]:
    """Reference and prediction that share some voxels, and differ in every way."""
    reference, prediction = np.zeros((2, *GRID.shape), np.uint8)
    reference[1:5, 2:6, 1:4] = 1
    prediction[2:6, 2:6, 1:4] = 1
    reference[6, 8, 4:6] = 1
    prediction[6, 8, 4:6] = 2
    return reference, prediction


def show(folder: Path, niivue: Path, monkeypatch: pytest.MonkeyPatch) -> EvaluateResult:
    """Evaluate one case with a scan, its name full of signs, with a 3-D view by this NiiVue."""
    monkeypatch.setenv("UNETPIPE_NIIVUE", str(niivue))
    for part, array in zip(("reference", "prediction"), labels(), strict=True):
        write_labels(folder / part / "a <b> & c.nii.gz", array, GRID, {})
    image = np.arange(np.prod(GRID.shape), dtype=np.float32).reshape(1, *GRID.shape)
    write_image(folder / "images" / "a <b> & c.nii.gz", image, GRID)
    return evaluate(
        EvaluateConfig(
            predictions=(folder / "prediction",),
            reference=folder / "reference",
            images=folder / "images",
            classes={"first </script>": 1, "second": 2},
            viewer="niivue",
            out=folder / "out",
        )
    )


def look(page: Path, steps: str, *flags: str) -> dict[str, Any]:
    """Open the page, do `steps` in it and return what they put into `found`."""
    assert CHROMIUM is not None
    marked = page.with_name("marked.html")
    text = page.read_text(encoding="utf-8")
    before, _, after = text.rpartition("</body>")
    marked.write_text(before + CHECK % steps + "</body>" + after, encoding="utf-8")
    profile = f"--user-data-dir={page.parent / 'profile'}"
    command = [CHROMIUM, *FLAGS, *flags, profile, "--virtual-time-budget=30000", "--dump-dom", marked.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    match = re.search(r'<pre id="found">(.*?)</pre>', done.stdout, re.DOTALL)
    assert match, done.stdout[-2000:] + done.stderr[-2000:]
    found: dict[str, Any] = json.loads(html.unescape(match[1]))
    assert found.pop("failures") == []
    assert [line for line in done.stderr.splitlines() if ":CONSOLE" in line] == []
    return found


def test_says_how_to_get_niivue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it is not installed, the error says what to do, before anything is computed or written."""
    with pytest.raises(UnetpipeError, match="npm install @niivue/niivue"):
        show(tmp_path, tmp_path / "absent.js", monkeypatch)
    assert not (tmp_path / "out").exists()


def test_finds_what_npm_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`npm install` in the current folder is enough."""
    monkeypatch.delenv("UNETPIPE_NIIVUE", raising=False)
    monkeypatch.chdir(tmp_path)
    script = Path("node_modules/@niivue/niivue/dist/niivue.umd.js")
    script.parent.mkdir(parents=True)
    script.touch()
    assert find_niivue() == script


def test_the_page_holds_everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One file beside the report, linked from it, with NiiVue and its licence inside; names cannot break out."""
    (tmp_path / "niivue.js").write_text(STUB + "// </script> in a library")
    result = show(tmp_path, tmp_path / "niivue.js", monkeypatch)
    assert result.report_html is not None
    assert 'href="viewer.html"' in result.report_html.read_text(encoding="utf-8")
    page = (tmp_path / "out" / "viewer.html").read_text(encoding="utf-8")
    assert "niivue.Niivue = class" in page
    assert "Copyright (c) 2021, Niivue" in page
    assert page.count("</script>") == 4
    assert "default-src 'none'" in page
    assert not re.search(r"""(?:src|href)\s*=\s*["'](?!report\.html)""", page)
    assert str(tmp_path) not in page


@needs_browser
def test_niivue_gets_the_volumes_where_they_belong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Scan and overlay arrive as NIfTI in RAS+ order: each kind of voxel is where reference and prediction say."""
    (tmp_path / "niivue.js").write_text(STUB)
    show(tmp_path, tmp_path / "niivue.js", monkeypatch)
    found = look(
        tmp_path / "out" / "viewer.html",
        """
    const sent = () => stub.volumes.map((one) => btoa(String.fromCharCode(...new Uint8Array(one.buffer))));
    found.all = sent();
    await choose("view-class", 1);
    found.second = sent();
    found.cross = stub.scene.crosshairPos;
    found.radiological = stub.opts.isRadiologicalConvention;""",
        *SOFTWARE_WEBGL,
    )
    reference, prediction = labels()
    tp, fp, fn, wrong = 1, 2, 3, 4
    both = (reference > 0) & (prediction > 0)
    expected = np.select([both & (reference == prediction), both, reference > 0, prediction > 0], [tp, wrong, fn, fp])
    image, overlay = (nib.Nifti1Image.from_bytes(base64.b64decode(one)) for one in found["all"])
    assert nib.aff2axcodes(overlay.affine) == ("R", "A", "S")
    assert overlay.header.get_zooms() == pytest.approx((2, 1.5, 3))
    in_ras = nib.as_closest_canonical(nib.Nifti1Image(expected.astype(np.uint8), GRID.matrix))
    np.testing.assert_array_equal(np.asarray(overlay.dataobj), np.asarray(in_ras.dataobj))
    scan = np.asarray(image.dataobj)[::-1, ::-1].astype(int)
    assert (np.diff(scan.ravel()) >= 0).all()
    assert len(found["second"]) == 2
    second = np.asarray(nib.Nifti1Image.from_bytes(base64.b64decode(found["second"][1])).dataobj)
    np.testing.assert_array_equal(second, np.where(np.asarray(in_ras.dataobj) == wrong, fp, 0))
    assert all(0 < part < 1 for part in found["cross"])
    assert found["radiological"] is True


@needs_browser
def test_without_webgl_the_page_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A browser that cannot show it tells where the same cases are to be seen."""
    (tmp_path / "niivue.js").write_text(STUB)
    show(tmp_path, tmp_path / "niivue.js", monkeypatch)
    page = tmp_path / "out" / "viewer.html"
    steps = "found.note = document.getElementById('note').textContent;"
    assert "no WebGL 2" in look(page, steps, "--disable-gpu", "--disable-3d-apis")["note"]


def _niivue() -> Path | None:
    try:
        return find_niivue().resolve()
    except UnetpipeError:
        return None


@pytest.mark.slow
@needs_browser
@pytest.mark.skipif(_niivue() is None, reason="NiiVue is not here (npm install @niivue/niivue): it showed nothing")
def test_niivue_shows_the_case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a real browser with the real NiiVue: every kind of voxel has its colour on the screen, with no error."""
    niivue = _niivue()
    assert niivue is not None
    show(tmp_path, niivue, monkeypatch)
    found = look(
        tmp_path / "out" / "viewer.html",
        """
    const painted = () => {
      nv.drawScene();
      const copy = new OffscreenCanvas(stage.width, stage.height).getContext("2d");
      copy.drawImage(stage, 0, 0);
      const pixels = copy.getImageData(0, 0, stage.width, stage.height).data;
      const near = (at, color) => color.every((value, part) => Math.abs(pixels[at + part] - value) < 12);
      const counts = { lit: 0, tp: 0, fp: 0, fn: 0 };
      for (let at = 0; at < pixels.length; at += 4) {
        if (Math.max(pixels[at], pixels[at + 1], pixels[at + 2]) > 60) counts.lit += 1;
        for (const kind of ["tp", "fp", "fn"]) if (near(at, COLORS[kind])) counts[kind] += 1;
      }
      return counts;
    };
    await choose("opacity", 100);
    await choose("layout", 0);
    found.axial = painted();
    await choose("scan", 0);
    await choose("layout", 4);
    found.solid = painted();
    await choose("opacity", 0);
    found.nothing = painted();""",
        *SOFTWARE_WEBGL,
    )
    assert min(found["axial"].values()) > 500
    assert found["solid"]["lit"] > 2 * found["nothing"]["lit"]


@needs_browser
def test_choices_are_shown_one_after_the_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two choices at once leave one overlay, and a case that takes long to unpack does not replace a later choice."""
    (tmp_path / "niivue.js").write_text(STUB)
    show(tmp_path, tmp_path / "niivue.js", monkeypatch)
    found = look(
        tmp_path / "out" / "viewer.html",
        """
    for (let time = 0; time < 2; time++) document.getElementById("view-class").dispatchEvent(new Event("input"));
    await pause();
    found.volumes = stub.volumes.length;
    data.views.push({ ...data.views[0], case: "later" });
    const quick = unpacked;
    let slow = 3;
    unpacked = async (packed) => {
      if (slow-- > 0) await new Promise((done) => setTimeout(done, 10));
      return quick(packed);
    };
    const chosen = document.getElementById("view-case");
    chosen.append(new Option("later", 1));
    for (const value of [0, 1]) {
      chosen.value = value;
      chosen.dispatchEvent(new Event("input"));
    }
    for (let wait = 0; wait < 5; wait++) await pause();
    found.shown = stub.volumes.map((one) => one.name);""",
        *SOFTWARE_WEBGL,
    )
    assert found["volumes"] == 2
    assert found["shown"] == ["later.nii", "overlay.nii"]


def test_without_a_case_to_show_there_is_no_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no case has a prediction, the report does not lead to an empty view."""
    (tmp_path / "niivue.js").write_text(STUB)
    monkeypatch.setenv("UNETPIPE_NIIVUE", str(tmp_path / "niivue.js"))
    write_labels(tmp_path / "reference" / "a.nii.gz", labels()[0], GRID, {})
    write_labels(tmp_path / "prediction" / "b.nii.gz", labels()[1], GRID, {})
    result = evaluate(
        EvaluateConfig(
            predictions=(tmp_path / "prediction",),
            reference=tmp_path / "reference",
            viewer="niivue",
            out=tmp_path / "out",
        )
    )
    assert result.viewer_html is None
    assert result.report_html is not None
    assert "viewer.html" not in result.report_html.read_text(encoding="utf-8")
