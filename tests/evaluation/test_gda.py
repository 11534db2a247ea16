"""Gaussian discriminant analysis: scikit-learn's where the covariance has an inverse, the paper's estimate elsewhere."""

import numpy as np
import pytest
import torch

from clipedu.evaluation.gda import fit_gda
from clipedu.utils.errors import ClipeduError
from tests.evaluation.spaces import noise

CLASSES, WIDTH = 4, 7


def blobs(rows, seed=0, classes=CLASSES):
    labels = torch.arange(rows) % classes
    return 2 * noise(classes, WIDTH, seed=seed + 100)[labels] + noise(rows, WIDTH, seed=seed), labels


@pytest.mark.parametrize("seed", range(3))
def test_the_plain_form_is_scikit_learns(seed):
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    (x, labels), (new, _) = blobs(200, seed), blobs(50, seed + 7)
    ours = fit_gda(x, labels, CLASSES, estimator="plain")
    theirs = LinearDiscriminantAnalysis(solver="lsqr").fit(x.numpy(), labels.numpy())
    np.testing.assert_allclose(ours.weight.numpy(), theirs.coef_, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(ours.bias.numpy(), theirs.intercept_, rtol=1e-8)
    np.testing.assert_allclose(ours.logits(new).softmax(1).numpy(), theirs.predict_proba(new.numpy()), atol=1e-10)


def test_the_plain_form_of_classes_of_different_sizes_takes_them_as_equally_frequent():
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    x, labels = blobs(120)
    keep = (labels > 0) | (torch.arange(120) < 40)
    x, labels = x[keep], labels[keep]
    ours = fit_gda(x, labels, CLASSES, estimator="plain")
    theirs = LinearDiscriminantAnalysis(solver="lsqr").fit(x.numpy(), labels.numpy())
    np.testing.assert_allclose(ours.weight.numpy(), theirs.coef_, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(
        ours.bias.numpy(), theirs.intercept_ - np.log(theirs.priors_) - np.log(CLASSES), rtol=1e-8
    )


@pytest.mark.parametrize("rows", [8, 12, 200])
def test_the_estimate_is_that_of_the_paper(rows):
    x, labels = blobs(rows)
    means = torch.stack([x[labels == c].mean(0) for c in range(CLASSES)])
    deviations = torch.cat([x[labels == c] - means[c] for c in range(CLASSES)])
    covariance = deviations.T.cov()
    inverse = WIDTH * torch.linalg.inv((rows - 1) * covariance + covariance.trace() * torch.eye(WIDTH, dtype=x.dtype))
    found = fit_gda(x, labels, CLASSES)
    weight = means @ inverse
    bias = np.log(1 / CLASSES) - torch.einsum("cf,fg,cg->c", means, inverse, means) / 2
    assert torch.allclose(found.weight, weight, rtol=1e-9) and torch.allclose(found.bias, bias, rtol=1e-9)


def test_one_picture_a_class_gives_the_nearest_mean():
    x, labels = blobs(CLASSES)
    new, _ = blobs(50, seed=3)
    found = fit_gda(x, labels, CLASSES).logits(new)
    assert found.isfinite().all() and torch.equal(found.argmax(1), torch.cdist(new, x).argmin(1))


def test_equal_pictures_are_no_division_by_zero():
    x = torch.ones(8, WIDTH)
    for rows in (8, CLASSES):
        assert fit_gda(x[:rows], torch.arange(rows) % CLASSES, CLASSES).logits(x).isfinite().all()


def test_what_cannot_be_fitted_is_said():
    x, labels = blobs(12)
    with pytest.raises(ClipeduError, match="each of 5 classes needs a picture"):
        fit_gda(x, labels, 5)
    with pytest.raises(ClipeduError, match="each of 3 classes needs a picture"):
        fit_gda(x, labels, 3)
    with pytest.raises(ClipeduError, match="unknown estimator 'lda'.*ks, plain"):
        fit_gda(x, labels, CLASSES, estimator="lda")
