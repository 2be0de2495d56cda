"""What outputs are called and which values they have, of classes and of regions."""

from unetpipe.dataset.label_scheme import LabelClass, LabelScheme, Region

LABELS = tuple(LabelClass(name=name, value=value) for name, value in (("background", 0), ("oedema", 2), ("core", 7)))
REGIONS = (Region(name="whole", values=(2, 7), written=2), Region(name="core", values=(7,), written=7))


def test_outputs_are_all_classes_or_all_regions() -> None:
    """The background is an output and nothing to be found; regions have none."""
    classes, regions = LabelScheme(LABELS, ()), LabelScheme(LABELS, REGIONS)
    assert (classes.output_names, classes.output_values) == (("background", "oedema", "core"), (0, 2, 7))
    assert (classes.names, classes.written_values) == (("oedema", "core"), (2, 7))
    assert (regions.output_names, regions.output_values) == (regions.names, regions.written_values)
    for scheme in (classes, regions):
        assert len(scheme.output_names) == len(scheme.output_values) == scheme.count


def test_what_is_given_by_name_is_in_the_order_of_outputs() -> None:
    """An output that is not named has the default."""
    assert LabelScheme(LABELS, ()).per_output({"core": 3.0}) == (1.0, 1.0, 3.0)
    assert LabelScheme(LABELS, REGIONS).per_output({"whole": 2.0}, 0.0) == (2.0, 0.0)
