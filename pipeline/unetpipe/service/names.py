"""Names that do not tell what they stand for: HMACs of DICOM identifiers under the site's secret.

A result is named after what it was made of, and its UIDs are derived from that name: made again, after a kill or
because a study was sent again, it is the same instance, which an archive holds once.
"""

import re

from unetpipe.dataset.privacy.secret import Secret
from unetpipe.imaging.dicom.instances import InstanceIdentity, uid_of
from unetpipe.service.journal import Segmented

_RESULT_UID = re.compile(r"2\.25\.(0|[1-9]\d{0,38})")


class Names:
    """Names studies, series, instances and results; the same ones always get the same name.

    Args:
        secret: The site's secret.
    """

    def __init__(self, secret: Secret) -> None:
        self._secret = secret

    def of(self, instance: InstanceIdentity) -> tuple[str, str, str]:
        """Names of the study, the series and the instance."""
        digest = self._secret.digest
        return (
            digest("study", instance.study),
            digest("series", instance.series),
            digest("instance", instance.instance),
        )

    def result(self, segmented: Segmented) -> str:
        """Name of the result of a study: 32 hexadecimal digits."""
        instances = sorted(name for names in segmented.series.values() for name in names)
        return self._long("result", segmented.study, segmented.model, *instances)

    def uids_of(self, result: str) -> tuple[str, str]:
        """UIDs of a result's series and instance."""
        return uid_of(bytes.fromhex(self._long("series of", result))), uid_of(bytes.fromhex(result))

    @staticmethod
    def result_of(instance_uid: str) -> str:
        """Name that a result has if this is its SOPInstanceUID; empty where no result can have it."""
        match = _RESULT_UID.fullmatch(instance_uid)
        return f"{int(match[1]):032x}" if match else ""

    def _long(self, *parts: str) -> str:
        """128 bits, as a UID of the root 2.25 stands for, where a digest has 64."""
        return self._secret.digest("1", *parts) + self._secret.digest("2", *parts)
