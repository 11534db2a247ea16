# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Embedding geometry: sphere, plane, hyperboloid
#
# **Afterwards you can** write hyperbolic distance and entailment cones, train CLIP in three geometries, measure whether a space puts the
# generic near its root, and say when a modality gap is free.
#
# | | |
# |---|---|
# | Time | 90 minutes; of these, computing: 3 minutes on two CPU cores (not measured on a GPU) |
# | Disk | 15 MB, in the folder `runs/` beside this notebook |
# | Download | none |
# | Before this | `05_train.ipynb` |

# %% [markdown]
# ## 0. Settings
#
# Four runs from one seed: three geometries, and one with *cones* (section 5). Temperatures differ, as a distance is no
# cosine: on vectors of length 1, $-d^2$ at 0.1 is the cosine at 0.05.

# %%
import math

import matplotlib.pyplot as plt
import pandas
import torch

import clipedu
import clipedu.plots.geometry as plots

# %%
SCALE = "tiny"
base = clipedu.Experiment.preset(SCALE, batch_size=64, epochs=4, seed=0)
# fast: base = base.replace(train_size=640, epochs=1)
settings = {
    "cosine": {"geometry": "cosine"},
    "euclidean": {"geometry": "euclidean-squared", "temperature": 0.1},
    "lorentz": {"geometry": "lorentz"},
    "lorentz + cones": {"geometry": "lorentz", "entailment": 0.2},
}

# %% [markdown]
# ## 1. Three spaces
#
# What does an encoder's vector *mean*?
#
# - **cosine**: a direction, a point of the sphere; length is ignored (CLIP).
# - **euclidean**: a point; similarity is $-d^2$ (EuCLIP, arXiv:2409.13079).
# - **lorentz**: where to walk, and how far, from the *root* of hyperbolic space; similarity is $-d$ (MERU, arXiv:2304.09172).

# %%
runs = {name: clipedu.fit(base.replace(**changes)) for name, changes in settings.items()}

# %% [markdown]
# **What you should see:** TR@1 and IR@1 between 15 and 50 %, the euclidean run behind the others. (With one seed and one temperature
# each, this is no contest.)

# %%
table = pandas.DataFrame({name: run.metrics for name, run in runs.items()}).T
table[["tr@1", "ir@1", "top1", "modality_gap"]].round(2)

# %% [markdown]
# ## 2. Hyperbolic space by hand
#
# A point of the *hyperboloid* has space coordinates $x_s$ and a time coordinate $x_t$. The curvature is $-c$.
#
# $$x_t = \sqrt{1/c + \|x_s\|^2}, \qquad \langle x, y \rangle = x_s \cdot y_s - x_t y_t, \qquad
#     \cosh(\sqrt{c}\, d) = -c\, \langle x, y \rangle$$
#
# At the root, $x_s = 0$. A tangent vector $u$ there leads to the point at distance $\|u\|$:
#
# $$x_s = \frac{\sinh(\sqrt{c}\, \|u\|)}{\sqrt{c}\, \|u\|}\, u$$
#
# ### Exercise 1: the exponential map (easy, important, 6 minutes)
#
# Write that map. Mind the zero vector: it is the root.


# %% tags=["exercise"]
def expmap0(u, c):
    """Space coordinates [D] of the point where the tangent vector u [D] leads, at curvature -c."""
    ### BEGIN SOLUTION Take the length, and keep it from zero before you divide by it.
    a = math.sqrt(c) * u.norm().clamp(min=1e-12)
    return torch.sinh(a) / a * u
    ### END SOLUTION


# %% tags=["check"]
from clipedu.exercises import check_expmap0

check_expmap0(expmap0)

# %% [markdown]
# ### Exercise 2: the distance (medium, very important, 10 minutes)
#
# Solve the third formula for $d$. What does rounding do to a point and itself?


# %% tags=["exercise"]
def lorentz_distance(x, y, c):
    """Distance of two points, given by their space coordinates x and y [D], at curvature -c."""
    ### BEGIN SOLUTION Time parts, then -c <x, y>, then arcosh, which takes 1 or more.
    times = torch.sqrt(1 / c + x @ x) * torch.sqrt(1 / c + y @ y)
    argument = c * (times - x @ y)
    return torch.acosh(argument.clamp(min=1)) / math.sqrt(c)
    ### END SOLUTION


# %% tags=["check"]
from clipedu.exercises import check_lorentz_distance

check_lorentz_distance(lorentz_distance)

# %% [markdown]
# The library's `distance` takes tangent vectors, and keeps its digits far out:

# %%
geometry = clipedu.build_geometry("lorentz", dim=2)
for length in (0.1, 1.0, 5.0, 30.0):
    u = torch.tensor([[length, 0.0]])
    space = geometry.expmap0(u).norm().item()
    itself = geometry.distance(u, u).item()
    print(f"|u| = {length:4}: space part {space:.4g}, distance to itself {itself}")

# %% [markdown]
# What is such a space good for? Take two points at distance $r$ from the root, at right angles.
#
# **What you should see:** on the plane they are $\sqrt{2}\, r$ apart. In hyperbolic space it nears $2 r$, as if the way led through the
# root: so it is in a *tree*.

# %%
r = torch.linspace(0.05, 6, 60, dtype=torch.float64)
x, y = torch.stack([r, 0 * r], 1), torch.stack([0 * r, r], 1)
figure, ax = plt.subplots(figsize=(6, 3.2))
for name, dashes in (("euclidean", "--"), ("lorentz", "-")):
    space = clipedu.build_geometry(name, dim=2)
    ax.plot(r, space.distance(x, y).diagonal().detach() / r, dashes, label=name)
    ax.legend()
text = ax.set(xlabel="distance r of both from the root", ylabel="their distance, in units of r")

# %% [markdown]
# Near the root (small $\sqrt{c}\, r$) hyperbolic space is flat.
#
# ## 3. Radius
#
# The root is the place for what is generic. Does a model know? `embed_space` embeds 1,000 new pictures and their sentences. (A sphere
# has no root; its stand-in is the mean direction.)

# %%
from clipedu.evaluation.embedding_space import embed_space, norm_summary

pairs = clipedu.load_pairs("scenes", "val")
# fast: pairs = clipedu.load_pairs("scenes", "val", size=100)
spaces = {name: embed_space(run.model(), pairs) for name, run in runs.items()}

# %% [markdown]
# With the root at zero, distance to it is length. **Predict:** a sentence says less than its picture shows. Is it nearer?

# %%
space = spaces["lorentz"]
image, text = space.image.norm(dim=1), space.text.norm(dim=1)
print("median of pictures ", round(image.median().item(), 2))
print("median of sentences", round(text.median().item(), 2))
print("share of sentences that are nearer", (text < image).double().mean().item())

# %% [markdown]
# **What you should see:** without cones, hardly any sentence is nearer than its picture (0 to 15 %). With cones most are.

# %%
plots.plot_root_distances(spaces)

# %% [markdown]
# So here text inside, images outside did not come from hyperbolic space, but from the extra term of the loss.

# %%
rows = {name: norm_summary(s.geometry, s.image, s.text) for name, s in spaces.items()}
pandas.DataFrame(rows).round(2)

# %% [markdown]
# Among *sentences* there is another order. Each scene has a chain of captions, level 0 to level 5:

# %%
pairs.chain(0)

# %% [markdown]
# **What you should see:** the boxes rise with the level, in *all* four spaces, sphere included; rank correlations above 0.8.

# %%
plots.plot_generality(spaces)

# %% [markdown]
# Nobody asked for that. A likely reason: "a shape" fits every picture, so many pulls in many directions cancel.
#
# ### Exercise 3: rank correlation (medium, important, 10 minutes)
#
# The title's number is Spearman's: correlate the *ranks*. It has no unit, so spaces can be compared. Equal values share the mean of
# their ranks.


# %% tags=["exercise"]
def spearman(radius, level):
    """Rank correlation of two tensors [N]."""

    ### BEGIN SOLUTION Rank: how many are smaller, and half of the equal ones.
    def ranks(x):
        smaller = (x < x[:, None]).sum(1)
        equal = (x == x[:, None]).sum(1)
        return smaller + (equal + 1) / 2

    return torch.corrcoef(torch.stack([ranks(radius), ranks(level)]))[0, 1].item()
    ### END SOLUTION


# %% tags=["check"]
from clipedu.exercises import check_spearman

check_spearman(spearman)

# %% [markdown]
# ## 4. On a disk
#
# Distance to the root is true, direction is that of two main axes, all else is lost. The hyperbolic picture is the *Poincare
# disk*, whose rim is infinitely far.
#
# **What you should see:** dark (generic) inside, bright (specific) outside; in the hyperbolic disks all points in the inner half.

# %%
plots.plot_disk(spaces)

# %% [markdown]
# How curved is space where the points are? $\sqrt{c}\, r$ tells it. **What you should see:** between 0.4 and 0.9.

# %%
for name in ("lorentz", "lorentz + cones"):
    space = spaces[name]
    c, radius = space.geometry.curvature.item(), space.radius(space.text).median().item()
    print(f"{name}: c from 1 to {c:.2f}, median radius {radius:.2f}")
    print(f"    sqrt(c) r = {math.sqrt(c) * radius:.2f}")

# %% [markdown]
# Look it up in section 2's curve. This model has hyperbolic space, and lives in its flat middle. Before you credit a geometry, ask
# how much of it was used.
#
# ## 5. Cones
#
# "A star" is true of each red star, so these should lie *behind* it, seen from the root: in its cone, which is wide near the root
# and narrow far out.
#
# $$\text{aper}(x) = \arcsin \frac{2K}{\sqrt{c}\, \|x_s\|}$$
#
# ### Exercise 4: the half-aperture (easy, important, 6 minutes)
#
# Near the root the formula asks for a sine above 1. There the cone is a half-space.


# %% tags=["exercise"]
def half_aperture(x, K, c):
    """Half-aperture, in radians, of the cone at the point with space coordinates x [D]."""
    ### BEGIN SOLUTION A sine is at most 1: clamp it, then take its arcsine.
    sine = 2 * K / (math.sqrt(c) * x.norm())
    return torch.asin(sine.clamp(max=1)).item()
    ### END SOLUTION


# %% tags=["check"]
from clipedu.exercises import check_half_aperture

check_half_aperture(half_aperture)

# %% [markdown]
# The entailment loss adds $\lambda \max(0, \text{ext} - \text{aper})$: how far, in angle, a picture lies outside its sentence's cone.

# %%
for name in ("lorentz", "lorentz + cones"):
    space = spaces[name]
    outside = space.geometry.entailment(space.text, space.image, 0.1).detach().rad2deg()
    inside = (outside == 0).double().mean().item()
    print(f"{name}: {outside.mean():.0f} degrees outside, {100 * inside:.0f} % inside")

# %% [markdown]
# One $K$ means another width in each space. So now each gets the $K$ that makes half of its cones half-spaces. *Chance*: the same
# cones, with scenes of which the caption is false.
#
# **What you should see:** shares above chance; with cones, `cone_images` at least three times that of plain lorentz.

# %%
from clipedu.evaluation.hierarchy import hierarchy_scores

cones = {name: hierarchy_scores(spaces[name], pairs) for name in list(settings)[1:]}
pandas.DataFrame(cones).round(2)

# %% [markdown]
# ## 6. Traversals
#
# Walk from a picture to the root, and read the nearest caption:

# %%
row, space = 0, spaces["lorentz + cones"]
for share in (0.0, 0.2, 0.4, 0.6, 0.8, 1.0):
    point = space.geometry.geodesic(space.image[row], space.root, share)
    similarity = space.geometry.similarity(point[None], space.phrase)[0]
    print(f"{share}: {space.phrases[similarity.argmax()]}")

# %% [markdown]
# `walk_to_root` takes 50 steps, and lets the root itself stand among the captions.
#
# **What you should see:** a long caption first, `[ROOT]` last.

# %%
from clipedu.evaluation.traversals import walk_to_root

walks = {}
for name, s in spaces.items():
    walks[name] = walk_to_root(s.geometry, s.image[row], s.phrase, s.phrases, s.root)
plots.plot_traversal(walks, pairs.pixels(torch.tensor([row]))[0])

# %% [markdown]
# Is each stop *true* of the picture? Often not. One walk is an illustration; 20 are a measurement. When does the root take over?
#
# **What you should see:** without cones about half of the way, or earlier; with cones after two thirds: captions are there so far in.

# %%
for name, s in spaces.items():
    shares = []
    for row in range(20):
        stops = walk_to_root(s.geometry, s.image[row], s.phrase, s.phrases, s.root)
        shares += [stop.share for stop in stops if stop.caption == "[ROOT]"]
    print(f"{name}: the root takes over after {torch.tensor(shares).median():.2f} of the way")

# %% [markdown]
# ## 7. Maps
#
# PCA shows what is far apart, t-SNE what is close (or UMAP: `method="umap"`; its first map takes half a
# minute). **What you should see:** left, one cloud; right, islands of both colours.

# %%
plots.plot_maps(spaces["lorentz"])

# %% [markdown]
# ## 8. The modality gap
#
# The table of section 1 has the distance between mean picture and mean sentence: large in the cosine run, small in the others.
#
# ### Exercise 5: open a gap (medium, very important, 10 minutes)
#
# Move the means 1 or more apart, while CLIP's loss with $-d^2$ stays what it was. You may add columns.


# %% tags=["exercise"]
def open_gap(image, text):
    """Embeddings [N, any] with the same -d^2 loss as image and text [N, D], and a gap of 1 or more."""
    ### BEGIN SOLUTION Along which direction does a shift add the same to every d^2?
    new = torch.ones(len(image), 1, dtype=image.dtype)
    return torch.cat([image, new], 1), torch.cat([text, 0 * new], 1)
    ### END SOLUTION


# %% tags=["check"]
from clipedu.exercises import check_open_gap

check_open_gap(open_gap)

# %% [markdown]
# On our embeddings, shifted in a new column. **What you should see:** $-d^2$ does not feel the gap, $-d$ does.

# %%
image, text, index = spaces["euclidean"].image[:64], spaces["euclidean"].text[:64], torch.arange(64)
for name in ("euclidean-squared", "euclidean"):
    geometry = clipedu.build_geometry(name, dim=129)
    loss = clipedu.build_loss("clip", temperature=0.1, geometry=geometry).eval()
    for gap in (0.0, 1.0, 3.0):
        x = torch.nn.functional.pad(image, (0, 1), value=gap)
        y = torch.nn.functional.pad(text, (0, 1))
        print(f"{name}, gap {gap}: loss {loss(x, y, index).total.item():.4f}")

# %% [markdown]
# ## 9. The lab
#
# 1. Find a picture whose walk gets generic step by step. In which geometry?
# 2. Turn on the cones: which captions are gone? Raise $K$ until they are back.

# %%
from clipedu.widgets.geometry import GeometryLab

lab = GeometryLab(spaces, pairs)
lab

# %% tags=["fast"]
lab.space.value, lab.row.value, lab.min_radius.value = "lorentz + cones", 3, 0.3
assert lab.stops[-1].caption == "[ROOT]", lab.stops
lab.line.value

# %% [markdown]
# ## 10. Larger
#
# - `SCALE = "laptop"`, and other seeds: which statements survive?
# - `entailment=0.2` in the euclidean run: do cones need hyperbolic space?
#
# **Remember:** a geometry says what length means, the loss what it is used for. Compare cones at matched widths only, and report
# $\sqrt{c}\, r$.
