"""The report, looked at by a real browser."""

import html
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unetpipe.config.evaluate import EvaluateConfig
from unetpipe.imaging.files import write_image, write_labels
from unetpipe.imaging.geometry import Grid
from unetpipe.stages.evaluate import evaluate

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine: the report was not looked at")
SHAPE = (24, 20, 16)
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--enable-logging=stderr")

TIME = "--virtual-time-budget=20000"
HEAD = "<script>window.failures = []; addEventListener('error', (e) => failures.push(e.message));</script>"
CHECK = """<script>
(async () => {
  const found = {};
  const pause = () => new Promise((done) => setTimeout(done, 20));
  for (let wait = 0; !document.body.dataset.ready && wait < 200; wait++) await pause();
  const texts = (row) => [...row.cells].map((cell) => cell.textContent);
  const rows = () => [...document.querySelectorAll("#cases tbody tr")].map(texts);
  const head = (title) => [...document.querySelectorAll("#cases thead th")].find((th) => th.textContent === title);
  const type = (id, value, event = "input") => {
    document.getElementById(id).value = value;
    document.getElementById(id).dispatchEvent(new Event(event));
  };
  const column = (title) => [...document.querySelectorAll("#cases thead th")].indexOf(head(title));
  const pixels = (canvas) => {
    const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext("2d", { willReadFrequently: true });
    copy.drawImage(canvas, 0, 0);
    return [...copy.getImageData(0, 0, canvas.width, canvas.height).data];
  };
  try {
%s
  } catch (error) { failures.push(String(error)); }
  found.failures = failures;
  found.requests = performance.getEntriesByType("resource").map((entry) => entry.name);
  const out = document.createElement("pre");
  out.id = "found";
  out.textContent = JSON.stringify(found);
  document.documentElement.replaceChildren(out);
})();
</script>"""


def block(*starts_and_sizes: tuple[tuple[int, int, int], int, int]) -> np.ndarray:
    """Cubes of (start, size, value)."""
    labels = np.zeros(SHAPE, np.uint8)
    for (i, j, k), size, value in starts_and_sizes:
        labels[i : i + size, j : j + size, k : k + size] = value
    return labels


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five cases of two classes: shifted by 0 to 4 voxels; the second class missed in one and invented in another."""
    folder = tmp_path_factory.mktemp("report")
    # LPS files with thick slices, so that the page must turn and stretch them
    grid = Grid.of(SHAPE, np.diag([-1.0, -1.0, 3.0, 1.0]))
    random = np.random.default_rng(0)
    for number in range(5):
        name = f"case <{number}> & co.nii.gz"
        second = [] if number == 3 else [((14, 12, 9), 5, 2)]
        write_labels(folder / "reference" / name, block(((3, 4, 3), 6, 1), *second), grid, {})
        predicted = [] if number == 4 else [((14, 12, 9), 5, 2)]
        write_labels(folder / "prediction" / name, block(((3 + number, 4, 3), 6, 1), *predicted), grid, {})
        write_image(folder / "images" / name, random.normal(100, 20, (1, *SHAPE)).astype(np.float32), grid)
    result = evaluate(
        EvaluateConfig(
            predictions=(folder / "prediction",),
            reference=folder / "reference",
            images=folder / "images",
            out=folder / "out",
            classes={"first </script>": 1, "second": 2},
        )
    )
    assert result.report_html is not None
    return result.report_html


def look(page: str, folder: Path, steps: str) -> dict[str, Any]:
    """Open a page, do `steps` in it and return what they put into `found`."""
    assert CHROMIUM is not None
    marked = page.replace("<head>", "<head>" + HEAD, 1).replace("</body>", CHECK % steps + "</body>", 1)
    path = folder / "page.html"
    path.write_text(marked, encoding="utf-8")
    done = subprocess.run(
        [
            CHROMIUM,
            *FLAGS,
            f"--user-data-dir={folder / 'profile'}",
            TIME,
            "--dump-dom",
            path.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    match = re.search(r'<pre id="found">(.*?)</pre>', done.stdout, re.DOTALL)
    assert match, done.stdout[-2000:] + done.stderr[-2000:]
    found: dict[str, Any] = json.loads(html.unescape(match[1]))
    assert found["failures"] == []
    assert found["requests"] == []
    assert [line for line in done.stderr.splitlines() if ":CONSOLE" in line] == []
    return found


@needs_browser
def test_table_sorts_and_filters(report: Path, tmp_path: Path) -> None:
    """Worst Dice first; a header sorts both ways with undefined values last; filters narrow, reset brings all back."""
    found = look(
        report.read_text(encoding="utf-8"),
        tmp_path,
        """
    const dice = () => rows().map((row) => row[column("Dice")]);
    found.first = dice();
    found.aria = head("Dice").getAttribute("aria-sort");
    head("Dice").querySelector("button").click();
    found.reversed = dice();
    found.ariaReversed = head("Dice").getAttribute("aria-sort");
    head("HD95 (mm)").querySelector("button").click();
    found.hd = rows().map((row) => row[column("HD95 (mm)")]);
    head("Case").querySelector("button").click();
    found.names = rows().map((row) => row[0]);
    type("find", "<3>");
    found.searched = rows().map((row) => row[0]);
    type("filter-class", 1);
    found.both = rows().map((row) => [row[0], row[column("Class")], row[column("Outcome")]]);
    found.count = document.getElementById("count").textContent;
    document.getElementById("reset").click();
    found.all = rows().length;
    type("filter-outcome", 1);
    found.missed = rows().map((row) => row[0]);""",
    )
    numbers = [float(value) for value in found["first"]]
    assert numbers == sorted(numbers)
    assert len(numbers) == 10
    assert (found["aria"], found["ariaReversed"]) == ("ascending", "descending")
    assert found["reversed"] == sorted(found["first"], reverse=True)
    assert found["hd"][-2:] == ["\u2013", "\u2013"]
    assert [float(value) for value in found["hd"][:-2]] == sorted(float(value) for value in found["hd"][:-2])
    assert found["names"] == [f"case <{number}> & co" for number in range(5) for _ in range(2)]
    assert found["searched"] == ["case <3> & co"] * 2
    assert found["both"] == [["case <3> & co", "second", "false positive"]]
    assert found["count"].startswith("1 of 1 rows")
    assert found["all"] == 10
    assert found["missed"] == ["case <4> & co"]


def changed(page: str, change: Callable[[dict[str, Any]], object]) -> str:
    """The page with other data."""
    found = re.search(r'(<script[^>]*id="data"[^>]*>)(.*?)(</script>)', page, re.DOTALL)
    assert found
    data = json.loads(found[2])
    change(data)
    return page[: found.start(2)] + json.dumps(data).replace("<", "\\u003c") + page[found.end(2) :]


@needs_browser
def test_a_hundred_thousand_scores_are_a_page_that_opens(report: Path, tmp_path: Path) -> None:
    """Fifty classes of eight hundred cases by four models: dots are drawn beyond the whiskers only."""
    page = changed(report.read_text(encoding="utf-8"), lambda data: data["rows"].extend(data["rows"] * 15999))
    steps = """
    found.dots = document.querySelectorAll("#strips circle").length;
    found.said = document.querySelector("#strips svg").textContent.includes("beyond the whiskers");
    found.rows = rows().length;"""
    found = look(page, tmp_path, steps)
    assert found["dots"] < 100_000
    assert (found["said"], found["rows"] > 0) == (True, True)


@needs_browser
def test_a_metric_beyond_1_has_an_axis_of_its_own(report: Path, tmp_path: Path) -> None:
    """Whatever is better: dots lie on the axis, which has ticks."""

    def percent(data: dict[str, Any]) -> None:
        place = 6 + next(number for number, metric in enumerate(data["metrics"]) if metric["key"] == "dice")
        for row in data["rows"]:
            row[place] = row[place] if row[place] is None else 100 * row[place]

    steps = """
    const dots = [...document.querySelectorAll("#strips circle")].map((dot) => +dot.getAttribute("cx"));
    found.from = Math.min(...dots);
    found.to = Math.max(...dots);
    found.ticks = document.querySelectorAll("#strips line.grid").length;"""
    found = look(changed(report.read_text(encoding="utf-8"), percent), tmp_path, steps)
    assert 90 < found["from"] < found["to"]
    assert found["ticks"] > 2


@needs_browser
def test_viewer_scrolls_and_shows_errors_on_the_right_side(report: Path, tmp_path: Path) -> None:
    """Arrow keys change the slice; error colours lie where the errors are, left and right as a radiologist expects."""
    found = look(
        report.read_text(encoding="utf-8"),
        tmp_path,
        """
    const card = [...document.querySelectorAll(".card")].find((one) => one.textContent.includes("<4>"));
    const [axial, coronal, sagittal] = card.querySelectorAll("canvas");
    found.letters = [...card.querySelectorAll(".screen")].map((screen) => screen.textContent);
    document.getElementById("opacity").value = 100;
    type("view-class", 0);
    found.axial = { width: axial.width, height: axial.height, pixels: pixels(axial) };
    const place = () => card.querySelector("output").textContent;
    found.start = place();
    axial.focus();
    found.focused = document.activeElement === axial;
    axial.dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowUp", bubbles: true, cancelable: true }));
    found.next = place();
    const before = JSON.stringify(pixels(coronal));
    const window_ = card.querySelectorAll(".window input")[1];
    window_.value = 20;
    window_.dispatchEvent(new Event("input"));
    found.windowed = before !== JSON.stringify(pixels(coronal));
    found.swap = document.querySelector(".swap").hidden;
    found.ratio = [...card.querySelectorAll("canvas")].map((canvas) => canvas.clientWidth / canvas.clientHeight);
    found.cards = document.querySelectorAll(".card").length;""",
    )
    assert found["letters"] == ["RLAP", "RLSI", "APSI"]
    assert found["cards"] == 4  # of five cases the third worst is the median
    image = np.array(found["axial"]["pixels"]).reshape(found["axial"]["height"], found["axial"]["width"], 4)
    # in case 4 class 1 lies at i = 3..8 and is predicted at 7..12; i runs from right to left in these LPS files, so
    # what only the reference holds is further right, which is on the left of the image
    orange = np.argwhere((image[..., :3] == (213, 94, 0)).all(-1))[:, 1]
    yellow = np.argwhere((image[..., :3] == (240, 228, 66)).all(-1))[:, 1]
    assert orange.size == yellow.size == 4 * 6
    assert yellow.max() < orange.min()
    assert found["focused"]
    assert int(found["next"].split(" / ")[0]) == int(found["start"].split(" / ")[0]) + 1
    assert found["windowed"]
    assert found["swap"]
    # 24 x 20 voxels of 1 mm, 16 slices of 3 mm
    assert found["ratio"] == pytest.approx([24 / 20, 24 / 48, 20 / 48], rel=0.03)


@needs_browser
def test_charts_have_a_dot_per_value(report: Path, tmp_path: Path) -> None:
    """Every defined value is a dot, another metric redraws, and a dot finds its case in the table."""
    found = look(
        report.read_text(encoding="utf-8"),
        tmp_path,
        """
    await new Promise((done) => setTimeout(done, 50));
    const dots = () => document.querySelectorAll("#strips .dot").length;
    found.dice = dots();
    type("metric", 6, "change");
    found.hd95 = dots();
    found.volumes = ["scatter", "bland"].map((id) => document.querySelectorAll(`#${id} .dot`).length);
    document.querySelector("#strips .dot").dispatchEvent(new MouseEvent("click"));
    found.searched = rows().map((row) => row[0]);""",
    )
    assert (found["dice"], found["hd95"]) == (10, 8)
    assert found["volumes"] == [5, 5]
    assert len(set(found["searched"])) == 1


@needs_browser
def test_limits_of_agreement_that_nearly_meet_can_be_read(report: Path, tmp_path: Path) -> None:
    """Where a model is wrong by as much in every case, the texts of mean and limits do not lie on each other."""

    def alike(data: dict[str, Any]) -> None:
        for row in data["rows"]:
            row[4], row[5] = 28.0, 80.0 + 0.01 * row[1]

    steps = """
    const texts = [...document.querySelectorAll("#bland text")].filter((one) => /mean|SD/.test(one.textContent));
    const boxes = texts.map((one) => one.getBoundingClientRect());
    found.boxes = boxes.map((box) => [box.left, box.right, box.top, box.bottom]);"""
    boxes = look(changed(report.read_text(encoding="utf-8"), alike), tmp_path, steps)["boxes"]
    assert len(boxes) == 3
    for one, other in combinations(boxes, 2):
        assert one[1] <= other[0] or other[1] <= one[0] or one[3] <= other[2] or other[3] <= one[2]


@needs_browser
def test_a_single_plane_has_no_slices(report: Path, tmp_path: Path) -> None:
    """A picture has nothing to scroll through; volumes have a slider for each plane."""

    def flatten(data: dict[str, Any]) -> None:
        for view in data["views"]:
            across, down, deep = view["shape"]
            view |= {"oriented": False, "shape": [across, down * deep, 1], "start": [0, 0, 0]}

    count = """
    found.planes = document.querySelectorAll("figure canvas").length;
    found.sliders = document.querySelectorAll("figure input[type=range]").length;"""
    page = report.read_text(encoding="utf-8")
    volumes, pictures = look(page, tmp_path, count), look(changed(page, flatten), tmp_path, count)
    assert volumes["planes"] == volumes["sliders"] == 3 * pictures["planes"] > 0
    assert pictures["sliders"] == 0


@needs_browser
def test_comparison_shows_every_model(report: Path, tmp_path: Path) -> None:
    """Two models have a table of differences, dots of both, and the viewer changes between them."""
    folder = report.parents[1]
    result = evaluate(
        EvaluateConfig(
            predictions=(folder / "prediction", folder / "reference"), reference=folder / "reference", out=tmp_path
        )
    )
    assert result.report_html is not None
    found = look(
        result.report_html.read_text(encoding="utf-8"),
        tmp_path,
        """
    found.rows = document.querySelectorAll("#comparison tbody tr").length;
    found.dots = document.querySelectorAll("#strips .dot").length;
    const first = document.querySelector(".card canvas");
    const before = JSON.stringify(pixels(first));
    type("view-model", 1);
    found.changed = before !== JSON.stringify(pixels(first));
    found.scores = document.querySelector(".card .scores").textContent;
    type("filter-model", 1);
    found.table = rows().length;""",
    )
    assert found == {
        "rows": 10,
        "dots": 19,
        "changed": True,
        "scores": "Dice: 1 1.000 \u00b7 2 1.000",
        "table": 10,
        "failures": [],
        "requests": [],
    }


@needs_browser
def test_fits_a_phone(report: Path, tmp_path: Path) -> None:
    """At a width of 360 px nothing but tables scrolls sideways."""
    inner = report.read_text(encoding="utf-8")
    frame = "<iframe style='width:360px;height:700px;border:0'></iframe>"
    source = json.dumps(inner).replace("</", "<\\/")
    found = look(
        f"<!doctype html><html><head></head><body data-ready='yes'>{frame}</body></html>",
        tmp_path,
        f"""
    const frame = document.querySelector("iframe");
    frame.srcdoc = {source};
    await new Promise((done) => {{ frame.onload = done; }});
    const inside = frame.contentDocument;
    for (let wait = 0; !inside.body.dataset.ready && wait < 200; wait++) await pause();
    found.width = [inside.documentElement.scrollWidth, frame.contentWindow.innerWidth];""",
    )
    assert found["width"][0] <= found["width"][1] == 360


@needs_browser
def test_prints(report: Path, tmp_path: Path) -> None:
    """The page prints to a document of a few pages."""
    assert CHROMIUM is not None
    pdf = tmp_path / "report.pdf"
    subprocess.run(
        [CHROMIUM, *FLAGS, f"--user-data-dir={tmp_path / 'profile'}", TIME, f"--print-to-pdf={pdf}", report.as_uri()],
        capture_output=True,
        timeout=300,
        check=True,
    )
    pages = len(re.findall(rb"/Type\s*/Page\b", pdf.read_bytes()))
    assert 2 <= pages <= 10


def test_page_asks_the_network_for_nothing(report: Path) -> None:
    """No address, no external file, and a policy that forbids both; names cannot break out of their place."""
    page = report.read_text(encoding="utf-8")
    assert "default-src 'none'" in page
    assert not re.search(r"""(?:src|href)\s*=\s*["'](?!#)""", page)
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", page)
    assert page.count("</script>") == 2
    assert "case &lt;4&gt; &amp; co" in page or "case \\u003c4>" in page
