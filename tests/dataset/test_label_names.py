"""What label files call their values."""

from unetpipe.dataset.label_names import agree_on_names


def test_names_that_agree_are_brought_together() -> None:
    """Files may name other values, and write names in other capitals."""
    named = [("a", "label", {1: "liver"}), ("b", "label", {}), ("c", "label", {1: "Liver", 4: "tumour"})]
    assert agree_on_names(named) == ({1: "liver", 4: "tumour"}, [])


def test_a_value_with_two_names_is_an_error_of_the_second_file() -> None:
    """Which structure it stands for would depend on the case."""
    names, (fault,) = agree_on_names([("a", "reference", {1: "liver"}), ("a", "prediction of p", {1: "tumour"})])
    assert names == {1: "liver"}
    assert (fault.case, fault.kind, fault.severity) == ("a", "label_names", "error")
    assert fault.message == "the prediction of p calls the value 1 'tumour', the reference of a calls it 'liver'"
