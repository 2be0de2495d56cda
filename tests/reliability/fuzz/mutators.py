"""Damage to files, drawn from a seeded generator: to any bytes, and to the numbers and words that formats are made of.

A mutator takes a generator and the content of a good file, and returns the content of another, which may still be good.
"""

import contextlib
import gzip
import io
import json
import re
import struct
import zipfile
import zlib
from collections.abc import Callable
from random import Random
from typing import Any

import yaml

Mutator = Callable[[Random, bytes], bytes]

INTEGERS = (0, 1, 2, 3, -1, -2, 7, 127, 128, 255, 256, 1000, 32767, 32768, 65535, 10**6, 2**31 - 1, 2**31, 2**32 - 1)
FLOATS = (0.0, -0.0, 1.0, -1.0, 0.5, 1e-300, 1e-30, 1e30, 1e308, float("inf"), float("-inf"), float("nan"))
WORDS = (
    *(
        "",
        " ",
        "\0",
        "\n",
        "a\x1b[2Jb",
        "../../../../etc/passwd",
        "/etc/passwd",
        "..",
        ".",
        "$__import__('os').getcwd()",
    ),
    *(
        "@x",
        "%x",
        "~",
        "NaN",
        "null",
        "x" * 5000,
        "\u202e\ud7ff",
        "ä",
        "1e999",
        "0x10",
        "True",
        "-",
        "{case}",
        "*",
        "(a+)+$",
    ),
)
NESTED = "[" * 5000
_TOKEN = re.compile(r"-?\d+\.?\d*(?:[eE][-+]?\d+)?|\w+|[^\w\s]|\s+")
_NUMBER = re.compile(r"-?\d+\.?\d*(?:[eE][-+]?\d+)?")


def any_bytes(random: Random, data: bytes) -> bytes:
    """One to four changes of bytes wherever they are, mostly near the start, where headers are."""
    for _ in range(random.randint(1, 4)):
        data = random.choice((_flip, _flip, _number, _number, _cut, _splice, _insert, _blank))(random, data)
    return data


def any_text(random: Random, data: bytes) -> bytes:
    """One to three changes of the numbers, words and signs of a text; sometimes of its bytes or encoding."""
    kind = random.random()
    if kind < 0.1:
        return any_bytes(random, data)
    text = data.decode(errors="replace")
    if kind < 0.15:
        return text.encode(random.choice(("utf-16", "utf-32", "utf-8-sig", "utf-16-be", "cp500")), "replace")
    tokens = _TOKEN.findall(text) or [""]
    for _ in range(random.randint(1, 3)):
        at, other = random.randrange(len(tokens)), random.randrange(len(tokens))
        if _NUMBER.fullmatch(tokens[at]) and random.random() < 0.8:
            tokens[at] = str(random.choice((*INTEGERS, *FLOATS, 10**30, "9" * 5000)))
        else:
            tokens[at] = random.choice((tokens[other], tokens[at] * 2, "", random.choice(WORDS), NESTED, "&a [*a, *a]"))
    return "".join(tokens).encode(errors="replace")


def any_json(random: Random, data: bytes) -> bytes:
    """Another value in some place of a JSON document; sometimes no JSON any more."""
    return _document(random, data, json.loads, lambda value: json.dumps(value, indent=1))


def any_yaml(random: Random, data: bytes) -> bytes:
    """Another value in some place of a YAML document; sometimes no YAML any more."""
    return _document(random, data, yaml.safe_load, lambda value: yaml.safe_dump(value, allow_unicode=True))


def zipped(inner: Callable[[str], Mutator]) -> Mutator:
    """A zip with a member changed, renamed, repeated or left out, or damaged as a whole.

    Args:
        inner: Mutator of a member, by its name.
    """

    def mutate(random: Random, data: bytes) -> bytes:
        if random.random() < 0.25:
            return any_bytes(random, data)
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = [(entry.filename, archive.read(entry)) for entry in archive.infolist()]
        at = random.randrange(len(members))
        name, content = members[at]
        what = random.choice(("content",) * 6 + ("name", "twice", "absent", "folder"))
        if what == "content":
            members[at] = name, inner(name)(random, content)
        elif what == "name":
            members[at] = random.choice((f"../{name}", f"/{name}", name.upper(), f"x/{name}", "a\0b", "é")), content
        elif what == "twice":
            members.append((name, any_bytes(random, content)))
        elif what == "absent":
            del members[at]
        else:
            members.append((f"{name}/", b""))
        target = io.BytesIO()
        with zipfile.ZipFile(target, "w", random.choice((zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED))) as archive:
            for name, content in members:
                archive.writestr(name, content)
        return target.getvalue()

    return mutate


def gzipped(inner: Mutator) -> Mutator:
    """A gzip stream whose content was changed, or that is damaged itself, cut, doubled or followed by more."""

    def mutate(random: Random, data: bytes) -> bytes:
        kind = random.random()
        if kind < 0.4:
            return any_bytes(random, data)
        if kind < 0.5:
            return data + random.choice((data, b"\0" * 100, gzip.compress(bytes(10**6)), any_bytes(random, data)))
        return gzip.compress(inner(random, gzip.decompress(data)), 1)

    return mutate


def after_header(end: bytes) -> Mutator:
    """The text of a header changed, up to a mark that ends it; sometimes the bytes behind it.

    Args:
        end: Mark that stays as it is.
    """

    def mutate(random: Random, data: bytes) -> bytes:
        header, mark, voxels = data.partition(end)
        if random.random() < 0.15:
            return header + mark + any_bytes(random, voxels)
        return any_text(random, header) + mark + voxels

    return mutate


def nifti(random: Random, data: bytes) -> bytes:
    """One to three fields of a NIfTI header given other values of their type, or any bytes changed."""
    import nibabel as nib

    if random.random() < 0.2:
        return any_bytes(random, data)
    changed = bytearray(data)
    two = data[:4] in (struct.pack("<i", 540), struct.pack(">i", 540))
    order = "<" if data[0] in (0x5C, 0x1C) else ">"
    fields = (nib.Nifti2Header if two else nib.Nifti1Header)().structarr.dtype.newbyteorder(order).fields
    for _ in range(random.randint(1, 3)):
        dtype, at = random.choice(list(fields.values()))[:2]
        base, count = (dtype.subdtype[0], dtype.subdtype[1][0]) if dtype.subdtype else (dtype, 1)
        at += random.randrange(count) * base.itemsize
        if base.kind == "S":
            changed[at : at + base.itemsize] = random.randbytes(base.itemsize)
        else:
            _pack_into(random, changed, f"{order}{base.char}", at)
    return bytes(changed)


def png(random: Random, data: bytes) -> bytes:
    """A chunk of a PNG file changed, its checksum made right again; or any bytes changed."""
    if random.random() < 0.3:
        return any_bytes(random, data)
    chunks, at = [], 8
    while at + 8 <= len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + size]))
        at += size + 12
    index = random.randrange(len(chunks))
    kind, content = chunks[index]
    action = random.random()
    if action < 0.7:
        chunks[index] = kind, _few(random, content)
    elif action < 0.8:
        chunks.insert(index, chunks[random.randrange(len(chunks))])
    elif action < 0.9:
        del chunks[index]
    else:
        bomb = zlib.compress(bytes(10**6), 9)
        chunks.insert(1, random.choice(((b"zTXt", b"a\0\0" + bomb), (b"iCCP", b"a\0\0" + bomb), (b"eXIf", content))))
    return data[:8] + b"".join(
        len(content).to_bytes(4, "big") + kind + content + zlib.crc32(kind + content).to_bytes(4, "big")
        for kind, content in chunks
    )


def tiff(random: Random, data: bytes) -> bytes:
    """Entries of a TIFF file's first directory changed, or any bytes."""
    order = "<" if data[:2] == b"II" else ">"
    start = struct.unpack_from(f"{order}I", data, 4)[0]
    if random.random() < 0.3 or start + 2 > len(data):
        return any_bytes(random, data)
    changed = bytearray(data)
    count = struct.unpack_from(f"{order}H", data, start)[0]
    for _ in range(random.randint(1, 3)):
        entry = start + 2 + 12 * random.randrange(count)
        offset, kind = random.choice(((0, "H"), (2, "H"), (4, "I"), (8, "I"), (8, "I"), (8, "H")))
        _pack_into(random, changed, order + kind, entry + offset)
    return bytes(changed)


def dicom(random: Random, data: bytes) -> bytes:
    """One to three elements of a DICOM file, at any depth, changed or left out; or any bytes changed."""
    import pydicom
    from pydicom.dataelem import DataElement

    if random.random() < 0.35:
        return any_bytes(random, data)
    dataset = pydicom.dcmread(io.BytesIO(data))
    found: list[tuple[Any, Any]] = []

    def gather(inside: Any) -> None:
        for element in inside:
            found.append((inside, element))
            if element.VR == "SQ":
                for item in element.value[:3]:
                    gather(item)

    gather(dataset)
    for _ in range(random.randint(1, 3)):
        inside, element = random.choice(found)
        if element.tag not in inside:
            continue
        if random.random() < 0.15:
            del inside[element.tag]
        elif element.VR == "SQ":
            element.value = random.choice(([], list(element.value) * 2, list(element.value)[:-1]))
        elif element.VR in ("OB", "OW", "OB or OW", "UN"):
            inside[element.tag] = DataElement(element.tag, "OB", any_bytes(random, bytes(element.value or b"")))
        else:
            with contextlib.suppress(ValueError, TypeError, OverflowError):  # what pydicom does not take
                inside[element.tag] = DataElement(element.tag, element.VR, _dicom_value(random, element.VR))
    target = io.BytesIO()
    try:
        pydicom.dcmwrite(target, dataset)
    except Exception:  # what cannot be written so is damaged in another way
        return any_bytes(random, data)
    return target.getvalue()


def _dicom_value(random: Random, kind: str) -> Any:
    if kind in ("US", "SS", "UL", "SL"):
        high = {"US": 65535, "SS": 32767, "UL": 2**32 - 1, "SL": 2**31 - 1}[kind]
        return random.choice([one for one in INTEGERS if (0 if kind[0] == "U" else -2) <= one <= high])
    if kind in ("FL", "FD"):
        return random.choice([one for one in FLOATS if kind == "FD" or not 1e38 < abs(one) < float("inf")])
    if kind in ("DS", "IS"):
        texts = [repr(one) for one in (*INTEGERS, *FLOATS)] + [
            "",
            "x",
            "1\\2",
            "1\\2\\3\\4\\5\\6",
            "NaN\\0\\0",
            "1e400",
        ]
        return random.choice(texts)
    return random.choice(("", "x", "1.2.3", "a\\b", "\0", "SEG", "MR", "PALETTE COLOR", "RGB", *WORDS[:8]))


def _document(random: Random, data: bytes, load: Callable[[bytes], Any], dump: Callable[[Any], str]) -> bytes:
    if random.random() < 0.25:
        return any_text(random, data)
    value = {"": load(data)}
    for _ in range(random.randint(1, 3)):
        holder, key = _place(random, value)
        action = random.random()
        if action < 0.7 or holder is value:
            holder[key] = _json_value(random, holder[key])
        elif action < 0.85:
            del holder[key]
        elif isinstance(holder, dict):
            holder[random.choice(WORDS)] = holder.pop(key)
        else:
            holder.append(holder[key])
    return dump(value[""]).encode(errors="replace")


def _place(random: Random, value: dict[str, Any]) -> tuple[Any, Any]:
    """An object or list of a document, and the key of something in it: each as likely as any other."""
    places, pending = [], [value]
    while pending:
        holder = pending.pop()
        for key in list(holder) if isinstance(holder, dict) else range(len(holder)):
            places.append((holder, key))
            if isinstance(holder[key], dict | list):
                pending.append(holder[key])
    return random.choice(places)


def _json_value(random: Random, value: Any) -> Any:
    if isinstance(value, str) and random.random() < 0.5:
        return random.choice((value[::-1], value + "x", value.upper(), value[:-1]))
    if isinstance(value, int | float) and random.random() < 0.6:
        return random.choice((*INTEGERS, *FLOATS, -value, value + 1, 10**30))
    if isinstance(value, list) and value and random.random() < 0.5:
        return random.choice((value * 2, value[:-1], value[0], [value], value * 200))
    return random.choice((None, True, False, [], {}, [[]], {"a": 1}, 0, -1, 1.5, 10**30, float("nan"), *WORDS))


def _flip(random: Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(random.randint(1, 8)) if data else ():
        changed[_somewhere(random, len(data))] = random.randrange(256)
    return bytes(changed)


def _few(random: Random, data: bytes) -> bytes:
    return random.choice((_flip, _number))(random, data)


def _number(random: Random, data: bytes) -> bytes:
    kind = random.choice("bhHiIqQfd")
    size = struct.calcsize(kind)
    if len(data) < size:
        return data
    changed = bytearray(data)
    _pack_into(random, changed, random.choice("<>") + kind, min(_somewhere(random, len(data)), len(data) - size))
    return bytes(changed)


def _pack_into(random: Random, data: bytearray, kind: str, at: int) -> None:
    if at + struct.calcsize(kind) > len(data):
        return
    bits = 8 * struct.calcsize(kind)
    if kind[-1] in "fd":
        value: float = random.choice([one for one in FLOATS if bits == 64 or not 1e38 < abs(one) < float("inf")])
    else:
        value = random.choice(INTEGERS) & (2**bits - 1)
        value -= 2**bits if kind[-1].islower() and value >= 2 ** (bits - 1) else 0
    struct.pack_into(kind, data, at, value)


def _cut(random: Random, data: bytes) -> bytes:
    return data[: random.randrange(len(data) + 1)] if random.random() < 0.5 else data


def _splice(random: Random, data: bytes) -> bytes:
    start, size, at = random.randrange(len(data) + 1), random.randint(1, 64), random.randrange(len(data) + 1)
    return data[:at] + data[start : start + size] + data[at + random.choice((0, size)) :]


def _insert(random: Random, data: bytes) -> bytes:
    at = _somewhere(random, len(data) + 1)
    return data[:at] + random.randbytes(random.randint(1, 16)) + data[at:]


def _blank(random: Random, data: bytes) -> bytes:
    at, size = random.randrange(len(data) + 1), random.randint(1, 64)
    return data[:at] + random.choice((b"\0", b"\xff")) * len(data[at : at + size]) + data[at + size :]


def _somewhere(random: Random, size: int) -> int:
    return random.randrange(min(size, random.choice((32, 400, size, size)))) if size else 0
