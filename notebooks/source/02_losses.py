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
# # Losses: who is pulled, who is pushed
#
# **Afterwards you can** write the gradient of CLIP, DCL, SogCLR and SigLIP by hand, see in a heat map whom a loss works
# on, say what temperature, false negatives and memory do to it, and name a constant of 1e-8 that switched off samples.
#
# | | |
# |---|---|
# | Time | 100 minutes; of these, computing: 1 minute on two CPU cores (not measured on a GPU) |
# | Disk | 10 MB, in the folder `runs/` beside this notebook |
# | Download | none |
# | Before this | `00_start_here.ipynb`; sections 3 and 4 of `05_train.ipynb` help |

# %% [markdown]
# ## 0. Settings

# %%
import math

import torch
from IPython.display import Markdown

import clipedu
from clipedu.plots import losses as plots
from clipedu.toys.similarity_batch import examine, scene_batch, similarity_losses

# %%
SCALE = "tiny"
experiment = clipedu.Experiment.preset(SCALE, batch_size=64, epochs=3)
# fast: experiment = experiment.replace(train_size=640, epochs=1)

# %% [markdown]
# ## 1. A batch with names
#
# All that most losses see of a batch is its matrix of similarities $S$. So here is one without a model: eight scenes, and
# numbers typed in by hand.
#
# **What you should see:** pairs from easy (top) to hopeless. Two captions are true of both blue diamonds: *false negatives*.
# The last caption says nothing about its picture, as in much web data.

# %%
batch = scene_batch()
S = batch.similarity
plots.plot_batch(batch)

# %% [markdown]
# How far is a pair ahead of its best rival, in its row or column? The blue star by 0.5; below zero, somebody else wins.

# %%
from clipedu.toys.similarity_batch import lead

for name, ahead in zip(batch.names, lead(S), strict=True):
    print(f"{name:14} {ahead:+.2f}")

# %% [markdown]
# ## 2. The loss, seen
#
# What a loss does to the encoders goes through one matrix, $W_{ij} = \partial L / \partial S_{ij}$. A step downhill raises $S_{ij}$
# where $W_{ij} < 0$: it *pulls* picture $i$ and caption $j$ together. Where $W_{ij} > 0$ it *pushes* them apart.
#
# **From scratch:** write the loss, let autograd differentiate.


# %%
def clip_loss(similarity, temperature):
    logits = similarity / temperature
    pictures_ask = -logits.log_softmax(dim=1).diagonal().mean()
    captions_ask = -logits.log_softmax(dim=0).diagonal().mean()
    return (pictures_ask + captions_ask) / 2


leaf = S.clone().requires_grad_()
clip_loss(leaf, 0.05).backward()

# %% [markdown]
# **The library's** `examine` does the same for any loss. **What you should see:** the same loss twice, and a difference of 0, or
# nearly.

# %%
seen = examine("clip", S, temperature=0.05)
print("loss      ", clip_loss(S, 0.05).item(), seen.total)
print("difference", (leaf.grad - seen.weights).abs().max().item())

# %% [markdown]
# ### Exercise 1: CLIP's weights (medium, very important, 10 minutes)
#
# No autograd now. With $P$ the softmax of $S/\tau$ along the rows, $Q$ along the columns, and $I$ the identity:
#
# $$W = \frac{P + Q - 2I}{2B\tau}$$


# %% tags=["exercise"]
def clip_weights(similarity, temperature):
    """dL/dS of CLIP, [B, B]."""
    ### BEGIN SOLUTION P is softmax(dim=1) of S / temperature, Q softmax(dim=0).
    logits = similarity / temperature
    both = logits.softmax(dim=1) + logits.softmax(dim=0)
    size = len(similarity)
    return (both - 2 * torch.eye(size)) / (2 * size * temperature)
    ### END SOLUTION


# %% tags=["check"]
from clipedu.exercises import check_clip_weights

check_clip_weights(clip_weights)

# %% [markdown]
# Read it: what is likely, minus what is right. A pair that has won ($P_{ii} = Q_{ii} = 1$) has weight 0.
#
# **Predict:** at which temperature do most cells matter? **What you should see:** warm, all negatives get the same push. Cold,
# the five easy pairs and nearly all negatives go white; the twins and the hopeless pair get all there is.

# %%
maps = {}
for temperature in (1.0, 0.1, 0.05, 0.01):
    seen = examine("clip", S, temperature=temperature)
    maps[f"clip at {temperature}"] = seen.weights
plots.plot_weights(maps, batch)

# %% [markdown]
# Blue pulls, red pushes; each map shows shares of its own sum, which the title gives: from 1.7 to 50. **Remember:** temperature decides
# *who*, and also *how much*.

# %% [markdown]
# ## 3. All the losses
#
# All, with their formulas. $h_{ij} = S_{ij} - S_{ii}$ is by how much a negative beats the pair; $u$ is a running average.

# %%
Markdown(plots.loss_table())

# %% [markdown]
# **What you should see**, at one temperature: `clip` and `cyclip` alike, their easy pairs white; `sogclr`, `isogclr`, `dcl` and
# `infoloob` one and the same, with a diagonal of one blue; `onlineclr` with one very dark cell; `siglip` with hardly a
# negative but the twins.

# %%
maps = {}
for loss in similarity_losses():
    maps[loss] = examine(loss, S, temperature=0.05).weights
plots.plot_weights(maps, batch)

# %% [markdown]
# - `cyclip` adds $S_{jk} = S_{kj}$: look for faint blue cells among the negatives. (Its in-modal part is not in $S$.)
# - `onlineclr` has *one* softmax over all negatives: the hardest of the batch takes nearly all the push.
# - `vicreg` is missing. It never compares picture $i$ with caption $j$: there is no $W$.
#
# ### Exercise 2: SigLIP from scratch (medium, important, 8 minutes)
#
# No softmax: each cell is a question, "do these belong together?" With $z_{ij} = 1$ on the diagonal and $-1$ elsewhere, scale $t$ and
# bias $c$:
#
# $$L = \frac{1}{B} \sum_{ij} \log \left( 1 + e^{-z_{ij} (t S_{ij} + c)} \right)$$
#
# (`torch.nn.functional.softplus(x)` is $\log(1 + e^x)$ without overflow.)


# %% tags=["exercise"]
def siglip_loss(similarity, scale, bias):
    """SigLIP's loss of S [B, B]."""
    ### BEGIN SOLUTION Build z from torch.eye; sum over all cells, divide by B.
    size = len(similarity)
    z = 2 * torch.eye(size) - 1
    cells = torch.nn.functional.softplus(-z * (scale * similarity + bias))
    return cells.sum() / size
    ### END SOLUTION


# %% tags=["check"]
from clipedu.exercises import check_siglip

check_siglip(siglip_loss)

# %% [markdown]
# ## 4. Who gets the gradient?
#
# $-W_{ii}$ is the pull on pair $i$. In `clip`, `dcl` and `sogclr` it is also all that the pair's two *anchors*, its picture
# and its caption, push away: one number says how loudly the pair speaks.
#
# **What you should see:** equal shares everywhere for `dcl` and `sogclr`. `clip` at 0.05 gives the three easiest pairs nothing,
# and nearly half to the hopeless one; `onlineclr` at 0.01 gives it 97 %.

# %%
pulls = {}
for loss in ("clip", "dcl", "sogclr", "onlineclr"):
    for temperature in (0.3, 0.05, 0.01):
        pulls[f"{loss} at {temperature}"] = examine(loss, S, temperature=temperature).pull
plots.plot_who(pulls, batch)

# %% [markdown]
# Is it good to work on the hardest? The three hardest, here, are mistakes in the data.
#
# ### Exercise 3: DCL's weights (medium, important, 8 minutes)
#
# DCL leaves the own pair out of both softmaxes. Change your `clip_weights`. Careful: how do you leave out a logit?


# %% tags=["exercise"]
def dcl_weights(similarity, temperature):
    """dL/dS of DCL, [B, B]."""
    ### BEGIN SOLUTION Put -inf on the diagonal of the logits; the pull -2 I stays.
    logits = (similarity / temperature).fill_diagonal_(-math.inf)
    both = logits.softmax(dim=1) + logits.softmax(dim=0)
    size = len(similarity)
    return (both - 2 * torch.eye(size)) / (2 * size * temperature)
    ### END SOLUTION


# %% tags=["check"]
from clipedu.exercises import check_dcl_weights

check_dcl_weights(dcl_weights)

# %% [markdown]
# **Three papers, one gradient.** SogCLR at its first visit, InfoLOOB, and DCL times $2\tau$. **What you should see:** differences of
# rounding, below $10^{-6}$.

# %%
tau = 0.05
sogclr = examine("sogclr", S, temperature=tau).weights
infoloob = examine("infoloob", S, temperature=tau).weights
dcl = examine("dcl", S, temperature=tau).weights
print("sogclr - infoloob   ", (sogclr - infoloob).abs().max().item())
print("infoloob - 2 tau dcl", (infoloob - 2 * tau * dcl).abs().max().item())

# %% [markdown]
# What sets SogCLR apart is only its memory: section 7.

# %% [markdown]
# ## 5. False negatives
#
# Let the star's caption fit the heart as well as the heart's own, and the other way round. **What you should see:** little or
# nothing before; now a push in each loss, nine times as strong or more.

# %%
from clipedu.toys.similarity_batch import with_false_negative

edited = with_false_negative(S, 0, 1)
for loss in ("clip", "dcl", "sogclr", "siglip"):
    before = examine(loss, S, temperature=0.05).weights[1, 0]
    after = examine(loss, edited, temperature=0.05).weights[1, 0]
    print(f"{loss:7} {before:8.4f} -> {after:7.4f}")

# %% [markdown]
# ### Exercise 4: copies (medium, important, 6 minutes)
#
# In a batch, some captions are one and the same text, "image may contain: person". The model is perfect, the temperature
# near 0. What does it still pay? (A picture can't choose among equal captions, nor a caption among the pictures of its copies.)


# %% tags=["exercise"]
def loss_with_copies(batch_size, copies):
    """Lowest CLIP loss of a batch in which `copies` pairs share one caption."""
    ### BEGIN SOLUTION A copy's best is the probability 1 / copies; others pay nothing.
    each = -math.log(1 / copies)
    return copies * each / batch_size
    ### END SOLUTION


# %% tags=["check"]
from clipedu.exercises import check_copies

check_copies(loss_with_copies)

# %% [markdown]
# ## 6. A real batch
#
# Now 128 pairs that a trained model has never seen. (The red box is its progress, no error.)

# %%
run = clipedu.fit(experiment)
kept = run.embeddings()
geometry = clipedu.build_geometry("cosine", dim=kept["image"].shape[1])
real = geometry.similarity(kept["image"][:128].double(), kept["text"][:128].double())
print(f"{(lead(real) > 0).sum()} of {len(real)} pairs are won")

# %% [markdown]
# Line up the pairs from easy to hard, and add up their shares. **What you should see:** `sogclr` on the straight line; `clip`
# at 0.05 below it, the easy half getting about a third; `clip` at 0.01 on the floor, or nearly, for the whole easy half.

# %%
pulls = {}
choices = [("sogclr", 0.05), ("clip", 0.05), ("clip", 0.01), ("siglip", 0.05), ("onlineclr", 0.01)]
for loss, tau in choices:
    pulls[f"{loss} at {tau}"] = examine(loss, real, temperature=tau).pull
plots.plot_shares(pulls, lead(real))

# %% [markdown]
# ## 7. SogCLR's memory
#
# A small batch is a bad sample of all negatives. SogCLR keeps, for every anchor, a running average of $g$, the mean of $e^{h/\tau}$ over
# its negatives, and weights them with $e^{h_{ij}/\tau} / u_i$:
#
# $$u_i \leftarrow (1-\gamma)\, u_i + \gamma\, g_i$$
#
# At $\tau = 0.01$, $e^{h/\tau}$ runs from $e^{-200}$ to $e^{200}$, and float32 ends at $e^{88}$. So keep $\log u$.
#
# ### Exercise 5: an average in logarithms (hard, very important, 10 minutes)
#
# `log_u` is $\log u$ so far ($-\infty$: none yet), `z` holds $h/\tau$ of all negatives. Return the new $\log u$.
# (`torch.logsumexp` and `torch.logaddexp` help.)


# %% tags=["exercise"]
def remember(log_u, z, gamma):
    """log of (1 - gamma) u + gamma g, with g the mean of exp(z). log_u [], z [K]."""
    ### BEGIN SOLUTION log g is z.logsumexp(0) - log K; then use logaddexp.
    log_g = z.logsumexp(0) - math.log(len(z))
    if log_u == -math.inf:
        return log_g
    return torch.logaddexp(math.log(1 - gamma) + log_u, math.log(gamma) + log_g)
    ### END SOLUTION


# %% tags=["check"]
from clipedu.exercises import check_running_average

check_running_average(remember)

# %% [markdown]
# ### Exercise 6: SogCLR's weights (hard, important, 12 minutes)
#
# Picture $i$ as anchor puts $e^{h_{ij}/\tau - \log u_i} / (B(B-1))$ on each negative, and minus their sum on its own pair. Captions do
# the same down the columns, with `log_u[1]`.


# %% tags=["exercise"]
def sogclr_weights(similarity, log_u, temperature):
    """dL/dS of SogCLR, [B, B]. log_u [2, B]: of pictures (0) and of captions (1)."""

    ### BEGIN SOLUTION One side as a function, called with S and with S.T.
    def one_side(s, log_u):
        z = (s - s.diagonal()[:, None]) / temperature
        push = torch.exp(z.fill_diagonal_(-math.inf) - log_u[:, None])
        push = push / (len(s) * (len(s) - 1))
        return push - torch.diag(push.sum(dim=1))

    return one_side(similarity, log_u[0]) + one_side(similarity.T, log_u[1]).T
    ### END SOLUTION


# %% tags=["check"]
from clipedu.exercises import check_sogclr_weights

check_sogclr_weights(sogclr_weights)

# %% [markdown]
# ### A constant of 1e-8
#
# A course's starter code avoids the overflow in another way: it subtracts $b$, the largest $h/\tau$ that the anchor
# ever met, keeps $s = u\,e^{-b}$, and divides by $s + 10^{-8}$. In true units this adds $10^{-8} e^{b}$, and $b$ never comes down.
#
# Both forms meet the same batch 40 times, but at visit 5 a rival beats each pair by 0.45 or more. We follow the twin, which is
# *always* wrong by 0.05.
#
# **What you should see:** that visit silences both. The logarithm forgets it, a factor of five a visit, and speaks again
# from visit 33 on. The course's $\log u$ stops near 32: its anchor stays dark for good.

# %%
from clipedu.toys.similarity_batch import remembered, with_rivals

visits = [S] * 5 + [with_rivals(S, 0.45)] + [S] * 34
histories = {
    "logarithms": remembered(visits, temperature=0.01),
    "course": remembered(visits, temperature=0.01, form="course"),
}
plots.plot_memory(histories, pair=6)

# %% [markdown]
# Slow forgetting is SogCLR's own: $\gamma = 0.8$ averages numbers that differ by $e^{45}$. The floor is the constant's.
#
# ### Exercise 7: predict who is silenced (medium, important, 8 minutes)
#
# An anchor is silenced if its $s$, the mean of $e^{h/\tau - b}$, is below $10^{-8}$: then more than half of the divisor is the
# constant.


# %% tags=["exercise"]
def silenced(h, b, temperature):
    """Who is silenced, bool [N]. h [N, K] margins, b [N] the largest h / temperature so far."""
    ### BEGIN SOLUTION Divide by temperature, subtract b[:, None], exp, mean, compare.
    s = torch.exp(h / temperature - b[:, None]).mean(dim=1)
    return s < 1e-8
    ### END SOLUTION


# %% tags=["check"]
from clipedu.exercises import check_silenced

check_silenced(silenced)

# %% [markdown]
# Count them in the real batch, 30 visits after one bad batch; the form in logarithms has forgotten it by then.
#
# **What you should see:** none at 0.05. At 0.01, some without any bad batch (easy pairs), most after a rival ahead by 0.1, and
# nearly all after one ahead by 0.2.

# %%
from clipedu.toys.similarity_batch import silenced as silenced_pairs

temperatures, counts = (0.005, 0.01, 0.02, 0.05), {"no bad batch": []}
for temperature in temperatures:
    counts["no bad batch"].append(silenced_pairs(real, temperature).sum().item())
    for ahead in (0.1, 0.2):
        past = [with_rivals(real, ahead)] + [real] * 30
        count = silenced_pairs(real, temperature, past).sum().item()
        counts.setdefault(f"once a rival ahead by {ahead}", []).append(count)
plots.plot_silenced(counts, temperatures, len(real))

# %% [markdown]
# **Remember:** a constant that is small in one unit is large in another. Keep logarithms, and add nothing.
#
# *LibAUC* (2.0.1), the authors' package, sums the negatives in its bimodal loss and halves the directions: its gradient is $(B-1)/2$
# times this one's. It needs normalised vectors, unseen rows among seen ones start at $\gamma g$, and its floor, $10^{-20} e^{b}$, is felt
# at $\tau = 0.01$. With libauc, `pytest tests/losses/test_libauc.py` shows it.

# %% [markdown]
# ## 8. Compare fairly
#
# SogCLR's formula has a factor $\tau$, CLIP's has none; so at one learning rate they take steps of different sizes.
# `scale="clip"` multiplies SogCLR by $1/2\tau$ and OnlineCLR by $1/\tau$.
#
# **What you should see:** circles over a factor of 25 to 30, squares over one of about 3.

# %%
sizes = {}
for scale in ("paper", "clip"):
    sizes[scale] = {}
    for loss in similarity_losses():
        sizes[scale][loss] = examine(loss, real, temperature=0.05, scale=scale).size
plots.plot_sizes(sizes)

# %% [markdown]
# Colder, the squares part again: then `clip` has few pairs left to pull. One scale does not replace a search for the learning rate.

# %% [markdown]
# ## 9. The lab
#
# Choose a cell and move the slider; the picture follows.
#
# 1. Make the star harder with `clip`. From which similarity on does it get a pull? And at temperature 0.01?
# 2. Choose the star's picture and the heart's caption, and press *Swap captions*. Why does no pull exceed 2.5?
# 3. Choose `sogclr`, press *Remember*, then lower the ring's own similarity. Its pull grows: by how much at most? Why? Then raise it.

# %%
from clipedu.widgets.losses import LossLab

lab = LossLab()
lab

# %% tags=["fast"]
lab.loss.value, lab.image.value, lab.caption.value = "sogclr", 0, 1
lab.swap_button.click()
lab.seen.total

# %% [markdown]
# Without widgets, each edit and each view is a function; `lab.script` writes them down.

# %%
print(lab.script)

# %% [markdown]
# **Remember:** a similarity loss *is* its matrix $W$. CLIP stops working on what is won; DCL and SogCLR don't. A cold temperature
# looks at the hardest, among which are the mistakes of the data.
