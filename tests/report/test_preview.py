"""The preview shows what is stored, in the radiological convention, and stays small."""

import base64
import io
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from unetpipe.dataset.checks.intensities import channel_statistics
from unetpipe.dataset.checks.statistics import CaseStatistics
from unetpipe.dataset.label_scheme import LabelClass
from unetpipe.dataset.manifest import Case, Manifest
from unetpipe.dataset.planning.fingerprint import make_fingerprint
from unetpipe.dataset.planning.planner import make_plan
from unetpipe.dataset.store import CaseStore, encode_case
from unetpipe.errors import Fault
from unetpipe.imaging.geometry import Grid, orientation_to_ras
from unetpipe.imaging.preprocessing import Placement
from unetpipe.report.histograms import histogram_svg
from unetpipe.report.preview import write_preview
from unetpipe.report.thumbnails import _planes, case_png, middle_of_label

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def store_case(work: Path, name: str, array: np.ndarray, spacing: tuple[float, ...], configuration: str) -> None:
    shape = array.shape[1:]
    encoded = encode_case(
        array.astype(np.float16),
        case=name,
        key=name,
        placement=Placement(source=Grid.of(shape, np.eye(4)), start=(0,) * len(shape), stop=shape, shape=shape),
        spacing_mm=spacing,
        classes=3,
    )
    encoded.write(work / "cases" / configuration, name)


def body(corner: tuple[int, ...]) -> np.ndarray:
    """A dim block with one bright corner voxel region, and a small label in the middle."""
    array = np.zeros((2, 20, 24, 16))
    array[0] = 1
    array[(0, *(slice(0, 4) if end == 0 else slice(-4, None) for end in corner))] = 5
    array[1, 9:12, 11:14, 7:10] = 1
    return array


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)


def quadrant(plane: np.ndarray) -> tuple[str, str]:
    """Where the brightest part of a plane is."""
    rows, columns = np.nonzero(plane == plane.max())
    height, width = plane.shape
    return ("top" if rows.mean() < height / 2 else "bottom", "left" if columns.mean() < width / 2 else "right")


@pytest.mark.parametrize(
    ("corner", "expected"),
    [
        # right, anterior, superior: on screen the right is left, anterior up in axial, superior up in coronal
        ((1, 1, 1), [("top", "left"), ("top", "left"), ("top", "left")]),
        ((0, 0, 0), [("bottom", "right"), ("bottom", "right"), ("bottom", "right")]),
        ((1, 0, 1), [("bottom", "left"), ("top", "left"), ("top", "right")]),
    ],
)
def test_planes_are_shown_as_radiologists_have_them(
    tmp_path: Path, corner: tuple[int, ...], expected: list[tuple[str, str]]
) -> None:
    """Axial, coronal and sagittal each show the bright corner where it belongs."""
    array = body(corner)
    # the corner runs through the whole volume along each plane's normal in turn, so that the middle plane meets it
    for number, fixed in enumerate((2, 1, 0)):
        one = array.copy()
        box: list[slice] = [slice(0, 4) if end == 0 else slice(-4, None) for end in corner]
        box[fixed] = slice(None)
        one[0] = 1
        one[(0, *box)] = 5
        work = tmp_path / str(number)
        store_case(work, "a", one, (1.0, 1.0, 1.0), "3d_fullres")
        picture = pixels(case_png(CaseStore(work, "3d_fullres"), "a", side=48)).sum(axis=2)
        # planes stand 2 pixels apart, each in its own proportions
        extents = ((24, 20), (16, 20), (16, 24))
        widths = [round(48 * across / max(down, across)) for down, across in extents]
        starts = np.cumsum([0, *(width + 2 for width in widths)])[:3]
        heights = [round(48 * down / max(down, across)) for down, across in extents]
        plane = picture[: heights[number], starts[number] : starts[number] + widths[number]]
        assert quadrant(plane) == expected[number]


@pytest.mark.parametrize("signs", ["LAS", "PSL", "AIR"])
def test_arrays_in_their_files_order_are_shown_alike(tmp_path: Path, signs: str) -> None:
    """Planes of a plan that keeps each file's axes, as those of adopted models of nnU-Net, are those of RAS+ order."""
    array = body((1, 0, 1))
    array[0] = np.random.default_rng(0).normal(0, 1, array.shape[1:])
    store_case(tmp_path, "ras", array, (1.0, 2.0, 3.0), "3d_fullres")
    matrix = nib.orientations.inv_ornt_aff(nib.orientations.axcodes2ornt(signs), array.shape[1:])
    grid = Grid.of((1, 1, 1), np.linalg.inv(matrix))
    turn = orientation_to_ras(grid)
    stored = turn.from_ras(array)
    grid, shape = Grid.of(stored.shape[1:], grid.matrix), stored.shape[1:]
    spacing = [0.0] * 3
    for axis, size in zip(turn.axes, (1.0, 2.0, 3.0), strict=True):
        spacing[axis] = size
    encoded = encode_case(
        stored.astype(np.float16),
        case="stored",
        key="",
        placement=Placement(source=grid, start=(0,) * 3, stop=shape, shape=shape, orientation="stored"),
        spacing_mm=tuple(spacing),
        classes=3,
    )
    encoded.write(tmp_path / "cases" / "3d_fullres", "stored")
    store = CaseStore(tmp_path, "3d_fullres")
    # the middle of the labels is rounded to another voxel where an axis is turned round
    at = middle_of_label(store.record("ras"))
    placed = [0] * 3
    for axis, index, count, flip in zip(turn.axes, at, array.shape[1:], turn.flips, strict=True):
        placed[axis] = count - 1 - index if flip else index
    ours = _planes(store, "stored", store.record("stored"), tuple(placed))
    for one, other in zip(ours, _planes(store, "ras", store.record("ras"), at), strict=True):
        np.testing.assert_array_equal(one[0], other[0])
        np.testing.assert_array_equal(one[1], other[1])
        assert one[2] == other[2]


def test_planes_have_square_millimetres(tmp_path: Path) -> None:
    """A thick-sliced volume is drawn in its true proportions."""
    array = np.random.default_rng(0).normal(0, 1, (2, 40, 40, 10))
    array[1] = 0
    store_case(tmp_path, "a", array, (1.0, 1.0, 4.0), "3d_fullres")
    picture = pixels(case_png(CaseStore(tmp_path, "3d_fullres"), "a", side=50))
    assert picture.shape == (50, 154, 3)


def test_outline_surrounds_the_label(tmp_path: Path) -> None:
    """The outline has the class's colour and lies on the label's border, nowhere else."""
    store_case(tmp_path, "a", body((1, 1, 1)), (1.0, 1.0, 1.0), "3d_fullres")
    picture = pixels(case_png(CaseStore(tmp_path, "3d_fullres"), "a", side=48))
    red = (picture == (255, 90, 95)).all(axis=2)
    rows, columns = np.nonzero(red[:, :40])
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (20, 25, 16, 21)


def test_middle_of_an_empty_label(tmp_path: Path) -> None:
    """Without a label the planes go through the middle of the volume."""
    store_case(tmp_path, "a", np.ones((2, 20, 24, 16)) * [[[[1]]], [[[0]]]], (1.0, 1.0, 1.0), "3d_fullres")
    assert middle_of_label(CaseStore(tmp_path, "3d_fullres").record("a")) == (10, 12, 8)


def writer_of(tmp_path: Path, dims: int) -> Callable[[list[Fault]], Path]:
    """A function that writes the preview of six cases with the warnings that it is given."""
    shape, spacing = (20, 24, 16)[:dims], (1.0, 1.0, 2.0)[:dims]
    statistics = []
    for number in range(6):
        array = np.random.default_rng(number).normal(0, 1, (2, *shape))
        array[1] = 0
        array[(1, *(slice(4, 9),) * dims)] = 1
        name = f"case_{number}"
        store_case(tmp_path, name, array, spacing, "2d" if dims == 2 else "3d_fullres")
        statistics.append(
            CaseStatistics(
                id=name,
                content="",
                shape=shape,
                spacing_mm=spacing,
                cropped_shape=shape,
                label_counts={0: 10, 1: 5**dims},
                channels=(channel_statistics(array[0], array[1], [0]),),
                image_hash="",
                signature=(),
            )
        )
    manifest = Manifest(
        name="<Set & co>",
        channels=("MRI",),
        labels=tuple(LabelClass(name=name, value=value) for value, name in enumerate(("background", "a<b", "c"))),
        spatial_dims=dims,
        cases=tuple(Case(id=one.id, images=(Path("/secret/place/x.nii"),), patient="Jane") for one in statistics),
    )
    fingerprint = make_fingerprint(statistics)
    plan = make_plan(fingerprint, manifest)
    return lambda faults: write_preview(tmp_path, manifest, fingerprint, plan, plan.default, faults, workers=2)


@pytest.mark.parametrize("dims", [2, 3])
def test_page(tmp_path: Path, dims: int) -> None:
    """One file with every case, its warnings and no outside reference; written again only when something changed."""
    write = writer_of(tmp_path, dims)
    fault = Fault(case="case_2", kind="empty_label", message="is <odd>", severity="warning")
    path = write([fault])
    page = path.read_text()
    assert len(re.findall(r'<img alt="case_\d"', page)) == 6
    assert "&lt;Set &amp; co&gt;" in page
    assert "is &lt;odd&gt;" in page
    assert "a&lt;b" in page
    assert "<b>" not in page.replace("<b>case_", "")
    assert not re.findall(r'(?:src|href)="(?!data:)', page)
    assert "secret" not in page
    assert "Jane" not in page
    for picture in re.findall(r'base64,([^"]+)"', page):
        assert pixels(base64.b64decode(picture)).size
    before = path.stat().st_mtime_ns
    write([fault])
    assert path.stat().st_mtime_ns == before
    write([])
    assert path.stat().st_mtime_ns != before


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine: the preview was not looked at")
def test_a_long_warning_does_not_spread_a_card(tmp_path: Path) -> None:
    """Cards are as wide as their pictures, so that those with a warning stand beside the others."""
    assert CHROMIUM is not None
    path = writer_of(tmp_path, 3)([Fault.warning("duplicate_image", "has nearly the same image " * 9, "case_2")])
    widths = "[...document.querySelectorAll('figure')].map((one) => one.getBoundingClientRect().width).join()"
    page = path.read_text().replace("</body>", f"<script>document.title = {widths}</script></body>")
    path.write_text(page)
    flags = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom"]
    done = subprocess.run([CHROMIUM, *flags, path.as_uri()], capture_output=True, text=True, timeout=300, check=True)
    match = re.search("<title>(.*?)</title>", done.stdout)
    assert match
    found = {float(width) for width in match[1].split(",")}
    assert len(found) == 1
    assert 200 < found.pop() < 600


def test_histogram_counts() -> None:
    """The tallest bar is the commonest value's; ends of the axis are the least and the greatest."""
    svg = histogram_svg("spacing", [1.0] * 30 + [2.0] * 3 + [3.0], " mm")
    heights = [float(found) for found in re.findall(r'<rect [^>]*height="([\d.]+)"', svg)]
    assert heights[0] == max(heights) == 54
    assert "1 mm</text>" in svg
    assert "3 mm</text>" in svg


@pytest.mark.parametrize("values", [[], [float("nan")]])
def test_histogram_of_nothing(values: list[float]) -> None:
    """Nothing to show gives nothing."""
    assert histogram_svg("x", values) == ""


def test_histogram_of_one_value() -> None:
    """A constant is one bar in the middle with its value below, once."""
    svg = histogram_svg("x", [0.8] * 5)
    assert svg.count("<rect") == 1
    assert svg.count("0.8<") == 1


def test_large_numbers_are_written_out() -> None:
    """Areas of pictures are tens of thousands of pixels, which nobody reads as 1.227e+05."""
    svg = histogram_svg("cells", [540.0, 122_700.0], " mm²")
    assert all(f">{number} mm²<" in svg for number in ("540", "122,700"))
