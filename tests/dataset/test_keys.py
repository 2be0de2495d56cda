"""Keys of stored cases."""

from unetpipe.dataset.checks.statistics import CaseStatistics
from unetpipe.dataset.keys import case_key
from unetpipe.dataset.label_scheme import LabelClass
from unetpipe.dataset.manifest import Manifest
from unetpipe.dataset.planning.plan import Configuration, Plan
from unetpipe.imaging.preprocessing import ChannelNormalization

PLAN = Plan(
    default="2d",
    normalization=(ChannelNormalization(scheme="zscore"),),
    configurations={
        "2d": Configuration(
            spacing_mm=(1.0, 1.0),
            interpolation=("cubic", "cubic"),
            median_shape=(32, 32),
            patch_size=(32, 32),
            batch_size=2,
            strides=((1, 1),),
            kernel_sizes=((3, 3),),
            features=(32,),
        )
    },
)
CASE = CaseStatistics(
    id="a",
    content="c",
    shape=(32, 32),
    spacing_mm=(1, 1),
    cropped_shape=(32, 32),
    label_counts={0: 1},
    channels=(),
    image_hash="",
    signature=(),
)
MANIFEST = Manifest(
    name="x", channels=("MR",), labels=(LabelClass(name="background", value=0),), spatial_dims=2, cases=()
)


def test_cases_that_are_older_than_steps_keep_their_key() -> None:
    """Work folders stay as they are where nothing but normalisation is asked for; steps and patch are in the key."""
    key = case_key(CASE, MANIFEST, PLAN, "2d")
    # the same with and without steps in the plan's schema; another one would prepare every work folder anew
    assert key == "49a846ef75f9af07bcf26c3880a4e13035554a12c26d120845a5c0ffd044a900"
    assert key != case_key(CASE, MANIFEST, PLAN.model_copy(update={"steps": ()}), "2d")
    chosen = PLAN.configurations["2d"].model_copy(update={"patch_size": (16, 16)})
    assert key != case_key(CASE, MANIFEST, PLAN.model_copy(update={"configurations": {"2d": chosen}}), "2d")
