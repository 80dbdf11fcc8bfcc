#!/usr/bin/env python3
"""Writes tests/fixtures/text: small texts, and their tokens as Python's Counter and NumPy have them.

Needs NumPy only; tests/unit/test_text.c reads the results. With the folder of the Penn Treebank as an argument it prints
the numbers that test_text.c expects of its three files instead.
"""
import collections
import gzip
import pathlib
import sys

import numpy as np

OUT = pathlib.Path(__file__).resolve().parent.parent / "fixtures" / "text"
WORDS = "the a <unk> of n tree prune frame leaf chip weight zero bank row".split()


def units(text, char):
    """Tokens of a text: every line ends with <eos>, the last one even without a newline."""
    lines = text.split("\n")
    if lines[-1] == "":
        lines.pop()
    out = []
    for line in lines:
        out += [c for c in line if c != "\r"] if char else line.split()
        out.append("<eos>")
    return out


def vocabulary(tokens):
    """Most frequent first; Counter keeps the order of first appearance, and sorted() is stable."""
    counts = collections.Counter(tokens)
    return {word: i for i, word in enumerate(sorted(counts, key=lambda word: -counts[word]))}


def encode(tokens, known):
    return np.array([known[t] if t in known else known["<unk>"] for t in tokens], dtype=np.int64)


def columns(stream, batch, sequence):
    """step x (tokens, targets) x sequence x batch"""
    length = len(stream) // batch
    table = stream[: length * batch].reshape(batch, length).T
    steps = (length - 1) // sequence
    return np.array([[table[t * sequence : (t + 1) * sequence], table[t * sequence + 1 : (t + 1) * sequence + 1]]
                     for t in range(steps)])


def print_treebank(folder):
    texts = {part: gzip.open(folder / f"ptb.{part}.txt.gz", "rt").read() for part in ("train", "valid", "test")}
    known = vocabulary(units(texts["train"], False))
    for part, text in texts.items():
        stream = encode(units(text, False), known)
        print(part, len(stream), len(known), "sum", stream.sum(), "weighted", (stream * (np.arange(len(stream)) % 97)).sum())


def main():
    if len(sys.argv) > 1:
        return print_treebank(pathlib.Path(sys.argv[1]))
    OUT.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(35)
    lines = [" ".join(random.choice(WORDS, random.integers(0, 9))) for _ in range(40)]
    lines[7] = " \tespaliér  naïve\twörter  \r"  # UTF-8, other spaces, and a carriage return
    lines[39] = "no newline follows"
    small, other = "\n".join(lines), "a leaf unheard-of\n\nthe <unk> row\n"
    (OUT / "small.txt").write_text(small, encoding="utf-8", newline="")
    (OUT / "other.txt").write_text(other, encoding="utf-8", newline="")
    words, chars = units(small, False), units(small, True)
    stream = encode(words, vocabulary(words))
    np.save(OUT / "words.npy", stream)
    np.save(OUT / "chars.npy", encode(chars, vocabulary(chars)))
    np.save(OUT / "other.npy", encode(units(other, False), vocabulary(words)))
    np.save(OUT / "steps.npy", columns(stream, 6, 4))
    print(len(words), len(vocabulary(words)), len(chars), len(vocabulary(chars)), columns(stream, 6, 4).shape)


if __name__ == "__main__":
    main()
