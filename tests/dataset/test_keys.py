"""Keys of stored cases."""

from unetpipe.dataset.checks.statistics import CaseStatistics
from unetpipe.dataset.keys import case_keys
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


def configured(**changes: object) -> Plan:
    return PLAN.model_copy(update={"configurations": {"2d": PLAN.configurations["2d"].model_copy(update=changes)}})


def key_of(plan: Plan) -> str:
    return case_keys([CASE], MANIFEST, plan, "2d")["a"]


def test_a_key_changes_with_what_a_stored_case_depends_on() -> None:
    """Voxel size and steps are in the key; a patch is cut while training, so another one prepares no case anew."""
    key = key_of(PLAN)
    # another value here means that every work folder is prepared anew: is that meant?
    assert key == "2be2a5e227aa40d578a66eda31e632c3b6c1e375dae0c63e446c6619d6ed3ba4"
    assert key != key_of(PLAN.model_copy(update={"steps": ()}))
    assert key != key_of(configured(spacing_mm=(1.0, 2.0)))
    assert key == key_of(configured(patch_size=(16, 16)))
    assert key != key_of(configured(patch_size=(1, 16))), "slices are stored one by one"
