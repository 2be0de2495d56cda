"""A small labelled dataset that needs no download: an abdomen of ellipsoids, scanned differently each time.

Every case is another body (pose, size, organ shapes, a smooth deformation) in another scanner (contrast, bias field,
noise, voxel size, field of view, axis order, oblique or not), so that geometry errors and overfitting show. Labels come
from the voxel centres, intensities from the same shapes with partial volume.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.spatial.transform import Rotation

from unetpipe.files import write_json
from unetpipe.imaging.files import write_image, write_labels
from unetpipe.imaging.geometry import Grid, Shape

Floats = NDArray[np.float64]
CLASSES = {0: "background", 1: "liver", 2: "spleen", 3: "kidneys", 4: "spine"}
_SPACING_MM = (7.4, 7.4, 8.2)
_EXTENT_MM = (290.0, 225.0, 265.0)
"""Extent of the field of view along right, anterior and superior, in mm."""
_ORIENTATIONS = ("RAS", "LAS", "RPI", "LPI", "SAR", "PSR")
_RIGHT_HANDED = ("RAS", "LPS", "PSL", "LIP", "RPI")
"""Axis orders that a DICOM series can have: its slices run along the cross product of columns and rows."""


@dataclass(frozen=True)
class _Organ:
    """An ellipsoid, or with `column` an elliptic cylinder along the third axis.

    Attributes:
        label: Class, 0 for what only the image shows.
        brightness: Signal on a scale where muscle is 0.35.
        centre_mm, radii_mm: Centre and radii in the standard body, RAS+.
        tilt_deg: Rotation about the anterior axis.
    """

    label: int
    brightness: float
    centre_mm: tuple[float, float, float]
    radii_mm: tuple[float, float, float]
    tilt_deg: float = 0.0
    column: bool = False


# later ones lie over earlier ones
_ORGANS = (
    _Organ(0, 0.90, (0, 0, 0), (128, 92, 1), column=True),  # skin and fat
    _Organ(0, 0.35, (0, 0, 0), (114, 79, 1), column=True),  # muscle
    _Organ(0, 0.15, (0, 12, 118), (95, 60, 42)),  # lungs
    _Organ(0, 0.62, (-42, 34, 34), (34, 28, 36), tilt_deg=20),  # stomach
    _Organ(0, 0.48, (8, 30, -62), (62, 34, 44)),  # bowel
    _Organ(1, 0.58, (58, 14, 44), (52, 52, 50), tilt_deg=-12),
    _Organ(1, 0.58, (14, 26, 54), (46, 34, 28)),
    _Organ(2, 0.78, (-84, -22, 46), (20, 32, 40), tilt_deg=12),
    _Organ(3, 0.70, (58, -38, -28), (23, 21, 44), tilt_deg=-10),
    _Organ(3, 0.70, (-58, -38, -18), (23, 21, 44), tilt_deg=10),
    _Organ(4, 0.25, (0, -56, 0), (20, 19, 1), column=True),
    _Organ(0, 0.95, (-8, -28, 0), (9, 9, 1), column=True),  # aorta
)


def write_phantom_dataset(
    out: Path, *, cases: int = 12, seed: int = 0, test_cases: int = 2, dicom_cases: int = 2
) -> None:
    """Write a Decathlon folder: imagesTr and labelsTr, held-out imagesTs and labelsTs, dataset.json.

    Args:
        out: Folder to make.
        cases: Number of training cases.
        seed: The same seed gives the same dataset, byte for byte.
        test_cases: Held-out cases with labels.
        dicom_cases: Number of training cases whose images are DICOM series folders.
    """
    sources = np.random.SeedSequence(seed).spawn(cases + test_cases)
    training, testing = [], []
    for number, source in enumerate(sources):
        held_out = number >= cases
        name, part = f"phantom_{number:03d}", "Ts" if held_out else "Tr"
        # spread over the dataset, so that folds get some of either kind
        every = max(cases // max(dicom_cases, 1), 1)
        as_dicom = not held_out and number % every == min(1, every - 1) and number // every < dicom_cases
        image, label, grid = make_phantom(np.random.default_rng(source), right_handed=as_dicom)
        image_path = out / f"images{part}" / (name if as_dicom else f"{name}.nii.gz")
        label_path = out / f"labels{part}" / f"{name}.nii.gz"
        if as_dicom:
            from unetpipe.imaging.dicom.synthetic import write_series

            write_series(image_path, image, grid, seed=seed * 1000 + number)
        else:
            write_image(image_path, image[None], grid)
        write_labels(label_path, label, grid, CLASSES)
        relative = f"./{image_path.relative_to(out).as_posix()}"
        if held_out:
            testing.append(relative)
        else:
            training.append({"image": relative, "label": f"./{label_path.relative_to(out).as_posix()}"})
    write_json(
        out / "dataset.json",
        {
            "name": "Phantom",
            "description": "Synthetic abdomens of ellipsoids; no patient in them",
            "licence": "CC0",
            "tensorImageSize": "3D",
            "modality": {"0": "MRI"},
            "labels": {str(value): name for value, name in CLASSES.items()},
            "numTraining": len(training),
            "numTest": len(testing),
            "training": training,
            "test": testing,
        },
    )


def make_phantom(
    generator: np.random.Generator, *, right_handed: bool = False
) -> tuple[NDArray[np.int16], NDArray[np.uint8], Grid]:
    """Draw a body and scan it.

    Args:
        generator: Source of all variety.
        right_handed: Choose an axis order that a DICOM series can have.

    Returns:
        Image and label of the same shape (I, J, K), and their grid.
    """
    grid = _draw_grid(generator, right_handed)
    to_body = _draw_pose(generator)
    voxels = np.stack(np.meshgrid(*(np.arange(n) for n in grid.shape), indexing="ij"), axis=-1)
    body_mm = to_body(voxels @ grid.matrix[:3, :3].T + grid.matrix[:3, 3])

    label = np.zeros(grid.shape, dtype=np.uint8)
    brightness = np.zeros(grid.shape)
    by_class = {organ.label: generator.normal(1, 0.06) for organ in _ORGANS}
    for organ in _ORGANS:
        inside = _inside(organ, body_mm, generator)
        brightness[inside] = organ.brightness * (by_class[organ.label] if organ.label else generator.normal(1, 0.06))
        label[inside] = organ.label
    return _scan(brightness, body_mm, generator), label, grid


def _draw_grid(generator: np.random.Generator, right_handed: bool) -> Grid:
    """Voxel size, field of view, axis order and, for one in three, a tilt against the body's axes."""
    spacing = np.array(_SPACING_MM) * generator.uniform(0.92, 1.1, 3)
    extent = np.array(_EXTENT_MM) * generator.uniform(0.97, 1.08, 3)
    code = str(generator.choice(_RIGHT_HANDED if right_handed else _ORIENTATIONS))
    oblique = generator.random() < 1 / 3
    tilt = Rotation.from_euler("xyz", generator.uniform(-9, 9, 3) if oblique else [0, 0, 0], degrees=True).as_matrix()
    world = [next(axis for axis, ends in enumerate(("RL", "AP", "SI")) if end in ends) for end in code]
    signs = [1.0 if end in "RAS" else -1.0 for end in code]
    directions = np.stack([tilt[:, axis] * sign for axis, sign in zip(world, signs, strict=True)], axis=-1)
    shape: Shape = tuple(round(extent[axis] / spacing[axis]) for axis in world)
    affine = np.eye(4)
    affine[:3, :3] = directions * spacing[world]
    middle = (np.array(shape) - 1) / 2
    affine[:3, 3] = generator.uniform(-8, 8, 3) - affine[:3, :3] @ middle
    return Grid.of(shape, affine)


def _draw_pose(generator: np.random.Generator) -> Callable[[Floats], Floats]:
    """From the world in mm to the standard body: rotation, size, and a smooth deformation of a few mm."""
    turn = Rotation.from_euler("xyz", generator.normal(0, (4, 4, 6)), degrees=True).as_matrix()
    size = generator.normal(1, 0.05, 3)
    waves = [
        (generator.normal(0, 1, 3) / generator.uniform(120, 240), generator.uniform(0, 2 * np.pi), axis)
        for axis, _ in product(range(3), range(2))
    ]

    def to_body(world_mm: Floats) -> Floats:
        body_mm: Floats = world_mm @ turn / size
        bent = body_mm.copy()
        for frequency, phase, axis in waves:
            bent[..., axis] += 3.0 * np.sin(2 * np.pi * (body_mm @ frequency) + phase)
        return bent

    return to_body


def _inside(organ: _Organ, body_mm: Floats, generator: np.random.Generator) -> NDArray[np.bool_]:
    """Mask of an organ whose position and size are varied a little."""
    centre = np.array(organ.centre_mm) + generator.normal(0, 2.5 if organ.label else 1.5, 3)
    radii = np.array(organ.radii_mm) * generator.normal(1, 0.06, 3)
    turn = Rotation.from_euler("y", organ.tilt_deg + generator.normal(0, 4), degrees=True).as_matrix()
    local = (body_mm - centre) @ turn / radii
    axes = 2 if organ.column else 3
    inside: NDArray[np.bool_] = (local[..., :axes] ** 2).sum(axis=-1) < 1
    return inside


def _scan(brightness: Floats, body_mm: Floats, generator: np.random.Generator) -> NDArray[np.int16]:
    """Simulate a scan: partial volume, contrast, uneven coil sensitivity, Rician noise, and a scale of its own."""
    blurred = gaussian_filter(brightness, 0.5)
    contrast = blurred ** generator.uniform(0.8, 1.25)
    direction = generator.normal(0, 1, 3)
    direction *= generator.uniform(0.1, 0.35) / np.linalg.norm(direction)
    bias = np.exp(body_mm @ direction / 130.0)
    noise = generator.normal(0, generator.uniform(0.02, 0.05), (2, *brightness.shape))
    signal = np.hypot(contrast * bias + noise[0], noise[1])
    image: NDArray[np.int16] = np.rint(signal * generator.uniform(400, 1200)).astype(np.int16)
    return image
