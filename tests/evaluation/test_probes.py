"""Probes: their classifiers, and how a setting is chosen."""

import numpy as np
import pytest
import torch

from clipedu.evaluation.probes import Sample, accuracy, build_probes, cosine_distance, nearest_neighbours, train_probe
from clipedu.geometry import build_geometry
from clipedu.utils.errors import ClipeduError
from tests.evaluation.spaces import noise

CLASSES, WIDTH = 5, 8


def blobs(rows, seed=0, spread=1.0, scale=1.0):
    labels = torch.arange(rows) % CLASSES
    x = scale * (3 * noise(CLASSES, WIDTH, seed=100)[labels] + spread * noise(rows, WIDTH, seed=seed))
    return Sample(x, labels, noise(rows, CLASSES, seed=seed + 1))


def classify(name, train, test, held=None):
    return [train_probe(probe, train, held)[0](test) for probe in build_probes([name])]


@pytest.mark.parametrize("name", ["linear", "knn", "gda"])
def test_separated_classes_are_told_apart(name):
    train, test = blobs(60), blobs(40, seed=9, spread=0.5)
    scores = classify(name, train, test)[0]
    assert scores.shape == (40, CLASSES) and (scores.argmax(1) == test.labels).all()


def test_the_linear_probe_does_not_depend_on_scale_and_origin():
    train, test = blobs(60, spread=3), blobs(40, seed=9, spread=3)
    (one,) = classify("linear", train, test)
    moved = [Sample(1000 * x.features + 50, x.labels, x.zero_shot) for x in (train, test)]
    (other,) = classify("linear", *moved)
    assert torch.allclose(one, other, atol=1e-3)


def test_the_linear_probe_is_scikit_learns():
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    train, test = blobs(60, spread=3), blobs(40, seed=9, spread=3)
    centred = StandardScaler(with_std=False).fit(train.features.numpy())
    x, new = (centred.transform(sample.features.numpy()) for sample in (train, test))
    length = np.sqrt((x**2).sum(1).mean())
    theirs = LogisticRegression(C=100.0, max_iter=1000).fit(x / length, train.labels.numpy())
    (ours,) = classify("linear", train, test)
    np.testing.assert_allclose(ours.exp().numpy(), theirs.predict_proba(new / length), atol=0.02)  # where it stops


@pytest.mark.parametrize("k", [1, 3, 5])
def test_neighbours_are_scikit_learns(k):
    from sklearn.neighbors import KNeighborsClassifier

    train, test = blobs(60, spread=4), blobs(40, seed=9, spread=4)
    (classifier,) = nearest_neighbours().fit(train, [k])
    theirs = KNeighborsClassifier(k, metric="cosine").fit(train.features.numpy(), train.labels.numpy())
    votes = theirs.predict_proba(test.features.numpy())
    decided = np.sort(votes)[:, -1] > np.sort(votes)[:, -2]
    assert decided.sum() > 20
    assert (classifier(test).argmax(1).numpy() == theirs.predict(test.features.numpy()))[decided].all()


def test_of_equal_votes_the_nearest_wins_and_a_large_k_is_all():
    x = torch.tensor([[1.0, 0.0], [0.9, 0.3], [0.0, 1.0]])
    train = Sample(x, torch.tensor([2, 0, 1]), torch.zeros(3, 3))
    new = Sample(torch.tensor([[1.0, 0.05], [0.1, 1.0]]), torch.tensor([2, 1]), torch.zeros(2, 3))
    for k in (1, 2, 3, 20):
        (classifier,) = nearest_neighbours().fit(train, [k])
        assert classifier(new).argmax(1).tolist() == [2, 1]


def test_neighbours_are_near_in_the_geometry_that_is_given():
    geometry = build_geometry("euclidean", 2)
    train = Sample(torch.tensor([[10.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 1]), torch.zeros(2, 2))
    new = Sample(torch.tensor([[1.0, 0.2]]), torch.tensor([1]), torch.zeros(1, 2))
    for distance, right in ((cosine_distance, 0), (geometry.distance, 1)):
        (probe,) = build_probes(["knn"], distance)
        assert train_probe(probe, train)[0](new).argmax(1).tolist() == [right]


def test_the_weight_of_gda_adds_it_to_the_zero_shot_logits():
    train, test = blobs(60), blobs(40, seed=9)
    alone, both = build_probes(["gda"])
    gda = alone.fit(train, [1.0])[0](test)
    for weight, found in zip((1e-3, 10.0), both.fit(train, (1e-3, 10.0)), strict=True):
        assert torch.allclose(found(test), test.zero_shot + weight * gda)


def test_a_setting_is_chosen_on_what_is_held_out():
    """The zero-shot logits are right there, so the smallest weight of the pictures wins, and the other way round."""
    train = blobs(60)
    held = torch.arange(60) >= 40
    _, probe = build_probes(["gda"])
    sure = torch.nn.functional.one_hot(train.labels, CLASSES) * 1e6
    for zero_shot, value in ((sure, 1e-4), (-sure.double() / 1e4, 100.0)):
        assert train_probe(probe, Sample(train.features, train.labels, zero_shot), held)[1] == value
    assert (
        train_probe(probe, train)[1] == probe.default == train_probe(probe, train, torch.zeros(60, dtype=torch.bool))[1]
    )


def test_the_final_classifier_is_trained_on_all():
    train = blobs(60, spread=4)
    held = torch.arange(60) >= 40
    (probe,) = build_probes(["knn"])
    classifier, k = train_probe(probe, train, held)
    (whole,) = probe.fit(train, [k])
    assert torch.equal(classifier(train), whole(train))


def test_accuracy_is_in_percent_and_the_first_of_equals_counts():
    sample = Sample(torch.zeros(4, 1), torch.tensor([0, 1, 0, 0]), torch.zeros(4, 2))
    assert accuracy(lambda found: found.zero_shot, sample) == 75.0


def test_an_unknown_probe():
    with pytest.raises(ClipeduError, match="unknown probe 'lienar'. Did you mean 'linear'"):
        build_probes(["knn", "lienar"])
