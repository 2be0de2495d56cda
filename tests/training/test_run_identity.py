"""What a run shares with its start."""

from unetpipe.training.run_identity import RunIdentity


def test_a_rate_of_a_model_that_is_not_given_is_no_other_option() -> None:
    """Earlier versions noted another default of --init-rate for runs that start from no model."""
    model = {"the model of --init": "abc"}
    for digests, changes in (({}, []), (model, ["--init-rate was 0.1, is 1.0"])):
        before = RunIdentity(options={"init_rate": 0.1}, digests=digests)
        assert before.changes(RunIdentity(options={"init_rate": 1.0}, digests=digests)) == changes
