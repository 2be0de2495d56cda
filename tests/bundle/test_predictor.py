"""Arrays in, labels out: the streamed way gives what MONAI's sliding window and full resampling give."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.inferers import sliding_window_inference
from numpy.typing import NDArray
from torch import Tensor

from unetpipe.bundle.predictor import Predictor
from unetpipe.bundle.read import read_bundle
from unetpipe.bundle.write import write_bundle
from unetpipe.errors import BundleError, GeometryError, ImageFileError, UnetpipeError
from unetpipe.imaging.files import write_image
from unetpipe.imaging.geometry import Grid
from unetpipe.imaging.image import Image, read_image
from unetpipe.imaging.network_input import network_image, restore_labels
from unetpipe.imaging.preprocessing import Placement
from unetpipe.imaging.resample import resample
from unetpipe.inference.quality import ClassQuality, Quality
from unetpipe.networks.build import build_network
from unetpipe.networks.unets import sequential
from unetpipe.torch_threads import torch_threads

MakeBundle = Callable[..., Path]

OBLIQUE = np.array([[-0.9, 0.3, 0.0, 10.0], [0.3, 0.9, 0.2, -5.0], [0.05, -0.2, 2.4, 3.0], [0, 0, 0, 1]])
FLIPPED = np.diag([-1.0, -1.0, 1.0, 1.0])
TURNED = np.array([[0.0, 0, 3, 0], [-0.8, 0, 0, 0], [0, 0.8, 0, 0], [0, 0, 0, 1]])

VOLUMES = [
    ((37, 29, 23), np.diag([1.0, 1.0, 1.0, 1.0]), (16, 16, 16), (1.0, 1.0, 1.0)),
    ((37, 29, 23), OBLIQUE, (16, 16, 16), (1.5, 1.2, 1.1)),
    ((31, 33, 9), TURNED, (8, 16, 16), (2.0, 1.1, 0.7)),
    ((11, 9, 7), FLIPPED, (16, 16, 16), (1.0, 1.0, 1.0)),  # smaller than the patch
    ((40, 30, 1), np.diag([1.0, 1.0, 5.0, 1.0]), (8, 16, 16), (1.0, 1.0, 5.0)),  # one slice
]


def scan(shape: tuple[int, ...], channels: int = 1, seed: int = 0) -> NDArray[np.float32]:
    """Smooth blobs in an empty margin, so that the crop to nonzero has something to do."""
    torch.manual_seed(seed)
    coarse = torch.randn(channels, *(max(2, n // 3) for n in shape))
    values = resample(coarse, shape, ("linear",) * len(shape)).numpy() * 100 + 500
    inside = np.zeros(shape, dtype=bool)
    inside[tuple(slice(1, None) if n > 4 else slice(None) for n in shape)] = True
    return np.where(inside, values, 0).astype(np.float32)


def mean_logits(
    bundles: list[Path], array: NDArray[np.float32], affine: NDArray[np.float64], flips: list[tuple[int, ...]]
) -> tuple[Tensor, Placement]:
    """Everything at once, with MONAI's inferer: logits on the cropped grid, and the placement."""
    total: Tensor | None = None
    for path in bundles:
        bundle = read_bundle(path)
        grid = Grid.of(array.shape[1:], affine)
        image = network_image(Image.of(array, grid), bundle.spec.preprocessing)
        placement = image.placement
        network = bundle.network()

        def flipped(x: Tensor, network: torch.nn.Module = network) -> Tensor:
            return torch.stack([network(x.flip(dims)).flip(dims) for dims in flips]).mean(dim=0)

        with torch.inference_mode():
            logits = sliding_window_inference(
                image.values[None], bundle.spec.patch_size, 2, flipped, overlap=0.5, mode="gaussian"
            )[0]
        logits = resample(logits, placement.cropped, ("linear",) * len(placement.cropped))
        total = logits if total is None else total + logits
    assert total is not None
    return total / len(bundles), placement


def agreement(a: NDArray[np.integer], b: NDArray[np.integer]) -> float:
    assert a.shape == b.shape
    return float((a == b).mean())


@pytest.mark.parametrize(("shape", "affine", "patch", "spacing"), VOLUMES)
def test_labels_are_those_of_monai_and_full_resampling(
    make_bundle: MakeBundle,
    shape: tuple[int, ...],
    affine: NDArray[np.float64],
    patch: tuple[int, ...],
    spacing: tuple[float, ...],
) -> None:
    """On odd sizes, small volumes, anisotropic, oblique and flipped grids at least 99.99 % of voxels agree."""
    bundle = make_bundle(patch=patch, spacing_mm=spacing)
    array = scan(shape)
    logits, placement = mean_logits([bundle], array, affine, [()])
    expected = restore_labels(logits.argmax(dim=0).to(torch.uint8), placement)
    predictor = Predictor(bundle, device="cpu", precision="fp32", batch=3)
    got = predictor.predict(array, affine)
    assert len(np.unique(expected)) > 1
    assert agreement(got, expected) >= 0.9999


def test_two_dimensions_and_several_channels(make_bundle: MakeBundle) -> None:
    """An RGB picture gives labels of its own shape, as MONAI has them."""
    bundle = make_bundle(patch=(16, 16), channels=3)
    array = scan((45, 30), channels=3)
    logits, placement = mean_logits([bundle], array, np.eye(4), [()])
    expected = restore_labels(logits.argmax(dim=0).to(torch.uint8), placement)
    got = Predictor(bundle, device="cpu", precision="fp32").predict(array, np.eye(4))
    assert agreement(got, expected) >= 0.9999


@pytest.mark.parametrize(
    ("axes", "flips"),
    [((0, 1, 2), [(), (2,), (3,), (4,), (2, 3), (2, 4), (3, 4), (2, 3, 4)]), ((1, 2), [(), (3,), (4,), (3, 4)])],
)
def test_mirrored_copies_are_averaged(
    make_bundle: MakeBundle, axes: tuple[int, ...], flips: list[tuple[int, ...]]
) -> None:
    """With tta the logits are the mean over every mirroring along the axes that training mirrored."""
    bundle = make_bundle(mirror_axes=axes)
    array = scan((20, 21, 22))
    logits, placement = mean_logits([bundle], array, np.eye(4), flips)
    expected = restore_labels(logits.argmax(dim=0).to(torch.uint8), placement)
    got = Predictor(bundle, device="cpu", precision="fp32", tta=True).predict(array, np.eye(4))
    assert agreement(got, expected) >= 0.9999
    assert agreement(got, Predictor(bundle, device="cpu", precision="fp32").predict(array, np.eye(4))) < 1


@pytest.mark.parametrize("differ", [{}, {"patch": (8, 16, 16)}, {"spacing_mm": (1.3, 0.9, 1.0)}])
def test_several_models_are_averaged(make_bundle: MakeBundle, differ: dict[str, tuple[float, ...]]) -> None:
    """Folds share windows; models of another patch or spacing meet on the scan's grid. Logits are averaged."""
    models = [make_bundle("a", seed=1), make_bundle("b", seed=2, **differ)]
    array = scan((25, 26, 27))
    logits, placement = mean_logits(models, array, np.eye(4), [()])
    expected = restore_labels(logits.argmax(dim=0).to(torch.uint8), placement)
    assert agreement(Predictor(models, device="cpu", precision="fp32").predict(array, np.eye(4)), expected) >= 0.9999


def test_label_values_are_the_datasets(make_bundle: MakeBundle) -> None:
    """Classes 0, 1, 2 of the network come out as the values that the label files had."""
    array = scan((20, 20, 20))
    plain = Predictor(make_bundle("plain"), device="cpu", precision="fp32").predict(array, np.eye(4))
    predictor = Predictor(make_bundle("other", values=(0, 300, 7)), device="cpu", precision="fp32")
    np.testing.assert_array_equal(predictor.predict(array, np.eye(4)), np.array([0, 300, 7])[plain])
    assert predictor.names == {0: "class 0", 300: "class 1", 7: "class 2"}


@pytest.mark.parametrize("differ", [{}, {"patch": (8, 16, 16)}])
def test_probabilities_and_entropy_fit_the_labels(make_bundle: MakeBundle, differ: dict[str, tuple[int, ...]]) -> None:
    """Probabilities sum to 1 and their largest is the label; entropy is theirs; outside the crop all is certain."""
    models = [make_bundle("a", seed=1), make_bundle("b", seed=2, **differ)]
    predictor = Predictor(models, device="cpu", precision="fp32")
    array = scan((20, 18, 19))
    grid = Grid.of((20, 18, 19), FLIPPED)
    found = predictor.segment(predictor.prepare(Image.of(array, grid)), entropy=True, probabilities=True)
    assert found.probabilities is not None
    assert found.entropy is not None
    np.testing.assert_allclose(found.probabilities.astype(float).sum(axis=0), 1, atol=2e-3)
    assert agreement(found.probabilities.argmax(axis=0), found.labels) > 0.99  # float16 rounds to ties
    assert agreement(found.labels, predictor.predict(array, FLIPPED)) >= 0.9999
    p = found.probabilities.astype(float)
    expected = -(p * np.log(np.maximum(p, 1e-12))).sum(axis=0) / np.log(3)
    np.testing.assert_allclose(found.entropy, expected, atol=5e-3)
    outside = array[0] == 0
    assert (found.labels[0] == 0).all()
    assert outside[0].all()
    np.testing.assert_array_equal(found.probabilities[0][0], 1)
    np.testing.assert_array_equal(found.entropy[0], 0)


def test_agreement_is_of_folds_and_flips(make_bundle: MakeBundle) -> None:
    """One network has none, the same network twice agrees with itself, other networks and flips do not."""
    array = scan((20, 18, 19))
    grid = Grid.of((20, 18, 19), np.eye(4))

    def agreement(*bundles: Path, **more: bool) -> dict[str, float]:
        predictor = Predictor(bundles, device="cpu", precision="fp32", **more)
        return predictor.segment(predictor.prepare(Image.of(array, grid))).agreement

    first, second = make_bundle("a"), make_bundle("b", seed=1)
    assert agreement(first) == {}
    assert agreement(first, first) == {"class 1": 1, "class 2": 1}
    assert 0 < agreement(first, second)["class 1"] < 1
    assert 0 < agreement(first, tta=True)["class 1"] < 1


@pytest.mark.parametrize(
    ("bundles", "more"),
    [
        ([{}], {}),
        ([{}, {"seed": 1}], {"tta": True}),
        ([{}, {"seed": 1, "patch": (8, 16, 16)}], {}),
        ([{"patch": (16, 16)}], {"tta": True}),
    ],
)
def test_scans_that_share_batches_get_what_they_get_alone(
    make_bundle: MakeBundle, bundles: list[dict[str, Any]], more: dict[str, bool]
) -> None:
    """Labels, entropy and agreement are those of each scan alone, in order, though one in the middle fails."""
    models = [make_bundle(str(n), **one) for n, one in enumerate(bundles)]
    dims = len(bundles[0].get("patch", "ijk"))
    predictor = Predictor(models, device="cpu", precision="fp32", batch=5, **more)
    sizes = [(20, 18, 19), (9, 8, 7), (16, 16, 16), (11, 30, 12), (5, 5, 5)]
    scans = [
        predictor.prepare(Image.of(scan(size[:dims], seed=n), Grid.of(size[:dims], np.eye(4))))
        for n, size in enumerate(sizes)
    ]
    expected = [predictor.segment(one, entropy=True) for one in scans]
    scans[2] = tuple(replace(one, values=one.values * np.nan) for one in scans[2])
    for n, found in enumerate(predictor.segment_all(scans, entropy=True)):
        if n == 2:
            assert isinstance(found, UnetpipeError)
            continue
        assert not isinstance(found, Exception)
        assert agreement(found.labels, expected[n].labels) >= 0.9999
        np.testing.assert_allclose(found.entropy, expected[n].entropy, atol=1e-5)
        assert found.agreement == pytest.approx(expected[n].agreement, abs=1e-3)
    assert n == len(scans) - 1


def test_only_the_largest_component_is_kept_where_the_bundle_says_so(make_bundle: MakeBundle) -> None:
    """Postprocessing of named classes leaves one component of each and nothing else changes; it can be switched off."""
    from scipy import ndimage

    bundle = make_bundle(postprocessing=("class 2",))
    array = scan((40, 40, 40))
    raw = Predictor(bundle, device="cpu", precision="fp32", postprocess=False).predict(array, np.eye(4))
    kept = Predictor(bundle, device="cpu", precision="fp32").predict(array, np.eye(4))
    structure = np.ones((3, 3, 3))
    assert ndimage.label(raw == 2, structure)[1] > 1
    assert ndimage.label(kept == 2, structure)[1] == 1
    np.testing.assert_array_equal(kept == 1, raw == 1)
    assert ((kept == raw) | ((raw == 2) & (kept == 0))).all()


def test_bf16_agrees_with_fp32(bundle_folder: Path) -> None:
    """Half precision changes few labels even of an untrained network."""
    array = scan((24, 24, 24))
    labels = [
        Predictor(bundle_folder, device="cpu", precision=precision).predict(array, np.eye(4))
        for precision in ("fp32", "bf16")
    ]
    assert agreement(*labels) > 0.97


def test_half_precision_is_compared_with_float32(make_bundle: MakeBundle, logged: list[str]) -> None:
    """The first scan tells which share of a window changes class; much is logged, and float32 needs no check."""
    bundle = make_bundle()
    exact = Predictor(bundle, device="cpu", precision="fp32")
    half = Predictor(bundle, device="cpu", precision="bf16")
    array = scan((24, 24, 24))
    assert half.differs is None
    expected, got = exact.predict(array, np.eye(4)), half.predict(array, np.eye(4))
    assert exact.differs is None
    assert half.differs is not None
    middle = (slice(4, 20),) * 3
    assert 0 < half.differs < 0.1
    assert half.differs == pytest.approx((expected != got)[middle].mean(), abs=0.03)
    assert any("another class" in text for text in logged) == (half.differs > 0.01)


def test_a_slice_is_no_mirror_image_of_its_own(make_bundle: MakeBundle, tmp_path: Path) -> None:
    """Passes that differ in nothing would agree, and take time."""
    image, found = Image.of(scan((6, 24, 24)), Grid.of((6, 24, 24), np.eye(4))), []
    layer = {"_target_": "torch.nn.Conv3d", "in_channels": 1, "out_channels": 3, "kernel_size": [1, 3, 3]}
    layer |= {"padding": "same"}
    weights = build_network(sequential(layer)).state_dict()
    for axes in ((0, 1, 2), (1, 2)):
        thin = {"patch_size": (1, 16, 16), "mirror_axes": axes}
        spec = read_bundle(make_bundle()).spec.model_copy(update=thin)
        write_bundle(tmp_path / "thin", spec, sequential(layer), weights)
        predictor = Predictor(tmp_path / "thin", device="cpu", precision="fp32", tta=True)
        found.append(predictor.segment(predictor.prepare(image)).agreement)
    assert found[0] == found[1]


@pytest.mark.skipif(not torch.backends.mps.is_available(), reason="needs Apple's GPU")
def test_apples_gpus_give_the_labels_of_a_cpu(make_bundle: MakeBundle) -> None:
    """They have no numbers of 64 bits, in which agreement and confidence are counted."""
    image, found = Image.of(scan((24, 24, 24)), Grid.of((24, 24, 24), np.eye(4))), []
    sure = ClassQuality(name="class 1", intercept=0, slope=1, below=0.2, above=0.1, cases=9, presence=1)
    bundle = make_bundle(quality=Quality(classes=(sure, sure.model_copy(update={"name": "class 2"}))))
    for device in ("cpu", "mps"):
        predictor = Predictor(bundle, device=device, precision="fp32", tta=True)
        found.append(predictor.segment(predictor.prepare(image)))
    assert agreement(found[0].labels, found[1].labels) > 0.999
    assert found[1].agreement == pytest.approx(found[0].agreement, abs=1e-3)
    assert found[1].predicted["class 1"].dice == pytest.approx(found[0].predicted["class 1"].dice, abs=1e-3)


def test_predicted_dice_counts_the_voxels_that_its_line_was_fitted_to(make_bundle: MakeBundle) -> None:
    """All of them for a bundle of an earlier version, likely ones for others; together, the older line is left out."""
    image = Image.of(scan((24, 24, 24)), Grid.of((24, 24, 24), np.eye(4)))
    line = ClassQuality(name="class 1", intercept=0, slope=1, below=0.2, above=0.1, cases=9, presence=1)
    old = make_bundle("old", quality=Quality(classes=(line,)))
    new = make_bundle("new", quality=Quality(classes=(line,), least=0.3))

    def predicted(*bundles: Path) -> float:
        predictor = Predictor(bundles, device="cpu", precision="fp32")
        return predictor.segment(predictor.prepare(image)).predicted["class 1"].dice

    assert predicted(new) > predicted(old) + 0.01
    assert predicted(old, new) == pytest.approx(predicted(new), abs=1e-4)


def test_every_network_counts_alike_in_a_mean(make_bundle: MakeBundle) -> None:
    """Also where some share windows and others have a grid of their own."""
    image = Image.of(scan((24, 24, 24)), Grid.of((24, 24, 24), np.eye(4)))

    def logits(*bundles: Path) -> Tensor:
        predictor = Predictor(bundles, device="cpu", precision="fp32")
        (planes,) = predictor.scan_logits(predictor.prepare(image)).planes
        return planes.logits

    bundles = [make_bundle("a"), make_bundle("b", seed=1), make_bundle("c", seed=2, patch=(16, 16, 20))]
    expected = torch.stack([logits(one) for one in bundles]).mean(dim=0)
    torch.testing.assert_close(logits(*bundles), expected, atol=2e-3, rtol=0)


def test_a_scan_is_segmented_where_float32_does_not_fit(
    make_bundle: MakeBundle, monkeypatch: pytest.MonkeyPatch, logged: list[str]
) -> None:
    """The comparison is left out once for all, with a line that says so."""

    def fail(*_: object, **__: object) -> float:
        raise torch.OutOfMemoryError

    half = Predictor(make_bundle(), device="cpu", precision="bf16")
    monkeypatch.setattr("unetpipe.bundle.float32_comparison.differing_share", fail)
    for _ in range(2):
        assert half.predict(scan((24, 24, 24)), np.eye(4)).shape == (24, 24, 24)
    assert half.differs is None
    assert sum("is not compared with float32" in line for line in logged) == 1


@pytest.mark.skipif(find_spec("openvino") is None, reason="OpenVINO is not installed")
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_openvino_gives_torchs_labels(make_bundle: MakeBundle) -> None:
    """The same windows and the same labels from the other engine, several windows at a time, flips and all."""
    bundle, array = make_bundle(), scan((37, 29, 23))
    more = {"device": "cpu", "precision": "fp32", "tta": True, "batch": 3}
    expected = Predictor(bundle, **more).predict(array, np.eye(4))
    predictor = Predictor(bundle, engine="openvino", **more)
    assert agreement(predictor.predict(array, np.eye(4)), expected) >= 0.9999
    assert predictor.differs is not None
    assert predictor.differs < 1e-3


@pytest.mark.skipif(find_spec("openvino") is None, reason="OpenVINO is not installed")
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize(
    ("times", "scans", "chosen"),
    [([0.5, 0.1], 1, "torch"), ([0.5, 0.4], 1000, "openvino"), ([0.5, 0.46], 1000, "torch"), ([0.5], 1000, "torch")],
)
def test_windows_decide_between_engines(
    make_bundle: MakeBundle, monkeypatch: pytest.MonkeyPatch, times: list[float], scans: int, chosen: str
) -> None:
    """OpenVINO computes where it is a tenth faster and there is a minute of work; otherwise, or if it fails, torch."""
    waiting = iter(times)
    monkeypatch.setattr("unetpipe.bundle.engine_trial._seconds_of", lambda *_: next(waiting))
    bundle, array = make_bundle(), scan((37, 29, 23))
    predictor = Predictor(bundle, device="cpu", precision="fp32", engine="auto")
    assert predictor.engine == "torch"
    images = predictor.prepare(Image.of(array, Grid.of(array.shape[1:], np.eye(4))))
    predictor.settle_engine(images, scans)
    predictor.settle_engine(images, scans)
    assert predictor.engine == chosen
    expected = Predictor(bundle, device="cpu", precision="fp32").predict(array, np.eye(4))
    assert agreement(predictor.segment(images).labels, expected) >= 0.9999
    assert (predictor.differs is None) == (chosen == "torch")


def test_threads_may_share_a_predictor(make_bundle: MakeBundle) -> None:
    """Four threads get what one gets."""
    predictor = Predictor(make_bundle(), device="cpu", precision="fp32")
    arrays = [scan((20 + n, 18, 17), seed=n) for n in range(4)]
    expected = [predictor.predict(array, np.eye(4)) for array in arrays]
    got: dict[int, NDArray[np.integer]] = {}
    threads = [
        threading.Thread(target=lambda n=n: got.update({n: predictor.predict(arrays[n], np.eye(4))})) for n in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for n in range(4):
        np.testing.assert_array_equal(got[n], expected[n])


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ({"precision": "float32"}, "precision is one of auto, fp32, bf16, fp16, got 'float32'"),
        ({"engine": "onnx"}, "engine is one of torch, openvino, auto, got 'onnx'"),
        ({"step": 0.0}, "step is above 0 and at most 1, got 0.0"),
        ({"step": 2.0}, "step is above 0 and at most 1, got 2.0"),
        ({"batch": 0}, "batch is at least 1, got 0"),
    ],
)
def test_arguments_that_are_no_values_are_refused(
    make_bundle: MakeBundle, argument: dict[str, Any], message: str
) -> None:
    """Before a scan is there, as the command line does."""
    with pytest.raises(UnetpipeError, match=message):
        Predictor(make_bundle("a"), **argument)


def test_what_does_not_suit_the_model_is_refused(make_bundle: MakeBundle) -> None:
    """Wrong axes, wrong channels and models of different tasks give an error that says what was expected."""
    predictor = Predictor(make_bundle("a"), device="cpu", precision="fp32")
    with pytest.raises(GeometryError, match="takes 1 channel "):
        predictor.predict(np.ones((2, 20, 20, 20)), np.eye(4))
    of_pictures = Predictor(make_bundle("colour", channels=3, patch=(16, 16)), device="cpu", precision="fp32")
    with pytest.raises(GeometryError, match=r"takes 3 channels .*, got 1; save pictures alike"):
        of_pictures.predict(np.ones((20, 20)), np.eye(4))
    with pytest.raises(GeometryError, match=r", got 2$"):
        of_pictures.predict(np.ones((2, 20, 20)), np.eye(4))
    with pytest.raises(GeometryError, match="3 or 4 axes"):
        predictor.predict(np.ones((20, 20)), np.eye(4))
    with pytest.raises(BundleError, match="their labels differ"):
        Predictor([make_bundle("b"), make_bundle("c", values=(0, 5, 6))], device="cpu")
    with pytest.raises(BundleError, match="no model"):
        Predictor([], device="cpu")


def test_the_docs_example_of_monais_pipelines(
    make_bundle: MakeBundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It gives the network's input and takes logits back to the scan's grid."""
    page = (Path(__file__).parents[2] / "docs" / "inference.md").read_text()
    code = page[page.index("## In MONAI's pipelines") :].split("```python\n")[1].split("```")[0]
    make_bundle("work/runs/default/fold_0")
    write_image(tmp_path / "scan.nii.gz", scan((20, 18, 17)), Grid.of((20, 18, 17), OBLIQUE))
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(code, names)
    data = names["data"]
    expected = network_image(read_image([Path("scan.nii.gz")]), names["preprocessing"]).values
    torch.testing.assert_close(data["image"].as_tensor(), expected)
    data["logits"] = MetaTensor(torch.rand(3, *data["image"].shape[1:]))
    assert names["back"](data)["logits"].shape == (3, 20, 18, 17)


def test_arrays_of_numbers_that_are_not_real_are_refused(make_bundle: MakeBundle) -> None:
    """A reconstruction without its magnitude would be segmented by its real part; other types of torch are read."""
    predictor, array = Predictor(make_bundle(), device="cpu", precision="fp32"), scan((20, 18, 16))[0]
    with pytest.raises(ImageFileError, match="complex"):
        predictor.predict(array + 1j * array, np.eye(4))
    half = torch.from_numpy(array).bfloat16()
    expected = predictor.predict(half.float().numpy(), np.eye(4))
    np.testing.assert_array_equal(predictor.predict(half.requires_grad_(), np.eye(4)), expected)


@pytest.mark.parametrize("count", [1, 2])
def test_scans_that_end_in_an_error_keep_those_before(make_bundle: MakeBundle, count: int) -> None:
    """What came before it is segmented, and then the error is raised, whichever scans were taken ahead."""
    bundles = [make_bundle(name=f"m{n}", spacing_mm=(1.0 + 0.5 * n,) * 3) for n in range(count)]
    predictor = Predictor(bundles, device="cpu", precision="fp32", batch=5)
    images = [Image.of(scan((14, 12, 10), seed=n), Grid.of((14, 12, 10), np.eye(4))) for n in range(2)]

    def ending() -> Iterator[Any]:
        yield from map(predictor.prepare, images)
        raise ValueError("no more")

    found: list[Any] = []
    with pytest.raises(ValueError, match="no more"):  # noqa: PT012 - what came before is kept
        for one in predictor.segment_all(ending()):
            found.append(one)  # noqa: PERF402 - extend would lose all of them
    assert len(found) == 2
    for one, image in zip(found, images, strict=True):
        np.testing.assert_array_equal(one.labels, predictor.segment(predictor.prepare(image)).labels)


def test_a_thread_that_begins_while_another_computes_has_all_cores(make_bundle: MakeBundle) -> None:
    """It inherits what that one has set for itself, and would keep it, and hand it on."""
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        predictor, array = Predictor(make_bundle(), device="cpu", precision="fp32"), scan((20, 18, 16))[0]
        born, go, seen = threading.Event(), threading.Event(), []

        def work() -> None:
            torch.ones(1 << 16).add_(1)
            seen.append(torch.get_num_threads())
            born.set()
            go.wait(60)
            predictor.predict(array, np.eye(4))
            seen.append(torch.get_num_threads())

        with torch_threads(1):
            thread = threading.Thread(target=work)
            thread.start()
            born.wait(60)
        go.set()
        thread.join(60)
        assert seen[1] == 4
    finally:
        torch.set_num_threads(before)
