"""Names that label files give to their values, as segmentations of 3D Slicer do, brought together over files."""

from collections.abc import Iterable, Mapping

from unetpipe.dataset.merging import DeclaredLabels
from unetpipe.errors import Fault
from unetpipe.imaging.dicom.label_target import plain_name

Named = Iterable[tuple[str, str, Mapping[int, str]]]
"""Of each file its case id, what it is, such as ``label``, and its name by label value."""


def agree_on_names(named: Named) -> tuple[dict[int, str], list[Fault]]:
    """Bring together what files call their label values.

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


def names_of_other_classes(named: Named, declared: DeclaredLabels) -> list[Fault]:
    """An error for each file that gives a value the name of another class than the declared one that it counts as.

    Names that no class has say nothing: files may be in another language than the declaration.
    """
    plain = [plain_name(one.name) for one in declared.classes]
    named_once = (one for name, one in zip(plain, declared.classes, strict=True) if plain.count(name) == 1)
    meant = {plain_name(one.name): one for one in named_once if one.value}
    return [
        Fault(
            case=case,
            kind="label_names",
            message=f"the {what} calls the value {value} {name!r}, which is declared to be the value {other.value}",
        )
        for case, what, own in named
        for value, name in own.items()
        if (other := meant.get(plain_name(name))) is not None and other != declared.class_of(value)
    ]
