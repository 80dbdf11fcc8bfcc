#!/usr/bin/env python3
"""Writes tests/fixtures/data: small images, archives of them, and what Pillow and NumPy make of them.

Needs Pillow (Debian: python3-pil). tests/unit/test_data.c reads the results. Every picture NAME.jpg or NAME.png has its
decoded pixels, height x width (x 3) of u8, in NAME.npy.
"""
import io
import pathlib
import struct
import tarfile
import zlib

import numpy as np
from PIL import Image

OUT = pathlib.Path(__file__).resolve().parent.parent / "fixtures" / "data"
MEMBER_TIME = 1_000_000_000


def scene(height, width):
    """Smooth colours with an edge, so that JPEG is busy and resizing visible."""
    y, x = np.mgrid[0:height, 0:width]
    red = 255 * x / (width - 1)
    green = 255 * y / (height - 1)
    blue = np.where((x + 2 * y) % 13 < 6, 200, 40)
    return np.stack([red, green, blue], 2).round().astype(np.uint8)


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def interlaced_png(pixels):
    """Adam7, which Pillow reads but does not write: seven passes, each a small image without filters."""
    height, width, _ = pixels.shape
    passes = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
    data = b""
    for top, left, down, right in passes:
        part = pixels[top::down, left::right]
        if part.size:
            data += b"".join(b"\0" + row.tobytes() for row in part)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 1)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


def save_picture(name, data, mode):
    (OUT / name).write_bytes(data)
    image = Image.open(io.BytesIO(data))
    np.save(OUT / (name.split(".")[0] + ".npy"), np.asarray(image.convert(mode)))


def encode(pixels, kind, mode="RGB", **options):
    out = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(out, kind, **options)
    return out.getvalue()


def resize_matrix(source, target):
    """Row i: the weights of the source pixels in target pixel i."""
    ratio = source / target
    support = max(1.0, ratio)
    centre = (np.arange(target)[:, None] + 0.5) * ratio - 0.5
    weights = np.maximum(0, 1 - np.abs(np.arange(source)[None, :] - centre) / support)
    return weights / weights.sum(1, keepdims=True)


def resized(pixels, side):
    height, width = pixels.shape[:2]
    shorter = min(height, width)
    rows = resize_matrix(height, height * side // shorter)
    columns = resize_matrix(width, width * side // shorter)
    return np.einsum("yh,xw,hwc->cyx", rows, columns, pixels.astype(np.float64)).astype(np.float32)


def write_tar(name, members, mode="w", form=tarfile.PAX_FORMAT):
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode=mode, format=form) as tar:
        for path, data in members:
            info = tarfile.TarInfo(path)
            info.mtime = MEMBER_TIME
            if data is None:
                info.type = tarfile.DIRTYPE
                tar.addfile(info)
            else:
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    data = raw.getvalue()
    if mode.endswith(":gz"):
        data = data[:4] + struct.pack("<I", 0) + data[8:]  # no time stamp: the same file every time
    (OUT / name).write_bytes(data)


def solid(value):
    return encode(np.full((2, 3), value, np.uint8), "PNG", "L")


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    colour = scene(17, 24)
    save_picture("colour.jpg", encode(colour, "JPEG", quality=90), "RGB")
    luma = Image.open(OUT / "colour.jpg")
    luma.draft("L", luma.size)  # the JPEG's own Y
    np.save(OUT / "colour_luma.npy", np.asarray(luma))
    save_picture("progressive.jpg", encode(colour, "JPEG", quality=75, progressive=True), "RGB")
    save_picture("grey.jpg", encode(colour, "JPEG", "L", quality=90), "L")
    save_picture("rgb.png", encode(colour, "PNG"), "RGB")
    save_picture("luma.png", encode(colour, "PNG", "L"), "L")
    save_picture("palette.png", encode(colour, "PNG", "P", colors=7), "RGB")
    save_picture("interlaced.png", interlaced_png(colour), "RGB")
    (OUT / "cmyk.jpg").write_bytes(encode(colour, "JPEG", "CMYK"))
    transparent = np.dstack([colour, np.full(colour.shape[:2], 128, np.uint8)])
    out = io.BytesIO()
    Image.fromarray(transparent).save(out, "PNG")
    (OUT / "transparent.png").write_bytes(out.getvalue())
    np.save(OUT / "transparent.npy", colour)
    decoded = np.load(OUT / "rgb.npy")
    for side in (8, 17, 30):
        np.save(OUT / f"resize{side}.npy", resized(decoded, side))

    # Class folders: pixel value 50 * class + k says which file it is; classes of 3, 2 and 1 files.
    files = [("train/", None)]
    for index, (name, count) in enumerate((("cat", 3), ("cat-big", 2), ("dog" + "x" * 120, 1))):
        files += [(f"train/{name}/{k:04d}.png", solid(50 * index + k)) for k in reversed(range(count))]
    files += [("train/cat/notes.txt", b"no image"), ("test/cat/0000.png", solid(7))]
    write_tar("classes.tar", files)
    write_tar("classes.tar.gz", files, "w:gz")
    write_tar("classes_gnu.tar", files, form=tarfile.GNU_FORMAT)

    # A list of labels, a name of two words, a member given twice (the last counts), names that would leave a folder.
    labels = b"b 2.png 7\n0.png 3\n\na.png 2147\r\n"
    listed = [("./set/a.png", solid(9)), ("./set/labels.txt", labels), ("./set/0.png", solid(10)),
              ("./set/b 2.png", solid(12)), ("../../evil.png", solid(1)), ("./set/a.png", solid(11))]
    write_tar("listed.tar", listed)
    write_tar("listed.tar.gz", listed, "w:gz")


if __name__ == "__main__":
    main()
