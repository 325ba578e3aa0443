"""How to adapt a model, as frozen values that travel as JSON.

Torch-free: the viewer's process builds recipes, the worker follows them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, ClassVar, Literal, get_args

from napari_dante.errors import TeachError
from napari_dante.model.low_rank import LowRank, Role, one_of

__all__ = [
    "RECIPES",
    "Adapter",
    "Auto",
    "DecoderOnly",
    "Dimensions",
    "EncoderLoRA",
    "FromScratch",
    "FullFineTuning",
    "GradualUnfreezing",
    "LoRA",
    "NetworkChoice",
    "Recipe",
    "Training",
    "recipe_from_json",
    "recipe_to_json",
    "recipe_with",
]

Augmentation = Literal["none", "mild", "strong"]
Device = Literal["auto", "cpu", "cuda", "mps"]
NetworkChoice = Literal["auto", "UNet", "DynUNet", "SegResNet"]
Dimensions = Literal["auto", "2", "3"]


@dataclass(frozen=True)
class Training:
    """What every method shares.

    Attributes
    ----------
    steps
        Optimiser steps at most.
    batch
        Patches in a step.
    learning_rate
        Peak of a linear warm-up and cosine decay (AdamW).
    weight_decay
        Decoupled weight decay.
    check_every
        Steps between two looks at the exam slices.
    patience
        Looks without improvement after which the run ends.
    augmentation
        Strength of the MR augmentation.
    replay
        Patches of earlier cases that are rehearsed in each step beside the batch, where the
        job has such cases, so that the model does not forget them.
    distillation
        Weight with which the untrusted voxels are held to what the old model says of them.
        It keeps the model from forgetting, but also from unlearning what was wrong.
    device
        ``"auto"`` takes a GPU when there is one.
    seed
        The same job on the same device gives the same weights.
    """

    steps: int = 120
    batch: int = 2
    learning_rate: float = 3e-3
    weight_decay: float = 1e-4
    check_every: int = 20
    patience: int = 4
    augmentation: Augmentation = "mild"
    replay: int = 1
    distillation: float = 0.0
    device: Device = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "check_every", "patience", "learning_rate"):
            if not 0 < getattr(self, name) < math.inf:
                raise TeachError(f"'{name}' must be greater than zero.")
        for name in ("replay", "distillation"):
            if not 0 <= getattr(self, name) < math.inf:
                raise TeachError(f"'{name}' must not be below zero.")
        one_of("augmentation", self.augmentation, Augmentation)
        one_of("device", self.device, Device)


@dataclass(frozen=True, kw_only=True)
class LoRA(LowRank):
    """Low-rank adaptation of every convolution (Hu et al., ICLR 2022).

    Attributes
    ----------
    rank, alpha, scaling, layout
        See :class:`napari_dante.model.low_rank.LowRank`.
    targets
        Parts of the network that are adapted; the others stay as they are, except that
        the head always learns: where it is not a target, it is trained whole.
    train_norms
        Train the normalisation layers, activations and biases of the targets too.
    """

    method: ClassVar[str] = "lora"
    title: ClassVar[str] = "LoRA"

    targets: tuple[Role, ...] = get_args(Role)
    train_norms: bool = True
    training: Training = field(default_factory=lambda: Training(learning_rate=6e-3))

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.targets:
            raise TeachError("'targets' must name a part of the network.")
        for target in self.targets:
            one_of("targets", target, Role)


@dataclass(frozen=True)
class GradualUnfreezing:
    """Train the output end first and open earlier stages on a schedule.

    Attributes
    ----------
    start
        Share of the parameters, counted from the output end, that is open at the first
        step.
    full_at
        Share of the steps after which everything is open; groups open evenly until then.
    decay
        Learning rate of each stage relative to the next one towards the output
        (Howard & Ruder 2018).
    """

    method: ClassVar[str] = "unfreeze"
    title: ClassVar[str] = "Gradual unfreezing"

    start: float = 0.2
    full_at: float = 0.4
    decay: float = 0.9
    training: Training = field(default_factory=Training)

    def __post_init__(self) -> None:
        if not (0 <= self.start <= 1 and 0 < self.full_at <= 1 and 0 < self.decay <= 1):
            raise TeachError("'start', 'full_at' and 'decay' must lie between zero and one.")


@dataclass(frozen=True)
class FullFineTuning:
    """Train every weight from the first step.

    Attributes
    ----------
    decay
        Learning rate of each stage of the network relative to the next one towards the
        output (discriminative fine-tuning, Howard & Ruder, ACL 2018); 1 for a single one.
    """

    method: ClassVar[str] = "full"
    title: ClassVar[str] = "Full fine-tuning"

    decay: float = 1.0
    training: Training = field(default_factory=Training)

    def __post_init__(self) -> None:
        if not 0 < self.decay <= 1:
            raise TeachError("'decay' must lie between zero and one.")


@dataclass(frozen=True)
class DecoderOnly:
    """Leave the encoder as it is, its normalisation too, and train decoder and head.

    A step computes no gradient for the encoder and keeps nothing of it in memory.
    """

    method: ClassVar[str] = "decoder"
    title: ClassVar[str] = "Decoder only"

    training: Training = field(default_factory=lambda: Training(learning_rate=1e-2))


@dataclass(frozen=True, kw_only=True)
class EncoderLoRA(LowRank):
    """Low-rank updates in the encoder, decoder and head trained whole.

    The advice of FSEFT for structures that the model has never seen (Silva-Rodríguez et
    al., Med. Image Anal. 2025).

    Attributes
    ----------
    rank, alpha, scaling, layout
        Of the encoder; see :class:`napari_dante.model.low_rank.LowRank`.
    train_norms
        Train the encoder's normalisation layers, activations and biases too.
    """

    method: ClassVar[str] = "lora-decoder"
    title: ClassVar[str] = "LoRA and whole decoder"

    rank: int = 4
    alpha: float = 8.0
    train_norms: bool = True
    training: Training = field(default_factory=lambda: Training(learning_rate=6e-3))


@dataclass(frozen=True)
class Adapter:
    """Leave the network as it is and train a small adapter before its head, and the head.

    The black-box adapter of FSEFT (Silva-Rodríguez et al., Med. Image Anal. 2025). The
    frozen network's features are computed once and stored, so that a step is cheap and
    cannot be augmented. It corrects a mild drift of a structure that the model knows; it
    cannot bring back what the frozen features do not show, as after a change of contrast.

    Attributes
    ----------
    hidden
        Channels inside a new adapter; a model that has one already keeps its width.
    linear_probe
        Train the head only; the result has the layout of the model that it came from.
    """

    method: ClassVar[str] = "adapter"
    title: ClassVar[str] = "Black-box adapter"

    hidden: int = 32
    linear_probe: bool = False
    training: Training = field(default_factory=lambda: Training(augmentation="none"))

    def __post_init__(self) -> None:
        if self.hidden < 1:
            raise TeachError("'hidden' must be greater than zero.")
        if self.training.augmentation != "none":
            raise TeachError(
                "The black-box adapter learns from stored features, which cannot be "
                "augmented: 'augmentation' must be none."
            )
        if self.training.distillation:
            raise TeachError("The black-box adapter has no use for 'distillation'.")


@dataclass(frozen=True)
class FromScratch:
    """Forget the model and train a fresh network that is fitted to the cases.

    Its size and shape are chosen when the job starts, for the device that runs it; see
    :mod:`napari_dante.adapt.configure`. ``batch`` is the least number of patches in a
    step: more are taken where a step would otherwise leave the device idle.

    Attributes
    ----------
    network
        A MONAI network, or ``"auto"``.
    dimensions
        ``"3"`` for windows of the volume, ``"2"`` for its slices one by one, or ``"auto"``.
    memory
        GiB that a step may take; 0 leaves it to the device.
    """

    method: ClassVar[str] = "scratch"
    title: ClassVar[str] = "From scratch"

    network: NetworkChoice = "auto"
    dimensions: Dimensions = "auto"
    memory: float = 0.0
    training: Training = field(
        default_factory=lambda: Training(
            steps=1000, augmentation="strong", check_every=50, patience=20
        )
    )

    def __post_init__(self) -> None:
        one_of("network", self.network, NetworkChoice)
        one_of("dimensions", self.dimensions, Dimensions)
        if not 0 <= self.memory < math.inf:
            raise TeachError("'memory' must not be less than zero.")
        if self.training.distillation:
            raise TeachError("From scratch there is no old model for 'distillation'.")


@dataclass(frozen=True)
class Auto:
    """Choose the method from what there is to learn from; see :mod:`napari_dante.adapt.auto`.

    Attributes
    ----------
    minutes
        What the training steps may take; 0 leaves the number of steps to the method.
    training
        Device, seed, batch, replay, distillation and weight decay are kept; the rest
        belongs to the method that is chosen.
    """

    method: ClassVar[str] = "auto"
    title: ClassVar[str] = "Automatic"

    minutes: float = 0.0
    training: Training = field(default_factory=Training)

    def __post_init__(self) -> None:
        if not 0 <= self.minutes < math.inf:
            raise TeachError("'minutes' must not be below zero.")


Recipe = (
    Auto
    | LoRA
    | GradualUnfreezing
    | FullFineTuning
    | DecoderOnly
    | EncoderLoRA
    | Adapter
    | FromScratch
)
RECIPES: dict[str, type[Recipe]] = {kind.method: kind for kind in get_args(Recipe)}


def recipe_to_json(recipe: Recipe) -> dict[str, Any]:
    """Return plain JSON data; :func:`recipe_from_json` gives an equal recipe back."""
    return {"method": recipe.method, **asdict(recipe)}


def recipe_from_json(data: Mapping[str, Any]) -> Recipe:
    """Read what :func:`recipe_to_json` wrote.

    Raises
    ------
    TeachError
        If the method or an option is unknown, or a value is out of range.
    """
    values = dict(data)
    kind = _kind(str(values.pop("method", "")))
    try:
        training = Training(**values.pop("training"))
        options: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in values.items()
        }
        return kind(training=training, **options)
    except (KeyError, TypeError) as error:
        raise TeachError("The recipe of this job is damaged.", detail=repr(error)) from error


def recipe_with(method: str, options: Mapping[str, str]) -> Recipe:
    """Return a method's default recipe changed by ``key=value`` options, given as text.

    A key is a field of the method or of :class:`Training`.

    Raises
    ------
    TeachError
        If the method or a key is unknown, or a value has the wrong form.
    """
    recipe = _kind(method)()
    for key, text in options.items():
        owner: Recipe | Training = recipe
        if key in {item.name for item in fields(Training)}:
            owner = recipe.training
        elif key == "training" or key not in {item.name for item in fields(recipe)}:
            raise TeachError(f"'{key}' is not an option of the recipe '{method}'.")
        changed = replace(owner, **{key: _parsed(key, text, getattr(owner, key))})
        recipe = replace(recipe, training=changed) if isinstance(changed, Training) else changed
    return recipe


def _parsed(key: str, text: str, old: Any) -> Any:  # noqa: ANN401
    if isinstance(old, bool):
        if text.lower() not in {"true", "false"}:
            raise TeachError(f"'{key}' must be true or false.")
        return text.lower() == "true"
    if isinstance(old, tuple):
        return tuple(part.strip() for part in text.split(","))
    try:
        return type(old)(text)
    except ValueError:
        raise TeachError(f"'{text}' is not a value for '{key}'.") from None


def _kind(method: str) -> type[Recipe]:
    if method not in RECIPES:
        known = ", ".join(RECIPES)
        raise TeachError(f"There is no recipe '{method}'; the recipes are: {known}.")
    return RECIPES[method]
