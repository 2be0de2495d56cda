"""Several processes that learn one network: here on the CPU, through gloo."""

import json
import os
import subprocess
import sys
import textwrap

import pytest
import torch

from unetpipe.errors import TrainingError
from unetpipe.training.distributed import Ranks, free_port

LEARN = """
    import json, sys
    import numpy as np, torch
    from unetpipe.config import TrainConfig
    from unetpipe.training.batches.augmentation.augmentation import Augmentation
    from unetpipe.training.optimization.learner import Learner
    from unetpipe.training.batches.loader import Batch
    from unetpipe.training.optimization.loss import Loss, tversky_ce
    from unetpipe.training.optimization.named_loss import Task, make_loss
    from unetpipe.training.optimization.recipe import Recipe
    from unetpipe.training.distributed import Ranks, together

    ranks = Ranks.of(1)
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
    with together(ranks, device, TrainConfig(work=".")) as group:
        losses = []
        for loss, outputs, patches in ((Loss(), 3, 5), (weighted, 2, 5), (of_samples, 3, 4)):
            recipe = Recipe.of(TrainConfig(work="."), "muon", loss)
            learner = Learner(definition | {"out_channels": outputs}, (16, 16), recipe, device, torch.float32, 0)
            for number in range(5):
                image = torch.from_numpy(rng.normal(size=(patches, 1, 16, 16))).float()
                label = (image[:, 0] > 0.5).to(torch.int16) + (image[:, 0] > 1).to(torch.int16)
                label[0, :4] = -1
                mine = slice(ranks.rank, None, ranks.size)
                batch = Batch(number=number, places=tuple(range(patches)[mine]), image=image[mine], label=label[mine])
                losses.append(float(learner.step(batch, 0.2, often)[0]))
        agreed = group.agree(0.25 if ranks.rank == 0 else 0.5, stop=ranks.rank == 1)
        gathered = group.gather({"rank": group.rank, "text": "ä" * (group.rank + 1), "number": float("inf")})
        squares = group.map(lambda n: n * n, range(5))
        print(json.dumps({"losses": losses, "agreed": agreed, "gathered": gathered, "squares": squares}))
"""


def learn(size: int, port: int = 0) -> list[dict[str, object]]:
    """What each of `size` processes prints."""
    processes = []
    for rank in range(size):
        place = {"RANK": str(rank), "WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        command = [sys.executable, "-c", textwrap.dedent(LEARN)]
        processes.append(subprocess.Popen(command, env=os.environ | place, stdout=subprocess.PIPE, text=True))
    return [json.loads(process.communicate(timeout=120)[0]) for process in processes]


@pytest.mark.slow
def test_two_processes_learn_what_one_does_from_the_whole_batch() -> None:
    """Five patches shared as three and two, augmented, some voxels ignored: the same losses, on both, as from all five
    in one, for classes and for weighted regions; and four, shared in halves, by a loss of MONAI's that is a mean over
    samples.
    """
    (alone,) = learn(1)
    first, second = learn(2, port=free_port())
    assert first["losses"] == second["losses"] == pytest.approx(alone["losses"], rel=1e-4)
    assert first["agreed"] == second["agreed"] == [0.25, True]
    expected = [{"rank": rank, "text": "ä" * (rank + 1), "number": float("inf")} for rank in (0, 1)]
    assert first["gathered"] == second["gathered"] == expected
    assert first["squares"] == second["squares"] == alone["squares"] == [0, 1, 4, 9, 16]


def test_ranks_come_from_the_environment_where_somebody_set_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Torchrun's RANK and WORLD_SIZE win; a world of one is none."""
    assert Ranks.of(4) == Ranks(0, 4, started=False)
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert Ranks.of(1) == Ranks(1, 2, started=True)
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert Ranks.of(1) == Ranks()


def test_gpus_that_are_not_there_are_counted() -> None:
    """One line says how many were found."""
    many = torch.cuda.device_count() + 1
    with pytest.raises(TrainingError, match=f"{many + 1} GPUs are not on this machine: {many - 1} found"):
        Ranks(size=many + 1).device(torch.device("cuda"))
    with pytest.raises(TrainingError, match="need --device cuda"):
        Ranks(size=2).device(torch.device("cuda:1"))
