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
    size, at = n + 24, (np.arange(m) + 0.5) * n / m - 0.5 + 12
    d = np.abs(at[:, None] - np.arange(size))
    taps = np.clip(1 - d, 0, None)
    if kind == "cubic":
        spline = np.eye(size) * 4 / 6 + (np.eye(size, k=1) + np.eye(size, k=-1)) / 6
        spline[0, 1] = spline[-1, -2] = 2 / 6
        taps = np.where(d < 1, 2 / 3 - d**2 + d**3 / 2, np.clip(2 - d, 0, None) ** 3 / 6) @ np.linalg.inv(spline)
    return taps @ np.pad(np.eye(n), ((12, 12), (0, 0)), mode="edge")


def resample(array, shape, kinds):
    i, j, k = map(matrix, array.shape[-3:], shape, kinds)
    return np.einsum("ai,bj,ck,...ijk->...abc", i, j, k, array, optimize=True)


def predict(session, image, patch, sigma):
    missing = np.maximum(np.array(patch) - image.shape, 0)
    padded = np.pad(image, np.stack([missing // 2, missing - missing // 2], axis=1)).astype(np.float32)
    bells = [np.exp(-(((np.arange(p) - (p - 1) / 2) / s) ** 2) / 2) for p, s in zip(patch, sigma, strict=True)]
    bell, total, weight = np.einsum("i,j,k->ijk", *bells).clip(1e-3), 0, np.zeros(padded.shape)
    last = [n - p for n, p in zip(padded.shape, patch, strict=True)]
    starts = [sorted({*range(0, end, p // 2), end}) for end, p in zip(last, patch, strict=True)]
    for corner in product(*starts):
        window = np.ix_(*(np.arange(start, start + p) for start, p in zip(corner, patch, strict=True)))
        logits = session.run(None, {"image": padded[window][None, None]})[0][0]
        total = total if weight.any() else np.zeros((len(logits), *padded.shape))
        total[(slice(None), *window)] += logits * bell
        weight[window] += bell
    inner = [np.arange(n) + m // 2 for n, m in zip(image.shape, missing, strict=True)]
    return (total / weight)[(slice(None), *np.ix_(*inner))]


def main(models, scan, out):
    steps = json.loads(Path(models, "preprocessing.json").read_text())
    before, after = ({step["step"]: step for step in steps[side]} for side in ("before", "after"))
    norm, network = before["normalize"]["channels"][0], steps["network"]
    original = nib.load(scan)
    turned = nib.as_closest_canonical(original)
    image = turned.get_fdata()
    box = np.ix_(*(np.arange(at.min(), at.max() + 1) for at in np.nonzero(image)))
    crop = image[box].clip(norm.get("lower"), norm.get("upper")) if norm["scheme"] == "ct" else image[box]
    crop = (crop - norm.get("mean", crop.mean())) / norm.get("std", crop.std())
    size_mm = np.array(turned.header.get_zooms()) / before["resample"]["spacing_mm"]
    shape = np.maximum(1, np.round(np.round(crop.shape * size_mm, 3))).astype(int)
    session = onnxruntime.InferenceSession(Path(models, "model.onnx"))
    small = resample(crop, shape, before["resample"]["interpolation"])
    logits = predict(session, small, network["patch"], network["sigma"])
    values = np.array([label["value"] for label in after["values"]["labels"]])
    labels = np.full(image.shape, values[0])
    labels[box] = values[resample(logits, crop.shape, after["resample"]["interpolation"]).argmax(0)]
    back = nib.orientations.ornt_transform(nib.io_orientation(turned.affine), nib.io_orientation(original.affine))
    nib.save(nib.Nifti1Image(nib.apply_orientation(labels, back).astype(np.int32), original.affine), out)


if __name__ == "__main__":
    main(*sys.argv[1:])
