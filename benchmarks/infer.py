"""Inference beside nnU-Net and MONAI, and how much memory many classes take.

From the repository's root, with unetpipe's Python:

    python benchmarks/infer.py cases --images DATA/Task04_Hippocampus/imagesTr --nnunet NNUNET_PYTHON
    python benchmarks/infer.py brains --labels DATA/brain_labels --nnunet NNUNET_PYTHON
    python benchmarks/infer.py crops --images DATA/lidc_nodules/images --count 185
    python benchmarks/infer.py windows --size 256
    python benchmarks/infer.py engines
    python benchmarks/infer.py gpu
    python benchmarks/infer.py export --nnunet NNUNET_PYTHON
    python benchmarks/infer.py export --classes 105 --shape 400 270 270 --out 600 512 512 --device cuda
    python benchmarks/infer.py memory --slices 1000 --slices 500

Networks have random weights: time does not depend on them. `windows` runs on a GPU where there is one. Every figure is
of one run on the machine as it is; give it the machine alone. nnU-Net runs in a process of its own (`infer_nnunet.py`).
"""

import argparse
import copy
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from unetpipe.dataset.label_scheme import LabelClass, LabelScheme

HERE = Path(__file__).parent
ENVIRONMENT = {
    "nnUNet_compile": "f",
    **dict.fromkeys(("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"), tempfile.gettempdir()),
}


def main() -> None:
    """Run one comparison and print its figures as JSON lines."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    cases = commands.add_parser("cases", help="a folder of scans, files to files")
    cases.add_argument("--images", type=Path, required=True)
    cases.add_argument("--count", type=int, default=60)
    cases.add_argument("--nnunet", help="Python of an environment with nnunetv2")
    cases.set_defaults(run=compare_cases)
    brains = commands.add_parser("brains", help="volumes of 256x256x256, files to files")
    brains.add_argument("--labels", type=Path, required=True, help="folder of label maps to make them from")
    brains.add_argument("--count", type=int, default=2)
    brains.add_argument("--nnunet", help="Python of an environment with nnunetv2")
    brains.set_defaults(run=compare_brains)
    crops = commands.add_parser("crops", help="a folder of small scans by the shipped nodule model, and a narrower one")
    crops.add_argument("--images", type=Path, required=True)
    crops.add_argument("--count", type=int, default=185)
    crops.set_defaults(run=compare_crops)
    windows = commands.add_parser("windows", help="windows per second against MONAI, in memory")
    windows.add_argument("--size", type=int, default=256)
    windows.add_argument("--batch", type=int)
    windows.set_defaults(run=compare_windows)
    engines = commands.add_parser("engines", help="one forward pass on the CPU by each engine")
    engines.add_argument("--small", action="store_true", help="the small windows only")
    engines.set_defaults(run=compare_engines)
    gpu = commands.add_parser("gpu", help="windows per second on a GPU: memory formats, torch.compile, CUDA graphs")
    gpu.set_defaults(run=compare_on_gpu)
    export = commands.add_parser("export", help="50-class logits to labels on a finer grid")
    export.add_argument("--classes", type=int, default=50)
    export.add_argument("--shape", type=int, nargs=3, default=[128, 160, 160], help="of the network's grid")
    export.add_argument("--out", type=int, nargs=3, default=[192, 240, 240], help="of the scan's grid")
    export.add_argument("--device", default="cpu", help="that the logits are on")
    export.add_argument("--nnunet", help="Python of an environment with nnunetv2, for the default shapes")
    export.set_defaults(run=compare_export)
    memory = commands.add_parser("memory", help="a long CT with 105 classes")
    memory.add_argument("--size", type=int, default=512)
    memory.add_argument("--slices", type=int, action="append", required=True)
    memory.add_argument("--patch", type=int, default=64)
    memory.set_defaults(run=measure_memory)
    for name, run in (("our-cases", run_cases), ("our-export", run_export)):
        child = commands.add_parser(name)
        child.add_argument("arguments", nargs="*")
        child.set_defaults(run=run)
    arguments = parser.parse_args()
    arguments.run(arguments)


def report(**figures: Any) -> None:
    """Print one line of JSON."""
    print(json.dumps(figures), flush=True)


def peak_mb() -> float:
    """Largest resident memory of this process so far."""
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def dynunet(features: list[int], classes: int) -> dict[str, Any]:
    """A plain U-Net, as nnU-Net's planner lays it out."""
    stages = len(features)
    return {
        "_target_": "monai.networks.nets.DynUNet",
        "spatial_dims": 3,
        "in_channels": 1,
        "out_channels": classes,
        "kernel_size": [3] * stages,
        "strides": [1] + [2] * (stages - 1),
        "upsample_kernel_size": [2] * (stages - 1),
        "filters": features,
        "norm_name": ["instance", {"affine": True}],
        "trans_bias": True,
    }


def write_model(folder: Path, definition: dict[str, Any], patch: tuple[int, ...], spacing_mm: float) -> None:
    """Write a bundle with random weights."""
    from unetpipe.bundle.spec import ModelSpec
    from unetpipe.bundle.write import write_bundle
    from unetpipe.dataset.label_scheme import LabelClass
    from unetpipe.imaging.preprocessing import ChannelNormalization, Preprocessing
    from unetpipe.networks.build import build_network

    torch.manual_seed(0)
    classes = definition["out_channels"]
    spec = ModelSpec(
        spatial_dims=3,
        channels=("image",),
        labels=tuple(LabelClass(name=f"class {n}", value=n) for n in range(classes)),
        preprocessing=Preprocessing(
            spacing_mm=(spacing_mm,) * 3,
            interpolation=("cubic",) * 3,
            normalization=(ChannelNormalization(scheme="zscore"),),
        ),
        patch_size=patch,
        mirror_axes=(),
    )
    write_bundle(folder, spec, definition, build_network(definition).state_dict())


def child(command: list[str], name: str) -> None:
    """Run a process and report what it prints, its wall time and its peak memory."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**ENVIRONMENT, **os.environ})
    seconds = time.perf_counter() - start
    if done.returncode:
        sys.exit(f"{name} failed:\n{done.stderr[-2000:]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    figures = {"name": name, "total_seconds": round(seconds, 2), "cpu_seconds": round(cpu, 2)}
    if after.ru_maxrss > before.ru_maxrss:  # the counter only rises
        figures["peak_mb"] = round(after.ru_maxrss / 1024)
    report(**figures | json.loads(done.stdout.strip().splitlines()[-1]))


def compare_cases(arguments: argparse.Namespace) -> None:
    """60 hippocampus crops: the same network shape and windows, no flips, files to files, one CPU."""
    images = sorted(arguments.images.glob("*.nii.gz"))[: arguments.count]
    with tempfile.TemporaryDirectory() as temporary:
        compare_files(Path(temporary), images, Shape([32, 64, 128, 256], (40, 56, 40), 3), arguments.nnunet)


def compare_crops(arguments: argparse.Namespace) -> None:
    """The last crops of a folder: most have one window of the shipped model, or a few."""
    from unetpipe.bundle.read import read_bundle
    from unetpipe.bundle.write import write_bundle
    from unetpipe.networks.build import build_network

    shipped = read_bundle(HERE.parent / "bundles" / "lung_nodule_ct_segmentation")
    images = sorted(arguments.images.glob("*.nii.gz"))[-arguments.count :]
    for features in ([24, 48, 96, 128], [8, 16, 32, 64]):
        torch.manual_seed(0)
        definition = {**shipped.network_def, "filters": features}
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            write_bundle(folder / "model", shipped.spec, definition, build_network(definition).state_dict())
            (folder / "list.txt").write_text("\n".join(str(path.resolve()) for path in images))
            for engine in ("torch", "openvino"):
                command = [sys.executable, __file__, "our-cases", str(folder), "auto", engine]
                child(command, f"{engine}, features {features}")


def compare_brains(arguments: argparse.Namespace) -> None:
    """Cubes of 256 voxels with 15 classes; a narrower network, so that it takes minutes."""
    from scipy.ndimage import gaussian_filter, zoom

    from unetpipe.imaging.files import read_volume, write_image
    from unetpipe.imaging.geometry import Grid

    with tempfile.TemporaryDirectory() as temporary:
        folder, images = Path(temporary), []
        for number, file in enumerate(sorted(arguments.labels.glob("*.nii.gz"))[: arguments.count]):
            label = read_volume(file).array[0].astype(np.int32)
            label = zoom(label, np.array((256,) * 3) / label.shape, order=0, grid_mode=True, mode="nearest")
            generator = np.random.default_rng(number)
            image = generator.uniform(100, 900, label.max() + 1)[label] + generator.normal(0, 30, label.shape)
            images.append(folder / f"brain_{number}.nii.gz")
            write_image(images[-1], gaussian_filter(image, 0.7).astype(np.int16)[None], Grid.of((256,) * 3, np.eye(4)))
        compare_files(folder, images, Shape([16, 32, 64, 128], (128, 128, 128), 15), arguments.nnunet)


class Shape(NamedTuple):
    """Features, window and classes of a network at 1 mm."""

    features: list[int]
    patch: tuple[int, ...]
    classes: int


def compare_files(folder: Path, images: list[Path], shape: Shape, nnunet: str | None) -> None:
    """Segment the same files with ours and with nnU-Net, each in a process of its own."""
    write_model(folder / "model", dynunet(shape.features, shape.classes), shape.patch, 1.0)
    (folder / "list.txt").write_text("\n".join(str(path.resolve()) for path in images))
    (folder / "shape.json").write_text(json.dumps(shape._asdict()))
    for engine, precision in (("torch", "auto"), ("openvino", "auto"), ("torch", "fp32")):
        command = [sys.executable, __file__, "our-cases", str(folder), precision, engine]
        child(command, f"unetpipe, {engine}, {precision}")
    if nnunet:
        child([nnunet, str(HERE / "infer_nnunet.py"), "cases", str(folder)], "nnU-Net")


def run_cases(arguments: argparse.Namespace) -> None:
    """Segment the files in the child process of `compare_files`."""
    from unetpipe import infer
    from unetpipe.config.infer import InferConfig

    folder, precision, engine = Path(arguments.arguments[0]), *arguments.arguments[1:]
    result = infer(
        InferConfig(
            models=(folder / "model",),
            list=folder / "list.txt",
            out=folder / f"labels_{engine}_{precision}",
            precision=precision,
            engine=engine,
        )
    )
    assert not result.failed, result.failed
    report(
        cases=result.written, running_seconds=result.seconds, per_minute=round(60 * result.written / result.seconds, 1)
    )


def scheme_of(count: int) -> LabelScheme:
    """Label scheme of classes that exclude each other."""
    return LabelScheme(tuple(LabelClass(name=str(n), value=n) for n in range(count)), ())


def compare_windows(arguments: argparse.Namespace) -> None:
    """A cube against MONAI's sliding window: same network, same windows, labels out."""
    from monai.inferers import sliding_window_inference

    from unetpipe.inference.decoding import GroupLogits, label_scan
    from unetpipe.inference.ensemble import Ensemble, for_inference
    from unetpipe.inference.slab_inferer import SlabInferer
    from unetpipe.inference.sliding_window import Windows
    from unetpipe.networks.build import build_network
    from unetpipe.networks.device import autocast, compute_dtype, resolve_device

    device = resolve_device("auto")
    dtype = compute_dtype(device, "auto")
    torch.manual_seed(0)
    definition = dynunet([32, 64, 128, 256, 320, 320] if device.type == "cuda" else [32, 64, 128, 256], 3)
    patch = (128, 128, 128) if device.type == "cuda" else (64, 64, 64)
    network = build_network(definition).to(device).eval()
    prepared = for_inference(copy.deepcopy(network), device, dtype)
    shape = (arguments.size,) * 3
    image = torch.randn(1, *shape)
    count = Windows.over(shape, patch, 0.5).count
    batch = arguments.batch or (4 if device.type == "cuda" else 1)

    def ours() -> torch.Tensor:
        ensemble = Ensemble([prepared], device=device, dtype=dtype)
        volumes = SlabInferer(patch, batch=batch).planes([lambda: image.to(device)], ensemble)
        planes = next(volumes).planes
        return label_scan([GroupLogits(planes, shape, ("cubic",) * 3)], shape, scheme_of(3)).labels

    def monai() -> torch.Tensor:
        def forward(x: torch.Tensor) -> torch.Tensor:
            with autocast(device, dtype):
                return network(x).float()

        logits = sliding_window_inference(image[None].to(device), patch, batch, forward, 0.5, "gaussian")
        return logits[0].argmax(dim=0).to(torch.uint8).cpu()

    labels = {}
    for name, run in (("unetpipe", ours), ("monai", monai)):
        with torch.inference_mode():
            labels[name], seconds = timed(run, device)
        report(name=name, device=str(device), dtype=str(dtype), windows_per_second=round(count / seconds, 2))
    report(name="labels that agree", fraction=float((labels["unetpipe"] == labels["monai"]).double().mean()))


def compare_engines(arguments: argparse.Namespace) -> None:
    """A forward pass in torch, compiled by torch, and by OpenVINO."""
    from unetpipe.inference.engines.openvino import OpenvinoNetwork
    from unetpipe.inference.ensemble import Ensemble, for_inference
    from unetpipe.networks.build import build_network

    cpu, bf16 = torch.device("cpu"), torch.bfloat16
    shapes = [((4, 1, 40, 56, 40), [32, 64, 128, 256]), ((1, 1, 128, 128, 128), [32, 64, 128, 256, 320, 320])]
    for shape, features in shapes[: 1 if arguments.small else 2]:
        torch.manual_seed(0)
        definition, windows = dynunet(features, 3), torch.randn(shape)

        def network(definition: dict[str, Any] = definition) -> torch.nn.Module:
            return build_network(definition).eval()

        compiled = torch.compile(for_inference(network(), cpu, bf16).to(memory_format=torch.channels_last_3d))
        runs = {
            "torch float32": Ensemble([network()], device=cpu, dtype=torch.float32),
            "torch bfloat16": Ensemble([for_inference(network(), cpu, bf16)], device=cpu, dtype=bf16),
            "compiled bfloat16": Ensemble([compiled], device=cpu, dtype=bf16),
            "openvino bfloat16": Ensemble([OpenvinoNetwork(network(), 1, shape[2:], bf16)], device=cpu, dtype=bf16),
        }
        for name, run in runs.items():
            run(windows)  # what is made ready at the first pass
            _, seconds = timed(lambda run=run, windows=windows: run(windows), cpu)
            report(name=name, windows=shape, seconds=round(seconds, 3))


def compare_on_gpu(_arguments: argparse.Namespace) -> None:
    """Windows per second of the network alone in bfloat16: memory formats, torch.compile, CUDA graphs."""
    from unetpipe.inference.ensemble import for_inference
    from unetpipe.networks.build import build_network

    device, bf16 = torch.device("cuda"), torch.bfloat16
    small, large = ((40, 56, 40), [32, 64, 128, 256]), ((128, 128, 128), [32, 64, 128, 256, 320, 320])
    for (patch, features), count in [(small, 1), (small, 4), (small, 16), (large, 1), (large, 4)]:
        for layout in (torch.contiguous_format, torch.channels_last_3d):
            torch.manual_seed(0)
            network = for_inference(build_network(dynunet(features, 3)), device, bf16).to(memory_format=layout)
            windows = torch.randn(count, 1, *patch, device=device)
            ways = {"torch": network} | ({"compiled": torch.compile(network, dynamic=False)} if count == 4 else {})
            with torch.inference_mode(), torch.autocast("cuda", dtype=bf16):
                for name, run in ways.items():
                    for way, call in {name: run, f"{name}, recorded": recorded(run, windows)}.items():
                        rate = count / seconds_of(call, windows)
                        report(name=way, patch=patch, windows=count, layout=str(layout), per_second=round(rate, 1))


def recorded(run: Callable[[torch.Tensor], torch.Tensor], windows: torch.Tensor) -> Callable[[torch.Tensor], Any]:
    """A function that replays the kernels of another one for the same windows."""
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        run(windows)  # compiles, and makes libraries ready
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        logits = run(windows)

    def replay(_windows: torch.Tensor) -> torch.Tensor:
        graph.replay()
        return logits.clone()

    return replay


def seconds_of(run: Callable[[torch.Tensor], Any], windows: torch.Tensor, calls: int = 20) -> float:
    """Mean time of consecutive calls on a GPU, which is waited for at their end."""
    for _ in range(3):
        run(windows)
    torch.cuda.synchronize()
    before = time.perf_counter()
    for _ in range(calls):
        run(windows)
    torch.cuda.synchronize()
    return (time.perf_counter() - before) / calls


def timed(run: Callable[[], torch.Tensor], device: torch.device) -> tuple[torch.Tensor, float]:
    """Result and the shorter time of two runs."""
    best = float("inf")
    for _ in range(2):
        start = time.perf_counter()
        result = run()
        if device.type == "cuda":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - start)
    return result, best


def compare_export(arguments: argparse.Namespace) -> None:
    """Logits of many classes to labels on a finer grid: once all alike everywhere, once as of organs."""
    told = [arguments.classes, arguments.device, *arguments.shape, *arguments.out]
    for kind in ("organs", "noise"):
        child([sys.executable, __file__, "our-export", kind, *map(str, told)], f"unetpipe, {kind}")
    if arguments.nnunet:
        child([arguments.nnunet, str(HERE / "infer_nnunet.py"), "export", str(arguments.classes)], "nnU-Net")


def run_export(arguments: argparse.Namespace) -> None:
    """Export the logits in the child process of `compare_export`."""
    from unetpipe.inference.decoding import GroupLogits, label_scan
    from unetpipe.inference.sliding_window import Planes

    kind, classes, device, *sizes = arguments.arguments
    shape, out = tuple(map(int, sizes[:3])), tuple(map(int, sizes[3:]))
    torch.manual_seed(0)
    logits = torch.empty(int(classes), *shape, device=device)
    axes = torch.meshgrid(*(torch.linspace(-1, 1, n, device=device) for n in shape), indexing="ij")
    for label in range(int(classes)):
        logits[label] = torch.randn(shape, device=device) * (1.0 if kind == "noise" else 0.3)
        if kind == "organs" and label:
            centre, radius = torch.rand(3) * 1.4 - 0.7, float(torch.rand(1)) * 0.25 + 0.08
            distance = sum((x - c) ** 2 for x, c in zip(axes, centre.tolist(), strict=True))
            logits[label] += (8 - 8 * torch.sqrt(torch.as_tensor(distance)) / radius).clamp(-12, 12)
    for _ in range(1 if device == "cpu" else 2):  # the first one makes a GPU's libraries ready
        start = time.perf_counter()
        with torch.inference_mode():
            planes = [Planes(0, n, logits[:, n : n + 64]) for n in range(0, shape[0], 64)]
            label_scan([GroupLogits(planes, shape, ("cubic",) * 3)], out, scheme_of(int(classes)))
    report(running_seconds=round(time.perf_counter() - start, 2), peak_mb=peak_mb())


def measure_memory(arguments: argparse.Namespace) -> None:
    """A CT of 0.8 x 0.8 x 1.0 mm, network at 1.5 mm, 105 classes, a small network: peak memory of the whole process."""
    from unetpipe.imaging.files import write_image
    from unetpipe.imaging.geometry import Grid

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_model(folder / "model", dynunet([4, 8, 16], 105), (arguments.patch,) * 3, 1.5)
        for slices in arguments.slices:
            shape = (arguments.size, arguments.size, slices)
            scan = folder / f"ct_{slices}.nii"
            write_image(scan, phantom(shape), Grid.of(shape, np.diag([0.8, 0.8, 1.0, 1.0])))
            (folder / "list.txt").write_text(str(scan))
            subprocess.run(
                [sys.executable, __file__, "our-cases", str(folder), "auto", "torch"],
                check=True,
                stdout=subprocess.PIPE,
            )
            manifest = json.loads((folder / "labels_torch_auto" / "predictions.json").read_text())
            report(slices=slices, **{key: manifest["cases"][0][key] for key in ("peak_memory_mb", "seconds")})
            scan.unlink()


def phantom(shape: tuple[int, ...]) -> np.ndarray[Any, np.dtype[np.int16]]:
    """A body of soft tissue in air, in HU, with noise."""
    generator = np.random.default_rng(0)
    x, y = np.meshgrid(np.linspace(-1, 1, shape[0]), np.linspace(-1, 1, shape[1]), indexing="ij")
    plane = np.where(x**2 + (1.4 * y) ** 2 < 0.8, 40, -1000).astype(np.int16)
    volume = np.empty((1, *shape), dtype=np.int16)
    for n in range(shape[2]):
        volume[0, :, :, n] = plane + generator.integers(-30, 30, plane.shape, dtype=np.int16)
    return volume


if __name__ == "__main__":
    main()
