"""Files made to harm whoever opens them: one function each, and what opening them must end in.

`SPECIMENS` is name → (generator, expected). A generator takes an empty folder and the command it would like to be run,
and returns what to open. Expected is a pattern of the refusal, or None when the file opens, all of it inert.
"""

# ruff: noqa: D103  # a specimen's name says what it is

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import os
import pickle
import struct
import subprocess
import tarfile
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

Generator = Callable[[Path, str], Path]
SPECIMENS: dict[str, tuple[Generator, str | None]] = {}
MAGIC = 0x1950A86A20F9469CFC6C


def specimen(expected: str | None = None) -> Callable[[Generator], Generator]:
    """Puts a generator into the gallery."""

    def keep(generator: Generator) -> Generator:
        SPECIMENS[generator.__name__] = (generator, expected)
        return generator

    return keep


class Call:
    """Pickles as a call of a function by name, with any arguments; `state` is what BUILD would then hand over."""

    def __init__(self, function: Any, *args: Any, state: Any = None) -> None:
        self.how = (function, args, state)

    def __reduce__(self) -> Any:
        return self.how if self.how[2] is not None else self.how[:2]


def named(module: str, name: str) -> Any:
    """Returns something callable that pickles as `module.name`, whether or not there is such a thing."""
    return _Named(module, name)


class _Named:
    def __init__(self, module: str, name: str) -> None:
        self.module, self.name = module, name

    def __call__(self) -> None:
        """Callable, so that pickle lets it stand for a function."""


class _Pickler(pickle._Pickler):  # type: ignore[name-defined,misc]
    """Writes `named` things as the names they stand for."""

    def save(self, value: Any, save_persistent_id: bool = True) -> None:
        if isinstance(value, _Named):
            self.write(b"c" + value.module.encode() + b"\n" + value.name.encode() + b"\n")
        elif isinstance(value, _Storage):
            self.write(b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpu")
            self.save(value.num_values)
            self.write(b"tQ")
        else:
            super().save(value, save_persistent_id)


class _Storage:
    def __init__(self, num_values: int) -> None:
        self.num_values = num_values


def pickled(value: Any, protocol: int = 2) -> bytes:
    """Returns a pickle, with names and references to storages as hostile as they were asked for."""
    buffer = io.BytesIO()
    pickler = _Pickler(buffer, protocol)
    pickler.fast = False
    pickler.dump(value)
    return buffer.getvalue()


def zip_of(folder: Path, data: bytes, method: int = zipfile.ZIP_STORED, **more: bytes) -> Path:
    """Writes a torch archive around a pickle; one storage of four floats lies in it."""
    path = folder / "hostile.pt"
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in {"data.pkl": data, "data/0": bytes(16), "version": b"3\n", **more}.items():
            archive.writestr(f"archive/{name}", content)
    return path


def legacy_of(folder: Path, data: bytes, magic: Any = MAGIC, facts: bytes | None = None) -> Path:
    """Writes a torch file of before 1.6 around a pickle."""
    path = folder / "hostile.pth"
    facts = facts or pickled({"little_endian": True})
    path.write_bytes(pickled(magic) + pickled(1001) + facts + data + pickled([]))
    return path


def tar_of(folder: Path, **members: bytes) -> Path:
    """Writes a torch file of before 0.1.10."""
    path = folder / "hostile.tar"
    whole = {"storages": pickled(0) + pickled([]), "tensors": pickled(0), "pickle": pickled({}), **members}
    with tarfile.open(path, "w") as archive:
        for name, content in whole.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def tensor(num_values: int = 4, offset: Any = 0, shape: Any = (4,), strides: Any = (1,)) -> Call:
    """Returns a tensor over the one storage, as hostile as asked for."""
    build = named("torch._utils", "_rebuild_tensor_v2")
    return Call(build, _Storage(num_values), offset, shape, strides, False, OrderedDict())


def with_tensor(value: Any) -> dict[str, Any]:
    """Returns a checkpoint that has good weights beside the value."""
    return {"model": {"fc.weight": tensor()}, "extra": value}


@specimen()
def system_call_in_a_zip(folder: Path, command: str) -> Path:
    return zip_of(folder, pickled(with_tensor(Call(os.system, command))))


@specimen()
def system_call_that_passes_for_a_value(folder: Path, command: str) -> Path:
    return zip_of(
        folder, pickled(with_tensor([Call(os.system, command, state={"lr": 0.1}), Call(subprocess.Popen, command)]))
    )


@specimen()
def system_call_in_a_legacy_file(folder: Path, command: str) -> Path:
    return legacy_of(folder, pickled({"extra": Call(os.system, command)}))


@specimen("its first three pickles are not torch's magic number")
def system_call_among_the_facts_of_a_legacy_file(folder: Path, command: str) -> Path:
    return legacy_of(folder, pickled({}), facts=pickled(Call(os.system, command)))


@specimen()
def system_call_in_a_tar(folder: Path, command: str) -> Path:
    return tar_of(folder, pickle=pickled({"extra": Call(os.system, command)}))


@specimen("a key or a size that is no count")
def system_call_as_the_number_of_storages_of_a_tar(folder: Path, command: str) -> Path:
    return tar_of(folder, storages=pickled(Call(os.system, command)))


@specimen()
def system_call_in_a_plain_pickle(folder: Path, command: str) -> Path:
    (folder / "hostile.pkl").write_bytes(pickled({"extra": Call(os.system, command)}))
    return folder / "hostile.pkl"


@specimen("its first three pickles are not torch's magic number")
def system_call_in_a_file_within_a_pickle(folder: Path, command: str) -> Path:
    inner = Call(named("torch.storage", "_load_from_bytes"), pickled(Call(os.system, command)) * 3)
    (folder / "hostile.pkl").write_bytes(b"\x80\x03" + pickled({"extra": inner}, 3)[2:])
    return folder / "hostile.pkl"


@specimen()
def system_call_in_a_gzip(folder: Path, command: str) -> Path:
    inner = zip_of(folder, pickled(with_tensor(Call(os.system, command))))
    (folder / "hostile.pt.gz").write_bytes(gzip.compress(inner.read_bytes()))
    return folder / "hostile.pt.gz"


@specimen()
def system_call_by_the_old_opcodes(folder: Path, command: str) -> Path:
    text = command.encode()
    instance = b"(S'" + text + b"'\nios\nsystem\n"
    thing = b"(cos\nsystem\nS'" + text + b"'\no"
    return zip_of(folder, b"(dS'a'\n" + instance + b"sS'b'\n" + thing + b"s.")


@specimen()
def system_call_among_a_modules_buffers(folder: Path, command: str) -> Path:
    inner = {"_parameters": OrderedDict(weight=tensor()), "_buffers": {"b": Call(os.system, command)}, "_modules": {}}
    module = Call(named("copyreg", "__newobj__"), named("torch.nn.modules.linear", "Linear"), state=inner)
    outer = {"_parameters": {}, "_buffers": {}, "_modules": OrderedDict(fc=module), "hook": Call(os.system, command)}
    whole = Call(named("copyreg", "__newobj__"), named("gone.models", "Net"), state=outer)
    return zip_of(folder, pickled({"model": whole}))


@specimen()
def state_for_a_class_with_a_harmful_setstate(folder: Path, command: str) -> Path:
    return zip_of(folder, pickled(with_tensor(Call(named("subprocess", "Popen"), command, state={"args": command}))))


@specimen()
def odd_arguments_for_an_ordered_dict(folder: Path, command: str) -> Path:
    return zip_of(folder, pickled(with_tensor(Call(OrderedDict, Call(os.system, command), 3))))


@specimen("a tensor without a storage")
def odd_arguments_for_a_tensor(folder: Path, command: str) -> Path:
    return zip_of(folder, pickled({"a": Call(named("torch._utils", "_rebuild_tensor_v2"), Call(os.system, command))}))


@specimen("a parameter without a tensor")
def odd_arguments_for_a_parameter(folder: Path, command: str) -> Path:
    return zip_of(folder, pickled({"a": Call(named("torch._utils", "_rebuild_parameter"), command, True, {})}))


@specimen()
def odd_arguments_for_plain_constructors(folder: Path, command: str) -> Path:
    calls = [Call(named("builtins", n), Call(os.system, command)) for n in ("set", "bytes", "bytearray", "complex")]
    return zip_of(folder, pickled(with_tensor([*calls, Call(bytearray, 1 << 40), Call(named("torch", "Size"), "abc")])))


@specimen()
def system_call_as_the_function_of_a_tensor_class(folder: Path, command: str) -> Path:
    call = Call(named("torch._tensor", "_rebuild_from_type_v2"), os.system, named("torch", "Tensor"), (command,), {})
    return zip_of(folder, pickled(with_tensor(call)))


@specimen()
def torch_load_as_a_function(folder: Path, command: str) -> Path:
    inner = pickled(Call(os.system, command))
    calls = [Call(named("torch", "load"), "x.pt"), Call(named("torch.storage", "_load_from_bytes"), inner)]
    return zip_of(folder, pickled(with_tensor(calls)))


@specimen()
def eval_and_exec(folder: Path, command: str) -> Path:
    code = f"__import__('os').system({command!r})"
    return zip_of(
        folder, pickled(with_tensor([Call(eval, code), Call(exec, code), Call(named("builtins", "open"), "x", "w")]))
    )


@specimen()
def attribute_chains(folder: Path, command: str) -> Path:
    system = Call(getattr, Call(__import__, "os"), "system")
    chain = b"}X\x01\x00\x00\x00a" + pickled(system)[2:-1] + b"X\x02\x00\x00\x00id\x85Rs."
    return zip_of(folder, b"\x80\x02" + chain)


@specimen()
def dotted_names(folder: Path, command: str) -> Path:
    stack_global = b"\x8c\x02os\x8c\x0fsystem.__call__\x93\x8c\x02id\x85R"
    return zip_of(folder, b"\x80\x04}\x8c\x01a" + stack_global + b"s.")


@specimen()
def functions_with_code(folder: Path, command: str) -> Path:
    code = Call(named("types", "CodeType"), 0, 0, 0, 0, 0, 0, b"d\x00S\x00", (command,))
    return zip_of(folder, pickled(with_tensor(Call(named("types", "FunctionType"), code, {}))))


@specimen()
def a_method_hidden_by_an_attribute(folder: Path, command: str) -> Path:
    shadow = {"items": Call(os.system, command), "keys": 1, "_metadata": {"": {"version": 1}}}
    weights = b"\x80\x02ccollections\nOrderedDict\n)RX\x01\x00\x00\x00w" + pickled(tensor())[2:-1] + b"s"
    return zip_of(folder, weights + pickled(shadow)[2:-1] + b"b.")


@specimen()
def extension_codes(folder: Path, command: str) -> Path:
    return zip_of(folder, b"\x80\x02}X\x01\x00\x00\x00a\x82\x01X\x02\x00\x00\x00id\x85Rs.")


@specimen()
def source_code_of_a_module(folder: Path, command: str) -> Path:
    code = f"import os; os.system({command!r})".encode()
    source = b"X" + struct.pack("<I", len(code)) + code
    reference = b"(X\x06\x00\x00\x00modulecgone\nNet\nX\x04\x00\x00\x00n.py" + source + b"tQ"
    return legacy_of(folder, b"\x80\x02}X\x01\x00\x00\x00m" + reference + b")\x81}bs.")


@specimen()
def a_memo_bomb(folder: Path, command: str) -> Path:
    value: Any = ["boom"]
    for _ in range(60):
        value = [value, value]
    return zip_of(folder, pickled(with_tensor(value)))


@specimen("a key of more than a thousand values")
def a_memo_bomb_as_a_key(folder: Path, command: str) -> Path:
    key: Any = ("boom",)
    for _ in range(60):
        key = (key, key)
    opcodes = pickled([key])[:-1]
    return zip_of(folder, b"\x80\x02}" + opcodes[3:].replace(b"a.", b"").rstrip(b"a") + b"Ns.")


@specimen("nested more than 100 levels")
def a_hundred_thousand_levels(folder: Path, command: str) -> Path:
    return zip_of(folder, b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b".")


@specimen("more than 400 levels")
def a_hundred_thousand_marks(folder: Path, command: str) -> Path:
    return zip_of(folder, b"\x80\x02" + b"(" * 100_000 + b"t" * 100_000 + b".")


@specimen("an integer of 2,147,483,647 bytes")
def an_integer_of_two_gigabytes(folder: Path, command: str) -> Path:
    return zip_of(folder, b"\x80\x02\x8b\xff\xff\xff\x7f" + b"\xff" * 1000 + b".")


@specimen("no end of the line within|as a number")
def an_integer_of_a_million_digits(folder: Path, command: str) -> Path:
    return zip_of(folder, b"L" + b"9" * 1_000_000 + b"L\n.")


@specimen("bytes promised where")
def text_of_an_exabyte(folder: Path, command: str) -> Path:
    return zip_of(folder, b"\x80\x04\x8d" + struct.pack("<Q", 1 << 60) + b".")


@specimen("more keys made of numbers than any checkpoint has")
def keys_of_one_hash(folder: Path, command: str) -> Path:
    keys = (n * ((1 << 61) - 1) for n in range(1, 60_000))
    pairs = b"".join(b"\x8a\x0a" + key.to_bytes(10, "little") + b"N" for key in keys)
    return zip_of(folder, b"\x80\x02}(" + pairs + b"u.")


@specimen("a list as a key")
def a_key_without_a_hash(folder: Path, command: str) -> Path:
    return zip_of(folder, b"\x80\x02}]Ns.")


@specimen("asks for more than .* bytes of memory")
def a_small_list_copied_a_million_times(folder: Path, command: str) -> Path:
    big = b"\x80\x02](" + b"K\x01" * 100_000 + b"eq\x00"
    return zip_of(folder, b"\x80\x02](" + big[2:] + b"c__builtin__\nlist\nq\x01" + b"h\x01h\x00\x85R" * 100_000 + b"e.")


@specimen("asks for more than")
def ten_million_empty_sets(folder: Path, command: str) -> Path:
    return zip_of(folder, b"\x80\x04](" + b"\x8f" * 10_000_000 + b"e.", zipfile.ZIP_DEFLATED)


@specimen("bytes; the limit is|come out of")
def a_zip_bomb(folder: Path, command: str) -> Path:
    return zip_of(folder, bytes(300 << 20), zipfile.ZIP_DEFLATED)


@specimen("more than .* bytes come out of")
def a_gzip_bomb(folder: Path, command: str) -> Path:
    (folder / "hostile.gz").write_bytes(gzip.compress(bytes(200 << 20)))
    return folder / "hostile.gz"


@specimen("a zip archive without one folder that holds data.pkl|zip archive")
def two_pickles_in_one_archive(folder: Path, command: str) -> Path:
    path = zip_of(folder, pickled({}))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("other/data.pkl", pickled({"extra": Call(os.system, command)}))
    return path


@specimen("leads out of the archive")
def an_archive_with_names_that_lead_out(folder: Path, command: str) -> Path:
    return zip_of(folder, pickled({}), **{"../../../../tmp/x": b"x"})


@specimen("whose own header says")
def two_headers_that_disagree(folder: Path, command: str) -> Path:
    path = zip_of(folder, pickled({}))
    path.write_bytes(path.read_bytes().replace(b"archive/data.pkl", b"archive/evil.pkl", 1))
    return path


@specimen("two entries in one place")
def entries_that_overlap(folder: Path, command: str) -> Path:
    path = zip_of(folder, pickled({}))
    data = bytearray(path.read_bytes())
    second = data.find(b"PK\1\2", data.find(b"PK\1\2") + 1)
    data[second + 42 : second + 46] = bytes(4)
    path.write_bytes(data)
    return path


@specimen("storage '0' of 4,000,000 bytes, whose entry has 16")
def a_storage_larger_than_its_entry(folder: Path, command: str) -> Path:
    return zip_of(folder, pickled({"a.b": tensor(1_000_000, shape=(1_000_000,))}))


@specimen("a tensor that reaches to value 9,999 of a storage of 4")
def a_tensor_beyond_its_storage(folder: Path, command: str) -> Path:
    return zip_of(folder, pickled({"a.b": tensor(shape=(10_000,))}))


@specimen("shape, strides or offset are not tuples of counts")
def negative_strides(folder: Path, command: str) -> Path:
    return zip_of(folder, pickled({"a.b": tensor(offset=3, strides=(-1,))}))


@specimen("shape, strides or offset are not tuples of counts")
def a_negative_offset(folder: Path, command: str) -> Path:
    return zip_of(folder, pickled({"a.b": tensor(offset=-1)}))


@specimen("a tensor of [0-9,]+ values")
def more_values_than_can_be_counted(folder: Path, command: str) -> Path:
    return zip_of(folder, pickled({"a.b": tensor(shape=(1 << 40, 1 << 40), strides=(0, 0))}))


@specimen("a tensor of 1000 extents")
def a_thousand_axes(folder: Path, command: str) -> Path:
    return zip_of(folder, pickled({"a.b": tensor(shape=(1,) * 1000, strides=(1,) * 1000)}))


@specimen()
def containers_that_contain_themselves(folder: Path, command: str) -> Path:
    ring: list[Any] = []
    ring.append(ring)
    table: dict[str, Any] = {"ring": ring}
    table["table"] = table
    return zip_of(folder, pickled(with_tensor(table)))


@specimen("its modules contain each other")
def a_module_that_contains_itself(folder: Path, command: str) -> Path:
    head = b"\x80\x02cgone\nNet\n)\x81q\x00}(X\x0b\x00\x00\x00_parameters}X\x08\x00\x00\x00_modules}"
    return zip_of(folder, head + b"X\x01\x00\x00\x00ah\x00sub.")


@specimen("its modules contain each other")
def modules_that_double_at_every_level(folder: Path, command: str) -> Path:
    state: Any = {"_parameters": {"w": tensor()}, "_modules": {}}
    for _ in range(60):
        child = Call(named("copyreg", "__newobj__"), named("gone", "Net"), state=state)
        state = {"_parameters": {}, "_modules": {"a": child, "b": child}}
    return zip_of(folder, pickled(Call(named("copyreg", "__newobj__"), named("gone", "Net"), state=state)))


@specimen()
def one_huge_state_for_a_hundred_thousand_objects(folder: Path, command: str) -> Path:
    state = b"}q\x00(" + b"".join(b"M" + struct.pack("<H", n) + b"N" for n in range(60_000)) + b"u"
    objects = b"(" + b"h\x01)\x81h\x00b" * 100_000 + b"l"
    return zip_of(
        folder,
        b"\x80\x02}(X\x01\x00\x00\x00a"
        + state
        + b"X\x01\x00\x00\x00bcgone\nNet\nq\x01X\x01\x00\x00\x00c"
        + objects
        + b"u.",
    )


@specimen("more keys made of numbers than any checkpoint has")
def one_long_key_for_a_million_dictionaries(folder: Path, command: str) -> Path:
    key = b"(" + b"X\x01\x00\x00\x00a" * 900 + b"tq\x00"
    return zip_of(folder, b"\x80\x02(" + key + b"}h\x00Ns" * 1_000_000 + b"l.", zipfile.ZIP_DEFLATED)


@specimen("its modules contain each other")
def three_hundred_models_around_one_huge_module(folder: Path, command: str) -> Path:
    empty = Call(named("copyreg", "__newobj__"), named("gone", "Net"), state={"_parameters": {}, "_modules": {}})
    huge = {"_parameters": {}, "_modules": {str(n): empty for n in range(50_000)}}
    big = Call(named("copyreg", "__newobj__"), named("gone", "Net"), state=huge)
    models = {}
    for n in range(200):
        state = {"_parameters": {}, "_modules": {"big": big}}
        models[f"m{n}"] = Call(named("copyreg", "__newobj__"), named("gone", "Net"), state=state)
    return zip_of(folder, pickled(models))


@specimen()
def an_array_of_objects(folder: Path, command: str) -> Path:
    import numpy as np

    return zip_of(folder, pickled(with_tensor(np.array([Call(os.system, command), None], object))))


@specimen()
def a_pickle_within_an_npz(folder: Path, command: str) -> Path:
    import numpy as np

    np.savez(folder / "hostile.npz", x=np.array([Call(os.system, "exit 1")], object))
    return folder / "hostile.npz"


@specimen("its header is")
def code_as_the_header_of_an_array(folder: Path, command: str) -> Path:
    header = f"__import__('os').system({command!r})".ljust(117).encode() + b"\n"
    (folder / "hostile.npy").write_bytes(b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header)
    return folder / "hostile.npy"


@specimen("places weights in '../../etc/passwd'")
def an_index_that_leads_elsewhere(folder: Path, command: str) -> Path:
    index = {"metadata": {}, "weight_map": {"w": "../../etc/passwd"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder / "model.safetensors.index.json"


def _safetensors(folder: Path, header: bytes, data: bytes = b"") -> Path:
    (folder / "hostile.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + data)
    return folder / "hostile.safetensors"


@specimen("a header of|begins like nothing")
def a_safetensors_header_of_an_exabyte(folder: Path, command: str) -> Path:
    (folder / "hostile.safetensors").write_bytes(struct.pack("<Q", 1 << 29) + b'{"w":{"dtype":"F32"}}')
    return folder / "hostile.safetensors"


@specimen("a header that is no JSON")
def a_safetensors_header_of_a_million_levels(folder: Path, command: str) -> Path:
    return _safetensors(folder, b'{"w":' + b"[" * 1_000_000 + b"]" * 1_000_000 + b"}")


@specimen("from byte 0, where the one before ends at 4")
def safetensors_that_overlap(folder: Path, command: str) -> Path:
    entry = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
    return _safetensors(folder, json.dumps({"a": entry, "b": entry}).encode(), bytes(4))


@specimen("it is a safetensors index; expected a checkpoint")
def an_index_that_names_itself(folder: Path, command: str) -> Path:
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"w": index.name}}))
    return index


@specimen("reaches beyond|a hole is left")
def slices_of_an_exabyte(folder: Path, command: str) -> Path:
    header = {
        "__metadata__": {"DCP_SHARDING_INFO": json.dumps({"w": {"saved_offsets": [1 << 60]}})},
        "w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]},
    }
    path = _safetensors(folder, json.dumps(header).encode(), bytes(4))
    path.rename(folder / "shard-00001-model-00001-of-00001.safetensors")
    return folder


@specimen("states; expected 256 at most")
def a_folder_of_a_thousand_random_states(folder: Path, command: str) -> Path:
    (folder / "model.safetensors").write_bytes(b"")
    for number in range(1000):
        (folder / f"random_states_{number}.pkl").write_bytes(pickled(Call(os.system, command)))
    return folder


@specimen()
def system_calls_beside_the_weights_of_a_folder(folder: Path, command: str) -> Path:
    zip_of(folder, pickled({"fc.weight": tensor()})).rename(folder / "pytorch_model.bin")
    for name in ("optimizer.bin", "scheduler.bin", "training_args.bin"):
        zip_of(folder, pickled({"x": Call(os.system, command)})).rename(folder / name)
    (folder / "random_states_0.pkl").write_bytes(pickled(Call(os.system, command)))
    return folder


_DCP = "torch.distributed.checkpoint.metadata"


def _made(module: str, name: str, **state: Any) -> Call:
    """Returns an object of a class with these attributes."""
    return Call(named("copyreg", "__newobj__"), named(module, name), state=state)


def _size(*numbers: int) -> Call:
    return Call(named("torch", "Size"), numbers)


def chunk(offset: int = 0, size: int = 4) -> Call:
    """Returns a piece of a vector."""
    return _made(_DCP, "ChunkStorageMetadata", offsets=_size(offset), sizes=_size(size))


def dcp_of(
    folder: Path,
    data: bytes,
    *,
    chunks: Any = None,
    shape: int = 4,
    paths: Any = None,
    file: Any = "__0_0.distcp",
    extra: Any = None,
) -> Path:
    """Writes a directory of torch.distributed.checkpoint: a vector `w.x` and a value `extra`, both in `data`."""
    properties = _made(_DCP, "TensorProperties", dtype=named("torch", "float32"))
    chunks = [chunk()] if chunks is None else chunks
    tensors = {
        "w.x": _made(_DCP, "TensorStorageMetadata", properties=properties, size=_size(shape), chunks=chunks),
        "extra": _made(_DCP, "BytesStorageMetadata", nothing=0),
    }
    place = _made("torch.distributed.checkpoint.filesystem", "_StorageInfo", relative_path=file, offset=0,
                  length=len(data))  # fmt: skip
    indexes = [_made(_DCP, "MetadataIndex", fqn="w.x", offset=_size(0)), _made(_DCP, "MetadataIndex", fqn="extra")]
    metadata = _made(
        _DCP, "Metadata", state_dict_metadata=tensors, planner_data=paths, extra=extra,
        storage_data=Call(dict, [(index, place) for index in indexes]),
    )  # fmt: skip
    (folder / ".metadata").write_bytes(pickled(metadata))
    (folder / "__0_0.distcp").write_bytes(data)
    return folder


def _stream(folder: Path, value: Any) -> bytes:
    """Returns a value as torch.save would write it."""
    path = zip_of(folder, pickled(value))
    data = path.read_bytes()
    path.unlink()
    return data


@specimen("no Metadata with state_dict_metadata")
def code_instead_of_the_metadata_of_a_dcp_directory(folder: Path, command: str) -> Path:
    (folder / ".metadata").write_bytes(pickled(Call(os.system, command)))
    return folder


@specimen()
def code_in_the_metadata_of_a_dcp_directory(folder: Path, command: str) -> Path:
    return dcp_of(folder, _stream(folder, tensor()), extra=Call(os.system, command))


@specimen()
def code_in_a_value_of_a_dcp_directory(folder: Path, command: str) -> Path:
    return dcp_of(folder, _stream(folder, Call(os.system, command)))


@specimen("it places weights in '../../../../etc/passwd'")
def a_dcp_directory_that_leads_elsewhere(folder: Path, command: str) -> Path:
    return dcp_of(folder, _stream(folder, tensor()), file="../../../../etc/passwd")


@specimen("a place of 'w.x' without a file")
def code_as_the_name_of_a_file_of_a_dcp_directory(folder: Path, command: str) -> Path:
    return dcp_of(folder, _stream(folder, tensor()), file=Call(os.system, command))


@specimen("more than 300,000 pieces of tensors")
def a_million_pieces_of_one_tensor(folder: Path, command: str) -> Path:
    return dcp_of(folder, _stream(folder, tensor()), chunks=[chunk()] * 1_000_000)


@specimen("4,611,686,018,427,387,900 bytes of 'w.x'|a size or an offset|bytes of 'w.x' in")
def a_tensor_of_an_exabyte_in_a_dcp_directory(folder: Path, command: str) -> Path:
    size = (1 << 60) - 1
    return dcp_of(folder, _stream(folder, tensor()), chunks=[chunk(0, size)], shape=size)


@specimen("pieces of 8 values for 4: they overlap")
def pieces_that_overlap(folder: Path, command: str) -> Path:
    return dcp_of(folder, _stream(folder, tensor()), chunks=[chunk(), chunk(1, 3), chunk(3, 1)])


@specimen("a way to 'w.x' that is no tuple of keys")
def a_way_through_a_tree_that_contains_itself(folder: Path, command: str) -> Path:
    ring: list[Any] = []
    ring.append(ring)
    return dcp_of(folder, _stream(folder, tensor()), paths={"w.x": ring})


@specimen("where another value is")
def two_values_in_one_place_of_a_tree(folder: Path, command: str) -> Path:
    return dcp_of(folder, _stream(folder, tensor()), paths={"w.x": ("a",), "extra": ("a", "b")})


@specimen()
def a_value_of_a_dcp_directory_that_contains_itself(folder: Path, command: str) -> Path:
    ring: dict[str, Any] = {}
    ring["state"] = ring["param_groups"] = ring
    return dcp_of(folder, _stream(folder, ring), paths={"extra": ("a", "b")})


@specimen("asks for more than .* bytes of memory")
def a_list_copied_a_thousand_times_in_a_value_of_a_dcp_directory(folder: Path, command: str) -> Path:
    big = b"\x80\x02](](" + b"N" * 1000 + b"eq\x00c__builtin__\nlist\nq\x01"
    path = zip_of(folder, big + b"h\x01h\x00\x85R" * 1000 + b"e.")
    data = path.read_bytes()
    path.unlink()
    return dcp_of(folder, data)


@specimen()
def a_script_archive(folder: Path, command: str) -> Path:
    evil = pickled(Call(os.system, command))
    return zip_of(folder, evil, **{"constants.pkl": evil, "code/__torch__.py": b"import os"})


def _script(folder: Path, module: Any, text: bytes) -> Path:
    return zip_of(
        folder, pickled(module), zipfile.ZIP_DEFLATED, **{"constants.pkl": pickled(()), "code/__torch__.py": text}
    )


@specimen()
def code_among_the_attributes_of_a_script(folder: Path, command: str) -> Path:
    module = _made("__torch__", "Net", w=tensor(), evil=Call(os.system, command))
    text = f"import os\nos.system({command!r})\nclass Net(Module):\n  __parameters__ = ['w', \"w\"]\n"
    return _script(folder, module, text.encode())


@specimen("its modules contain each other")
def modules_of_a_script_that_double_at_every_level(folder: Path, command: str) -> Path:
    module = _made("__torch__", "Net", w=tensor())
    for _ in range(60):
        module = _made("__torch__", "Net", a=module, b=module)
    return _script(folder, module, b"class Net(Module):\n")


@specimen()
def a_text_of_unfinished_names(folder: Path, command: str) -> Path:
    text = b'class Net(Module):\n  __parameters__ = ["' + b'\\"' * 4_000_000
    return _script(folder, _made("__torch__", "Net", w=tensor()), text)


@specimen("bytes; the limit is|come out of")
def a_text_of_seventy_megabytes(folder: Path, command: str) -> Path:
    return _script(folder, _made("__torch__", "Net", w=tensor()), bytes(70 << 20))


def _program(folder: Path, table: bytes, method: int = zipfile.ZIP_STORED, **more: bytes) -> Path:
    path = folder / "hostile.pt2"
    names = {"archive_format": b"pt2", "data/weights/model_weights_config.json": table, **more}
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in names.items():
            archive.writestr(f"p/{name}", content)
    return path


def _weight(**changes: Any) -> bytes:
    meta = {"dtype": 7, "sizes": [{"as_int": 4}], "strides": [{"as_int": 1}], "storage_offset": {"as_int": 0}}
    entry = {"path_name": "weight_0", "is_param": True, "use_pickle": False, "tensor_meta": meta, **changes}
    return json.dumps({"config": {"w": entry}}).encode()


@specimen("a weight in '../../../../etc/passwd', which the archive does not have")
def a_program_that_leads_elsewhere(folder: Path, command: str) -> Path:
    return _program(folder, _weight(path_name="../../../../etc/passwd"))


@specimen("it is no JSON")
def a_program_of_a_million_levels(folder: Path, command: str) -> Path:
    return _program(folder, b'{"config":' + b"[" * 1_000_000 + b"]" * 1_000_000 + b"}")


@specimen("bytes; the limit is 33,554,432")
def a_program_whose_table_is_a_bomb(folder: Path, command: str) -> Path:
    return _program(folder, b" " * (40 << 20), zipfile.ZIP_DEFLATED)


@specimen("<inert .*system> as 'w'")
def code_as_a_weight_of_a_program(folder: Path, command: str) -> Path:
    evil = _stream(folder, Call(os.system, command))
    return _program(folder, _weight(use_pickle=True), **{"data/weights/weight_0": evil})


@specimen("found no state dict")
def code_as_the_state_of_an_older_program(folder: Path, command: str) -> Path:
    path = folder / "hostile.pt2"
    evil = _stream(folder, Call(os.system, command))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("serialized_exported_program.json", b"{}")
        archive.writestr("serialized_state_dict.pt", evil)
    return path


@specimen("bytes; the limit is|come out of")
def a_bomb_within_the_archive_of_a_program(folder: Path, command: str) -> Path:
    inner = zip_of(folder, bytes(70 << 20), zipfile.ZIP_DEFLATED)
    path = folder / "hostile.pt2"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("serialized_exported_program.json", b"{}")
        archive.writestr("serialized_state_dict.pt", inner.read_bytes())
    inner.unlink()
    return path


# --- files within files ---------------------------------------------------------------------------------------------


@specimen()
def code_in_a_pickle_within_a_pickle(folder: Path, command: str) -> Path:
    hidden = pickled({"weight": Call(os.system, command), "pad": "x" * 300}, 4)
    within = zip_of(folder, pickled({"deeper": hidden}, 4)).read_bytes()
    return zip_of(folder, pickled({"module_": pickled({"deeper": hidden, "pad": "x" * 300}, 4), "file": within}, 4))


@specimen()
def ten_thousand_files_within_one(folder: Path, command: str) -> Path:
    file = pickled({"numbers": list(range(1000)), "call": Call(os.system, command)}, 4)
    return zip_of(folder, pickled({f"part{n}": file + n.to_bytes(4, "little") for n in range(10_000)}, 4))


@specimen()
def files_within_files_fifty_levels_deep(folder: Path, command: str) -> Path:
    value: Any = {"weight": Call(os.system, command), "pad": "x" * 300}
    for _ in range(50):
        value = {"inner": pickled(value, 4), "pad": "x" * 300}
    return zip_of(folder, pickled(value, 4))


# --- compressed files, archives and folders that lead elsewhere -----------------------------------------------------


@specimen("more than .* bytes come out of")
def an_xz_bomb(folder: Path, command: str) -> Path:
    (folder / "hostile.xz").write_bytes(lzma.compress(bytes(200 << 20)))
    return folder / "hostile.xz"


@specimen("more than .* bytes come out of")
def a_bzip2_bomb(folder: Path, command: str) -> Path:
    (folder / "hostile.bz2").write_bytes(bz2.compress(bytes(200 << 20)))
    return folder / "hostile.bz2"


@specimen("asks for too much memory|damaged")
def an_lzma_dictionary_of_four_gigabytes(folder: Path, command: str) -> Path:
    (folder / "hostile.lzma").write_bytes(b"\x5d\0\0\0\xff" + b"\xff" * 8 + bytes(100))
    return folder / "hostile.lzma"


@specimen()
def code_in_a_zip_in_a_tar_in_an_xz(folder: Path, command: str) -> Path:
    inner = zip_of(folder, pickled({"weight": Call(os.system, command)}))
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.add(inner, "../../../../tmp/model.pt")
    inner.unlink()
    (folder / "hostile.tar.xz").write_bytes(lzma.compress(buffer.getvalue()))
    return folder / "hostile.tar.xz"


@specimen("begin like checkpoints|None is among its files|of no kind we know")
def a_tar_of_links(folder: Path, command: str) -> Path:
    with tarfile.open(folder / "hostile.tar", "w") as archive:
        for name, kind in (("model.pt", tarfile.SYMTYPE), ("weights.pt", tarfile.LNKTYPE)):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "/etc/passwd"
            archive.addfile(member)
    return folder / "hostile.tar"


@specimen("bytes promised where")
def an_array_of_joblib_that_never_ends(folder: Path, command: str) -> Path:
    dtype = b"cnumpy\ndtype\n(X\2\0\0\0f8\x89\x88tRq\1(K\3X\1\0\0\0<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tb"
    state = b"}(X\5\0\0\0shape(\x8a\6\0\0\0\0\0\1tX\5\0\0\0dtype" + dtype + b"u"
    pickle_ = b"\x80\2}X\3\0\0\0a.wcjoblib.numpy_pickle\nNumpyArrayWrapper\n)\x81" + state + b"b" + b"x" * 99
    (folder / "hostile.joblib").write_bytes(pickle_)
    return folder / "hostile.joblib"


@specimen("expected a checkpoint|Too many levels|File name too long")
def a_cache_whose_commit_is_the_cache(folder: Path, command: str) -> Path:
    (folder / "snapshots").mkdir()
    (folder / "refs").mkdir()
    (folder / "refs/main").write_text("c")
    (folder / "snapshots/c").symlink_to("..", target_is_directory=True)
    return folder


@specimen("expected a checkpoint")
def a_latest_that_leads_out(folder: Path, command: str) -> Path:
    (folder / "latest").write_text("../../../../etc")
    return folder


@specimen("no names to tensors|it is a folder|expected a checkpoint|its values")
def a_pipeline_of_folders_elsewhere(folder: Path, command: str) -> Path:
    (folder / "model_index.json").write_text(json.dumps({"../../etc": ["d", "U"], "/etc": ["d", "U"], ".": ["d", "U"]}))
    return folder
