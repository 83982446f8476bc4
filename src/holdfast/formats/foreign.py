"""Files without weights that we read: what each is called, how it is known by its bytes, and what to do with it."""

from __future__ import annotations

from holdfast.formats.byte_file import Bytes

_NUMPY = "Save them with numpy.savez and open the .npz."
ADVICE = {
    "empty file": "It has 0 bytes: a save or a download that never began. Take another copy of it.",
    "file of zeros": "Its first bytes are all zero: a download or a save that was never finished. Take another copy.",
    "Git LFS pointer": "It only points to the weights. Run `git lfs pull` where you cloned it, and open what comes.",
    "torch zip without a pickle": "Its torch.save stopped with an error before it wrote anything. Save it again.",
    "web page": "A server answered with a page instead of the file: a login or an error. Download it again.",
    "XML": "It is a document, or a server's answer that there is no such file. Look into it, and download it again.",
    "text": "It is readable text, perhaps a log. Is it the right file?",
    "encrypted text": "Decrypt it first, and open what comes out.",
    "JSON": "It is a configuration or a server's answer, not weights. Open the weights beside it, or fetch it again.",
    "ONNX": "It is a graph for inference. Open the PyTorch checkpoint that it was exported from.",
    "HDF5 or Keras": f"It holds arrays of another framework. {_NUMPY}",
    "Keras archive": "It holds a model of another framework. Save its weights with numpy.savez and open the .npz.",
    "TensorFlow": "It is of another framework. Save its variables with numpy.savez and open the .npz.",
    "TensorFlow Lite": "It is a graph for inference. Open the checkpoint that it was converted from.",
    "TensorBoard log": "It holds the curves of a training, not its weights. Open the checkpoint beside it.",
    "Core ML model": "It is a graph for inference. Open the checkpoint that it was converted from.",
    "TensorRT engine": "It is a program for one kind of GPU. Open the checkpoint that it was built from.",
    "MessagePack (Flax)": f"It holds arrays of another framework. {_NUMPY}",
    "TensorFlow folder": f"It is of another framework. {_NUMPY}",
    "JAX (Orbax) folder": f"It holds arrays of another framework. {_NUMPY}",
    "Caffe model": f"It holds arrays of another framework. {_NUMPY}",
    "Darknet model": "Its weights have no names. Convert it with the tools of a YOLO in PyTorch, and open the result.",
    "Torch7 (Lua)": "Load it with torchfile, or with load_lua of PyTorch before 1.0, and save its weights by name.",
    "MXNet": f"It holds arrays of another framework. {_NUMPY}",
    "ExecuTorch program": "It is a program for a device. Open the checkpoint that it was made from.",
    "mobile TorchScript": "It is a program for a phone. Open the checkpoint that it was made from.",
    "GGUF": "Its weights are quantised for inference. Open the checkpoint that it was converted from.",
    "MATLAB file": f"It holds arrays of another program. {_NUMPY}",
    "picture": "It is an image. Is it the right file?",
    "PDF": "It is a document. Is it the right file?",
    "database": "It holds tables, not weights. Is it the right file?",
    "program": "It is to be run, and holds no weights for us. Is it the right file?",
    "compressed file": "Decompress it (unzstd, 7z, unrar) and open what comes out.",
    "TorchScript before 1.4": "Its weights have another layout. Load it with torch.jit.load and save its state_dict().",
    "empty folder": "There is nothing in it. Check the path.",
    "folder": "It is neither a run, a checkpoint nor a folder of shards with their index. Name the file in it.",
}
STARTS: tuple[tuple[bytes, str], ...] = (
    (b"\x93NUMPY", "npy"), (b"\x1f\x8b", "gzip"), (b"\xfd7zXZ\0", "xz"), (b"BZh", "bzip2"),
    (b"\x5d\0\0", "lzma"), (b"\x89HDF\r\n\x1a\n", "HDF5 or Keras"), (b"GGUF", "GGUF"),
    (b"version https://git-lfs", "Git LFS pointer"), (b"\x28\xb5\x2f\xfd", "compressed file"),
    (b"7z\xbc\xaf\x27\x1c", "compressed file"), (b"Rar!", "compressed file"), (b"\x04\x22\x4d\x18", "compressed file"),
    (b"\x89PNG", "picture"), (b"\xff\xd8\xff", "picture"), (b"GIF8", "picture"), (b"%PDF", "PDF"),
    (b"MATLAB 5.0", "MATLAB file"), (b"SQLite format 3", "database"), (b"PAR1", "database"), (b"\x7fELF", "program"),
    (b"\4\0\0\0\1\0\0\0\3\0\0\0V 1", "Torch7 (Lua)"), (b"\x12\1\0\0\0\0\0\0\0\0\0\0\0\0\0\0", "MXNet"),
    (b"ptrt", "TensorRT engine"), (b"ftrt", "TensorRT engine"), (b"-----BEGIN PGP", "encrypted text"),
)  # fmt: skip
_ZLIB = (b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda")
_TABLE_END = bytes.fromhex("57fb808b247547db")  # of TensorFlow's index of variables
_FLAT_BUFFERS = {b"TFL3": "TensorFlow Lite", b"ET12": "ExecuTorch program", b"PTMF": "mobile TorchScript"}
_EVENTS = b"brain.Event:"
# Of ONNX's ModelProto: the tags of producer, domain, graph … that may follow the version.
_ONNX_TAGS = b"\x12\x1a\x22\x28\x32\x3a\x42"


def foreign_kind(file: Bytes, head: bytes) -> str | None:
    """Returns what a file of another program is; None for one that is none of these.

    Args:
        head: its first bytes, 4,096 at most.
    """
    if head[:2] in _ZLIB:
        return "zlib"
    if kind := _FLAT_BUFFERS.get(head[4:8]):
        return kind
    if head[0] == 0x08 and (kind := _protobuf_kind(head)):
        return kind
    if file.read(max(0, file.num_bytes - 8), 8) == _TABLE_END:
        return "TensorFlow"
    if _EVENTS in head[:80]:
        return "TensorBoard log"
    if 0x81 <= head[0] <= 0x8F and 0xA1 <= head[1:2].ljust(1)[0] <= 0xBF and head[2:3].isalpha():
        return "MessagePack (Flax)"
    if head[0] == 0x0A and _is_caffe(head):
        return "Caffe model"
    if head[0] == 0x0A and _is_graph(head):
        return "TensorFlow"
    if head[:4] == b"\0\0\0\0" and head[4:8] in (b"\1\0\0\0", b"\2\0\0\0") and head[8:12] in (b"\0\0\0\0", b"\5\0\0\0"):
        return "Darknet model"
    return None


def _protobuf_kind(head: bytes) -> str | None:
    """Returns what a message is that begins with a small number: ONNX, TensorFlow and Core ML all do."""
    if any(word in head for word in (b"onnx", b"pytorch", b"\x12\x07tf2onnx")):
        return "ONNX"
    if head[:3] == b"\x08\x01\x12":
        return "TensorFlow"
    version, tag, size = head[1:2], head[2:3], head[3:4]
    if not version or not tag or not 1 <= version[0] <= 20 or not size:
        return None
    if tag == b"\x12" and not head[4 : 4 + size[0]].isascii():
        return "Core ML model"
    if tag == b"\x12" and not head[4 : 4 + size[0]].decode("ascii").isprintable():
        return "Core ML model"
    return "ONNX" if tag in _ONNX_TAGS else None


def _is_caffe(head: bytes) -> bool:
    """Returns whether a message is a Caffe network: its name, and then layers."""
    length = head[1] if len(head) > 1 else 0
    name, behind = head[2 : 2 + length], head[2 + length : 4 + length]
    printable = len(name) == length and name.isascii() and name.decode("ascii", "replace").isprintable()
    return 0 < length < 0x80 and printable and behind in (b"\xa2\x06", b"\x12\x12", b"\x1a\x04")


def _is_graph(head: bytes) -> bool:
    """Returns whether a message is a frozen graph of TensorFlow: its first node, of a name and an operation."""
    size = 2 if head[1:2] < b"\x80" else 3  # of the tag and of the node's length
    length = head[size + 1] if len(head) > size + 1 and head[size] == 0x0A else 0
    name, behind = head[size + 2 : size + 2 + length], head[size + 2 + length :]
    operation = behind[2 : 2 + behind[1]] if behind[:1] == b"\x12" and len(behind) > 2 else b""
    return (
        bool(name)
        and all(part.isascii() and part.decode().isprintable() for part in (name, operation))
        and bool(operation)
    )
