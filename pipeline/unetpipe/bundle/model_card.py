"""The model card of a bundle, `docs/README.md`, by the Model Zoo's template.

Source:
    https://github.com/Project-MONAI/model-zoo, docs/readme_template.md.
"""

from collections.abc import Iterator
from typing import Any

from unetpipe.bundle.about import About
from unetpipe.bundle.evidence import Evidence, FoldEvidence, dice_figures
from unetpipe.bundle.spec import ModelSpec
from unetpipe.components import target_of
from unetpipe.errors import counted
from unetpipe.imaging.preprocessing import NORMALIZE, Step
from unetpipe.inference.quality import Quality
from unetpipe.networks.build import network_name


def model_card(spec: ModelSpec, network_def: dict[str, Any], about: About) -> str:
    """Return the text of the file.

    Args:
        spec: Everything about the model but its networks and weights.
        network_def: The network, as a MONAI config; the first one of an ensemble.
        about: Statements of a person about the model.
    """
    structures, channels = ", ".join(spec.label_scheme.names), ", ".join(spec.channels)
    sections = [
        f"# Segmentation of {structures} in {channels}",
        f"### **Authors**\n{about.authors}",
        f"### **Tags**\nSegmentation, {channels}, {structures}, {spec.spatial_dims}-D, {network_name(network_def)}",
        f"## **Model Description**\n{_description(spec, network_def)}",
        f"## **Data**\n{_data(spec, about)}",
        f"#### **Preprocessing**\n{_preprocessing(spec)}",
        f"## **Performance**\n{_performance(spec)}",
        f"## **Additional Usage Steps**\n{_usage(spec)}",
        f"## **System Configuration**\n{_system(spec.evidence)}",
        f"## **Limitations**\n{_limitations(spec)}",
        "## **References**\n" + "\n\n".join(f"[{n}] {one}" for n, one in enumerate(about.all_references, 1)),
        f"## **License**\n{about.copyright}. The licence of the weights and of the configs is in `LICENSE`, that of "
        "the training data in `docs/data_license.txt`.",
    ]
    return "\n\n".join(sections) + "\n"


def _description(spec: ModelSpec, network_def: dict[str, Any]) -> str:
    network, dims = network_name(network_def), spec.spatial_dims
    what = f"A {dims}-D {network}, trained with unetpipe."
    if spec.folds:
        folds = ", ".join(map(str, spec.folds))
        what = (
            f"An ensemble of {len(spec.folds)} {dims}-D networks ({network}), trained with unetpipe on folds {folds} "
            "of a cross-validation. Their logits are averaged."
        )
    if spec.first_stage:
        what += (
            f" It is the second stage of a cascade: the labels of the model in `{spec.first_stage.folder}`, which has "
            "a card of its own, are further channels of its images."
        )
    if spec.averaged_with:
        what += (
            f" On the grid of each scan its logits are averaged with those of {_parts(spec)} in this bundle, which "
            "sees scans at another voxel size or in other windows and has a card of its own."
        )
    kind = "It finds regions, which may overlap, and writes" if spec.regions else "It gives each voxel one of"
    rows = "\n".join(f"| {label.value} | {label.name} |" for label in spec.labels)
    return f"{what} {kind}:\n\n| value | class |\n|---|---|\n{rows}{_extension_note(spec, network_def)}"


def _parts(spec: ModelSpec) -> str:
    return ", ".join(f"`{part.folder}`" for part in spec.averaged_with)


def _extension_note(spec: ModelSpec, network_def: dict[str, Any]) -> str:
    if spec.registered_network is None:
        return ""
    return f"""

The network `{network_name(network_def)}` is registered by an extension of unetpipe and is no class of MONAI's. Wherever
this bundle is used, its TorchScript in `models/model.ts` is what runs, with the weights of `models/model.pt`. To train
it further, the extension is needed."""


def _data(spec: ModelSpec, about: About) -> str:
    source = about.data_source or "Where the training data comes from is not stated."
    if spec.evidence is None:
        return source
    rows = "\n".join(
        f"| {fold} | {one.training_cases} | {one.held_out_cases} |" for fold, one in _named_folds(spec, spec.evidence)
    )
    apart = all(one.patients_apart in (True, None) for one in spec.evidence.folds)
    split = "Patients were split so that none is on both sides:" if apart else "Cases were split, whosever they are:"
    return f"""{source}

{split}

| network | cases to train on | cases held out |
|---|---|---|
{rows}"""


def _named_folds(spec: ModelSpec, evidence: Evidence) -> Iterator[tuple[str, FoldEvidence]]:
    names = [f"fold {fold}" for fold in spec.folds] or ["the model"]
    yield from zip(names, evidence.folds, strict=False)


def _preprocessing(spec: ModelSpec) -> str:
    spacing = " x ".join(f"{s:g}" for s in spec.preprocessing.spacing_mm)
    patch = " x ".join(str(n) for n in spec.patch_size)
    kept = f" Of {', '.join(spec.postprocessing)}, only the largest component is kept." if spec.postprocessing else ""
    order = "are oriented to RAS+," if spec.preprocessing.turns_axes else "keep the order of their axes, are"
    return (
        f"Images {order} cropped to what is not 0, {_steps(spec)} and resampled to {spacing} mm; the network sees "
        f"windows of {patch} voxels. Labels are written on each image's own grid.{kept}"
    )


def _steps(spec: ModelSpec) -> str:
    """The steps between crop and resampling, as a part of a sentence."""
    words = [
        "normalised" if step == NORMALIZE else f"put through `{target_of(step)}`" for step in spec.preprocessing.steps
    ]
    return ", ".join(words) or "left as they are"


def _performance(spec: ModelSpec) -> str:
    figures = dice_figures(spec.evidence) if spec.evidence else []
    if spec.evidence is None or not figures:
        return "The quality of this model has not been measured."
    rows = "\n".join(
        f"| {one.name} | {one.mean:.4f} | {one.low:.4f} to {one.high:.4f} | {one.patients} |"
        if one.low == one.low  # NaN below two patients
        else f"| {one.name} | {one.mean:.4f} | none | {one.patients} |"
        for one in figures
    )
    return f"""{_basis(spec, spec.evidence)}

| structure | Dice | 95 % interval | patients |
|---|---|---|---|
{rows}

Mean over patients, each image on its own grid; the interval is a bootstrap by patients. A case where neither reference
nor labels hold a structure does not count.{_failure_score(spec.quality)}"""


def _basis(spec: ModelSpec, evidence: Evidence) -> str:
    """Say over which cases the figures are, and whether these cases had a part in the model."""
    held_out = sum(fold.held_out_cases for fold in evidence.folds)
    skipped = held_out - sum(fold.predicted_cases for fold in evidence.folds)
    others = held_out - skipped - evidence.cases
    text = f"Dice in {evidence.cases} of {counted(held_out, 'held-out case')}"
    if not all(fold.unseen for fold in evidence.folds):
        text += ", which also decided on the weights or the end of training: optimistic."
    elif others:
        text += (
            f", which decided nothing in training; the {counted(others, 'other')} decided on the weights or its end."
        )
    else:
        text += ", which decided nothing in training."
    if skipped:
        text += f" There was no time for {counted(skipped, 'case')}, which the seed drew."
    if spec.folds:
        text += " Each case was segmented by the one network that had not seen it, not by the ensemble."
    return text


def _failure_score(quality: Quality | None) -> str:
    if quality is None or not quality.classes:
        return ""
    rows = "\n".join(f"| {one.name} | -{one.below:.2f} to +{one.above:.2f} | {one.cases} |" for one in quality.classes)
    return f"""

`unetpipe infer` predicts the Dice of its labels from the network's confidence. In held-out cases, nine of ten had a
Dice within this distance of the predicted one:

| structure | Dice less predicted Dice | cases |
|---|---|---|
{rows}"""


def _usage(spec: ModelSpec) -> str:
    with_unetpipe = "With unetpipe:\n\n```\nunetpipe infer THIS_FOLDER scan.nii.gz --out labels\n```\n"
    if own := [f"`{name}`" for step in spec.preprocessing.steps if not (name := _name(step)).startswith("monai.")]:
        return f"""{with_unetpipe}
Images are preprocessed by {", ".join(own)}, which an extension of unetpipe registers: name it with `--extension`. MONAI
alone cannot run this bundle."""
    if spec.averaged_with:
        with_unetpipe += f"""
MONAI's configs run the model without {_parts(spec)}: the average needs unetpipe, and the figures above are its.
"""
    first, given = _first_stage_usage(spec)
    return f"""{with_unetpipe}
With MONAI alone, from a folder of images to labels{" (needs scikit-image)" if spec.postprocessing else ""}:

```
{first}python -m monai.bundle run --config_file configs/inference.json --dataset_dir IMAGES --output_dir LABELS{given}
```

{_first_stage_note(spec)}\
Dice of cases with labels, in `DATA/imagesTr` and `DATA/labelsTr` under the same names, and training anew:

```
python -m monai.bundle run --config_file configs/evaluate.json --dataset_dir DATA
python -m monai.bundle run --config_file configs/train.json --dataset_dir DATA
```

On several GPUs:

```
torchrun --standalone --nproc_per_node=2 -m monai.bundle run --dataset_dir DATA \\
    --config_file "['configs/train.json','configs/multi_gpu_train.json']"
torchrun --standalone --nproc_per_node=2 -m monai.bundle run --dataset_dir DATA \\
    --config_file "['configs/evaluate.json','configs/multi_gpu_evaluate.json']"
```

{_recipe(spec)}"""


def _first_stage_note(spec: ModelSpec) -> str:
    if spec.first_stage is None:
        return ""
    return (
        "`FIRST` holds the first stage's labels under the names of the images. The commands below need them as well, "
        "of `DATA/imagesTr`.\n\n"
    )


def _first_stage_usage(spec: ModelSpec) -> tuple[str, str]:
    """Commands that come before those of the model, and an option that all of its commands need; empty without one."""
    if spec.first_stage is None:
        return "", ""
    folder = spec.first_stage.folder
    command = (
        f"python -m monai.bundle run --config_file {folder}/configs/inference.json --bundle_root {folder} \\\n"
        "    --dataset_dir IMAGES --output_dir FIRST\n"
    )
    return command, " \\\n    --first_stage_dir FIRST"


def _recipe(spec: ModelSpec) -> str:
    start = "random weights" if spec.registered_network is None else "the weights in `models/model.ts`"
    trained = f"`train.json` trains the same network with MONAI's transforms, from {start}, into `eval/model.pt`."
    if not spec.recipe.differences:
        return trained
    return f"{trained} The training of this model had besides: {'; '.join(spec.recipe.differences)}."


def _name(step: Step) -> str:
    """Class or registered name of a step; the normalisation is MONAI's own."""
    return "monai." if step == NORMALIZE else str(target_of(step))


def _system(evidence: Evidence | None) -> str:
    if evidence is None:
        return "Time and memory have not been measured."
    rows = "\n".join(
        f"| {one.epochs} epochs, {one.iterations} steps of {one.batch_size} patches, {one.optimizer}, {one.loss} "
        f"| {one.device} | {_duration(one.seconds)} | {_gigabytes(one.memory_gb)} "
        f"| {one.seconds_per_case:.2g} s | {_gigabytes(one.inference_memory_gb)} |"
        for one in evidence.folds
    )
    return f"""As measured while this model was trained:

| training | device | time | most memory | inference, a case | most memory |
|---|---|---|---|---|---|
{rows}

Memory is a GPU's tensors, or on a CPU the whole process."""


def _duration(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds >= 2 * 3600 else f"{seconds / 60:.1f} min"


def _gigabytes(amount: float | None) -> str:
    return "not measured" if amount is None else f"{amount:.1f} GiB"


def _limitations(spec: ModelSpec) -> str:
    domain = spec.training_domain
    known = ""
    if domain is not None:
        spacing = ", ".join(f"{low:g}" if low == high else f"{low:g} to {high:g}" for low, high in domain.spacing_mm)
        known = (
            f" It has seen images with voxels of {spacing} mm along the patient's axes; `unetpipe infer` warns where "
            "an image differs from its training data."
        )
    return f"For research only: not validated for clinical use, and not a medical device.{known}"
