"""Silence for libraries of the network, whose logs name the study that they handle."""

import logging

from unetpipe.process_setting import ProcessSetting

_LIBRARIES = ("pynetdicom", "dicomweb_client", "retrying", "urllib3", "pydicom")


def _set(levels: dict[str, int]) -> None:
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


# held by whatever calls them: the messages hold UIDs, URLs and values of headers
quiet_libraries: ProcessSetting[dict[str, int]] = ProcessSetting(
    lambda: {name: logging.getLogger(name).level for name in _LIBRARIES},
    _set,
    dict.fromkeys(_LIBRARIES, logging.CRITICAL + 1),
)
