"""Unlike animals: species, build, coat, dye marks, bald patches, ear tags, implants."""

from __future__ import annotations

import numpy as np

from tailor_assets.compute.simulation.rodent import COATS, Build, Rodent, coat_luma
from tailor_assets.compute.simulation.textures import value_noise, ycc
from tailor_assets.compute.simulation.view import View

_DYES = [(20, 20, 22), (40, 60, 150), (170, 40, 50), (30, 110, 60), (190, 160, 40), (90, 40, 110)]


def choose_build(rng: np.random.Generator, species: str, dark: bool) -> Build:
    """Proportions of one animal of ``species``, "mouse" or "rat", young or old, lean or fat.

    ``dark`` animals often have dark skin too.
    """
    bare = rng.uniform(0.3, 1.0) if dark else rng.uniform(0.75, 1.1)
    if species == "rat":
        return Build(
            head=rng.uniform(0.74, 0.9),
            head_width=rng.uniform(0.76, 0.9),
            girth=rng.uniform(0.78, 1.05),
            ears=rng.uniform(0.7, 0.9),
            tail=rng.uniform(1.0, 1.5),
            bare=bare,
        )
    return Build(
        head=rng.uniform(0.92, 1.08),
        head_width=rng.uniform(0.92, 1.08),
        girth=rng.uniform(0.86, 1.12),
        ears=rng.uniform(0.85, 1.2),
        tail=rng.uniform(0.75, 1.25),
        bare=bare,
    )


def choose_coat(rng: np.random.Generator, species: str) -> str:
    """A coat as laboratories keep them: black mice, white and hooded rats, and the others."""
    shares = [0.12, 0.36, 0.1, 0.1, 0.07, 0.25] if species == "rat" else None
    return str(rng.choice(COATS, p=shares or [0.42, 0.2, 0.14, 0.1, 0.1, 0.04]))


def coat_color(rng: np.random.Generator, coat: str, infrared: bool) -> np.ndarray:
    """Y, Cb, Cr of one animal's fur: no two of a strain are quite alike, nor two cameras."""
    luma = coat_luma(coat, infrared) * rng.uniform(0.85, 1.12)
    if coat in ("black", "brown"):
        luma = luma * rng.uniform(0.6, 1.25)
    tones = {"agouti": (110, 95, 77), "brown": (96, 70, 54), "black": (34, 32, 32)}
    tint = ycc(tones.get(coat, (228, 225, 220) if coat in ("white", "hooded") else (112, 112, 116)))
    if coat == "white" and rng.random() < 0.07:  # hairless
        tint = ycc((214, 162, 150))
    color = tint * (luma / float(tint[0]))
    if infrared:
        color[1:] = 0
    return np.minimum(color, 246).astype(np.float32)


def make_individual(
    rng: np.random.Generator,
    *,
    species: str,
    coat: str,
    color: np.ndarray,
    body_length: float,
    infrared: bool,
    view: View,
) -> Rodent:
    """One animal with its marks. ``color`` as from ``coat_color``."""
    rodent = Rodent(
        rng,
        coat,
        body_length,
        infrared,
        build=choose_build(rng, species, dark=float(color[0]) < 100),
        color=color,
        view=view,
    )
    s, d = rodent.body_grid()
    shape = (d.shape[0], s.shape[1])
    scale = shape[1] / float(s[0, -1] - s[0, 0])
    if rng.random() < 0.07:  # pied: large patches of another colour
        patches = value_noise(rng, *shape, 0.22 * scale, 2)
        other = ycc((225, 221, 214)) if float(color[0]) < 120 else ycc((52, 46, 44))
        rodent.dye(_unlit(other, infrared), np.clip((patches - rng.uniform(0, 0.8)) * 6, 0, 1))
    if rng.random() < 0.09:  # barbered or shaved
        spot_s, spot_d = rng.uniform(0.1, 0.75), rng.normal(0, 0.07)
        reach = np.hypot(
            (s - spot_s) / rng.uniform(0.05, 0.16), (d - spot_d) / rng.uniform(0.04, 0.1)
        )
        ragged = reach + 0.15 * value_noise(rng, *shape, 0.05 * scale, 2)
        skin = ycc((188, 150, 140))
        rodent.dye(_unlit(skin, infrared), 0.8 * np.clip((1 - ragged) * 4, 0, 1))
    if rng.random() < 0.16:  # dye, to tell animals apart
        dye = ycc(_DYES[int(rng.integers(len(_DYES)))])
        if float(color[0]) < 70:
            dye = ycc((210, 206, 190)) if rng.random() < 0.7 else ycc((150, 140, 60))
        cover: np.ndarray = np.zeros(shape, np.float32)
        for _ in range(int(rng.integers(1, 4))):
            at = rng.uniform(0.05, 0.68)
            if rng.random() < 0.5:
                band = np.abs(s - at) < rng.uniform(0.015, 0.05)
                cover = np.maximum(cover, band * (np.abs(d) < rng.uniform(0.05, 0.25)))
            else:
                spot = np.hypot(s - at, d - rng.normal(0, 0.05)) < rng.uniform(0.02, 0.07)
                cover = np.maximum(cover, spot * 1.0)
        worn = np.clip(0.8 + 0.3 * value_noise(rng, *shape, 0.03 * scale, 2), 0.2, 1)
        rodent.dye(_unlit(dye, infrared), (cover * worn).astype(np.float32))
    if rng.random() < 0.08:  # ear tag
        side = rng.choice([-1, 1])
        spot = np.hypot(s - 0.765, d - side * 0.135) < rng.uniform(0.012, 0.025)
        rodent.dye(_unlit(ycc((222, 220, 205)), infrared), spot.astype(np.float32))
    return rodent


def wear_implant(rng: np.random.Generator, rodent: Rodent) -> None:
    """A cap of cement with a connector between the ears."""
    s, d = rodent.body_grid()
    reach = np.maximum(np.abs(s - 0.78) / 0.05, np.abs(d) / 0.05)
    tone = [(225, 220, 214), (50, 50, 54), (190, 120, 120)][int(rng.integers(3))]
    rodent.dye(ycc(tone), np.clip((1.3 - np.hypot((s - 0.78) / 0.06, d / 0.06)) * 4, 0, 1))
    rodent.dye(ycc((30, 30, 34)), 0.8 * (reach < 0.45).astype(np.float32))


def _unlit(color: np.ndarray, infrared: bool) -> np.ndarray:
    """Under infrared light dyes are grey and weaker."""
    return np.array([0.4 * color[0] + 70, 0, 0], np.float32) if infrared else color
