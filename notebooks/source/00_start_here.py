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
# # Start here
#
# **Afterwards you can** train a small CLIP on your own machine, read its loss and its similarity matrix, ask it for
# pictures in your own words, and say what its scores mean.
#
# | | |
# |---|---|
# | Time | 30 minutes; of these, computing: 1 minute on two CPU cores (not measured on a GPU) |
# | Disk | 10 MB, in the folder `runs/` beside this notebook |
# | Download | none |
# | Before this | nothing |
#
# **Shift + Enter** runs a cell. Stuck? Menu *Kernel*, *Restart Kernel and Run All Cells*.

# %% [markdown]
# ## 1. Is this machine ready?
#
# Every line should begin with `fine`.

# %%
import matplotlib.pyplot as plt
import torch

import clipedu
from clipedu import plots
from clipedu.utils.doctor import doctor

doctor()

# %% [markdown]
# What breaks most often is the pair torch and torchvision: upgrade only one, and you see `operator
# torchvision::nms does not exist`. Install both in one command, so that pip picks a pair.
#
# Widgets have two halves, in Python and in the browser. Move the slider: the number below should follow.

# %%
from clipedu.widgets.controls import slider_check

slider_check()

# %% [markdown]
# No slider, but *Error displaying widget: model not found*? The halves are out of step. Run `pip install --upgrade
# ipywidgets jupyterlab`, start JupyterLab again, reload this page. You can go on without.

# %% [markdown]
# ## 2. A first run
#
# CLIP learns from pairs of a picture and a sentence. These are drawn, not downloaded.
#
# **What you should see:** five scenes of one or two objects.

# %%
from textwrap import fill

pairs = clipedu.load_pairs("scenes", "train", size=5)
figure, axes = plt.subplots(1, 5, figsize=(11, 2.9))
for row, ax in enumerate(axes):
    ax.imshow(pairs.pixels(torch.tensor([row]))[0].permute(1, 2, 0))
    ax.set_title(fill(pairs.captions(row)[0], 22), fontsize=9)
    ax.axis("off")

# %% [markdown]
# An `Experiment` says everything about a run: here 4,000 scenes, three times, 64 in a batch.

# %%
experiment = clipedu.Experiment.preset("tiny", train_size=4_000, batch_size=64, epochs=3)
# fast: experiment = experiment.replace(train_size=640, epochs=1)
print("encoders:", experiment.image_encoder, "and", experiment.text_encoder)
print("loss:", experiment.loss)
print("optimizer:", experiment.optimizer, "with learning rate", experiment.lr)

# %% [markdown]
# For each picture, the model says which of the 64 sentences belongs to it, and pays $-\log p$ if it gave the right one the
# probability $p$. **Predict:** what does a model pay that only guesses?

# %%
guess = torch.tensor(1 / 64)
print(f"{-guess.log():.2f}")

# %% [markdown]
# `fit` trains, scores, and keeps all in a folder. (The red box is its progress, no error.)

# %%
run = clipedu.fit(experiment)
print(f"trained in {run.seconds:.0f} s, kept in {run.folder}")

# %% [markdown]
# **What you should see:** a loss that begins above the dotted line (guessing), falls fast, and ends between 1 and 2.

# %%
plots.plot_loss(run)

# %% [markdown]
# A loss of 1.5 is a probability of $e^{-1.5} = 0.22$ for the right one of 64.
#
# Next, 24 new pictures (rows) and sentences (columns). Similarity is the cosine of the angle between their vectors. **What you should see:** left, a bright diagonal; right, matched pairs ahead of unmatched ones.

# %%
plots.plot_similarity(run)

# %% [markdown]
# Read both sentences where a ring is off the diagonal: what did the model mix up?
#
# **What you should see** in the scores: TR@1 and IR@1 between 25 and 50 %, top-1 above 8 %. Compare each with chance.

# %%
from clipedu.report.score_table import scores_text

print(scores_text(run.metrics))

# %% [markdown]
# ## 3. Ask it
#
# Which of 1,000 new pictures fit your words best? Change them, and run the cell again.
#
# **What you should see:** the right colour nearly always, the right shape only sometimes.

# %%
from clipedu.inference.embed import embed_images

model, scenes = run.model(), clipedu.load_pairs("scenes", "val", size=1000)
image_embeddings = embed_images(model, scenes)


def search(words):
    similarity = model.geometry.similarity(model.embed_texts([words]), image_embeddings)[0]
    best = similarity.topk(5).indices
    figure, axes = plt.subplots(1, 5, figsize=(11, 2.6))
    for row, ax in zip(best, axes, strict=True):
        ax.imshow(scenes.pixels(row[None])[0].permute(1, 2, 0))
        ax.set_title(f"similarity {similarity[row]:.2f}", fontsize=9)
        ax.axis("off")


search("a large red star on a dark background")

# %% [markdown]
# ## 4. Your turn
#
# Complete the function, then run the check below it.
#
# ### Exercise 1: what is chance? (easy, very important, 3 minutes)
#
# A random ranking of all sentences: in how many percent of cases is the first one of the picture's own?


# %% tags=["exercise"]
def chance(images, captions_each):
    """TR@1 in percent of a random ranking; each of `images` pictures has `captions_each` sentences."""
    ### BEGIN SOLUTION Divide a picture's captions by all captions, and give percent.
    right = captions_each
    candidates = images * captions_each
    return 100 * right / candidates
    ### END SOLUTION


# %% tags=["check"]
from clipedu.exercises import check_chance

check_chance(chance)

# %% [markdown]
# ### Exercise 2: recall from a matrix (medium, very important, 8 minutes)
#
# Sentence $i$ belongs to picture $i$. In what percentage of rows is the largest entry on the diagonal?
# (`matrix.argmax(dim=1)` gives the place of each row's largest.)


# %% tags=["exercise"]
def recall_at_1(similarity):
    """TR@1 in percent. similarity [N, N]: rows are pictures, columns are sentences."""
    ### BEGIN SOLUTION Compare each row's best column with the row's number; give percent.
    best = similarity.argmax(dim=1)
    own = torch.arange(len(similarity))
    return 100 * (best == own).double().mean().item()
    ### END SOLUTION


# %% tags=["check"]
from clipedu.exercises import check_recall

check_recall(recall_at_1)

# %% [markdown]
# ## 5. Where things are
#
# A run is a folder: `report.html` shows all on one page, `experiment.json` repeats it, `metrics.json` holds the scores,
# `checkpoint/` the weights. Delete it and the run is gone.

# %%
print(*sorted(path.name for path in run.folder.iterdir()), sep="\n")
print("\nin a terminal:", run.command)
print(f"in Python:     run = clipedu.load_run('{run.folder}')")

# %% [markdown]
# **Remember:** a guessing model pays $\log B$; read each score beside chance; an `Experiment` repeats a run.
#
# **Next:** `05_train.ipynb`, every part of this run and a lab; `02_losses.ipynb`; `07_embedding_geometry.ipynb`.
