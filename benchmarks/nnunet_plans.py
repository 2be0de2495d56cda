"""Ask nnU-Net for the plans of synthetic fingerprints: the oracle of tests/dataset/planning/test_planner.py.

Run it with the Python of an environment that has nnunetv2 2.8.1, from the repository's root:

    NNUNET_PYTHON benchmarks/nnunet_plans.py tests/dataset/planning/nnunet_plans.json

Each fingerprint is drawn around a published dataset's voxel sizes and shapes, in nnU-Net's axis order (slices first).
"""

import json
import os
import sys
import tempfile
from pathlib import Path

import numpy as np

# name: median spacing, spread of the slice distance, median shape, spread of it, channels, classes, memory, cases
DATASETS = {
    "brain_tumour": ((1, 1, 1), 0.0, (138, 169, 138), 0.06, 4, 4, 8, 40),
    "heart": ((1.37, 1.25, 1.25), 0.0, (115, 320, 320), 0.08, 1, 2, 8, 20),
    "liver": ((1.0, 0.77, 0.77), 0.4, (432, 512, 512), 0.35, 1, 3, 8, 31),
    "hippocampus": ((1, 1, 1), 0.0, (36, 50, 35), 0.08, 1, 3, 8, 60),
    "prostate": ((3.6, 0.62, 0.62), 0.1, (20, 320, 319), 0.1, 2, 3, 8, 32),
    "lung": ((1.25, 0.79, 0.79), 0.5, (252, 512, 512), 0.3, 1, 2, 8, 25),
    "pancreas": ((2.5, 0.8, 0.8), 0.3, (93, 512, 512), 0.25, 1, 3, 8, 41),
    "hepatic_vessel": ((5.0, 0.8, 0.8), 0.4, (49, 512, 512), 0.3, 1, 3, 8, 33),
    "spleen": ((5.0, 0.79, 0.79), 0.3, (90, 512, 512), 0.3, 1, 2, 8, 27),
    "colon": ((5.0, 0.78, 0.78), 0.35, (95, 512, 512), 0.3, 1, 2, 8, 29),
    "cardiac_cine": ((10.0, 1.5, 1.5), 0.3, (9, 256, 216), 0.12, 1, 4, 8, 50),
    "abdomen_24_gb": ((3.0, 0.76, 0.76), 0.2, (148, 512, 512), 0.2, 1, 14, 24, 30),
    "abdomen_40_gb": ((3.0, 0.76, 0.76), 0.2, (148, 512, 512), 0.2, 1, 14, 40, 30),
    "thick_sagittal": ((0.5, 4.4, 0.5), 0.1, (512, 17, 512), 0.1, 2, 9, 8, 24),
    "tiny": ((2.0, 2.0, 2.0), 0.0, (14, 18, 11), 0.1, 1, 2, 8, 12),
    "many_classes": ((1.5, 1.5, 1.5), 0.1, (280, 243, 243), 0.15, 1, 105, 8, 64),
}
# the same fingerprints for the residual-encoder presets: dataset, preset, memory
RESIDUAL = (
    ("brain_tumour", "resenc-m", 8),
    ("liver", "resenc-m", 8),
    ("hippocampus", "resenc-m", 8),
    ("cardiac_cine", "resenc-m", 8),
    ("brain_tumour", "resenc-l", 24),
    ("prostate", "resenc-l", 24),
    ("pancreas", "resenc-l", 24),
    ("many_classes", "resenc-l", 24),
    ("liver", "resenc-xl", 40),
    ("thick_sagittal", "resenc-xl", 40),
    ("colon", "resenc-l", 12),
)


def draw(name: str, number: int) -> dict[str, object]:
    """A fingerprint as nnU-Net writes it, and the further inputs of its planner."""
    spacing, slice_spread, shape, spread, channels, classes, memory_gb, cases = DATASETS[name]
    generator = np.random.default_rng(number)
    spacings = np.tile(np.array(spacing, dtype=float), (cases, 1))
    coarsest = int(np.argmax(spacings[0]))
    spacings[:, coarsest] *= np.exp(generator.normal(0, slice_spread, cases)) if slice_spread else 1
    if slice_spread:
        in_plane = np.exp(generator.normal(0, 0.08, cases))
        for axis in range(3):
            if axis != coarsest:
                spacings[:, axis] *= in_plane
    shapes = np.maximum(np.rint(np.array(shape) * np.exp(generator.normal(0, spread, (cases, 3)))), 4).astype(int)
    return {
        "name": name,
        "channels": channels,
        "classes": classes,
        "preset": "plain",
        "memory_gb": memory_gb,
        "spacings": np.round(spacings, 4).tolist(),
        "shapes": shapes.tolist(),
    }


def plan(dataset: dict[str, object], number: int, root: Path) -> dict[str, object]:
    """Return the plan that nnU-Net makes of a fingerprint."""
    from nnunetv2.experiment_planning.experiment_planners import default_experiment_planner
    from nnunetv2.experiment_planning.experiment_planners.residual_unets import (
        residual_encoder_unet_planners as residual,
    )

    planner = {
        "plain": default_experiment_planner.ExperimentPlanner,
        "resenc-m": residual.nnUNetPlannerResEncM,
        "resenc-l": residual.nnUNetPlannerResEncL,
        "resenc-xl": residual.nnUNetPlannerResEncXL,
    }[dataset["preset"]]
    folder = f"Dataset{number:03d}_{dataset['name']}"
    cases = len(dataset["spacings"])
    raw, preprocessed = root / "raw" / folder, root / "preprocessed" / folder
    for part in (raw / "imagesTr", raw / "labelsTr", preprocessed):
        part.mkdir(parents=True)
    for channel in range(dataset["channels"]):
        (raw / "imagesTr" / f"a_{channel:04d}.nii.gz").touch()
    (raw / "labelsTr" / "a.nii.gz").touch()
    declaration = {
        "channel_names": {str(channel): "MRI" for channel in range(dataset["channels"])},
        "labels": {"background" if value == 0 else f"c{value}": value for value in range(dataset["classes"])},
        "numTraining": cases,
        "file_ending": ".nii.gz",
        "overwrite_image_reader_writer": "SimpleITKIO",
    }
    (raw / "dataset.json").write_text(json.dumps(declaration))
    fingerprint = {
        "spacings": dataset["spacings"],
        "shapes_after_crop": dataset["shapes"],
        "foreground_intensity_properties_per_channel": {},
        "median_relative_size_after_cropping": 1.0,
    }
    (preprocessed / "dataset_fingerprint.json").write_text(json.dumps(fingerprint))
    made = planner(folder, gpu_memory_target_in_gb=dataset["memory_gb"]).plan_experiment()
    result: dict[str, object] = {"transpose": made["transpose_forward"]}
    for name, one in made["configurations"].items():
        if "spacing" in one:
            architecture = one["architecture"]["arch_kwargs"]
            result[name] = {
                "spacing": [float(value) for value in one["spacing"]],
                "patch_size": [int(value) for value in one["patch_size"]],
                "batch_size": int(one["batch_size"]),
                "strides": architecture["strides"],
                "kernel_sizes": architecture["kernel_sizes"],
                "features": architecture["features_per_stage"],
                "encoder_blocks": architecture.get("n_blocks_per_stage"),
            }
    return result


def main(out: Path) -> None:
    """Write the table."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        for part in ("raw", "preprocessed", "results"):
            os.environ[f"nnUNet_{part}"] = str(root / part)
        drawn = [draw(name, number) for number, name in enumerate(DATASETS)]
        by_name = {dataset["name"]: dataset for dataset in drawn}
        drawn += [{**by_name[name], "preset": preset, "memory_gb": memory_gb} for name, preset, memory_gb in RESIDUAL]
        table = [{**dataset, "plan": plan(dataset, number, root)} for number, dataset in enumerate(drawn, start=1)]
    lines = ",\n".join(json.dumps(row) for row in table)
    out.write_text(f"[\n{lines}\n]\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
