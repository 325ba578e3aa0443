"""FreeSurfer ids become tissue classes, and those become what the networks learn."""

from __future__ import annotations

from collections import Counter

import numpy as np
from training.anatomy import (
    CLASSES,
    STRUCTURES,
    TISSUES,
    Head,
    classes_of,
    structure_of,
    tissue_of,
)

from napari_dante.volume import LabelMap
from training import brain_tissue_t1

PAIRS = {2: 41, 3: 42, 4: 43, 5: 44, 7: 46, 8: 47, 10: 49, 11: 50, 12: 51, 13: 52, 17: 53}
PAIRS |= {18: 54, 26: 58, 28: 60, 30: 62, 31: 63}


def test_each_id_belongs_to_one_class_and_each_structure_has_one() -> None:
    ids = Counter(value for kind in CLASSES for value in kind.ids)
    assert max(ids.values()) == 1
    assert set(structure_of().tolist()) == set(range(len(STRUCTURES) + 1))
    assert set(tissue_of().tolist()) == set(range(len(TISSUES) + 1))


def test_left_and_right_are_one() -> None:
    of = {value: kind for kind in CLASSES for value in kind.ids}
    assert all(of[left] is of[right] for left, right in PAIRS.items())


def test_tissues_are_those_of_the_first_starter() -> None:
    of = {value: kind.tissue for kind in CLASSES for value in kind.ids}
    theirs = {value: k for k, ids in brain_tissue_t1.TISSUES.items() for value in ids}
    assert {value: tissue for value, tissue in of.items() if tissue} == theirs


def test_a_structure_has_the_name_of_its_class() -> None:
    by_name = {kind.name: kind.structure for kind in CLASSES}
    assert [by_name[name] for name in STRUCTURES] == list(range(1, len(STRUCTURES) + 1))


def test_only_bone_and_soft_tissue_are_split(labels: LabelMap) -> None:
    classes = classes_of(labels.array)
    names = np.array([kind.name for kind in CLASSES])[classes]
    soft = {"skin", "fat", "muscle", "deep soft tissue"}
    assert set(names[labels.array == 258]) >= {"skin", "fat"}
    assert set(names[labels.array == 258]) <= soft
    assert set(names[labels.array == 165]) <= {"compact bone", "marrow"}
    for value in set(np.unique(labels.array).tolist()) - {165, 258}:
        assert len(set(names[labels.array == value])) == 1
    assert not soft & set(names[labels.array != 258])


def test_unknown_ids_are_air() -> None:
    assert not classes_of(np.full((3, 3, 3), 200, np.int16)).any()


def test_a_head_ends_in_air_and_is_centred_in_its_brain(head: Head) -> None:
    for axis in range(3):
        first, last = head.classes.take(0, axis), head.classes.take(-1, axis)
        assert not first.any()
        assert not last.any()
    kinds = {CLASSES[value].name for value in np.unique(head.classes[tuple(head.centres.T)])}
    assert kinds == {"cortex", "white matter", "lateral ventricle", "thalamus", "putamen"} | {
        "hippocampus"
    }
