"""Several processes that train one network: here on the CPU, through gloo."""

import json
import os
import socket
import subprocess
import sys
import textwrap
import threading
from typing import Any

import pytest

from unetpipe.training.distributed.group import AgreedStopError, Group

LEARN = """
    import json, os
    import numpy as np, torch
    from unetpipe.config.train import TrainConfig
    from unetpipe.training.batches.augmentation.augmentation import Augmentation
    from unetpipe.training.optimization.learner import Learner
    from unetpipe.training.batches.loader import Batch
    from unetpipe.training.optimization.loss import Loss, tversky_ce
    from unetpipe.training.optimization.named_loss import Task, make_loss
    from unetpipe.training.optimization.recipe import Recipe
    from unetpipe.training.distributed.group import joined
    from unetpipe.training.distributed.ranks import find_ranks

    device, rng = torch.device("cpu"), np.random.default_rng(0)
    definition = {
        "_target_": "monai.networks.nets.DynUNet", "spatial_dims": 2, "in_channels": 1,
        "kernel_size": [[3, 3]] * 4, "strides": [[1, 1], [2, 2], [2, 2], [2, 2]],
        "upsample_kernel_size": [[2, 2]] * 3, "filters": [4, 8, 8, 8],
        "norm_name": ["instance", {"affine": True}],
    }
    names = ("rotation", "scaling", "noise", "blur", "brightness", "contrast", "low_resolution", "gamma")
    often = Augmentation.of("default", {name: {"probability": 0.7} for name in names}, (0, 1), 2)
    weighted = tversky_ce(weights=(1.0, 2.0), regions=((1, 2), (2,)))
    task = Task(classes=3, regions=None, weights=None, ignoring=True)
    of_samples = make_loss({"_target_": "monai.losses.DiceLoss"}, task)
    with joined(find_ranks(os.environ)) as group:
        losses = []
        for loss, outputs in ((Loss(), 3), (weighted, 2), (of_samples, 3)):
            recipe = Recipe.of(TrainConfig(work="."), "muon", loss)
            learner = Learner(definition | {"out_channels": outputs}, (16, 16), recipe, device, torch.float32, 0)
            for number in range(5):
                image = torch.from_numpy(rng.normal(size=(5, 1, 16, 16))).float()
                label = (image[:, 0] > 0.5).to(torch.int16) + (image[:, 0] > 1).to(torch.int16)
                label[0, :4] = -1
                mine = group.share_of(5)
                batch = Batch(number=number, places=tuple(mine), image=image[mine], label=label[mine])
                losses.append(float(learner.step(batch, 0.2, often)[0]))
        with_statistics = definition | {"out_channels": 3, "norm_name": ["batch", {"affine": True}]}
        recipe = Recipe.of(TrainConfig(work="."), "muon", Loss())
        learner = Learner(with_statistics, (16, 16), recipe, device, torch.float32, 0)
        learner.step(batch, 0.2, often)
        learner.share_statistics()
        shared = group.gather([float(one.double().sum()) for one in learner.network.buffers()])
        assert shared[0] and all(one == shared[0] for one in shared)
        agreed = group.agree(0.25 if group.rank == 0 else 0.5, stop=group.rank == 1)
        gathered = group.gather({"rank": group.rank, "text": "ä" * (group.rank + 1), "number": float("inf")})
        squares = group.map(lambda n: n * n, range(5))
        print(json.dumps({"losses": losses, "agreed": agreed, "gathered": gathered, "squares": squares}))
"""
DIE = """
    import os, signal
    from unetpipe.errors import TrainingError
    from unetpipe.training.distributed.group import RankDiedError, joined
    from unetpipe.training.distributed.ranks import find_ranks

    try:
        with joined(find_ranks(os.environ)) as group:
            if group.rank == 1:
                os.kill(os.getpid(), signal.SIGKILL)
            group.gather(None)
    except RankDiedError as error:
        print('"died"')
"""


def run(code: str, size: int) -> list[Any]:
    """What each of `size` processes prints; None for nothing."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        place = {"WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    command = [sys.executable, "-W", "error:Grad strides", "-c", textwrap.dedent(code)]  # a slow path of torch's
    processes = [
        subprocess.Popen(command, env=os.environ | place | {"RANK": str(rank)}, stdout=subprocess.PIPE, text=True)
        for rank in range(size)
    ]
    return [json.loads(process.communicate(timeout=300)[0] or "null") for process in processes]


@pytest.mark.slow
def test_two_processes_learn_what_one_does_from_the_whole_batch() -> None:
    """Five patches shared as three and two, augmented, some voxels ignored: the same losses, on both, as from all five
    in one, for classes, for weighted regions, and for a loss of MONAI's that is a mean over samples.
    """
    (alone,) = run(LEARN, 1)
    first, second = run(LEARN, 2)
    assert first["losses"] == second["losses"] == pytest.approx(alone["losses"], rel=1e-4)
    assert first["agreed"] == second["agreed"] == [0.25, True]
    expected = [{"rank": rank, "text": "ä" * (rank + 1), "number": float("inf")} for rank in (0, 1)]
    assert first["gathered"] == second["gathered"] == expected
    assert first["squares"] == second["squares"] == alone["squares"] == [0, 1, 4, 9, 16]


@pytest.mark.slow
def test_a_rank_that_dies_is_noticed_by_the_others() -> None:
    """At the next word that they say to each other, as an error of the package's own."""
    assert run(DIE, 2) == ["died", None]


def test_a_single_process_is_a_group_of_its_own() -> None:
    """It has all of a batch and of the items, agrees with itself, and stops where it is asked to."""
    group, stop, done = Group(), threading.Event(), []
    assert list(group.share_of(3)) == [0, 1, 2]
    assert group.agree(0.5, False) == (0.5, False)
    assert group.gather("a") == ["a"]
    assert group.map(str, [1, 2], stop, lambda steps=1, **_: done.append(steps)) == ["1", "2"]
    assert done == [1, 1]
    stop.set()
    with pytest.raises(AgreedStopError):
        group.map(str, [1, 2], stop)
