"""Definition of every metric, written into every output because tools differ by up to 100 mm for the same masks.

Source:
    Podobnik & Vrtovec 2024, arXiv 2410.02630.
"""

DEFINITIONS = {
    "dice": "2 TP / (2 TP + FP + FN), in voxels.",
    "iou": "TP / (TP + FP + FN), in voxels.",
    "sensitivity": "TP / (TP + FN), in voxels.",
    "precision": "TP / (TP + FP), in voxels.",
    "nsd": "Normalised surface Dice: share of both surfaces' area that lies within the tolerance of the other surface.",
    "hd_mm": "Hausdorff distance: largest distance from an element of either surface to the other surface.",
    "hd95_mm": "Larger of the two directed 95th percentiles of those distances, surface elements weighted by area.",
    "assd_mm": "Mean of the distances of both directions together, surface elements weighted by area.",
    "masd_mm": "Mean of the two directions' mean distances, surface elements weighted by area.",
    "volume_error_ml": "Prediction minus reference, voxels times voxel volume.",
    "volume_error_percent": "Prediction minus reference, in percent of the reference.",
    "lesion_f1": "2 found / (2 found + missed + false) connected components; found means one voxel in common.",
    "lesions_missed": "Reference components without any predicted voxel.",
    "lesions_false": "Predicted components without any reference voxel.",
    "surface": "Marching-cubes elements (marching squares in 2-D) at the centres of 2x2x2 voxel cells; spacing from "
    "the header.",
    "empty masks": "Both empty: not defined, a true negative. Reference empty: Dice, IoU, precision, NSD 0, distances "
    "not defined, a false positive. Prediction empty or missing: Dice, IoU, sensitivity, NSD 0, distances not defined, "
    "missed. Values that are not defined take no part in a mean, and no mean holds an infinity.",
    "interval": "95 % percentile bootstrap of the mean, 2000 resamples of patients (of cases where patients are not "
    "known).",
    "comparison": "Model minus baseline in the same patients, where both are defined (volume errors without sign); "
    "Wilcoxon's signed-rank test, corrected by Holm over the classes and all models compared; better means corrected p "
    "below 0.05, and mean and ranks on the same side.",
    "gap": "Largest minus smallest mean of the groups of a column; permutation test over patients (9999 deals), "
    "corrected by Holm over classes and columns; beyond chance means corrected p below 0.05.",
    "predicted dice": "Of inference, before any reference; failed means Dice below 0.8, AUROC is the probability that "
    "a failed case was predicted to be worse than one that did not fail, covered the share inside the 90 % interval.",
    "spread": "Standard deviation with n - 1; quartiles by linear interpolation.",
}
