#!/usr/bin/env python3
"""Writes tests/fixtures/tar: archives as GNU tar and Python's tarfile make them, packed as their zeros need room, and
beside each what Python's tarfile finds in it: a line a file, "PLACE SIZE CRC32 NAME"; the last of a name counts.

Each program writes the formats that it knows, so that no reader is tested by its own writer alone.
"""
import gzip
import io
import os
import pathlib
import subprocess
import tarfile
import tempfile
import zlib

OUT = pathlib.Path(__file__).resolve().parents[1] / "fixtures" / "tar"
TIME = 1600000000
LONG = "long" * 20 + "/" + "n" * 60 + "/" + "file" * 20  # too long for the 100 bytes of a name, not for ustar's prefix
TOO_LONG = "d" * 90 + "/" + LONG + "/" + "e" * 150


def tree(folder, names):
    for i, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes((j * j + i) % 251 for j in range([0, 5, 512, 700, 1536][i % 5])))
    (folder / "link").symlink_to(names[1])
    os.link(folder / names[1], folder / "y-hard")


def sparse(folder):
    """More parts than a GNU header has room for, and than the block after it."""
    with open(folder / "holes", "wb") as f:
        for i in range(40):
            f.seek(i * 65536)
            f.write(b"part %d" % i)
        f.truncate(41 * 65536)


def gnu_tar(form, names, more=(), holes=False):
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        tree(folder, names)
        if form != "v7":
            os.mkfifo(folder / "pipe")
        if form in ("gnu", "pax"):
            (folder / "long link").symlink_to("target" * 30)
        if holes:
            sparse(folder)
        # In a process number space of its own: tar's number is part of the names of sparse files in pax.
        return subprocess.run(
            ["unshare", "-rpf", "tar", "--format=" + form, "--sort=name", "--mtime=@%d" % TIME, "--owner=o:1", "--group=g:1",
             "--mode=a=rX,u+w", "-b1", "-C", folder, *more, "-cf", "-", "."], stdout=subprocess.PIPE, check=True).stdout


def python_tar(form, names):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form, pax_headers={"comment": "of all"}) as t:
        for i, name in enumerate(names):
            info = tarfile.TarInfo(name)
            info.mtime = TIME
            info.size = 300 * i
            t.addfile(info, io.BytesIO(bytes([i + 1]) * info.size))
    return out.getvalue()


def header(name, size, kind=b"0", magic=b"ustar\00000"):
    """A header by hand, for what those programs write for sizes of 8 GiB only, or not at all."""
    field = b"%011o\0" % size if isinstance(size, int) else size
    h = name.ljust(100, b"\0") + b"0000644\0" * 3 + field + b"%011o\0" % TIME + b" " * 8 + kind
    h = h.ljust(257, b"\0") + magic
    h = bytearray(h.ljust(512, b"\0"))
    h[148:156] = b"%06o\0 " % sum(h)
    return bytes(h)


def padded(data):
    return data + bytes(-len(data) % 512)


def record(key, value):
    body = b" %s=%s\n" % (key, value)
    length = len(body)
    while length != len(b"%d" % length) + len(body):
        length = len(b"%d" % length) + len(body)
    return b"%d%s" % (length, body)


def by_hand():
    data = bytes(range(250)) * 4
    base256 = bytes([0x80]) + len(data).to_bytes(11, "big")
    size = record(b"mtime", b"1.5") + record(b"size", b"%d" % len(data)) + record(b"path", b"pax/name")
    all_of = record(b"path", b"of all") + record(b"comment", b"x" * 2000)
    return b"".join([
        header(b"old/", 0, b"\0", b""), header(b"old/file", 5, b"\0", b""), padded(b"12345"),
        header(b"old/spaces", b"      1750 \0", b"7", b"ustar  \0"), padded(data),
        header(b"base256", base256, b"0", b"ustar  \0"), padded(data),
        header(b"x", len(size), b"x"), padded(size), header(b"pax/other", 0), padded(data),
        header(b"twice", 3), padded(b"one"), header(b"twice", 4), padded(b"four"),
        header(b"hard", 4, b"1", b"ustar  \0"), header(b"after", 1), padded(b"1"),
        header(b"g", len(all_of), b"g"), padded(all_of), header(b"never seen", 2), padded(b"22")])  # and no blocks of zeros


def listing(data):
    found = {}
    with tarfile.open(fileobj=io.BytesIO(data)) as t:
        for place, member in enumerate(t.getmembers()):
            if member.isreg() and not member.issparse():
                name = member.name[2:] if member.name.startswith("./") else member.name
                found[name] = (place, member.size, zlib.crc32(t.extractfile(member).read()))
    lines = ["%d %d %08x %s\n" % (*found[name], name) for name in sorted(found, key=os.fsencode)]
    return "".join(lines)


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    names = ["a/empty", "b/five", "b/blüte.png", "c/two words", "c/" + "m" * 95, "z/last"]
    pax = ["--pax-option=exthdr.name=%d/p/%f,delete=atime,delete=ctime"]
    archives = {
        "v7": gnu_tar("v7", names),
        "ustar": gnu_tar("ustar", names + [LONG]),
        "gnu": gnu_tar("gnu", names + [LONG, TOO_LONG]),
        "gnu_sparse": gnu_tar("gnu", names, ["--sparse"], holes=True),
        "pax": gnu_tar("pax", names + [LONG, TOO_LONG], pax),
        "pax_sparse0": gnu_tar("pax", names, pax + ["--sparse", "--sparse-version=0.1"], holes=True),
        "pax_sparse1": gnu_tar("pax", names, pax + ["--sparse", "--sparse-version=1.0"], holes=True),
        "python_ustar": python_tar(tarfile.USTAR_FORMAT, names + [LONG]),
        "python_gnu": python_tar(tarfile.GNU_FORMAT, names + [TOO_LONG]),
        "python_pax": python_tar(tarfile.PAX_FORMAT, names + [TOO_LONG]),
        "by_hand": by_hand(),
    }
    for name, data in archives.items():
        (OUT / (name + ".tar.gz")).write_bytes(gzip.compress(data, mtime=0))
        (OUT / (name + ".txt")).write_text(listing(data), encoding="utf-8")


if __name__ == "__main__":
    main()
