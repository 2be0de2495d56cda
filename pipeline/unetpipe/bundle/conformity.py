"""What the Model Zoo's CI asks of a bundle, checked offline and without evaluating an expression of its configs.

Source:
    https://github.com/Project-MONAI/model-zoo, ci/verify_bundle.py: files, metadata schema, version, properties of the
    workflows, shapes of the network and size of files. `verify` has the checks of files and shapes.
"""

import json
from collections.abc import Iterator
from importlib.resources import files as package_files
from pathlib import Path
from typing import Any

import jsonschema
from monai.bundle import ConfigParser, ReferenceResolver
from monai.bundle.properties import InferProperties, MetaProperties, TrainProperties
from monai.utils import BundleProperty, BundlePropertyConfig

from unetpipe.bundle.archive import open_bundle, read_config, read_metadata, shown
from unetpipe.bundle.large_files import LARGE_FILES, large_files, listed_urls
from unetpipe.bundle.limits import parse_spec
from unetpipe.errors import BundleError

_WORKFLOWS = {"train": TrainProperties, "evaluate": InferProperties, "inference": InferProperties}


def check_metadata(folder: Path) -> str:
    """See that the metadata follow the schema, have a changelog of their version, and hold a spec that `infer` takes.

    Raises:
        BundleError: If they do not; names each key.
    """
    metadata = read_metadata(folder)
    schema = json.loads((package_files("unetpipe.bundle") / "resources" / "metadata_schema.json").read_text())
    found = jsonschema.Draft201909Validator(schema).iter_errors(metadata)
    faults = [f"{'.'.join(map(str, fault.absolute_path)) or 'metadata'}: {fault.message}" for fault in found]
    if metadata.get("version") not in metadata.get("changelog", {}):
        faults.append("changelog does not mention the version")
    if faults:
        raise BundleError(shown("; ".join(faults)))
    parse_spec(folder.name, metadata)
    return shown(f"version {metadata['version']}, for monai {metadata['monai_version']}")


def check_workflows(folder: Path) -> str:
    """See that train, evaluate and inference configs have the properties that MONAI's workflows look up in them.

    Raises:
        BundleError: If a property is missing, or an entry that should refer to one does not; names each.
    """
    metadata, faults = read_metadata(folder), []
    for name, properties in _WORKFLOWS.items():
        parser = ConfigParser(read_config(folder.name, f"configs/{name}.json", open_bundle(folder)))
        parser.read_meta(metadata)
        faults += [f"{name}.json: {fault}" for fault in _faults(parser, {**properties, **MetaProperties})]
    if faults:
        raise BundleError(shown("; ".join(faults)))
    return f"{', '.join(_WORKFLOWS)} have all properties"


def _faults(parser: ConfigParser, properties: dict[str, dict[str, Any]]) -> Iterator[str]:
    """The rules of `ConfigWorkflow.check_properties`, which would build every component to apply them."""
    for given in properties.values():
        name, referring = given[BundlePropertyConfig.ID], given.get(BundlePropertyConfig.REF_ID)
        if given[BundleProperty.REQUIRED] and name not in parser:
            yield f"{name} is missing"
        reference = None if referring is None else parser.get(referring)
        if reference is None or str(reference).startswith("$"):
            continue
        if ReferenceResolver.normalize_id(str(reference)) != f"@{name}":
            yield f"{referring} should be @{name}"


def check_sizes(folder: Path) -> str:
    """See that files too large for the Zoo's repository are listed, each with its hash.

    Raises:
        BundleError: If one is not, or has another content than is listed.
    """
    expected = large_files(folder)
    if not expected:
        return "no file above 25 MB"
    listed = listed_urls(folder)
    missing = [one.path for one in expected if (one.path, one.hash_val) not in listed]
    if missing:
        raise BundleError(f"above 25 MB, and not in {LARGE_FILES} with its hash: {', '.join(missing)}")
    return f"{len(expected)} files above 25 MB, in {LARGE_FILES}"
