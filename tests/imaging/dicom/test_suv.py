"""PET in SUVbw, by an activity whose uptake is known."""

from collections.abc import Callable

import numpy as np
import pytest
from pydicom.dataset import Dataset

from unetpipe.errors import ImageFileError
from unetpipe.imaging.files import read_grid, read_volume

HALF_LIFE_S = 6586.2  # fluorine-18


def pet(image: Dataset) -> None:
    """A PET slice: 70 kg, 350 MBq injected one half-life before the scan."""
    image.Modality, image.Units, image.DecayCorrection = "PT", "BQML", "START"
    image.CorrectedImage, image.PatientWeight = ["ATTN", "DECY", "SCAT"], 70
    image.SeriesDate = image.AcquisitionDate = "20200101"
    image.SeriesTime, image.AcquisitionTime = "014946.2", "015000"
    drug = Dataset()
    drug.RadionuclideTotalDose, drug.RadionuclideHalfLife = 350e6, HALF_LIFE_S
    drug.RadiopharmaceuticalStartTime = "000000"
    image.RadiopharmaceuticalInformationSequence = [drug]


FACTOR = 70 * 1000 / (350e6 / 2)


def test_activity_becomes_uptake(series) -> None:
    """Half of the dose has decayed when the scan starts; each slice keeps its own slope."""
    stored = read_volume(series.path).array.astype(np.float64)
    series.edit(pet)
    series.edit(lambda image: setattr(image, "RescaleSlope", 100 * image.InstanceNumber))
    volume = read_volume(series.path)
    slopes = 100 * np.arange(1, 7)[::-1]
    assert np.allclose(volume.array, stored * slopes * FACTOR, rtol=1e-5)
    assert volume.modality == "PT"
    assert any("SUVbw" in note for note in volume.notes)


def drug(keyword: str, value: object) -> Callable[[Dataset], None]:
    """Set an attribute of the radiopharmaceutical."""
    return lambda image: setattr(image.RadiopharmaceuticalInformationSequence[0], keyword, value)


def late_series(image: Dataset) -> None:
    """The series' time is that of a reconstruction; the frame's reference time tells when the scan started."""
    image.SeriesTime = "120000"
    image.AcquisitionTime, image.ActualFrameDuration = "015000", 1000
    image.FrameReferenceTime = 13.8 * 1000 + 500


def private(group: int, offset: int, **values: str) -> Callable[[Dataset], None]:
    """Set a private attribute in a block of each creator, one after the other."""

    def change(image: Dataset) -> None:
        for creator, value in values.items():
            image.private_block(group, CREATORS.get(creator, creator), create=True).add_new(offset, "LO", value)

    return change


CREATORS = {"philips": "Philips PET Private Group", "ge": "GEMS_PETD_01"}

SAME = {
    "dose at injection": (lambda image: setattr(image, "DecayCorrection", "ADMIN"), 70 * 1000 / 350e6),
    "date and time of injection": (drug("RadiopharmaceuticalStartDateTime", "20200101000000.00"), FACTOR),
    "injection before midnight": (
        lambda image: (
            setattr(image, "SeriesTime", "004946.2"),
            setattr(image, "AcquisitionTime", "005000"),
            drug("RadiopharmaceuticalStartTime", "230000")(image),
        ),
        FACTOR,
    ),
    "injection just after the scan's start": (
        drug("RadiopharmaceuticalStartTime", "014956.2"),
        70 * 1000 / 350e6 * 2 ** (-10 / HALF_LIFE_S),
    ),
    "the same with its date": (
        drug("RadiopharmaceuticalStartDateTime", "20200101014956.2"),
        70 * 1000 / 350e6 * 2 ** (-10 / HALF_LIFE_S),
    ),
    "injection in another zone, and the file's zone": (
        lambda image: (
            setattr(image, "TimezoneOffsetFromUTC", "-0530"),
            drug("RadiopharmaceuticalStartDateTime", "20200101063000+0100")(image),
        ),
        FACTOR,
    ),
    "injection in the file's zone": (
        lambda image: (
            setattr(image, "TimezoneOffsetFromUTC", "+0100"),
            drug("RadiopharmaceuticalStartDateTime", "20200101000000+0100")(image),
        ),
        FACTOR,
    ),
    "the file's zone alone": (
        lambda image: (
            setattr(image, "TimezoneOffsetFromUTC", "+0900"),
            drug("RadiopharmaceuticalStartDateTime", "20200101000000")(image),
        ),
        FACTOR,
    ),
    "zone of the injection alone": (drug("RadiopharmaceuticalStartDateTime", "20200101000000+0100"), FACTOR),
    "date of injection without a time": (drug("RadiopharmaceuticalStartDateTime", "20200101"), FACTOR),
    "date and hour of injection": (drug("RadiopharmaceuticalStartDateTime", "2019123123"), FACTOR),
    "as in ACR-NEMA": (
        lambda image: (
            setattr(image, "SeriesDate", "2020.01.01"),
            setattr(image, "SeriesTime", "01:49:46.2"),
            setattr(image, "AcquisitionDate", "2020.01.01"),
            setattr(image, "AcquisitionTime", "01:50:00"),
            drug("RadiopharmaceuticalStartTime", "00:00")(image),
        ),
        FACTOR,
    ),
    "nanoseconds": (lambda image: setattr(image, "SeriesTime", "014946.200000000"), FACTOR),
    "reconstructed later": (late_series, FACTOR),
    "reconstructed later, of GE": (
        lambda image: (
            setattr(image, "SeriesTime", "120000"),
            private(0x0009, 0x0D, other="20200101120000", ge="20200101014946.2")(image),
        ),
        FACTOR,
    ),
    "in SUVbw already": (lambda image: setattr(image, "Units", "GML"), 1.0),
    "counts with Philips' factor": (
        lambda image: (setattr(image, "Units", "CNTS"), private(0x7053, 0x00, philips="0.25")(image)),
        0.25,
    ),
    "the same in the second block": (
        lambda image: (setattr(image, "Units", "CNTS"), private(0x7053, 0x00, other="7", philips="0.25")(image)),
        0.25,
    ),
    "the same without its creator": (
        lambda image: (setattr(image, "Units", "CNTS"), image.add_new(0x70531000, "DS", "0.25")),
        0.25,
    ),
}


@pytest.mark.parametrize("kind", SAME)
def test_each_way_to_say_it_is_read(series, kind: str) -> None:
    """QIBA's cases: decay correction to injection or start, injection the day before, later reconstruction, units.

    Zones, times without a date and a date without a time are read as the standard has them, and private attributes in
    their creator's block.
    """
    change, factor = SAME[kind]
    stored = read_volume(series.path).array.astype(np.float64)
    series.edit(pet)
    series.edit(change)
    assert np.allclose(read_volume(series.path).array, stored * factor, rtol=1e-4)


LACKING = {
    "weight": (lambda image: setattr(image, "PatientWeight", None), "PatientWeight is missing"),
    "weight of 0": (lambda image: setattr(image, "PatientWeight", 0), "PatientWeight is 0"),
    "dose": (drug("RadionuclideTotalDose", None), "RadionuclideTotalDose is missing"),
    "half-life": (drug("RadionuclideHalfLife", None), "RadionuclideHalfLife is missing"),
    "injection": (drug("RadiopharmaceuticalStartTime", None), "RadiopharmaceuticalStartTime is missing"),
    "later injection": (drug("RadiopharmaceuticalStartDateTime", "20200102000000"), "later than the scan"),
    "injection the day before": (drug("RadiopharmaceuticalStartDateTime", "20191231000000"), "14 half-lives before"),
    "injection decades ago": (drug("RadiopharmaceuticalStartDateTime", "19000101000000"), "half-lives before the scan"),
    "half-life in minutes": (drug("RadionuclideHalfLife", HALF_LIFE_S / 60), "60 half-lives before the scan"),
    "time": (lambda image: setattr(image, "SeriesTime", None), "SeriesTime is missing"),
    "time with letters": (lambda image: setattr(image, "SeriesTime", "0149 am"), "a time cannot be read"),
    "time of an hour": (lambda image: setattr(image, "SeriesTime", "01"), "a time cannot be read"),
    "date of a month": (lambda image: setattr(image, "SeriesDate", "202001"), "a time cannot be read"),
    "date with slashes": (lambda image: setattr(image, "SeriesDate", "2020/01/01"), "a time cannot be read"),
    "month 13": (lambda image: setattr(image, "SeriesDate", "20201301"), "a time cannot be read"),
    "injection with letters": (
        drug("RadiopharmaceuticalStartDateTime", "20200101000000 UTC"),
        "a time cannot be read",
    ),
    "zone": (
        lambda image: (
            setattr(image, "TimezoneOffsetFromUTC", "CET"),
            drug("RadiopharmaceuticalStartDateTime", "20200101000000+0100")(image),
        ),
        "TimezoneOffsetFromUTC cannot be read",
    ),
    "units": (lambda image: setattr(image, "Units", "PROPCNTS"), "Units should be BQML, got PROPCNTS"),
    "lean body mass": (
        lambda image: (setattr(image, "Units", "GML"), setattr(image, "SUVType", "LBM")),
        "got GML LBM",
    ),
    "counts": (lambda image: setattr(image, "Units", "CNTS"), "their scale factor .7053,1000. is missing"),
    "another creator's factor": (
        lambda image: (setattr(image, "Units", "CNTS"), private(0x7053, 0x00, other="7")(image)),
        "their scale factor .7053,1000. is missing",
    ),
    "correction": (lambda image: setattr(image, "DecayCorrection", "NONE"), "DecayCorrection should be START or ADMIN"),
    "attenuation": (lambda image: setattr(image, "CorrectedImage", ["DECY"]), "lacks ATTN or DECY"),
}


@pytest.mark.parametrize("lacking", LACKING)
def test_what_is_lacking_for_uptake_is_named(series, lacking: str) -> None:
    """Activity is never taken for uptake."""
    change, reason = LACKING[lacking]
    series.edit(pet)
    series.edit(change)
    assert read_grid(series.path)[1].shape == (9, 8, 6)
    with pytest.raises(ImageFileError, match=f"^DICOM series: PET cannot become SUVbw: .*{reason}"):
        read_volume(series.path)
