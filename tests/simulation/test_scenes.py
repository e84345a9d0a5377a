from __future__ import annotations

import numpy as np
import pytest

from clipmused_bids.simulation.scenes import (
    CATEGORIES,
    COLOURS,
    PLACES,
    Scene,
    SceneObject,
    captions,
    draw_scenes,
    label_matrix,
    render,
)


def test_the_same_seed_gives_the_same_scenes_and_another_seed_others() -> None:
    first, again, other = draw_scenes(20, seed=1), draw_scenes(20, seed=1), draw_scenes(20, seed=2)
    assert first == again
    assert first != other
    np.testing.assert_array_equal(render(first[0]), render(again[0]))
    assert captions(first[0]) == captions(again[0])


def test_a_scene_does_not_depend_on_how_many_are_drawn() -> None:
    assert draw_scenes(30, seed=5)[:10] == draw_scenes(10, seed=5)


def test_captions_name_every_object_and_the_place_and_nothing_else() -> None:
    for scene in draw_scenes(100, seed=3):
        for sentence in captions(scene, n_captions=3):
            words = sentence.replace(",", "").split()
            assert {word for word in words if word in CATEGORIES} == {item.category for item in scene.objects}
            assert sentence.endswith(PLACES[scene.place][3])
            assert {word for word in words if word in COLOURS} <= {item.colour for item in scene.objects}


def test_labels_are_the_objects() -> None:
    scenes = draw_scenes(50, seed=4)
    labels = label_matrix(scenes)
    for row, scene in zip(labels, scenes, strict=True):
        assert {CATEGORIES[c] for c in np.flatnonzero(row)} == {item.category for item in scene.objects}


def test_there_are_ten_categories_or_more_and_none_is_rare() -> None:
    prevalence = label_matrix(draw_scenes(2000, seed=6)).mean(axis=0)
    assert len(CATEGORIES) >= 10
    assert prevalence.min() > 0.08
    assert prevalence.max() < 0.4


def test_labels_follow_places() -> None:
    scenes = draw_scenes(2000, seed=7)
    labels, places = label_matrix(scenes), np.array([scene.place for scene in scenes])
    moon = labels[:, CATEGORIES.index("moon")]
    night = places == [place[0] for place in PLACES].index("night")
    assert moon[night].mean() > 2 * moon[~night].mean()


@pytest.mark.parametrize("category", CATEGORIES)
def test_an_object_is_painted_where_it_is_and_in_its_colour(category: str) -> None:
    empty = Scene(place=5, objects=(), seed=9)
    item = SceneObject(category, "yellow", x=0.7, y=0.3, size=0.2)
    before, after = (render(s).astype(float) for s in (empty, Scene(place=5, objects=(item,), seed=9)))
    rows, columns = np.nonzero(np.abs(after - before).max(axis=2) > 20)
    assert 0.05 < len(rows) / (0.4 * 64) ** 2 < 0.95
    assert abs(rows.mean() / 64 - 0.3) < 0.08
    assert abs(columns.mean() / 64 - 0.7) < 0.08
    assert rows.min() >= 0.1 * 64 - 1
    assert rows.max() <= 0.5 * 64 + 1
    painted = after[rows, columns].mean(axis=0)
    assert painted[0] > painted[2] + 40  # yellow: much red, little blue


def test_two_categories_never_look_alike() -> None:
    scenes = [Scene(2, (SceneObject(name, "red", 0.5, 0.5, 0.35),), seed=1) for name in CATEGORIES]
    pictures = np.stack([render(scene) for scene in scenes]).astype(float).reshape(len(CATEGORIES), -1)
    distance = np.abs(pictures[:, None] - pictures[None]).mean(axis=2)
    assert distance[np.triu_indices(len(CATEGORIES), k=1)].min() > 4
