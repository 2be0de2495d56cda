"""Names that do not tell what they stand for: HMACs of DICOM identifiers under a secret of the node.

A result is named after what it was made of, and its UIDs are derived from that name: made again, after a kill or
because a study was sent again, it is the same instance, which an archive holds once.
"""

import hmac
import os
import secrets
from pathlib import Path

from unetpipe.errors import ServiceError
from unetpipe.imaging.dicom.instances import InstanceIdentity, uid_of
from unetpipe.service.journal import Segmented

_BYTES = 32


class Names:
    """Names studies, series, instances and results; the same ones always get the same name.

    Args:
        key: The secret.
    """

    def __init__(self, key: bytes) -> None:
        self._key = key

    @classmethod
    def at(cls, path: Path) -> "Names":
        """Read the secret of a node, or make it where there is none; only its owner can read the file.

        Raises:
            ServiceError: If the file holds anything else.
        """
        if not path.exists():
            temporary = path.with_name(f".{path.name}.tmp")
            temporary.unlink(missing_ok=True)
            descriptor = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(secrets.token_bytes(_BYTES))
                file.flush()
                os.fsync(descriptor)
            temporary.replace(path)
        key = path.read_bytes()
        if len(key) != _BYTES:
            raise ServiceError(f"{path.name}: expected a secret of {_BYTES} bytes, got {len(key)}")
        return cls(key)

    def of(self, instance: InstanceIdentity) -> tuple[str, str, str]:
        """Names of the study, the series and the instance."""
        return (
            self._name("study", instance.study),
            self._name("series", instance.series),
            self._name("instance", instance.instance),
        )

    def result(self, segmented: Segmented) -> str:
        """Name of the result of a study."""
        instances = sorted(name for names in segmented.series.values() for name in names)
        return self._name("result", segmented.study, segmented.model, *instances)

    def uids_of(self, result: str) -> tuple[str, str]:
        """UIDs of a result's series and instance."""
        return uid_of(bytes.fromhex(self._name("series of", result))), uid_of(bytes.fromhex(result))

    @staticmethod
    def result_of(instance_uid: str) -> str:
        """Name of the result that has this SOPInstanceUID, if it is one of this node's."""
        root, _, number = instance_uid.rpartition(".")
        return f"{int(number):032x}" if root == "2.25" and number.isdigit() else ""

    def _name(self, *parts: str) -> str:
        """Return 32 hexadecimal digits that stand for these texts."""
        return hmac.digest(self._key, "\0".join(parts).encode(), "sha256")[:16].hex()
