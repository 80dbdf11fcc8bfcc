#!/usr/bin/env python3
"""Writes the seeds of the fuzz targets into tests/fuzz/corpus: small files of every kind from fixtures, examples and
recipes; and traps into tests/fuzz/traps: a few bytes that ask for much memory, many steps or deep nesting.

    make_corpus.py          (the standard library is enough; the same bytes every time)

Files named found-* are not made here: each is an input that a fuzzer once failed on.
"""
import glob
import gzip
import io
import os
import re
import struct
import tarfile
import zlib

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
MOST = 6000  # bytes of a fixture that is taken


def put(target, name, data):
    folder = os.path.join(HERE, "traps" if name.startswith("trap-") else "corpus", target)
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, name), "wb") as f:
        f.write(data)


def take(target, pattern):
    for path in sorted(glob.glob(os.path.join(ROOT, pattern))):
        if os.path.getsize(path) <= MOST:
            with open(path, "rb") as f:
                put(target, os.path.basename(path), f.read())


def gz(data):
    return gzip.compress(data, 9, mtime=0)


# --- ONNX by hand: fields of onnx.proto -----------------------------------------------------------------------------


def varint(n):
    n &= (1 << 64) - 1
    out = bytearray()
    while n > 127:
        out.append(n & 127 | 128)
        n >>= 7
    out.append(n)
    return bytes(out)


def field(number, value):
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    if isinstance(value, float):
        return varint(number << 3 | 5) + struct.pack("<f", value)
    if isinstance(value, str):
        value = value.encode()
    return varint(number << 3 | 2) + varint(len(value)) + value


def attribute(name, value):
    if isinstance(value, list):
        return field(1, name) + b"".join(field(8, v) for v in value) + field(20, 7)
    if isinstance(value, int):
        return field(1, name) + field(3, value) + field(20, 2)
    if isinstance(value, bytes):  # a graph
        return field(1, name) + field(6, value) + field(20, 5)
    return field(1, name) + field(5, value[0]) + field(20, 4)  # (tensor,)


def node(op, inputs, outputs, domain="", **attributes):
    out = b"".join(field(1, i) for i in inputs) + b"".join(field(2, o) for o in outputs)
    out += field(3, outputs[0]) + field(4, op) + (field(7, domain) if domain else b"")
    return out + b"".join(field(5, attribute(k, v)) for k, v in attributes.items())


F32, U8, I64, BOOL = 1, 2, 7, 9


def tensor(name, dims, numbers, kind=I64):
    raw = struct.pack("<%d%s" % (len(numbers), {I64: "q", F32: "f", BOOL: "?"}[kind]), *numbers)
    return b"".join(field(1, d) for d in dims) + field(2, kind) + field(8, name) + field(9, raw)


def info(name, dims, kind=F32):
    shape = b"".join(field(1, field(1, d)) for d in dims)
    return field(1, name) + field(2, field(1, field(1, kind) + field(2, shape)))


def graph(nodes, inputs, outputs, constants=()):
    out = b"".join(field(1, n) for n in nodes) + field(2, "trap")
    out += b"".join(field(5, c) for c in constants)
    return out + b"".join(field(11, i) for i in inputs) + b"".join(field(12, o) for o in outputs)


def model(*parts, opset=17):
    return field(1, 8) + field(7, graph(*parts)) + field(8, field(2, opset))


X, Y = info("x", [1]), info("y", [1])
HUGE = [100000, 250000]  # 100 GB of f32


def onnx_traps():
    shape = tensor("s", [2], HUGE)
    million = tensor("s", [1], [1 << 20])
    yield "declares", model([node("Relu", ["x"], ["y"])], [info("x", HUGE)], [info("y", HUGE)])
    yield "weights", model([node("Add", ["x", "w"], ["y"])], [X], [Y],
                           [b"".join(field(1, d) for d in HUGE) + field(2, F32) + field(8, "w")])
    yield "constantofshape", model([node("ConstantOfShape", ["s"], ["c"]), node("Add", ["x", "c"], ["y"])], [X],
                                   [info("y", HUGE)], [shape])
    yield "expand", model([node("Expand", ["x", "s"], ["y"])], [X], [info("y", HUGE)], [shape])
    yield "range", model([node("Range", ["a", "b", "c"], ["r"]), node("Cast", ["r"], ["f"], to=F32),
                          node("Add", ["x", "f"], ["y"])], [X], [info("y", [25000000000])],
                         [tensor("a", [], [0]), tensor("b", [], [25000000000]), tensor("c", [], [1])])
    yield "tile", model([node("Tile", ["x", "s"], ["y"])], [info("x", [1, 1])], [info("y", HUGE)], [shape])
    yield "pad", model([node("Pad", ["x", "s"], ["y"])], [X], [Y], [tensor("s", [2], [0, 25000000000])])
    yield "resize", model([node("Resize", ["x", "", "", "s"], ["y"])], [info("x", [1, 1, 1, 1])],
                          [info("y", [1, 1] + HUGE)], [tensor("s", [4], [1, 1] + HUGE)])
    yield "onehot", model([node("OneHot", ["i", "s", "v"], ["y"])], [info("i", [1000], I64)], [Y],
                          [tensor("s", [1], [25000000]), tensor("v", [2], [0, 1], F32)])
    # Each node is small enough, all together are not.
    chain, sums = [node("Expand", ["x", "s"], ["e0"])], "e0"
    for i in range(1, 400):
        chain.append(node("Concat", ["e%d" % (i - 1), "e%d" % (i - 1)], ["e%d" % i], axis=0))
    yield "doubling", model(chain, [X], [info("e399", [1 << 20])], [million])
    many = [node("ConstantOfShape", ["s"], ["c%d" % i]) for i in range(300)]
    yield "constants", model(many + [node("Sum", ["x"] + ["c%d" % i for i in range(300)], ["y"])], [X], [Y],
                             [tensor("s", [1], [15 << 20])])
    # Constants whose product is 2 * 10^12 multiplications: to be refused or left for a run, not computed while reading.
    side = tensor("s", [2], [4000, 4000])
    products, last = [node("ConstantOfShape", ["s"], ["m0"])], "m0"
    for i in range(1, 30):
        products.append(node("MatMul", ["m%d" % (i - 1), "m0"], ["m%d" % i]))
    yield "products", model(products + [node("Add", ["x", "m29"], ["y"])], [X], [Y], [side])
    yield "convolution", model([node("ConstantOfShape", ["s"], ["i"]), node("ConstantOfShape", ["k"], ["w"]),
                                node("Conv", ["i", "w"], ["c"]), node("Add", ["x", "c"], ["y"])], [X], [Y],
                               [tensor("s", [4], [1, 16, 700, 700]), tensor("k", [4], [16, 16, 200, 200])])
    yield "loop", model([node("Loop", ["n", "c", "x"], ["y"], body=graph(
        [node("Identity", ["k"], ["k2"]), node("Add", ["v", "v"], ["v2"])],
        [info("i", [], I64), info("k", [], BOOL), info("v", [1])], [info("k2", [], BOOL), info("v2", [1])]))], [X], [Y],
                        [tensor("n", [], [1 << 62]), tensor("c", [], [True], BOOL)])
    yield "loop_scans", model([node("Loop", ["n", "c"], ["y"], body=graph(
        [node("Identity", ["k"], ["k2"]), node("ConstantOfShape", ["s"], ["o"])],
        [info("i", [], I64), info("k", [], BOOL)], [info("k2", [], BOOL), info("o", [1 << 20])]))], [X], [Y],
                              [tensor("n", [], [1 << 40]), tensor("c", [], [True], BOOL), million])
    inner = graph([node("Relu", ["x"], ["z"])], [], [info("z", [1])])
    for i in range(200):
        inner = graph([node("If", ["c"], ["z"], then_branch=inner, else_branch=b"")], [], [info("z", [1])])
    yield "nested_ifs", model([node("If", ["c"], ["y"], then_branch=inner, else_branch=inner[:0])], [X], [Y],
                              [tensor("c", [], [True], BOOL)])
    chain = [node("Relu", ["x" if i == 0 else "v%d" % i], ["v%d" % (i + 1)]) for i in range(1500)]
    yield "chain", model(chain, [X], [info("v1500", [1])])
    deep = b""
    for i in range(3000):
        deep = field(6, field(1, field(5, field(1, "g") + deep)))  # a graph in an attribute of a node of a graph ...
    yield "deep", field(1, 8) + field(7, field(1, field(5, deep)))
    yield "counts", field(7, field(1, b"") * 20000)
    transposes = [node("Transpose", ["x"], ["y"], perm=[1 << 40, -1])]
    yield "perm", model(transposes, [info("x", [1, 1])], [info("y", [1, 1])])
    yield "strides", model([node("MaxPool", ["x"], ["y"], kernel_shape=[1 << 31, 1 << 31], pads=[1 << 31] * 4,
                                 strides=[1, 1], dilations=[1 << 31, 1 << 31])], [info("x", [1, 1, 4, 4])], [Y])


def onnx_seeds():
    """Small models that fixtures do not have."""
    yield "maxpool-u8", model([node("MaxPool", ["x"], ["y"], kernel_shape=[3, 3], pads=[1, 1, 1, 1])],
                              [info("x", [1, 1, 5, 5], U8)], [info("y", [1, 1, 5, 5], U8)])
    # Outputs whose rank or shape only the data tell.
    yield "late-rank", model([node("Squeeze", ["x", "axes"], ["y"])], [info("x", [1, 3, 4]), info("axes", [1], I64)], [Y])
    yield "late-shape", model([node("NonZero", ["x"], ["y"])], [info("x", [2, 3])], [info("y", [2, 6], I64)])


# --- the other kinds ------------------------------------------------------------------------------------------------


def idx(kind, dims, data):
    return bytes([0, 0, kind, len(dims)]) + b"".join(struct.pack(">I", d) for d in dims) + data


def tar(members, **options):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", **options) as t:
        for name, data in members:
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            t.addfile(entry, io.BytesIO(data))
    return out.getvalue()


def png_chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width, height, depth, colour, data, extra=b""):
    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", head) + extra + png_chunk(b"IDAT", data) + png_chunk(b"IEND", b"")


def pictures():
    take("image", "tests/fixtures/data/*.jpg")
    take("image", "tests/fixtures/data/*.png")
    put("image", "trap-huge.png", png(16384, 4096, 8, 2, zlib.compress(b"", 9)))
    put("image", "trap-rows.png", png(16384, 200, 8, 0, zlib.compress(bytes(16385 * 200), 9)))
    put("image", "trap-text.png", png(1, 1, 8, 0, zlib.compress(b"\0\0"),
                                      png_chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(40 << 20), 9)[:4000])))
    with open(os.path.join(ROOT, "tests/fixtures/data/progressive.jpg"), "rb") as f:
        jpeg = bytearray(f.read())
    at = jpeg.index(b"\xff\xc2")
    scan = jpeg.index(b"\xff\xda", at)
    put("image", "trap-scans.jpg", bytes(jpeg[:-2]) + bytes(jpeg[scan:-2]) * 20 + b"\xff\xd9")
    jpeg[at + 5:at + 9] = struct.pack(">HH", 16000, 4000)  # a progressive frame keeps all its coefficients
    put("image", "trap-huge.jpg", bytes(jpeg))


def tables():
    for name, data in [("u8", idx(8, [3, 2, 2], bytes(range(12)))), ("labels", idx(8, [4], b"\7\1\0\3")),
                       ("rank4", idx(8, [2, 3, 2, 2], bytes(range(24)))), ("s16", idx(11, [1, 2, 2], bytes(range(8)))),
                       ("f32", idx(13, [1, 1, 2], struct.pack(">2f", 1.5, float("nan")))),
                       ("f64", idx(14, [2], struct.pack(">2d", 3, 1e300)))]:
        put("idx", name, data)
    put("idx", "u8.gz", gz(idx(8, [3, 2, 2], bytes(range(12)))))
    put("idx", "trap-dims", idx(8, [1 << 31, 1 << 31, 4], b""))
    put("idx", "trap-count", idx(8, [1 << 31, 0, 4], b""))
    put("idx", "trap-bomb.gz", gz(bytes(20 << 20)))
    record = bytes([3]) + bytes(i % 251 for i in range(3072))
    put("cifar", "two.gz", gz(record * 2))
    put("cifar", "one", record)
    put("cifar", "cut", record[:700])


def archives():
    take("tar", "tests/fixtures/data/*.tar.gz")
    for path in sorted(glob.glob(os.path.join(ROOT, "tests/fixtures/tar/*.tar.gz"))):
        with gzip.open(path) as f:
            put("tar", os.path.basename(path)[:-3], f.read()[:8192])
    with open(os.path.join(ROOT, "tests/fixtures/data/rgb.png"), "rb") as f:
        picture = f.read()
    members = [("a/1.png", picture), ("b/2.png", picture[:100]), ("labels.txt", b"a/1.png 3\nb/2.png 0\n")]
    put("tar", "plain.tar.gz", gz(tar(members)))
    put("tar", "plain.tar", tar(members)[:4608])
    put("tar", "pax.tar.gz", gz(tar([("é" * 60 + "/1.png", picture)], format=tarfile.PAX_FORMAT)))
    put("tar", "gnu.tar.gz", gz(tar([("n" * 200 + "/1.png", picture)], format=tarfile.GNU_FORMAT)))
    put("tar", "trap-members.tar.gz", gz(tar([("c/%d.png" % i, b"") for i in range(2000)])))
    claim = bytearray(tar([("a/1.png", b"")])[:512])
    claim[124:136] = b"77777777777\0"  # 8 GiB that are not there
    claim[148:156] = b"        "
    claim[148:156] = b"%06o\0 " % sum(claim)
    put("tar", "trap-claim.tar", bytes(claim))
    put("tar", "trap-zeros.tar.gz", gz(bytes(claim) + bytes(30 << 20)))


def texts():
    put("text", "words", b"the cat sat on the mat\nand the <unk> sat\n\n  too \xc3\xa9t\xc3\xa9\n")
    put("text", "bytes", bytes(range(256)))
    put("text", "words.gz", gz(b"to be or not to be\n" * 20))
    put("text", "long", b"w" * 5000 + b" x\n")
    for pattern in ("recipes/*.yaml", "recipes/train/*.yaml", "chips/*.yaml", "examples/data/*.yaml"):
        take("yaml", pattern)
    put("yaml", "trap-nested", b"a: " + b"[" * 600)
    put("yaml", "trap-mappings", b"{a: " * 500 + b"x")
    put("yaml", "trap-aliases", b"a: &a [x,x]\nb: &b [*a,*a]\nc: [*b,*b]\n")
    put("yaml", "trap-keys", b"layers:\n" + b"- {match: '*', format: s8}\n" * 600)
    line = '{"epoch": %d, "step": %d, "loss": 1.5, "top1": 0.5, "rate": 0.1}\n'
    log = "".join(line % (i // 4, i) for i in range(12))
    log += '{"epoch": 1, "step": 4, "eval_loss": 0.7, "eval_top1": 0.6, "perplexity": 2}\n'
    put("plot", "log", log.encode())
    put("plot", "odd", b'{"epoch": 1e300, "step": -1e308, "loss": 1e308}\n{"epoch": 1, "step": 1e308, "loss": -1e308}\n')
    put("plot", "trap-nested", b"[" * 3000 + b"\n")
    put("tune", "choices", b"1.5 bank_conv 3x3x64x64\n0.7 csr 1x1\n1e300 k\n")


def checkpoint():
    body = b"".join(struct.pack("<q", i) for i in range(11)) + struct.pack("<11d", *[0.5] * 11)
    settings = b"lr: 0.1\noptimizer: sgd\n"
    body += struct.pack("<Q", len(settings)) + settings + struct.pack("<Q", 2)
    body += struct.pack("<Q", 32) + bytes(32) + struct.pack("<Q", 96) + bytes(96)
    return b"ESPLCKPT" + struct.pack("<II", 1, zlib.crc32(body)) + body


def dictionaries():
    """Words that a target's reader knows: operators, and the keys of all YAML seeds."""
    folder = os.path.join(HERE, "dictionaries")
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(ROOT, "src/ops/ops.list")) as f:
        words = {"onnx": set(re.findall(r"\bX\((\w+)", f.read()))}
    words["yaml"] = set()
    for path in glob.glob(os.path.join(HERE, "corpus", "yaml", "*")):
        with open(path, errors="replace") as f:
            words["yaml"] |= set(re.findall(r"[a-z_0-9]{2,}:", f.read()))
    words["plot"] = {'\\"%s\\": ' % w for w in ("epoch", "step", "loss", "top1", "eval_loss", "eval_top1", "perplexity")}
    for name, found in words.items():
        with open(os.path.join(folder, name), "w") as f:
            f.writelines('"%s"\n' % w for w in sorted(found))


def main():
    for path in glob.glob(os.path.join(HERE, "corpus", "*", "*")) + glob.glob(os.path.join(HERE, "traps", "*", "*")):
        if not os.path.basename(path).startswith("found-"):
            os.remove(path)
    for pattern in ("lowbit", "rnn", "perplexity", "blame", "repair", "transformer", "rounded"):
        take("onnx", "tests/fixtures/%s/*.onnx" % pattern)
    for name in ("strnormalizer_10_upper_0", "tfidf_9_strings_tfidf", "cast_13_from_string_1"):
        with open(os.path.join(ROOT, "tests/conformance/vectors", name, "model.onnx"), "rb") as f:
            put("onnx", name + ".onnx", f.read())
    with open(os.path.join(ROOT, "tests/conformance/gradient/matmul/model.onnx"), "rb") as f:
        put("onnx", "gradient.onnx", f.read())
    for name, data in onnx_traps():
        put("onnx", "trap-" + name, data)
    for name, data in onnx_seeds():
        put("onnx", name, data)
    take("espl", "tests/fixtures/container/*.espl")
    take("npy", "tests/fixtures/npy/*.npy")
    pictures()
    tables()
    archives()
    texts()
    put("checkpoint", "small", checkpoint())
    put("checkpoint", "cut", checkpoint()[:150])
    dictionaries()


if __name__ == "__main__":
    main()
