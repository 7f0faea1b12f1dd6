"""Files of torch without torch's reader: the same values again, nothing that runs, and no damaged file believed."""

from __future__ import annotations

import io
import os
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from voiced import checkpoint, saved

from mapsto.core.errors import ModelError
from mapsto.encoders import torchfile

BOTH = pytest.mark.parametrize("zipped", [True, False], ids=["zip", "before"])
SMALL = {"mels": 3, "inner": 4, "width": 5, "depth": 2}


def same(ours: Any, theirs: Any) -> bool:
    if isinstance(theirs, torch.Tensor):
        return isinstance(ours, torch.Tensor) and ours.dtype == theirs.dtype and torch.equal(ours, theirs)
    if isinstance(theirs, dict):
        return list(ours) == list(theirs) and all(same(ours[key], value) for key, value in theirs.items())
    if isinstance(theirs, (list, tuple)):
        return type(ours) is type(theirs) and len(ours) == len(theirs) and all(map(same, ours, theirs))
    return type(ours) is type(theirs) and bool(ours == theirs)


@BOTH
def test_it_reads_what_torch_wrote(zipped: bool, tmp_path: Path) -> None:
    base = torch.randn(6, 8)
    values = {
        **checkpoint(**SMALL), "turned": base.t(), "part": base[2:4, 1::2], "none": torch.zeros(0, 3), "one": torch.tensor(2.5),
        "kinds": [torch.arange(4).to(kind) for kind in (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8,
                                                        torch.float16, torch.float64, torch.bfloat16)],
        "plain": (1, -7, 1 << 70, 0.1, "ö" * 300, None, True, False, (), [1], {"a": (1, 2)}), 5: OrderedDict(a=1),
    }  # fmt: skip
    found = torchfile.read(saved(tmp_path / "net.pt", values, zipped))
    assert same(found, {**values, 5: {"a": 1}, "model_state": dict(values["model_state"])})


@BOTH
def test_a_file_cut_anywhere_is_said(zipped: bool, tmp_path: Path) -> None:
    whole = saved(tmp_path / "net.pt", checkpoint(**SMALL), zipped).read_bytes()
    place = tmp_path / "cut.pt"
    for end in np.linspace(0, len(whole) - 1, 80).astype(int):
        place.write_bytes(whole[:end])
        with pytest.raises(ModelError, match="no whole file of torch") as caught:
            torchfile.read(place)
        assert "\n" not in str(caught.value)


@BOTH
def test_a_file_with_any_byte_changed_is_read_or_said(zipped: bool, tmp_path: Path) -> None:
    whole = bytearray(saved(tmp_path / "net.pt", checkpoint(**SMALL), zipped).read_bytes())
    draw, place = np.random.default_rng(0), tmp_path / "bent.pt"
    faults = []
    for at in draw.integers(0, len(whole), 200):
        bent = whole.copy()
        bent[at] ^= int(draw.integers(1, 256))
        place.write_bytes(bent)
        try:
            torchfile.read(place)
        except ModelError as fault:
            faults.append(str(fault))
    assert len(faults) > 30
    assert not any("\n" in fault for fault in faults)


class Runs:
    """What an attacker pickles."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.place),)


@BOTH
def test_nothing_in_it_runs(zipped: bool, tmp_path: Path) -> None:
    file = saved(tmp_path / "net.pt", {"model_state": Runs(tmp_path / "ran")}, zipped)
    with pytest.raises(ModelError, match=r"asks for 'posix\.mkdir', which is neither") as caught:
        torchfile.read(file)
    assert "state_dict() alone" in str(caught.value)
    assert not (tmp_path / "ran").exists()
    torch.load(file, weights_only=False)  # as its own reader would have done
    assert (tmp_path / "ran").exists()


KINDS: dict[str, tuple[Any, str]] = {
    "a module": (torch.nn.Linear(2, 2), "asks for 'torch.nn.modules.linear.Linear'"),
    "sparse": (torch.eye(3).to_sparse(), "asks for 'torch._utils._rebuild_sparse_tensor'"),
    "complex": (torch.ones(2, dtype=torch.complex64), "asks for 'torch.ComplexFloatStorage'"),
    "an array": (np.ones(3), "asks for 'numpy"),
    "a set": ({1, 2}, "asks for '__builtin__.set'"),
    "bytes": (b"abc", "asks for '_codecs.encode'"),
    "keys that are tuples": ({(1, 2): 3}, "keys that are no names or numbers"),
    "nested for ever": ([[[[]]]] * 3, ""),
}  # fmt: skip


@pytest.mark.parametrize("name", KINDS)
def test_what_is_no_plain_value_is_refused(name: str, tmp_path: Path) -> None:
    value, said = KINDS[name]
    file = saved(tmp_path / "net.pt", {"model_state": value})
    if not said:
        assert same(torchfile.read(file), {"model_state": value})
        return
    with pytest.raises(ModelError, match=said) as caught:
        torchfile.read(file)
    assert "\n" not in str(caught.value)


HEAD = b"".join(pickle.dumps(value, 2) for value in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}))
FLOATS = b"(X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\0aX\x03\0\0\0cpu%bNtQ"  # of %b numbers
TENSOR = b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(" + FLOATS + b"%b%b%b\x89)tR."
ENDS = b"\x80\x02]X\x01\0\0\0aa." + b"\x02" + bytes(7) + bytes(8)


def tensor(
    count: bytes = b"K\x02", offset: bytes = b"K\0", shape: bytes = b"K\x02\x85", strides: bytes = b"K\x01\x85"
) -> bytes:
    """A file of one tensor of a storage of two numbers, with something about it changed."""
    return HEAD + TENSOR % (count, offset, shape, strides) + ENDS


def turned(**entries: bytes) -> bytes:
    """A zip of these entries."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name, content in entries.items():
            archive.writestr(f"net/{name.replace('__', '.')}", content)
    return made.getvalue()


def squeezed() -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("net/data.pkl", bytes(10_000_000))
    return made.getvalue()


BAD: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "no whole file of torch"),
    "text": (b"hello, this is no model", "no whole file"),
    "another pickle": (pickle.dumps({"a": 1}, 2), "begins as no file of torch"),
    "another zip": (turned(readme=b"hello"), "a zip that holds something else"),
    "a zip bomb": (squeezed(), "is compressed"),
    "big-endian": (turned(data__pkl=pickle.dumps({}, 2), byteorder=b"big"), "big-endian"),
    "big-endian before": (HEAD.replace(b"\x88", b"\x89"), "big-endian"),
    "an opcode of protocol 0": (HEAD + b"cposix\nsystem\n(S'ls'\ntR.", "asks for 'posix.system'"),
    "quantised": (HEAD + TENSOR.replace(b"_tensor_v2", b"_qtensor") % ((b"N",) * 4), "asks for 'torch._utils._rebuild_qtensor'"),
    "an object": (HEAD + b"\x80\x02(iposix\nsystem\n.", "the opcode INST"),
    "a new object": (HEAD + b"\x80\x02)\x81.", "the opcode NEWOBJ"),
    "names from the stack": (HEAD + b"\x80\x04\x8c\x05posix\x8c\x06system\x93.", "the opcode STACK_GLOBAL"),
    "a storage of 2^47": (tensor(b"\x8a\x07" + (2**47).to_bytes(7, "little")), "more bytes than it has"),
    "a storage of -1": (tensor(b"J\xff\xff\xff\xff"), "a size that is none"),
    "a storage of True": (tensor(b"\x88"), "a size that is none"),
    "a tensor beyond its storage": (tensor(offset=b"K\x01"), "in a storage of 2 numbers"),
    "a tensor before its storage": (tensor(offset=b"J\xff\xff\xff\xff"), "a size that is none"),
    "a tensor that goes back": (tensor(strides=b"J\xff\xff\xff\xff\x85"), "a size that is none"),
    "2^40 times one number": (tensor(shape=b"\x8a\x06" + (2**40).to_bytes(6, "little") + b"\x85", strides=b"K\0\x85"), "in a storage of 2"),
    "a shape that is none": (tensor(shape=b"K\x02"), "a tensor of no storage"),
    "a tensor of a number": (HEAD + b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(K\x01K\0)))tR.", "a tensor of no storage"),
    "a storage that is not there": (HEAD + TENSOR % (b"K\x02", b"K\0", b"K\x02\x85", b"K\x01\x85") + b"\x80\x02].", "1 of 1 storages are missing"),
    "a storage twice": (tensor().replace(b"aa.", b"aX\x01\0\0\0aa.").replace(b"]X", b"]X"), "no whole file"),
    "what is made of nothing": (HEAD + b"\x80\x02K\x01)R.", "made of what makes nothing"),
    "an empty stack": (HEAD + b"\x80\x020.", "the opcode POP"),
    "values that are not there": (HEAD + b"\x80\x02\x87.", "values that are not there"),
    "memory that is not there": (HEAD + b"\x80\x02h\x09.", "no whole file"),
    "a string of 4 GB": (HEAD + b"\x80\x02X\xff\xff\xff\xffabc.", "no whole file"),
    "a million values": (HEAD + b"\x80\x02" + b"}" * 300_000 + b".", "more than 200,000 opcodes"),
}  # fmt: skip


def test_the_file_that_the_bad_ones_are_made_from_is_good(tmp_path: Path) -> None:
    (tmp_path / "net.pt").write_bytes(tensor())
    assert same(torchfile.read(tmp_path / "net.pt"), torch.zeros(2))


@pytest.mark.parametrize("name", BAD)
def test_what_is_bad_is_said(name: str, tmp_path: Path) -> None:
    content, said = BAD[name]
    (tmp_path / "net.pt").write_bytes(content)
    with pytest.raises(ModelError, match=said) as caught:
        torchfile.read(tmp_path / "net.pt")
    assert "\n" not in str(caught.value)


def test_a_place_that_is_no_file_is_said(tmp_path: Path) -> None:
    for place in (tmp_path, tmp_path / "none.pt"):
        with pytest.raises(ModelError, match="no whole file of torch"):
            torchfile.read(place)
