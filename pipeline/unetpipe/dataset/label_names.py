"""Names that label files give to their values, as segmentations of 3D Slicer do, brought together over files."""

from collections.abc import Iterable, Mapping

from unetpipe.errors import Fault


def agree_on_names(named: Iterable[tuple[str, str, Mapping[int, str]]]) -> tuple[dict[int, str], list[Fault]]:
    """Bring together what files call their label values.

    Args:
        named: Of each file its case id, what it is, such as ``label``, and its name by label value.

    Returns:
        The first name of each value, and an error for each file that calls a value something else, but for capitals.
    """
    names: dict[int, str] = {}
    first: dict[int, str] = {}
    faults = []
    for case, what, own in named:
        for value, name in own.items():
            known = names.setdefault(value, name)
            first.setdefault(value, f"the {what} of {case}")
            if known.casefold() != name.casefold():
                message = f"the {what} calls the value {value} {name!r}, {first[value]} calls it {known!r}"
                faults.append(Fault(case=case, kind="label_names", message=message))
    return names, faults
