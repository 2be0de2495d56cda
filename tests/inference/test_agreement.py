"""Agreement between members, held against Dice of all pairs."""

from itertools import combinations

import pytest
import torch

from unetpipe.inference import agreement
from unetpipe.inference.agreement import Agreement


def test_it_is_the_pooled_dice_of_all_pairs() -> None:
    """For four random members, added in two parts: intersections of all pairs over mean sizes, per class."""
    generator = torch.Generator().manual_seed(0)
    members = [torch.randint(0, 3, (2, 5, 6, 4), generator=generator) for _ in range(4)]
    pooled = Agreement()
    for half in range(2):
        pooled.add([member[half] for member in members], classes=4)
    got = pooled.dice()
    for label in range(3):
        pairs = [(a == label, b == label) for a, b in combinations(members, 2)]
        common = sum(int((a & b).sum()) for a, b in pairs)
        sizes = sum(int(a.sum()) + int(b.sum()) for a, b in pairs)
        assert got[label] == pytest.approx(2 * common / sizes)
    assert got[3] is None


def test_members_that_agree_score_one() -> None:
    """Equal labels give 1, and members that share no voxel of a class give 0."""
    labels = torch.tensor([0, 1, 1, 0])
    same, apart = Agreement(), Agreement()
    same.add([labels, labels.clone()], classes=2)
    apart.add([labels, 1 - labels], classes=2)
    assert same.dice() == [1, 1]
    assert apart.dice() == [0, 0]
    assert Agreement().dice() == []


def test_votes_tell_what_members_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a GPU counts, in several parts."""
    members = [torch.randint(0, 5, (40, 30, 20), generator=torch.Generator().manual_seed(n)) for n in range(8)]
    by_members, by_votes = Agreement(), Agreement()
    by_members.add(members, classes=6)
    monkeypatch.setattr(agreement, "_VOXELS", 7000)
    monkeypatch.setattr(agreement, "_common_of_members", lambda _, votes: agreement._common_of_voxels(votes))
    by_votes.add(members, classes=6)
    assert by_votes.dice()[:5] == pytest.approx(by_members.dice()[:5], rel=1e-12)


def test_two_hundred_members_that_agree() -> None:
    """Pairs of so many are more than a small integer holds."""
    votes = torch.full((1, 7), 200, dtype=torch.int16)
    common, size = agreement._common_of_voxels(votes)
    assert (common.item(), size.item()) == (7 * 200 * 199, 7 * 200)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_gpu_is_not_waited_for() -> None:
    """Members of a window are counted while it computes the next one."""
    members = [torch.randint(0, 5, (40, 30, 20), generator=torch.Generator().manual_seed(n)) for n in range(8)]
    here, there, moved = Agreement(), Agreement(), [member.cuda() for member in members]
    there.add(moved, classes=6)
    here.add(members, classes=6)
    here.add(members, classes=6)
    torch.cuda.set_sync_debug_mode("error")
    try:
        there.add(moved, classes=6)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert there.dice()[:5] == pytest.approx(here.dice()[:5], rel=1e-12)
