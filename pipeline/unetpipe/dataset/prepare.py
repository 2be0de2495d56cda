"""Cases from their files to the arrays that training reads. Needs torch: import it only where cases are prepared."""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from threading import BoundedSemaphore

import numpy as np
import torch
from numpy.typing import NDArray

from unetpipe.dataset.case_label import read_case_label
from unetpipe.dataset.checks.statistics import CaseStatistics
from unetpipe.dataset.keys import source_key
from unetpipe.dataset.manifest import Case, Manifest
from unetpipe.dataset.memory_budget import MemoryBudget, preparation_bytes
from unetpipe.dataset.planning.plan import Plan
from unetpipe.dataset.privacy.source_names import SourceNames
from unetpipe.dataset.store import EncodedCase, cases_folder, encode_case
from unetpipe.errors import DatasetError, Fault, ImageFileError, UnetpipeError
from unetpipe.imaging.geometry import orientation_to_ras
from unetpipe.imaging.image import read_image
from unetpipe.imaging.network_input import CroppedImage, network_label
from unetpipe.imaging.preprocessing import Preprocessing
from unetpipe.progress import Progress
from unetpipe.torch_threads import torch_threads

_LARGEST = float(np.finfo(np.float16).max)
_WRITERS = 4
"""Threads that wait for the disk while others compute."""
_WAITING = 8
"""Largest number of prepared, compressed cases that wait for a writer."""


@dataclass(frozen=True, kw_only=True)
class Preparation:
    """The preparation of a work folder's cases for one configuration of its plan.

    Attributes:
        work: Work folder.
        manifest: Manifest of the dataset.
        statistics: Statistics of each case from the checks, by id.
        keys: Key of each case, by id.
        plan: Plan of the dataset, which says how images are preprocessed.
        configuration: Name of one of the plan's configurations.
    """

    work: Path
    manifest: Manifest
    statistics: Mapping[str, CaseStatistics]
    keys: Mapping[str, str]
    plan: Plan
    configuration: str

    @cached_property
    def preprocessing(self) -> Preprocessing:
        """The preprocessing of all cases."""
        return self.plan.preprocessing(self.configuration)

    def peak_bytes(self, case: Case) -> int:
        """Estimated peak memory of preparing a case."""
        known = self.statistics[case.id]
        return preparation_bytes(known.shape, known.spacing_mm, len(known.channels), self.preprocessing)

    def encode(self, case: Case) -> EncodedCase:
        """Read, crop, normalise, resample and compress a case.

        Raises:
            ImageFileError: If the case has no label, or its files have changed since they were checked.
            GeometryError: If its files have changed since they were checked.
            ComponentError: If a preprocessing step fails.
        """
        if case.label is None:
            raise ImageFileError(f"{case.id} has no label")
        known, spec = self.statistics[case.id], self.preprocessing
        image = CroppedImage(read_image(case.images, case.dicom, adopt_affine=known.affine_adopted), spec)
        stored = torch.empty((len(spec.normalization) + 1, *image.placement.shape), dtype=torch.float16)
        for number, channel in enumerate(image.channels()):
            stored[number] = channel.clamp_(-_LARGEST, _LARGEST)
        del channel  # before the label is read
        stored[-1] = network_label(
            self._label(case.label, image, known), image, self.manifest.label_values, self.manifest.ignore_value
        )
        return encode_case(
            stored.numpy(),
            case=case.id,
            key=self.keys[case.id],
            source=source_key(known, self.manifest),
            placement=image.placement,
            spacing_mm=image.grid.spacing_mm,
            classes=len(self.manifest.labels),
            thin=self.plan.configurations[self.configuration].thin,
            preprocessing=spec,
        )

    def _label(self, path: Path, image: CroppedImage, known: CaseStatistics) -> NDArray[np.integer]:
        """Label values (I, J[, K]) in the RAS+ order of the image."""
        source = image.placement.source
        label = read_case_label(path, source, self.manifest, adopt_affine=known.affine_adopted)
        return orientation_to_ras(source).to_ras(label)


def prepare_cases(
    preparation: Preparation, cases: Sequence[Case], *, workers: int, budget: MemoryBudget, progress: Progress
) -> None:
    """Prepare and store cases, in threads.

    Args:
        preparation: Preparation of the cases.
        cases: Cases of the manifest.
        workers: Number of threads.
        budget: Budget of memory, which holds a case back until it fits.
        progress: Advanced once per case.

    Raises:
        DatasetError: If a case cannot be prepared, such as one whose files have changed since they were checked; names
            the case.
    """
    folder = cases_folder(preparation.work, preparation.configuration)
    names, room = preparation.manifest.file_names, BoundedSemaphore(_WAITING)

    def prepare(case: Case) -> Future[None]:
        with _blamed_on(case), budget.hold(preparation.peak_bytes(case)):
            encoded = preparation.encode(case)
        room.acquire()
        return writers.submit(write, case, encoded)

    def write(case: Case, encoded: EncodedCase) -> None:
        try:
            with _blamed_on(case):
                encoded.write(folder, names[case.id])
        finally:
            room.release()

    with (
        torch_threads(torch.get_num_threads() // workers),  # with all threads in each worker, they wait for each other
        progress.task("preprocessing", len(cases)) as advance,
        ThreadPoolExecutor(_WRITERS) as writers,
        ThreadPoolExecutor(workers) as threads,
    ):
        futures = {threads.submit(prepare, case): case for case in cases}
        try:
            for future in as_completed(futures):
                future.result().result()
                advance(note=futures[future].id)
        except BaseException:
            threads.shutdown(wait=False, cancel_futures=True)
            raise


@contextmanager
def _blamed_on(case: Case) -> Iterator[None]:
    """Name the case in an error."""
    try:
        yield
    except UnetpipeError as error:
        message = SourceNames.of([case]).hide(str(error))
        raise DatasetError([Fault(case=case.id, kind="preprocessing", message=message)]) from error
    except Exception as error:
        error.add_note(f"while preprocessing case {case.id}")
        raise
