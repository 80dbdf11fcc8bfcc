"""Where things are."""
import os
import pathlib
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("ESPL_BUILD", ROOT / "build"))
ASSETS = pathlib.Path(os.environ.get("ESPL_ASSETS", ROOT.parent / "shared")).resolve()
WORK = BUILD / "bench"


def shared_library(source, *libraries):
    """A C file beside this one as a shared library below the build folder."""
    source, target = pathlib.Path(__file__).with_name(source), (WORK / source).with_suffix(".so")
    WORK.mkdir(parents=True, exist_ok=True)
    subprocess.run([os.environ.get("CC", "cc"), "-O2", "-shared", "-fPIC", source, "-o", target, *libraries], check=True)
    return target
