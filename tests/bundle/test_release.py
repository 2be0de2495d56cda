"""Versions count up with models, and with nothing else."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from unetpipe.bundle.read import Bundle, read_bundle
from unetpipe.bundle.release import Release
from unetpipe.bundle.revise import write_segments
from unetpipe.bundle.segment_codes import read_segment_codes
from unetpipe.bundle.write import write_bundle
from unetpipe.config.package import PackageConfig
from unetpipe.errors import BundleError, DatasetError
from unetpipe.stages.package import package

MakeBundle = Callable[..., Path]


def rewritten(folder: Path, *, shift: float = 0.0, **more: Any) -> Bundle:
    """Write a bundle once more over itself, with other weights or another spec."""
    bundle = read_bundle(folder)
    spec = bundle.spec.model_copy(update=more)
    weights = {
        name: value + shift if value.is_floating_point() else value for name, value in bundle.state_dict().items()
    }
    write_bundle(folder, spec, bundle.network_def, weights)
    return read_bundle(folder)


def test_a_changed_model_counts_up_and_an_unchanged_one_does_not(make_bundle: MakeBundle) -> None:
    """New weights and a new spec are new versions, each with its line; the id of a tracking run is none."""
    folder = make_bundle()
    assert read_bundle(folder).release == Release(version="0.1.0", changelog={"0.1.0": "first version"})
    assert rewritten(folder).version == "0.1.0"
    assert rewritten(folder, tracking_run="a" * 32).version == "0.1.0"
    assert rewritten(folder, shift=0.5).version == "0.2.0"
    found = rewritten(folder, shift=0.5, postprocessing=("class 1",), labels=read_bundle(folder).spec.labels)
    assert dict(found.release.changelog) == {
        "0.1.0": "first version",
        "0.2.0": "changed: weights",
        "0.3.0": "changed: post-processing, weights",
    }
    metadata = json.loads((folder / "configs" / "metadata.json").read_text())
    assert (metadata["version"], list(metadata["changelog"])) == ("0.3.0", ["0.1.0", "0.2.0", "0.3.0"])


def test_the_epochs_of_a_training_are_one_version(make_bundle: MakeBundle) -> None:
    """A training over a finished model is the next version from its first epoch on, and still is when it is over."""
    folder = make_bundle()
    for _ in range(3):
        assert rewritten(folder, shift=0.1, finished=False).version == "0.2.0"
    assert rewritten(folder, shift=0.1, finished=True).version == "0.2.0"
    assert rewritten(folder, finished=True).version == "0.2.0"
    assert rewritten(folder, shift=0.1, finished=False).version == "0.3.0"


@pytest.mark.parametrize("spoiled", ["configs/metadata.json", "models/model.pt"])
def test_what_is_no_model_is_written_over(make_bundle: MakeBundle, spoiled: str) -> None:
    """A damaged bundle has no version that could be counted from."""
    bundle = read_bundle(folder := make_bundle())
    (folder / spoiled).write_bytes(b"{")
    write_bundle(folder, bundle.spec, bundle.network_def, bundle.state_dict())
    assert read_bundle(folder).version == "0.1.0"


def test_a_zip_over_another_models_counts_up(make_bundle: MakeBundle, tmp_path: Path) -> None:
    """Packing a retrained model under the name of the last one gives the next version, in the folder as in the zip."""
    first, second, target = make_bundle("first"), make_bundle("second", seed=1), tmp_path / "model.zip"
    package(PackageConfig(model=first, zip=target))
    content = target.read_bytes()
    package(PackageConfig(model=first, zip=target))
    assert target.read_bytes() == content
    package(PackageConfig(model=second, zip=target))
    assert read_bundle(target).version == read_bundle(second).version == "0.2.0"
    assert read_bundle(target).release.changelog["0.2.0"] == "changed: weights"
    content = target.read_bytes()
    package(PackageConfig(model=second, zip=target))
    assert target.read_bytes() == content
    target.write_bytes(b"no zip")
    package(PackageConfig(model=second, zip=target))
    assert target.read_bytes() == content


@pytest.mark.parametrize(
    ("version", "following"),
    [("0.1.0", "0.2.0"), ("1.9.3", "1.10.0"), ("2.0", "2.1.0"), ("", "0.1.0"), ("v3", "3.1.0")],
)
def test_versions_of_any_form_are_followed(version: str, following: str) -> None:
    """The middle number rises; what others have called a version is read as far as it has numbers."""
    release = Release(version=version, changelog={version: "it"})
    after = release.after("more")
    assert after.version == following
    assert after.follows(release)
    assert not release.follows(after)
    assert dict(after.changelog) == {version: "it", following: "more"}


def test_weights_of_another_type_or_shape_are_other_weights(make_bundle: MakeBundle) -> None:
    """Neither is an error."""
    bundle = read_bundle(make_bundle())
    model = bundle.model()
    assert model.changes_from(model) == ""
    (member,) = model.members
    name = next(iter(member.weights))
    others = [{**member.weights, name: other} for other in (member.weights[name][:1], torch.zeros(()))]
    fewer = {key: value for key, value in member.weights.items() if key != name}
    for weights in (*others, fewer):
        changed = replace(model, members=(replace(member, weights=weights),))
        assert changed.changes_from(model) == "changed: weights"


def test_a_person_names_version_and_changes(make_bundle: MakeBundle, tmp_path: Path) -> None:
    """They go into metadata and TorchScript, which is exported anew, and a lower version is refused."""
    folder = make_bundle()
    package(PackageConfig(model=folder, torchscript=True))
    package(PackageConfig(model=folder, version="1.0.0", changes="first release"))
    package(PackageConfig(model=folder, changes="first public release"))
    bundle = read_bundle(folder)
    assert dict(bundle.release.changelog) == {"0.1.0": "first version", "1.0.0": "first public release"}
    extra = {"metadata.json": ""}
    torch.jit.load(folder / "models" / "model.ts", _extra_files=extra)  # type: ignore[no-untyped-call]
    assert json.loads(extra["metadata.json"])["version"] == bundle.version == "1.0.0"
    with pytest.raises(BundleError, match=r"--version 0\.9 is below 1\.0\.0"):
        package(PackageConfig(model=folder, version="0.9"))
    other, target = make_bundle("other", seed=1), tmp_path / "model.zip"
    package(PackageConfig(model=folder, zip=target))
    package(PackageConfig(model=other, zip=target, changes="trained longer"))
    assert read_bundle(other).release.changelog["1.1.0"] == "trained longer"


def test_codes_of_segments_stay(make_bundle: MakeBundle, tmp_path: Path) -> None:
    """A model trained anew keeps them, and its version says what has changed."""
    folder, table = make_bundle(), tmp_path / "segments.yaml"
    name = read_bundle(folder).spec.label_scheme.names[0]
    table.write_text(f"{name}: {{type: {{value: 10200004, meaning: Liver}}}}")
    write_segments(folder, read_segment_codes(table))
    coded = read_bundle(folder)
    assert name in coded.spec.segments
    renewed = rewritten(folder, shift=0.5, segments={})
    assert renewed.spec.segments == coded.spec.segments
    assert "segments" not in renewed.release.changelog[renewed.version]


def test_statements_stay_until_they_are_changed(make_bundle: MakeBundle, tmp_path: Path) -> None:
    """Authors, copyright, data and references reach metadata and card, and a model trained anew keeps them."""
    folder, license_text = make_bundle(), tmp_path / "license.txt"
    license_text.write_text("CC BY-SA 4.0\n")
    config = PackageConfig(
        model=folder, authors="A. Author", copyright="Copyright (c) 2026 A University", data_source="Task04",
        data_license=license_text, reference=("Author 2026",),
    )  # fmt: skip
    assert package(config).passed
    rewritten(folder, shift=0.5)
    assert package(PackageConfig(model=folder, data_source="Task05", onnx=False)).passed
    metadata = json.loads((folder / "configs" / "metadata.json").read_text())
    card = (folder / "docs" / "README.md").read_text()
    for text in ("A. Author", "Copyright (c) 2026 A University", "Task05", "Author 2026"):
        assert text in json.dumps(metadata)
        assert text in card
    assert metadata["references"].count("Author 2026") == 1
    assert (folder / "docs" / "data_license.txt").read_text() == "CC BY-SA 4.0\n"
    license_text.write_bytes("Universität Würzburg".encode("cp1252"))
    assert package(PackageConfig(model=folder, data_license=license_text)).passed
    assert (folder / "docs" / "data_license.txt").read_text(encoding="utf-8") == "Universität Würzburg"
    license_text.write_bytes(b"%PDF \x81\x8d\xff")
    with pytest.raises(DatasetError, match="text in no known encoding"):
        package(PackageConfig(model=folder, data_license=license_text, authors="B. Author"))
    assert json.loads((folder / "configs" / "metadata.json").read_text())["authors"] == "A. Author"
