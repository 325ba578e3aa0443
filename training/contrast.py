"""How bright each tissue class is: the signal equation with random settings, or anything.

Relaxation times in ms at 3 T, rounded from Bojorquez et al. (Magn. Reson. Imaging 2017)
and Stanisz et al. (Magn. Reson. Med. 2005); proton density relative to water.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from training.anatomy import CLASSES

__all__ = ["SEQUENCES", "Relaxation", "Sequence", "appearance", "relaxation", "signal"]

Kind = Literal["inversion", "spoiled", "spin"]

# T1, T2, T2*, proton density
_GREY, _DEEP, _FLUID = (1400, 95, 60, 0.82), (1250, 82, 48, 0.79), (4000, 1000, 700, 1.0)
TIMES: dict[str, tuple[float, float, float, float]] = {
    "air": (1000, 50, 20, 0.0),
    "white matter": (850, 70, 50, 0.70),
    "cortex": _GREY,
    "lateral ventricle": _FLUID,
    "cerebellar white matter": (900, 72, 50, 0.71),
    "cerebellar cortex": (1350, 92, 58, 0.82),
    "thalamus": (1150, 80, 50, 0.77),
    "caudate": (1320, 88, 50, 0.80),
    "putamen": (1220, 80, 45, 0.79),
    "pallidum": (950, 60, 30, 0.73),
    "third ventricle": _FLUID,
    "fourth ventricle": _FLUID,
    "brain stem": (980, 76, 50, 0.73),
    "hippocampus": (1420, 98, 58, 0.82),
    "amygdala": (1420, 98, 58, 0.82),
    "accumbens": (1320, 92, 52, 0.81),
    "ventral DC": (1050, 74, 40, 0.75),
    "inferior lateral ventricle": _FLUID,
    "CSF": (3800, 800, 500, 0.98),
    "choroid plexus": (2200, 220, 120, 0.92),
    "white matter lesion": (1350, 150, 80, 0.86),
    "vessel": (1700, 120, 50, 0.90),
    "optic chiasm": (950, 80, 45, 0.74),
    "eye": (4000, 1200, 800, 1.0),
    "compact bone": (400, 1, 0.5, 0.15),
    "marrow": (400, 110, 25, 0.75),
    "skin": (900, 40, 20, 0.60),
    "fat": (380, 125, 40, 0.95),
    "muscle": (1350, 40, 25, 0.80),
    "deep soft tissue": _DEEP,
}


@dataclass(frozen=True)
class Relaxation:
    """T1, T2, T2* in ms and proton density, one number for each tissue class."""

    t1: NDArray[np.float64]
    t2: NDArray[np.float64]
    t2_star: NDArray[np.float64]
    density: NDArray[np.float64]


@dataclass(frozen=True)
class Sequence:
    """The settings of a scan: times in ms, the flip angle in degrees.

    ``inversion`` is an inversion recovery read out after the echo time, ``spoiled`` a
    spoiled gradient echo (decays with T2*), ``spin`` a spin echo (decays with T2).
    """

    kind: Kind
    repetition: float
    echo: float
    inversion: float = 0.0
    flip: float = 90.0
    spin: bool = False


SEQUENCES: dict[str, Sequence] = {
    "T1": Sequence("inversion", 2300, 3, inversion=900),
    "T1 spin echo": Sequence("spin", 550, 12),
    "T1 gradient echo": Sequence("spoiled", 20, 5, flip=25),
    "T2": Sequence("spin", 4500, 95),
    "PD": Sequence("spin", 3500, 15),
    "FLAIR-like": Sequence("inversion", 9000, 110, inversion=2500, spin=True),
    "T2*": Sequence("spoiled", 650, 25, flip=20),
}


def relaxation() -> Relaxation:
    """Return the mean properties of the tissue classes."""
    return Relaxation(*np.array([TIMES[kind.name] for kind in CLASSES]).T)


def signal(tissue: Relaxation, sequence: Sequence) -> NDArray[np.float64]:
    """Return the brightness of each tissue class by the signal equation, at most 1."""
    decay = np.exp(
        -sequence.echo / (tissue.t2 if sequence.kind == "spin" or sequence.spin else tissue.t2_star)
    )
    recovery = np.exp(-sequence.repetition / tissue.t1)
    if sequence.kind == "inversion":
        steady = np.abs(1 - 2 * np.exp(-sequence.inversion / tissue.t1) + recovery)
    elif sequence.kind == "spoiled":
        angle = np.deg2rad(sequence.flip)
        steady = np.sin(angle) * (1 - recovery) / (1 - np.cos(angle) * recovery)
    else:
        steady = 1 - recovery
    found = tissue.density * steady * decay
    return found / max(float(found.max()), 1e-9)  # type: ignore[no-any-return]


def appearance(random: np.random.Generator) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Draw the mean brightness and the deviation of each tissue class.

    Most draws follow the signal equation with random settings; one in ten gives one
    brightness to fluid, grey and white matter with some variation inside of each, and one in
    twenty any brightness to any class (Billot et al., Med. Image Anal. 2023).
    """
    count = len(CLASSES)
    choice = random.random()
    if choice < 0.85:
        mean = signal(_varied(random), _drawn(random))
        spread = random.uniform(0.005, 0.04, count)
    elif choice < 0.95:
        mean, spread = _grouped(random), random.uniform(0.005, 0.05, count)
    else:
        mean, spread = random.uniform(0, 1, count), random.uniform(0.0, 0.08, count)
    air = random.uniform(0, 0.12) if random.random() < 0.3 else 0.0
    mean[0], spread[0] = air, 0.0
    return mean.astype(np.float32), spread.astype(np.float32)


def _varied(random: np.random.Generator) -> Relaxation:
    """Draw relaxation times around the mean ones: field strength, age, biology."""
    mean, count = relaxation(), len(CLASSES)
    field = random.uniform(0.6, 1.1)
    brain = random.normal(0, 0.06, (4, count))
    outside = random.normal(0, 0.35, (4, count))
    known = np.array([bool(kind.structure or kind.tissue) for kind in CLASSES])
    noise = np.where(known, brain, outside)
    return Relaxation(
        mean.t1 * field * np.exp(noise[0]),
        mean.t2 * random.uniform(0.85, 1.3) * np.exp(noise[1]),
        mean.t2_star * random.uniform(0.8, 1.5) * np.exp(noise[2]),
        mean.density * np.exp(0.5 * noise[3]),
    )


def _drawn(random: np.random.Generator) -> Sequence:
    """Draw a scan of a common kind."""
    uniform = random.uniform
    return (
        lambda: Sequence("inversion", uniform(1700, 2600), uniform(2, 6), uniform(650, 1150)),
        lambda: Sequence("spin", uniform(350, 800), uniform(7, 22)),
        lambda: Sequence("spoiled", uniform(7, 60), uniform(2, 9), flip=uniform(10, 60)),
        lambda: Sequence("spin", uniform(2500, 7000), uniform(60, 130)),
        lambda: Sequence("spin", uniform(2000, 6000), uniform(8, 40)),
        lambda: Sequence(
            "inversion", uniform(6000, 11000), uniform(70, 140), uniform(1900, 2700), spin=True
        ),
        lambda: Sequence("spoiled", uniform(300, 1000), uniform(12, 40), flip=uniform(10, 40)),
    )[random.integers(7)]()


def _grouped(random: np.random.Generator) -> NDArray[np.float64]:
    """Draw one brightness for each tissue and one for each class outside of the brain."""
    tissue = random.uniform(0, 1, 4)
    return np.array(
        [
            tissue[kind.tissue] + random.normal(0, 0.04) if kind.tissue else random.uniform(0, 1)
            for kind in CLASSES
        ]
    )
