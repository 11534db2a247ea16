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
# # Registers and the fractal mask: extra tokens in a vision transformer
#
# **Afterwards you can** say what registers are for, build the fractal mask, test that a model respects a mask, say what a mask can tell it and
# what not, and hold a small difference against the noise of seeds.
#
# | | |
# |---|---|
# | Time | 90 minutes; of these, computing: 2 to 3 minutes on two CPU cores (not measured on a GPU) |
# | Disk | 25 MB, in the folder `runs/` beside this notebook |
# | Download | none |
# | Before this | `05_train.ipynb` |

# %% [markdown]
# ## 0. Settings

# %%
import math
import time

import pandas
import torch

import clipedu
from clipedu.models.fractal_mask import fractal_mask, summary_sides, tokens
from clipedu.models.vit import build_vit
from clipedu.plots import masks as plots

# %%
SCALE = "tiny"
base = clipedu.Experiment.preset(SCALE, image_encoder="fractal_vit_nano_patch4_32")
base = base.replace(batch_size=64, lr=1e-3, clip_grad=1.0)
# fast: base = base.replace(train_size=640, epochs=1)
torch.manual_seed(0)
pairs = clipedu.load_pairs("scenes", "val", size=200)
pixels = pairs.pixels(torch.arange(200))

# %% [markdown]
# ## 1. What a vision transformer sees
#
# It cuts a picture into *patches*, and makes each a vector, a *token*. In each block every token looks at all others (*attention*) and thinks
# for itself (an *MLP*). At the end, in our models, the feature is the mean over the patches.

# %%
shape = {"img_size": 32, "patch_size": 4, "embed_dim": 64, "depth": 4, "num_heads": 4}
shape |= {"base": 2, "num_classes": 0}
model = build_vit(**shape, pos_embed="none")
x = pixels[:1] / 127.5 - 1
print("picture", list(x.shape))
print("tokens", list(model.patch_embed(x).shape))
print("after the blocks", list(model.forward_features(x).shape))
print("feature", list(model(x).shape))

# %% [markdown]
# By hand, the first step is one matrix for all patches, and the last a mean:

# %%
patches = x.unfold(2, 4, 4).unfold(3, 4, 4)  # [1, 3, 8, 8, 4, 4]
flat = patches.permute(0, 2, 3, 1, 4, 5).reshape(1, 64, 3 * 4 * 4)
first = model.patch_embed.proj
mine = flat @ first.weight.reshape(64, 48).T + first.bias
print(torch.allclose(mine, model.patch_embed(x), atol=1e-4))
print(torch.allclose(model(x), model.forward_features(x).mean(1), atol=1e-4))

# %% [markdown]
# **Predict:** attention is a weighted mean, and so is the feature. If nothing tells a patch *where* it is, what does the model know of the
# layout? (Section 7.)

# %% [markdown]
# ## 2. Registers
#
# In large vision transformers, trained for long, Darcet et al. (arXiv:2309.16588) found odd patches: about 2 %, on plain background, with some
# ten times the norm of the others. They held something of the whole picture in place of their own content: the model kept its notes where
# nothing was to be lost. Attention maps had bright spots there.
#
# Their remedy is paper to write on: a few learned tokens that go along, and are thrown away at the end, the *registers*. The spots were gone.

# %%
model = build_vit(**shape, pos_embed="none", extra="registers", registers=4)
print("after the blocks", list(model.forward_features(x).shape))
print("feature", list(model(x).shape))

# %% [markdown]
# Four more tokens inside, and the mean still takes patches alone.

# %% [markdown]
# ## 3. A token for each window
#
# Chou, Kumar and Garg (arXiv:2601.15506) ask: what if each extra token has a part of the picture to look after? On a grid of $n \times n$
# patches, with a *base* $k$, one *summary token* stands for the whole picture, $k \times k$ for its windows, $k^2 \times k^2$ for the windows
# of these, down to windows of $k \times k$ patches.
#
# ### Exercise 1: how many (easy, important, 6 minutes)
#
# `grid` is $n$, a power of `base`.


# %% tags=["exercise"]
def summary_tokens(grid, base):
    """How many summary tokens, and the length of the sequence with the patches."""
    ### BEGIN SOLUTION Levels have 1, k, k^2, ... n/k tokens a side; add up their squares.
    side, count = 1, 0
    while side < grid:
        count += side**2
        side *= base
    return count, count + grid**2
    ### END SOLUTION


# %% tags=["check"]
from clipedu.exercises import check_summary_tokens

check_summary_tokens(summary_tokens)

# %% [markdown]
# It is a geometric series, $R = (n^2 - 1) / (k^2 - 1)$. The paper has 16 x 16 patches and $k = 4$: one token for all, 16 for windows.
#
# **Which grids can carry it?** The commonest can't: 224 pixels in patches of 16 make 14 x 14.

# %%
for grid, k in ((8, 2), (16, 4), (16, 2), (14, 2)):
    try:
        print(grid, k, "tokens a side:", summary_sides(grid, k))
    except clipedu.ClipeduError as error:
        print(error)

# %% [markdown]
# ## 4. The mask
#
# The paper's rule says who may look at whom. A token of *size* $s$ stands for a window of $s \times s$ patches; a patch has size 1. A
# query may attend to a key if
#
# 1. both are of the same size, or
# 2. the window of one contains the window of the other.
#
# ### Exercise 2: may it look? (medium, very important, 12 minutes)
#
# A token is a tuple `(size, top, left)`, in patches. Windows are nested, or have nothing in common.


# %% tags=["exercise"]
def may_attend(query, key):
    """True if the token `query` may attend to the token `key`."""
    ### BEGIN SOLUTION Of the two take the larger; does the other begin inside of it?
    size, top, left = max(query, key)
    other, row, column = min(query, key)
    inside = top <= row < top + size and left <= column < left + size
    return size == other or inside
    ### END SOLUTION


# %% tags=["check"]
from clipedu.exercises import check_may_attend

check_may_attend(may_attend)

# %% [markdown]
# **The library's** `fractal_mask` asks all pairs at once: two tokens are nested if the larger size takes both to the same window.

# %%
size, top, left = tokens([1, 2, 4]).T
larger = torch.maximum(size[:, None], size)
rows = top[:, None] // larger == top // larger
columns = left[:, None] // larger == left // larger
mask = (rows & columns) | (size[:, None] == size)
print(torch.equal(mask, fractal_mask(4, 2)), int(mask.sum()), "of", mask.numel())

# %% [markdown]
# **Predict:** is it symmetric? Which row is full? **What you should see:** yes; the first, that of the whole picture. A large blue square: patches
# all see each other. Each 2 x 2 token sees its four patches, and they see it.

# %%
plots.plot_mask(4, 2)

# %% [markdown]
# Now one token on a grid of 8 x 8. **What you should see:** all of its own level, one token of each coarser level, and four patches: 22 of 85.

# %%
plots.plot_who_sees(8, 2, plots.token_at(8, 2, "4 x 4", 1, 2))

# %% [markdown]
# Between neighbouring levels the pattern is the same, one scale up: hence *fractal*. Attention among patches is not masked; that ruined
# accuracy in the authors' first trials.

# %% [markdown]
# ## 5. Does the model respect it?
#
# A mask can be passed and ignored (one class of timm does so, without a word). So test it: change one token before a block, and see which
# tokens have moved behind it.

# %%
model = build_vit(**{**shape, "img_size": 16}, extra="fractal").eval()


@torch.no_grad()
def moved(blocks):
    """How far token i moves when token j is changed before so many blocks [L, L]."""
    before = torch.randn(1, 21, 64).repeat(22, 1, 1)
    after = before.clone()
    after[range(21), range(21)] += torch.randn(21, 64)  # picture j: token j is changed
    for block in model.blocks[:blocks]:
        after = block(after, attn_mask=model.attn_mask)
    return (after[:21] - after[21]).abs().amax(2).T


# %% [markdown]
# **Predict:** how many of the 441 pairs move after one block? And after two?
#
# **What you should see:** 345, just where the mask is true; then all. What moves, moves by 0.005 or more; elsewhere 0 but for rounding.

# %%
for blocks in (1, 2):
    change = moved(blocks)
    has = change > 1e-4
    print(f"{blocks} block(s): {int(has.sum())} pairs,", "as the mask:", torch.equal(has, mask))
    print(f"    smallest change {change[has].min():.3f}, elsewhere {change[~has].sum():.0e}")

# %% [markdown]
# ### Exercise 3: reach (easy, important, 6 minutes)
#
# Given any mask, and any number of blocks: which token can depend on which? Each token keeps what it has, so the diagonal is true.


# %% tags=["exercise"]
def reach(mask, blocks):
    """bool [L, L]: can token i after the blocks depend on token j before them?"""
    ### BEGIN SOLUTION One block is one product with the mask; is there a way at all?
    seen = mask
    for _ in range(blocks - 1):
        seen = (mask.float() @ seen.float()) > 0
    return seen
    ### END SOLUTION


# %% tags=["check"]
from clipedu.exercises import check_reach

check_reach(reach)

# %% [markdown]
# So the mask forbids no knowledge, it sends some of it on a detour.
#
# **What True means** differs: in `torch.nn.MultiheadAttention` *block*; in `scaled_dot_product_attention` and timm *allow*. An early version of
# the paper's code had it the wrong way round. We give our mask as it is; **predict:** does it crash?

# %%
attention = torch.nn.MultiheadAttention(16, 1, batch_first=True)
x = torch.randn(1, 21, 16)
weights = attention(x, x, x, attn_mask=mask)[1][0]
good = weights.isfinite().all(1)
print(f"weight on pairs that may attend: {weights[good][mask[good]].sum():.1f}")
print(f"rows that are nan: {int((~good).sum())}, the token that may see all")

# %% [markdown]
# **What you should see:** no error, no weight where it should be, and one row of nan.
#
# ### Exercise 4: the other convention (easy, very important, 5 minutes)
#
# MultiheadAttention takes a bool tensor, True where blocked, or floats that are *added* to the scores. Give it either.


# %% tags=["exercise"]
def for_mha(mask):
    """attn_mask for nn.MultiheadAttention; mask is True where a query may attend."""
    ### BEGIN SOLUTION Blocked is what may not attend: turn each truth value round.
    return ~mask
    ### END SOLUTION


# %% tags=["check"]
from clipedu.exercises import check_for_mha

check_for_mha(for_mha)

# %% [markdown]
# **Remember:** test a mask by what it does, not by what you passed.

# %% [markdown]
# ## 6. What do extra tokens cost?
#
# ### Exercise 5: a block's multiply-adds (medium, important, 10 minutes)
#
# $N$ tokens of $d$ numbers. Attention has four matrices of $d \times d$ (queries, keys, values, one behind), scores of all pairs, and sums of
# values. The MLP widens to $4d$ and comes back. Leave out norms, softmax and biases.


# %% tags=["exercise"]
def block_macs(tokens, dim):
    """Multiply-adds of one block."""
    ### BEGIN SOLUTION A product of a x b with b x c takes a b c; there are eight of them.
    attention = 4 * tokens * dim**2 + 2 * tokens**2 * dim
    mlp = 2 * tokens * dim * 4 * dim
    return attention + mlp
    ### END SOLUTION


# %% tags=["check"]
from clipedu.exercises import check_block_macs

check_block_macs(block_macs)

# %% [markdown]
# The paper's model is a ViT-S: $d = 384$, 16 x 16 patches. **What you should see:** 17 tokens add 7 %, 85 (base 2) add 38 %.

# %%
from clipedu.models.cost import block_cost

for extra in (0, 17, 85):
    cost = block_cost(256 + extra, dim=384)
    print(f"{extra:2} extra tokens: {cost / 1e6:.0f} M, {cost / block_cost(256, dim=384) - 1:+.1%}")

# %% [markdown]
# The mask is not in that formula. It blocks ten per cent of this model's pairs; **predict** how much time that saves.

# %%
big = {"img_size": 256, "patch_size": 16, "embed_dim": 384, "depth": 1, "num_heads": 6, "base": 4}
batch, best = torch.randn(2, 3, 256, 256), {}
models = {e: build_vit(**big, extra=e, num_classes=0) for e in ("none", "summary", "fractal")}
for _ in range(10):
    for extra, model in models.items():
        start = time.perf_counter()
        with torch.no_grad():
            model(batch)
        best[extra] = min(best.get(extra, math.inf), time.perf_counter() - start)
print({extra: f"{1000 * seconds:.0f} ms" for extra, seconds in best.items()})

# %% [markdown]
# **What you should see:** nothing saved: `fractal` about as slow as `summary` (the same tokens, no mask), or slower. A dense kernel computes
# every score and throws some away. Sparse ones skip tiles, and here no tile of 16 x 16 is blocked as a whole.

# %% [markdown]
# ## 7. Where is a patch?
#
# Usually a *code* tells it, added to each patch. With $q = d/4$:
#
# $$[\sin x w_i,\ \cos x w_i,\ \sin y w_i,\ \cos y w_i], \qquad w_i = 10000^{-i / (q - 1)}, \quad i = 0 \dots q - 1$$
#
# ### Exercise 6: a place's code (medium, important, 8 minutes)
#
# $x$ is the column, $y$ the row, both from 0. First all sines of $x$, then its cosines, then those of $y$.


# %% tags=["exercise"]
def place_code(row, column, dim):
    """Code of a place: a tensor of dim numbers."""
    ### BEGIN SOLUTION q frequencies, from 1 down to 1/10000; then four parts, by torch.cat.
    q = dim // 4
    w = 10000.0 ** (-torch.arange(q) / (q - 1))
    x, y = column * w, row * w
    return torch.cat([x.sin(), x.cos(), y.sin(), y.cos()])
    ### END SOLUTION


# %% tags=["check"]
from clipedu.exercises import check_place_code

check_place_code(place_code)

# %% [markdown]
# **Without any code** (*NoPE*) the model sees a bag of patches: shuffle them, and the answer stays. Registers change nothing, as all patches
# see them alike. But under the fractal mask some patches share a window.
#
# ### Exercise 7: what it can't see (hard, very important, 15 minutes)
#
# A model has the fractal mask, no code, and summary tokens that all begin as zeros. Patches move: place $i$ gets the one that was at
# `layout[i]` (row by row). Does the answer stay?


# %% tags=["exercise"]
def unchanged(layout, grid, base):
    """True if the model can't tell this layout, an int64 tensor [grid * grid], from the first."""
    ### BEGIN SOLUTION Patches that share a window, on each level, must share one afterwards.
    place = torch.arange(grid * grid)
    size = base
    while size <= grid:
        window = place // grid // size * grid + place % grid // size
        mates = window[:, None] == window
        if not torch.equal(mates, mates[layout][:, layout]):
            return False
        size *= base
    return True
    ### END SOLUTION


# %% tags=["check"]
from clipedu.exercises import check_unchanged

check_unchanged(unchanged)

# %% [markdown]
# Now the models, with large random weights in float64, so that what changes is seen and what does not is rounding.

# %%
from clipedu.toys.patch_permutations import LAYOUTS, permutation, permute_tiles

arms = {
    "no extra": {"pos_embed": "none"},
    "registers": {"pos_embed": "none", "extra": "registers"},
    "mask, zeros": {"pos_embed": "none", "extra": "fractal"},
    "mask, learned": {"pos_embed": "none", "extra": "fractal", "summary": "learned"},
    "codes": {"pos_embed": "sincos2d"},
}
pictures = pixels[:4].double() / 127.5 - 1


# %%
@torch.no_grad()
def changes(arm):
    """Largest change of a feature by each layout of the patches."""
    torch.manual_seed(0)
    model = build_vit(**shape, **arm).double().eval()
    for weight in model.parameters():
        if weight.requires_grad and weight.ndim > 1:
            weight.normal_(0, 0.2)
    orders = {name: permutation(name, 8, 2) for name in LAYOUTS}
    moved = {name: permute_tiles(pictures, order, 4) for name, order in orders.items()}
    return {name: (model(x) - model(pictures)).abs().max().item() for name, x in moved.items()}


# %% [markdown]
# **Predict** each of the 35 cells: 0 or not? ("Roll base" moves all by two columns: mind the windows of 4 x 4.)
#
# **What you should see:** without mask and codes, only rounding (1e-13 or less). With zeros, rounding for whatever keeps windows
# together: shuffled inside, swapped, mirrored, rotated. With learned tokens, only for a shuffle inside windows. With codes, nowhere.

# %%
table = pandas.DataFrame({name: changes(arm) for name, arm in arms.items()})
table.map("{:.0e}".format)

# %% [markdown]
# The mask tells **which patches belong together, never where a window is**; learned summary tokens, all different, tell that too. So it
# *can* be known. Is it learned? Two toy tasks on 4 x 4 patches:
#
# - *same window*: two patches are marked; are they in one window? (chance 0.5)
# - *quadrant*: one is marked; in which window? (chance 0.25)

# %%
from clipedu.toys.window_tasks import accuracy_after_training

steps, rows = 150, {}
# fast: steps = 3
for name in list(arms)[1:]:
    rows[name] = {}
    for task in ("same window", "quadrant"):
        rows[name][task] = accuracy_after_training(task, steps=steps, **arms[name])
pandas.DataFrame(rows).T.round(2)

# %% [markdown]
# **What you should see:** registers at chance. The mask with zeros: all right at the first task, chance at the second. Learned tokens and
# codes: above 0.9 at both (if one is not, give it 300 steps).
#
# **Remember:** the mask works as it was made to. Whether it *helps* is another question.

# %% [markdown]
# ## 8. Trained on scenes
#
# Three short runs, all with codes. (Red boxes are progress.)

# %%
extras = {"plain": "none", "registers": "registers", "fractal": "fractal"}
runs = {}
for name, extra in extras.items():
    options = {"extra": extra, "pos_embed": "sincos2d"}
    runs[name] = clipedu.fit(base.replace(image_options=options))

# %% [markdown]
# **What you should see:** TR@1 and IR@1 of a few percent (chance 0.1), in no order to be believed. The *foils* (the true caption against one
# that is wrong in one thing): colour is told in 8 or 9 of 10, place stays near chance, 50 %.

# %%
scores = pandas.DataFrame({name: run.metrics for name, run in runs.items()}).T
scores[["tr@1", "ir@1", "foil_colour", "foil_place"]].round(1)

# %% [markdown]
# So codes are there, and in two epochs no run has learned to use them.
#
# **Are there artifacts?** We look for patches whose norm is above three times the median.
#
# **What you should see:** maps of nearly one colour, no orange squares; norms that grow from block to block, the largest below twice the median,
# 0 % outliers. Extra tokens are about as long as patches.

# %%
from clipedu.evaluation.token_artifacts import artifacts
from clipedu.inference.attention import attention_maps, name_tokens, token_norms
from clipedu.plots.attention import plot_attention, plot_token_norms

models = {name: run.model() for name, run in runs.items()}
norms = {name: (token_norms(m, pixels), name_tokens(m)) for name, m in models.items()}
plot_token_norms(norms, pixels)

# %%
columns = ["median", "largest", "outliers", "detail_correlation"]
last = {name: artifacts(*norms[name], pixels).iloc[-1] for name in norms}
pandas.DataFrame(last).T[columns].round(2)

# %% [markdown]
# (The last column: do patches with more *detail* have larger norms? Artifacts would make it negative.) There is nothing for registers to
# cure. No surprise: Darcet et al. saw artifacts in large models, late in training. So this says nothing against registers, nor for them.
#
# **Where does a token look?** Five tokens of the fractal model; each map is a row of attention, laid out as the patches lie.
#
# **What you should see:** grey where the mask forbids: a summary token sees its own patches alone. Each map has a scale of its own, so read
# the number above it. Patches look at the object first, 5 to 20 % on one patch; in the last block nearly evenly, 2 or 3 % (equal: 1.5 %).

# %%
maps = attention_maps(models["fractal"], pixels[:50])
plot_attention(maps, name_tokens(models["fractal"]), pixels[:50])

# %% [markdown]
# How much do patches look at extra tokens? Equal weights would give 21 of 85 to registers, and 3 of 67 under the mask: a patch sees three.
#
# **What you should see:** shares within a factor of two or so of equal weights.

# %%
for name in ("registers", "fractal"):
    weights = attention_maps(models[name], pixels[:50])[..., 21:, :21].sum(-1)
    seen = 21 / 85 if name == "registers" else 3 / 67
    shares = [f"{share:.0%}" for share in weights.mean((1, 2, 3)).tolist()]
    print(f"{name}: block by block {', '.join(shares)}; equal weights {seen:.0%}")

# %% [markdown]
# ## 9. Measured on long runs
#
# **The paper's answer is no:** its abstract says that summary tokens and the fractal mask do not improve on registers. Its tables we know at
# second hand only (uncertain): ViT-S/16, ImageNet-1k, 256 pixels, 17 extra tokens, codes: 77.7 % with registers, 77.6 with summary tokens,
# 77.6 with the mask; without codes about 73. Equal runs (at 224 pixels) spread by 0.13.
#
# How would *you* tell?
#
# ### Exercise 8: a paired interval (medium, very important, 10 minutes)
#
# Two variants, the same $n$ seeds. A hard seed is hard for both: take the *differences*. Their mean is uncertain by $t\, s / \sqrt{n}$, with $s$
# their standard deviation (divide by $n - 1$) and $t$ of Student's distribution with $n - 1$ degrees of freedom:
# `scipy.stats.t.ppf(0.975, n - 1)`.


# %% tags=["exercise"]
def paired_interval(new, old):
    """Mean of new - old, and half the width of its 95 % interval. Scores [n], a seed each."""
    ### BEGIN SOLUTION Differences first; their std over the root of n; times the quantile.
    from scipy.stats import t

    difference = new - old
    error = difference.std() / math.sqrt(len(difference))
    return difference.mean(), t.ppf(0.975, len(difference) - 1) * error
    ### END SOLUTION


# %% tags=["check"]
from clipedu.exercises import check_paired_interval

check_paired_interval(paired_interval)

# %% [markdown]
# With three seeds $t$ is 4.303; many use 1.96. Here are 20,000 experiments of three seeds whose true difference is 0.
#
# **What you should see:** 1.96 calls one experiment in five a discovery; 4.303 one in twenty, as it should.

# %%
differences = torch.randn(20_000, 3)
error = differences.std(1) / math.sqrt(3)
for t in (1.96, 4.303):
    found = (differences.mean(1).abs() > t * error).double().mean().item()
    print(f"t = {t}: a difference is 'found' in {found:.1%}")

# %% [markdown]
# `clipedu compare vit` trains plain, *wide* (plain, with an MLP that costs what extra tokens would), registers, summary tokens and the
# fractal mask: scenes, 750 steps, three seeds; on a GPU, 78 runs. TR@1 and its interval, unpaired:
#
# | | no codes | sincos2d | learned | ALiBi | RoPE |
# |---|---|---|---|---|---|
# | plain | 48 ± 2 | 64 ± 8 | 49 ± 4 | 48 ± 1 | 48 ± 5 |
# | wide | 50 ± 5 | 65 ± 3 | 50 ± 1 | 51 ± 5 | 49 ± 7 |
# | registers | 49 ± 2 | 62 ± 5 | 51 ± 4 | 49 ± 3 | 50 ± 8 |
# | summary | 48 ± 2 | 62 ± 6 | 51 ± 4 | 49 ± 1 | 50 ± 8 |
# | fractal | 47 ± 2 | 63 ± 5 | 49 ± 2 | 48 ± 2 | 49 ± 1 |
#
# Fixed codes are worth 15 points; extra tokens and the mask nothing that three seeds could show. (Summary equals registers, to the
# digit, where both are learned: without a mask they are the same.) Seed by seed, with `sincos2d`:

# %%
from clipedu.utils.statistics import interval

registers = torch.tensor([63.4, 59.9, 62.7])
fractal = torch.tensor([64.7, 60.8, 63.8])
mean, half = interval(fractal - registers)
print(f"TR@1: {mean:.1f} ± {half:.1f}")

# %% [markdown]
# A win? It is one of 140 intervals, the mask against another with one encoding in one score. Ten exclude 0, seven would by chance; nine of the
# ten are *losses*.
#
# **Remember:** before you credit a design, ask what it costs, what else that would buy, and how large the noise is.

# %% [markdown]
# ## 10. The lab
#
# 1. Which bases can a grid of 16 carry, which one of 14? What is special about the largest base of each?
# 2. At 16 x 16, which base blocks the largest share of pairs? What does it cost?
# 3. Choose a patch, and then "2 blocks". By way of which token does it see everything?

# %%
from clipedu.widgets.masks import MaskLab

lab = MaskLab()
lab

# %% tags=["fast"]
lab.grid.value, lab.level.value = 8, "4 x 4"
assert lab.mask.shape == (85, 85), lab.script
lab.status.value

# %% [markdown]
# Without widgets, each view is two calls; `lab.script` writes them down.

# %%
print(lab.script)

# %% [markdown]
# ## Your turn
#
# - Give the toy tasks `pos_embed="alibi"` and `"rope"`. Which task can *distances* never solve? (Mirror the picture.)
# - `SCALE = "laptop"`, more epochs: when does `foil_place` leave chance? With which `pos_embed` first?
# - With a network: `timm.create_model("vit_large_patch14_dinov2", pretrained=True, img_size=224)`, and its twin
#   `vit_large_patch14_reg4_dinov2`: are there artifacts in the one, and not in the other? (Not tried by us.)
# - Train `extra="summary"` with `pos_embed="none"`: summary tokens that are all zeros, and no mask. Why is that a single register?
#
# **Remember:** registers are room to write, summary tokens are room with a place, a mask says who may look. Each can be checked in a minute;
# whether it helps takes seeds.
