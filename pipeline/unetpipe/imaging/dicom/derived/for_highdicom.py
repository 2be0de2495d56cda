"""Headers and codes as highdicom takes them.

highdicom is given images without a patient: it refuses attributes of patients that are invalid, and warns of names that
it finds odd by quoting them. `instances.save` hands on the patient afterwards.
"""

import logging

import highdicom as hd
from pydicom import Dataset

from unetpipe.imaging.dicom.derived.codes import Code
from unetpipe.imaging.dicom.derived.source import ImageReference
from unetpipe.process_setting import ProcessSetting

_logger = logging.getLogger("highdicom")
# Held by whatever calls highdicom, which logs identifiers.
without_logs: ProcessSetting[int] = ProcessSetting(lambda: _logger.level, _logger.setLevel, logging.WARNING)

_EMPTY = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID", "StudyDate"),
    "StudyTime",
)


def without_patient(image: ImageReference) -> Dataset:
    """The header of an image that says where it belongs, and nothing of patient and study."""
    data = Dataset()
    data.SOPClassUID, data.SOPInstanceUID = image.sop_class, image.sop_instance
    data.StudyInstanceUID, data.SeriesInstanceUID = image.study, image.series
    for keyword in _EMPTY:
        setattr(data, keyword, "")
    return data


def concept(code: Code) -> hd.sr.CodedConcept:
    """A code."""
    return hd.sr.CodedConcept(code.value, code.scheme, code.meaning)
