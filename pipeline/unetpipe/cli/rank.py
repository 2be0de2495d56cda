"""One rank of a training that `train --gpus` has launched: ``python -m unetpipe.cli.rank CONFIG``.

It shows how far training is, if it is the first one. What comes of it, a result or an error, its launcher says.
"""

import sys
from pathlib import Path

from unetpipe.config.train import TrainConfig
from unetpipe.errors import UnetpipeError
from unetpipe.training.distributed.launcher import STOPPED


def main(config: Path) -> int:
    """Train, and return the exit code; an error is left in the file that torch's launcher reads."""
    from torch.distributed.elastic.multiprocessing.errors import get_error_handler

    from unetpipe.cli.console import shown_on_stderr
    from unetpipe.stages.train import train

    try:
        with shown_on_stderr() as progress:
            train(TrainConfig.model_validate_json(config.read_bytes()), progress)
    except KeyboardInterrupt:
        return STOPPED
    except (UnetpipeError, OSError) as error:
        get_error_handler().record_exception(error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
