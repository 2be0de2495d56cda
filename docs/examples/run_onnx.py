"""Segment a scan by a bundle's ONNX file, with numpy, nibabel and onnxruntime alone.

python run_onnx.py BUNDLE/models SCAN.nii.gz LABELS.nii.gz     # one channel; see preprocessing.json for other models
"""

import json
import sys
from itertools import product
from pathlib import Path

import nibabel as nib
import numpy as np
import onnxruntime


def matrix(n, m, kind):
    """From n voxels of an axis to m over the same extent, (m, n); beyond the edges the edge value continues."""
    if kind == "nearest":
        return np.eye(n)[((np.arange(m) + 0.5) * n / m).astype(int)]
    old, new = np.arange(-12, n + 12), (np.arange(m) + 0.5) * n / m - 0.5
    taps = np.clip(1 - abs(new[:, None] - old), 0, None)
    if kind == "cubic":
        distances = abs(new[:, None] - old), abs(old[:, None] - old)
        splines = [np.where(d < 1, 2 / 3 - d**2 + d**3 / 2, np.clip(2 - d, 0, None) ** 3 / 6) for d in distances]
        taps = splines[0] @ np.linalg.inv(splines[1])
    return taps @ np.pad(np.eye(n), ((12, 12), (0, 0)), mode="edge")


def resample(array, shape, kinds):
    i, j, k = map(matrix, array.shape[-3:], shape, kinds)
    return np.einsum("ai,bj,ck,...ijk->...abc", i, j, k, array, optimize=True)


def predict(session, image, patch, classes):
    short = np.maximum(patch - image.shape, 0)
    padded = np.pad(image, np.transpose([short // 2, short - short // 2])).astype(np.float32)
    bells = [np.exp(-(((np.arange(p) - (p - 1) / 2) / (p / 8)) ** 2) / 2) for p in patch]
    bell = np.einsum("i,j,k->ijk", *bells).clip(1e-3)
    total, weight = np.zeros((classes, *padded.shape)), np.zeros(padded.shape)
    for corner in product(*({*range(0, end, p // 2), end} for end, p in zip(padded.shape - patch, patch, strict=True))):
        window = (..., *map(slice, corner, corner + patch))
        total[window] += session.run(None, {"image": padded[window][None, None]})[0][0] * bell
        weight[window] += bell
    return (total / weight)[(..., *map(slice, short // 2, short // 2 + image.shape))]


models, scan, out = map(Path, sys.argv[1:])
steps = json.loads((models / "preprocessing.json").read_text())
before, after = ({step["step"]: step for step in steps[side]} for side in ("before", "after"))
kinds = {channel["scheme"] for channel in before["normalize"]["channels"]}
plain = set(before) == {"orient", "crop", "normalize", "resample"} and "separation" not in before["resample"]
if len(before["normalize"]["channels"]) > 1 or not kinds <= {"zscore", "zscore_nonzero", "ct"} or not plain:
    sys.exit("this model's images need more than this example does: see preprocessing.json")
if after["decide"]["rule"] != "argmax" or "largest_component" in after:
    sys.exit("this model's labels need more than this example does: see preprocessing.json")
norm, values = before["normalize"]["channels"][0], np.array([label["value"] for label in after["values"]["labels"]])

original = nib.load(scan)
turned = nib.as_closest_canonical(original)
image = turned.get_fdata()
box = tuple(slice(at.min(), at.max() + 1) for at in np.nonzero(image))
crop = image[box].clip(norm.get("lower", -np.inf), norm.get("upper", np.inf))
inside = crop != 0 if kinds == {"zscore_nonzero"} else np.ones(crop.shape, bool)
crop = np.where(inside, (crop - norm.get("mean", crop[inside].mean())) / norm.get("std", crop[inside].std()), 0)
size = crop.shape * np.divide(turned.header.get_zooms(), before["resample"]["spacing_mm"])
small = resample(crop, np.maximum(1, size.round(3).round()).astype(int), before["resample"]["interpolation"])

session = onnxruntime.InferenceSession(models / "model.onnx")
logits = predict(session, small, np.array(steps["network"]["patch"]), len(values))
labels = np.full(image.shape, values[0], np.int32)
labels[box] = values[resample(logits, crop.shape, after["resample"]["interpolation"]).argmax(0)]
back = nib.orientations.ornt_transform(nib.io_orientation(turned.affine), nib.io_orientation(original.affine))
nib.save(nib.Nifti1Image(nib.apply_orientation(labels, back), original.affine), out)
