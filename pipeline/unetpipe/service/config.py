"""The options of `unetpipe listen`, and those that `unetpipe infer` has for a DICOMweb server."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from unetpipe.config.base import MAX_VOXELS, Config, Extensions, MaxVoxels, Precision
from unetpipe.config.infer import InferConfig

Port = Annotated[int, Field(ge=1, le=65535)]
AeTitle = Annotated[str, Field(min_length=1, max_length=16, pattern=r"^[ -\[\]-~]*[!-\[\]-~][ -\[\]-~]*$")]


class ArchiveInferConfig(InferConfig):
    """`unetpipe infer`, also on studies of a DICOMweb server."""

    dicomweb: str | None = None
    """URL of a DICOMweb server, such as https://pacs.hospital/dicom-web: studies are fetched from it, and results
    stored in it as DICOM. Credentials come from the environment, see docs/clinic.md."""
    study: tuple[str, ...] = ()
    """StudyInstanceUID of a study to fetch with `--dicomweb`."""

    @model_validator(mode="after")
    def _has_one_source(self) -> Self:
        if (self.dicomweb is None) != (not self.study):
            raise ValueError("--dicomweb and --study need each other")
        if self.dicomweb is not None and (self.inputs or self.list or self.shard or self.skip_existing):
            raise ValueError("--dicomweb takes no INPUTS, --list, --shard or --skip-existing")
        return self


class ListenConfig(Config):
    """`unetpipe listen`."""

    model: Path | None = None
    """Model that segments every study, as `unetpipe infer` takes it."""
    rules: Path | None = None
    """YAML list that chooses the model by the attributes of a study's series; in place of `--model`."""
    out: Path
    """Folder of the node: what was received and waits, results, and studies that failed. It holds patient data, and
    only its owner can read it."""
    port: Port = 11112
    """Port for DICOM associations."""
    ae_title: AeTitle = "UNETPIPE"
    """AE title of this node, by which callers must call it."""
    host: Annotated[str, Field(min_length=1)] = "127.0.0.1"
    """Address for DICOM associations: this machine alone can reach the default, 0.0.0.0 is reached from everywhere."""
    caller: Annotated[tuple[AeTitle, ...], Field(min_length=1)]
    """AE title of a caller that may send studies."""
    send_to: str | None = None
    """Where results go: AETITLE@HOST:PORT, by C-STORE, or the URL of a DICOMweb server. Unless given they stay in
    OUT/results."""
    quiet_seconds: Annotated[float, Field(gt=0)] = 60.0
    """A study is segmented when nothing of it has arrived for so many seconds."""
    at_release: bool = False
    """Segment a study as soon as the association that sent it is released: for callers that send a whole study, or
    series, in one association."""
    max_studies: Annotated[int, Field(ge=1)] = 100
    """Studies that may wait; instances of further ones are refused until one is done."""
    max_gb: Annotated[float, Field(gt=0)] = 50.0
    """Size of OUT from which no further study begins, in GB."""
    health_port: Port = 9464
    """Port on this machine's loopback address for /healthz and /metrics."""
    seg_type: Literal["binary", "labelmap"] = "binary"
    """Content of the segmentations: `binary` has a bit per voxel and segment, `labelmap` one number per voxel, which
    fewer archives take."""
    uncoded: bool = False
    """Write segments under a private code where the model has none for a class; see `unetpipe bundle --segments`."""
    max_voxels: MaxVoxels = MAX_VOXELS
    device: str = "auto"
    """Device to compute on: `cpu`, `cuda`, `cuda:1` or `mps`; `auto` takes a GPU where there is one."""
    precision: Precision = "auto"
    """Precision of matrix products; `auto` takes the fastest that the device has in hardware."""
    tta: bool = False
    """Average over mirrored copies of each window, along the axes that were mirrored in training."""
    extension: Extensions = ()

    @model_validator(mode="after")
    def _has_one_model(self) -> Self:
        if (self.model is None) == (self.rules is None):
            raise ValueError("expected either --model or --rules")
        return self
