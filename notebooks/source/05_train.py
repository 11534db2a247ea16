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
# # Train CLIP, part by part
#
# **Afterwards you can** follow a pair from pixels and words to the loss, write CLIP's loss and its training loop, define
# its scores, read losses, norms and embedding maps, and compare losses and optimizers fairly.
#
# | | |
# |---|---|
# | Time | 90 minutes; of these, computing: 2 minutes on two CPU cores (not measured on a GPU) |
# | Disk | 10 MB, in the folder `runs/` beside this notebook |
# | Download | none |
# | Before this | `00_start_here.ipynb` |

# %% [markdown]
# ## 0. Settings
#
# Start with `"tiny"`. For a better model set `"laptop"` and run all cells again; nothing else changes.

# %%
import inspect
import math

import matplotlib.pyplot as plt
import torch
from torch.nn.functional import cross_entropy, normalize

import clipedu
from clipedu import plots

# %%
SCALE = "tiny"
experiment = clipedu.Experiment.preset(SCALE, batch_size=64, epochs=4)
# fast: experiment = experiment.replace(train_size=640, epochs=1)

# %% [markdown]
# ## 1. Pairs
#
# A *pair* is a picture and a sentence about it. The embedded scenes are drawn by a formula; photographs from the web look the same
# to the rest of the library.
#
# **What you should see:** small pictures, and sentences that name size, colour, shape, position and background.

# %%
from textwrap import fill

from clipedu.training import Trainer, TrainingData, build_tokenizer, load_train, prepare

pairs = load_train(experiment)
pixels = pairs.pixels(torch.arange(6))
figure, axes = plt.subplots(1, 6, figsize=(12, 2.9))
for row, ax in enumerate(axes):
    ax.imshow(pixels[row].permute(1, 2, 0))
    ax.set_title(fill(pairs.captions(row)[0], 20), fontsize=9)
    ax.axis("off")

# %% [markdown]
# Each picture has five sentences; an epoch shows one of them. Which of these fit another picture above, too?

# %%
pairs.captions(0)

# %% [markdown]
# A sentence that fits several pictures of a batch is a *false negative*: the loss pushes it away from pictures that it
# describes. Web data is full of them.

# %% [markdown]
# ## 2. Tokens
#
# A text encoder reads numbers. The *tokenizer*, trained on these sentences, cuts them into pieces that it knows, between `[CLS]`
# and `[SEP]`. Short sentences are filled up with `[PAD]`; the *mask* marks what is real.

# %%
tokenizer = build_tokenizer(experiment, pairs)
pairs.tokenize(tokenizer)
ids, mask = pairs.tokens(torch.arange(3))
for numbers in ids:
    print(*tokenizer.tokenizer.convert_ids_to_tokens(numbers))
print(f"{tokenizer.vocab_size} different tokens; mask of the first sentence:")
print(mask[0].int().tolist())

# %% [markdown]
# ## 3. Two encoders, one space
#
# One encoder turns pixels into features, the other tokens. A *projection*, one matrix on each side, takes both to 128 numbers: the
# *embeddings*. (What we do by hand stays on the CPU.)

# %%
by_hand = experiment.replace(device="cpu")
model = prepare(by_hand, TrainingData(train=pairs, tokenizer=tokenizer)).model
for name, part in model.named_children():
    print(f"{name:18} {sum(p.numel() for p in part.parameters()):>9,} parameters")

rows = torch.arange(8)
image = model.encode_image(pairs.pixels(rows))
text = model.encode_text(*pairs.tokens(rows))
print("image", tuple(image.shape), " text", tuple(text.shape))

# %% [markdown]
# A *geometry* compares embeddings. CLIP's is the cosine: divide each vector by its length, take the dot product.
#
# **Predict:** does the diagonal of an untrained model stand out?

# %%
similarity = model.geometry.similarity(image, text).detach()
print(similarity.numpy().round(2))

# %% [markdown]
# **What you should see:** it does not. All numbers are near zero, and hardly a row is largest in its own column.

# %% [markdown]
# ## 4. The loss
#
# A batch of $B$ pairs is a quiz. Given picture $i$, which of the $B$ sentences is its own? Given sentence $i$, which picture? Answers
# are probabilities: a softmax of similarities over a *temperature* $\tau$. The price is minus the log of the right one's.
#
# $$L = \frac{1}{2B} \sum_{i=1}^{B} \left[ -\log \frac{e^{S_{ii}/\tau}}{\sum_j e^{S_{ij}/\tau}}
#     -\log \frac{e^{S_{ii}/\tau}}{\sum_j e^{S_{ji}/\tau}} \right], \qquad S_{ij} = \frac{x_i \cdot y_j}{\|x_i\| \|y_j\|}$$
#
# **From scratch**, six lines. (`cross_entropy` is softmax, logarithm and mean in one.)


# %%
def clip_loss(image, text, temperature):
    x, y = normalize(image, dim=1), normalize(text, dim=1)
    logits = x @ y.T / temperature
    own = torch.arange(len(logits))
    pictures_ask = cross_entropy(logits, own)
    sentences_ask = cross_entropy(logits.T, own)
    return (pictures_ask + sentences_ask) / 2


# %% [markdown]
# **The library's** is in `clipedu/losses/clip.py`. **What you should see:** the same number, to the last digit or two.

# %%
x, y = image.detach().double(), text.detach().double()
library = clipedu.build_loss("clip", temperature=0.05)
print("from scratch", clip_loss(x, y, temperature=0.05).item())
print("clipedu     ", library(x, y, rows).total.item())
print("guessing    ", math.log(8))

# %% [markdown]
# **Remember:** two directions, one matrix. Guessing costs $\log B$, so a loss says nothing without its batch size.
#
# ### Exercise 1: cheat (medium, very important, 8 minutes)
#
# A much-copied tutorial forgets to divide by the lengths. Lower its loss, below, to under 0.01 without changing a single cosine: then
# no ranking and no score has changed, and nothing was learned.


# %%
def tutorial_loss(image, text):
    logits = image @ text.T
    own = torch.arange(len(logits))
    return (cross_entropy(logits, own) + cross_entropy(logits.T, own)) / 2


# %% tags=["exercise"]
def cheat(image, text):
    """Embeddings [B, D] with the same cosines and a tutorial loss below 0.01 (own pairs fit best)."""
    ### BEGIN SOLUTION What can you do to a vector that leaves its direction as it is?
    return 10 * image, 10 * text
    ### END SOLUTION


# %% tags=["check"]
from clipedu.exercises import check_cheat

check_cheat(cheat)

# %% [markdown]
# ### Exercise 2: how cold must it be? (medium, important, 8 minutes)
#
# Say that training went perfectly: own pairs have similarity 1, all others 0. What does even this model pay?


# %% tags=["exercise"]
def lowest_loss(batch_size, temperature):
    """CLIP's loss where own pairs have similarity 1 and all others 0."""
    ### BEGIN SOLUTION For one picture, one logit is 1 / temperature and the others are 0.
    own = math.exp(1 / temperature)
    others = (batch_size - 1) * math.exp(0 / temperature)
    return -math.log(own / (own + others))
    ### END SOLUTION


# %% tags=["check"]
from clipedu.exercises import check_lowest_loss

check_lowest_loss(lowest_loss)

# %% [markdown]
# The temperature also decides *whom* the loss looks at. Below is $\partial L / \partial S_{ij}$: blue pulls a pair together, red pushes
# it apart.
#
# **What you should see:** warm, all wrong pairs (red) get the same push. Cold, the most similar ones, the *hard negatives*, get nearly
# all.

# %%
figure, axes = plt.subplots(1, 2, figsize=(8, 3.2))
for ax, temperature in zip(axes, (1.0, 0.02), strict=True):
    weights = clipedu.build_loss("clip", temperature=temperature).pair_weights(image, text, rows)
    largest = weights.abs().max().item()
    picture = ax.imshow(weights.detach(), cmap="RdBu_r", vmin=-largest, vmax=largest)
    ax.set(title=f"temperature {temperature}", xlabel="sentence", ylabel="picture")
    figure.colorbar(picture, ax=ax)

# %% [markdown]
# ## 5. The loop
#
# Take a batch, embed both sides, compute the loss, its gradients, and take a step. **What you should see:** numbers that begin above
# $\log 64 = 4.16$ and end below 4.

# %%
from clipedu.data.batches import batches

optimizer = clipedu.build_optimizer(model, "adamw", lr=1e-3, weight_decay=0.02)
for step, batch in enumerate(batches(pairs, batch_size=64, seed=0, epoch=0)):
    image, text = model(batch.image, batch.text)
    loss = clip_loss(image, text, temperature=0.05)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 10 == 0:
        print(f"step {step:2}: loss {loss.item():.2f}")
    if step == 40:
        break

# %% [markdown]
# **The library's step** adds a learning rate that rises and falls, norms, clipping and, on a GPU, mixed precision. Find your five lines
# in it.

# %%
print(inspect.getsource(Trainer._train_on))

# %% [markdown]
# `clipedu.train` yields a *record* for each step. `fit`, the lab below and the command line all drive this one loop.

# %%
for record in clipedu.train(experiment):
    norms = record.norms["all"]
    print(f"step {record.step}: loss {record.loss:.2f}, gradient norm {norms['gradient']:.2f}")
    if record.step == 3:
        break

# %% [markdown]
# `fit` adds a folder, checkpoints, scores and a report. (The red box is its progress, no error.)

# %%
run = clipedu.fit(experiment)

# %% [markdown]
# ## 6. Scores
#
# - **TR@1**, picture to text: share of *pictures* whose best-ranked sentence is one of their own.
# - **IR@1**, text to picture: share of *sentences* whose own picture is ranked first.
# - **top-1**, zero-shot: share of labelled pictures whose class name is the most similar of all.
#
# The course's average is their mean. **What you should see:** TR@1 and IR@1 between 30 and 60 %, top-1 above 8 %.

# %%
from clipedu.report.score_table import scores_text

print(scores_text(run.metrics))

# %% [markdown]
# A score is a share of a sample, so it has an error. Two runs closer than three times this error are a draw.

# %%
from clipedu.evaluation.uncertainty import standard_errors

for name, error in standard_errors(run.metrics).items():
    print(f"{name:8} {run.metrics[name]:5.1f} +- {error:.1f}")

# %% [markdown]
# **Zero-shot by hand:** classes are only sentences. **What you should see:** the first picture likes the first sentence best, the second
# the second, and so on, sometimes by little.

# %%
from clipedu.inference.embed import embed_images

model, scenes = run.model(), clipedu.load_pairs("scenes", "zeroshot", size=4)
classes = [f"a {scenes.class_names[label]}" for label in scenes.labels]
cosines = model.geometry.similarity(embed_images(model, scenes), model.embed_texts(classes))
figure, axes = plt.subplots(1, 4, figsize=(11, 3.2))
for row, ax in enumerate(axes):
    ax.imshow(scenes.pixels(torch.tensor([row]))[0].permute(1, 2, 0))
    lines = [f"{name}: {cosine:.2f}" for name, cosine in zip(classes, cosines[row], strict=True)]
    ax.set_title("\n".join(lines), fontsize=9)
    ax.axis("off")

# %% [markdown]
# ### Exercise 3: both directions (medium, very important, 10 minutes)
#
# Row $i$ of `similarity` is a picture, column $t$ a sentence, and sentence $t$ belongs to picture `owner[t]`. Return TR@1 and IR@1, in
# this order: they are easily swapped.


# %% tags=["exercise"]
def recalls(similarity, owner):
    """(TR@1, IR@1) in percent. similarity [N, T], owner [T]."""
    ### BEGIN SOLUTION Who owns row i's best column? Is column t's best row its owner?
    best_sentence = similarity.argmax(dim=1)
    tr = (owner[best_sentence] == torch.arange(len(similarity))).double().mean()
    best_picture = similarity.argmax(dim=0)
    ir = (best_picture == owner).double().mean()
    return 100 * tr.item(), 100 * ir.item()
    ### END SOLUTION


# %% tags=["check"]
from clipedu.exercises import check_both_recalls

check_both_recalls(recalls)

# %% [markdown]
# ## 7. Four figures of a run
#
# **The loss. What you should see:** a fast fall, then a slow one, to below 2. Its two directions stay together; the learning rate
# rises, then falls as a cosine.

# %%
plots.plot_loss(run)

# %% [markdown]
# A loss that stays on the dotted line learns nothing; one that jumps up and stays there has too large a learning rate.
#
# **The norms. What you should see:** weights that change slowly, gradients within a factor of ten, updates that follow the learning
# rate.

# %%
plots.plot_norms(run)

# %% [markdown]
# Update / weight is the share of itself that the model changes in a step. Most layers here are followed by a normalisation, which
# ignores their size; so this share is the learning rate that is really at work.
#
# **The similarities. What you should see:** a bright diagonal, and the solid hill right of the dashed one.

# %%
plots.plot_similarity(run)

# %% [markdown]
# **The map**, all embeddings on their two main axes. **What you should see:** pictures and sentences over the same disc, and partners
# (grey lines) near each other.

# %%
plots.plot_embedding_map(run)

# %% [markdown]
# The distance between the two means, in all 128 dimensions, is the *modality gap*. The loss compares pictures with sentences only:
# a shift of one cloud at right angles to the other costs it little, so some of the gap stays.

# %% [markdown]
# ## 8. The lab
#
# Change **one** thing, press **Train**, watch. Earlier runs stay in the picture; the table compares scores; the last line repeats your
# choice in Python.
#
# 1. Is a lower loss a better model? Compare `clip` at temperature 0.05 and 0.3, by loss, then by TR@1.
# 2. Train with `sgd` at AdamW's learning rate. Find one that brings the last panel to AdamW's height.
# 3. `sogclr` remembers every picture. Does it help here?

# %%
from clipedu.widgets.training import TrainingLab

lab = TrainingLab(experiment)
lab

# %% tags=["fast"]
lab.loss.value = "cyclip"
lab.train_button.click()
lab.wait(300)
assert lab.error is None and lab.runs[-1].status == "finished", lab.status.value
lab.status.value

# %% [markdown]
# Without widgets, a comparison is two lines:
#
# ```python
# others = [clipedu.fit(experiment.replace(loss=loss)) for loss in ("cyclip", "sogclr")]
# plots.plot_curves([run, *others])
# ```

# %% [markdown]
# ## 9. A published table
#
# Five losses, three optimizers, 100,000 photographs: published by students of a course. Nobody recomputed the last column.

# %%
from clipedu.config.course import course_table

table = course_table().drop(columns=["average", "corrected"])
table

# %% [markdown]
# ### Exercise 4: trust, and recompute (easy, important, 6 minutes)
#
# In which rows is `printed` not the mean of the three scores? Mind rounding.


# %% tags=["exercise"]
def wrong_averages(table):
    """List of (optimizer, loss) of the rows whose printed average is not that of the three scores."""
    ### BEGIN SOLUTION Take the mean of the three columns; keep what is off by over 0.01.
    mean = table[["tr@1", "ir@1", "top1"]].mean(axis=1)
    wrong = table[(table["printed"] - mean).abs() > 0.01]
    return list(zip(wrong["optimizer"], wrong["loss"], strict=True))
    ### END SOLUTION


# %% tags=["check"]
from clipedu.exercises import check_averages

check_averages(wrong_averages)

# %% [markdown]
# In print, CyCLIP leads AdamW's rows by 0.2, which is noise; with the right averages, by 0.9.

# %% [markdown]
# ## 10. Larger
#
# - `SCALE = "laptop"`: all 16,000 scenes.
# - `clipedu grid` in a terminal: five losses, three optimizers, one report.
# - `clipedu train --preset course`: the published recipe. It needs photographs, pretrained weights and hours on a GPU.
#
# **Remember:** the loss is a quiz over the batch, in two directions. Normalise, or a model can lower its loss by growing. The
# temperature decides from whom there is something to learn. Read scores beside chance and error.
