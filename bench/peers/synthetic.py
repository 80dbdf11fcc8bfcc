"""Inputs for the networks of ESPL_ASSETS that come without data of their own: sounds and pictures prepared as these
networks want them. There are no labels; 8 bits are compared with f32 on the same inputs. Deterministic."""
import numpy as np

import common

RATE = 16000


# --- sound ----------------------------------------------------------------------------------------------------


def speech(rng, seconds):
    """Something like speech: syllables of a gliding voice through three resonances, hissing consonants, pauses, noise."""
    sound = np.zeros(int(seconds * RATE))
    at = int(rng.uniform(0, 0.1) * RATE)
    while at < len(sound):
        length = int(rng.uniform(0.06, 0.3) * RATE)
        t = np.arange(length) / RATE
        if rng.random() < 0.7:
            pitch = rng.uniform(90, 240) * (1 + rng.uniform(-0.2, 0.2) * t / t[-1])
            phase = 2 * np.pi * np.cumsum(pitch) / RATE
            formants = [(rng.uniform(250, 850), 90), (rng.uniform(900, 2400), 130), (rng.uniform(2300, 3400), 200)]
            part = np.zeros(length)
            for k in range(1, 33):
                f = k * pitch.mean()
                gain = sum(1 / (1 + ((f - c) / w) ** 2) for c, w in formants) / k ** 0.5
                part += gain * np.sin(k * phase)
        else:
            part = np.diff(rng.standard_normal(length + 1))
        sound[at:at + length] += (rng.uniform(0.05, 0.3) * part * np.hanning(length))[:len(sound) - at]
        at += length + int(rng.exponential(0.06) * RATE)
    return sound + rng.uniform(0.0005, 0.02) * rng.standard_normal(len(sound))


def spectra(sound, window, step, size):
    """Magnitudes of the short-time Fourier transform, one row a frame."""
    count = 1 + (len(sound) - window) // step
    frames = np.stack([sound[i * step:i * step + window] for i in range(count)])
    return np.abs(np.fft.rfft(frames * np.hanning(window + 1)[:-1], size))


def mel_filters(bands, size, low, high):
    """Triangles that are equally wide in mel (HTK's formula)."""
    mel = lambda f: 2595 * np.log10(1 + f / 700)
    edges = 700 * (10 ** (np.linspace(mel(low), mel(high), bands + 2) / 2595) - 1)
    f = np.fft.rfftfreq(size, 1 / RATE)
    up = (f - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    down = (edges[2:, None] - f) / (edges[2:] - edges[1:-1])[:, None]
    return np.maximum(0, np.minimum(up, down)).T


def kws(rng, count):
    """MLPerf Tiny's keyword spotting: one second, 30 ms windows every 20 ms, 40 mel bands, 10 cepstral coefficients."""
    filters = mel_filters(40, 512, 20, 4000)
    n = np.arange(40)
    cosines = np.cos(np.pi / 40 * (n[:, None] + 0.5) * np.arange(10)) * np.sqrt(2 / 40)
    out = [np.log(spectra(speech(rng, 1), 480, 320, 512) @ filters + 1e-6) @ cosines for _ in range(count)]
    return [np.stack(out)[:, None]]


def wakeword(rng, count):
    """openWakeWord: 76 frames of 10 ms, 32 mel bands in decibels, divided by 10 and raised by 2."""
    filters = mel_filters(32, 512, 60, 3800)
    out = []
    for _ in range(count):
        power = spectra(32767 * speech(rng, 0.8), 400, 160, 512)[:76] ** 2 @ filters
        decibels = 10 * np.log10(np.maximum(power, 1e-10))
        out.append(np.maximum(decibels, decibels.max() - 80) / 10 + 2)
    return [np.stack(out)[..., None]]


def dtln(rng, count):
    """DTLN's first stage, frame by frame (512 samples every 128), the network's own states fed back to it."""
    session = common.ort.InferenceSession(str(common.ASSETS / "models/dtln-lstm/model.onnx"), common.ort_options())
    names = [i.name for i in session.get_inputs()]
    frames, states = [], []
    while len(frames) < count:
        state = np.zeros((1, 2, 128, 2), np.float32)
        for row in spectra(speech(rng, 2), 512, 128, 512)[:count - len(frames)]:
            frame = row.astype(np.float32).reshape(1, 1, 257)
            frames.append(frame[0])
            states.append(state[0])
            state = session.run(None, dict(zip(names, (frame, state))))[1]
    return [np.stack(frames), np.stack(states)]


def ad(part):
    """MLPerf Tiny's anomaly detection: the clip that comes with the network, five frames of 128 mel bands side by side.
    Every fourth window calibrates, the others measure."""
    clip = np.fromfile(common.ASSETS / "models/mlperf-tiny-ad_autoencoder/ad_normal_id_01_00000000_hist_librosa.bin",
                       "<f4")
    windows = np.stack([clip[i * 128:i * 128 + 640] for i in range(len(clip) // 128 - 4)])
    chosen = np.arange(len(windows)) % 4 == 0
    return [windows[chosen if part == "calibrate" else ~chosen]]


# --- pictures -------------------------------------------------------------------------------------------------


def faces(part):
    """Ultraface: ImageNet's sample pictures at 320x240, the sides mirrored outward, (x - 127) / 128. One in five
    calibrates; of the others 100 measure."""
    source = common.WORK / "data" / "pictures.yaml"
    source.write_text("kind: images\npath: ${ESPL_ASSETS}/data/imagenet-sample-256.tar\nlabels: dev/labels.txt\n"
                      "channels: 3\ncrop: 256\nmean: [127]\nstd: [128]\n")
    pictures = common.Samples(str(source)).arrays[0]
    chosen = [i for i in range(len(pictures)) if (i % 5 == 0) == (part == "calibrate")][:100]
    return [np.stack([np.pad(pictures[i][:, 8:248], ((0, 0), (0, 0), (32, 32)), "reflect") for i in chosen])]


# --- as data sets -----------------------------------------------------------------------------------------------

SOUNDS = {"kws": (kws, 200), "wakeword": (wakeword, 120), "dtln": (dtln, 400)}
INPUTS = {"dtln": ("input_2", "input_3")}


def make(spec, folder):
    """Writes the arrays and the YAML file of NAME:calibrate or NAME:test and returns the file."""
    name, part = spec.split(":")
    target = folder / f"{name}-{part}.yaml"
    if target.exists():
        return target
    folder.mkdir(parents=True, exist_ok=True)
    if name in SOUNDS:
        recorder, count = SOUNDS[name]
        arrays = recorder(np.random.default_rng(1 if part == "calibrate" else 2), count)
    else:
        arrays = {"ad": ad, "faces": faces}[name](part)
    text = "kind: npy\n"
    if len(arrays) > 1:
        text += "inputs:\n"
    for i, array in enumerate(arrays):
        file = folder / f"{name}-{part}-{i}.npy"
        np.save(file, array.astype(np.float32))
        text += f"path: {file.name}\n" if len(arrays) == 1 else f"- {{name: {INPUTS[name][i]}, path: {file.name}}}\n"
    target.write_text(text)
    return target
