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
# # Data: look before you train
#
# **Afterwards you can** say what is in a set of image-caption pairs: its words, its copies, its dead links; what a sample of it
# means; when augmentation makes a caption false; and which rows a step sees.
#
# | | |
# |---|---|
# | Time | 80 minutes; of these, computing: 1 to 2 minutes on two CPU cores (not measured on a GPU) |
# | Disk | 10 MB in `runs/`; with Flickr8k, 75 MB more in the cache folder |
# | Download | none |
# | Before this | `00_start_here.ipynb` |

# %% [markdown]
# ## 1. Open a set
#
# *Scenes* are drawn here. If the environment variable `CLIPEDU_DATA` names a folder with `flickr8k` in it, you see photographs as well.

# %%
import math

import torch

import clipedu
from clipedu.data import survey
from clipedu.data.load import available
from clipedu.data.scenes.mirror import falsified
from clipedu.plots import data as plots

# %%
SIZE = 4000
# fast: SIZE = 1000
sets = {"scenes": clipedu.load_pairs("scenes", size=SIZE, image_size=64)}
if "flickr8k" in available():
    sets["flickr8k"] = clipedu.load_pairs("flickr8k", image_size=64)
for name, pairs in sets.items():
    print(f"{name}: {len(pairs):,} pictures, {len(pairs.skipped)} samples were left out")

# %% [markdown]
# A row is one picture with one or more captions. **What you should see:** captions of scenes name all there is; those of
# photographs little of it.

# %%
pairs = sets.get("flickr8k", sets["scenes"])
plots.show_pairs(pairs, range(12))

# %% [markdown]
# ## 2. Captions
#
# **What you should see:** medians of 10 to 11 words, and hardly a caption that a limit of 30 tokens would cut.

# %%
captions = {name: survey.all_captions(pairs) for name, pairs in sets.items()}
plots.plot_lengths(captions)

# %% [markdown]
# Now sort the words by how often they are there. **What you should see:** for photographs nearly a straight line (Zipf's law), and two
# fifths of the words used only once. The language of scenes stops after 79.

# %%
counts = {name: survey.word_counts(texts) for name, texts in captions.items()}
plots.plot_rank_frequency(counts)

# %% [markdown]
# Captions from web pages may hold what a page holds: `&amp;` for "&". open_clip unescapes it before its tokenizer; here
# `clean_captions="web"` does. **What you should see:** none in these sets, whose captions people wrote.

# %%
for name, texts in captions.items():
    print(f"{name}: {len(survey.escaped_html(texts)):,} of {len(texts):,} captions hold escaped HTML")

# %% [markdown]
# **Remember:** most words are rare. What a model knows of them, it has from few pictures.

# %% [markdown]
# ## 3. Copies
#
# Two pairs of a batch with one caption are *false negatives*. A picture in training with a copy in the test is worse: the
# score is no longer about new pictures.
#
# ### Exercise 1: what must go? (easy, important, 5 minutes)
#
# How many items of a list have to be deleted, until each different one is there once?


# %% tags=["exercise"]
def surplus(items):
    """How many of the items are copies of an earlier one."""
    ### BEGIN SOLUTION A set holds each item once: compare its size with the list's.
    return len(items) - len(set(items))
    ### END SOLUTION


# %% tags=["check"]
from clipedu.exercises import check_surplus

check_surplus(surplus)

# %% [markdown]
# For pictures, compare a hash of their bytes. **What you should see:** of the scenes, nearly a fifth of the captions but no picture; of Flickr8k, under
# 1 % of the captions and one picture. No picture has a *letterbox*, plain borders on two sides: img2dataset, which fetches sets from the
# web, adds them by default to make pictures square, and a model then sees them.

# %%
for name, pairs in sets.items():
    texts = captions[name]
    pictures = survey.pixel_digests(pairs)
    print(name)
    print(f"  captions: {surplus(texts):6,} of {len(texts):6,} are copies")
    print(f"  pictures: {surplus(pictures):6,} of {len(pictures):6,}")
    print(f"  letterboxes: {int(survey.letterboxes(pairs).sum()):3,} of {len(pictures):6,}")

# %% [markdown]
# Saved once more, a picture has other bytes. A *difference hash* shrinks it to 8 x 9 grey pixels and asks of each: brighter than its
# right neighbour? Similar pictures have similar answers. **From scratch, what you should see:** the library's answers.

# %%
from torch.nn.functional import adaptive_avg_pool2d


def difference_hash(pixels):
    grey = pixels.float().mean(dim=1, keepdim=True)
    small = adaptive_avg_pool2d(grey, (8, 9))[:, 0]
    brighter = small[:, :, :-1] > small[:, :, 1:]
    return brighter.flatten(1)


some = sets["scenes"].pixels(torch.arange(50))
print("equal:", torch.equal(difference_hash(some), survey.difference_hash(some)))

# %% [markdown]
# ### Exercise 2: distances between hashes (medium, important, 8 minutes)
#
# In how many bits does each hash differ from each other one? No loop over pictures. (`one[:, None]` has the shape `[N, 1, K]`.)


# %% tags=["exercise"]
def hamming(one, other):
    """How many bits differ: one bool [N, K], other bool [M, K] -> [N, M]."""
    ### BEGIN SOLUTION Compare one[:, None] with other[None]; sum over the bits, dim 2.
    return (one[:, None] != other[None]).sum(dim=2)
    ### END SOLUTION


# %% tags=["check"]
from clipedu.exercises import check_hamming

check_hamming(hamming)

# %% [markdown]
# How near is near? **What you should see:** for photographs the number explodes after 4 bits. For scenes it is large from the start:
# their even backgrounds look alike.

# %%
for name, pairs in sets.items():
    hashes = survey.difference_hashes(pairs)
    found = [len(survey.near_copies(hashes, bits)) for bits in (0, 2, 4, 6, 8)]
    print(f"{name}: pairs that differ in at most 0, 2, 4, 6, 8 bits:", found)

# %% [markdown]
# Look. **What you should see:** the nearest first: in Flickr8k one true copy, then strangers; in the scenes strangers only.

# %%
pairs = sets.get("flickr8k", sets["scenes"])
near = survey.near_copies(survey.difference_hashes(pairs), 7)
plots.show_copies(pairs, near.tolist())

# %% [markdown]
# ## 4. Links die
#
# CC3M is a list of 3,318,333 links with captions. Its mirror `pixparse/cc3m-wds`, fetched in December 2021, holds the 2,905,954 pairs
# whose pictures were still there.
#
# ### Exercise 3: a half-life (easy, important, 6 minutes)
#
# If each year takes the same share of the links that are left, what is left after $t$ years is $2^{-t/h}$. Find $h$.


# %% tags=["exercise"]
def half_life(lost, years):
    """Years until half of the links are dead, when a share `lost` of them is after `years`."""
    ### BEGIN SOLUTION Solve 1 - lost = 2 ** (-years / h) for h, with math.log.
    return years * math.log(2) / -math.log(1 - lost)
    ### END SOLUTION


# %% tags=["check"]
from clipedu.exercises import check_half_life

check_half_life(half_life)

# %% [markdown]
# **What you should see:** three observations (the last two as users told), with half-lives from 18 down to 7 years: no constant rate.

# %%
plots.plot_link_rot()

# %% [markdown]
# Two people who fetch "CC3M" two years apart have different data. So name the copy and its revision.

# %% [markdown]
# ## 5. What 100,000 of 3.3 million means
#
# If $p$ is the share of all $N$ captions that have a word, and $n$ are drawn, none twice, then the word's frequency in the sample has the
# *relative* standard error
#
# $$\sqrt{\frac{1-p}{p\,n} \cdot \frac{N-n}{N-1}}$$
#
# ### Exercise 4: the error of a sample (medium, important, 6 minutes)


# %% tags=["exercise"]
def sampling_error(share, sample, population):
    """Relative standard error of a word's frequency in a sample without replacement."""
    ### BEGIN SOLUTION Type the formula: p is share, n is sample, N is population.
    rest = (population - sample) / (population - 1)
    return math.sqrt((1 - share) / (share * sample) * rest)
    ### END SOLUTION


# %% tags=["check"]
from clipedu.exercises import check_sampling_error

check_sampling_error(sampling_error)

# %% [markdown]
# **What you should see:** 1 % for a word in one of ten captions, 31 % for one in ten thousand, 98 % for one in a hundred thousand.

# %%
for share in (0.1, 0.01, 1e-3, 1e-4, 1e-5):
    error = sampling_error(share, 100_000, 3_318_333)
    print(f"in {share:8.3%} of captions: {share * 100_000:6.0f} examples, give or take {error:.1%}")

# %% [markdown]
# Draw a tenth of our captions. **What you should see:** about 95 % of the words inside the band. In Flickr8k, rare ones three times too
# frequent, or missing.

# %%
texts = captions["flickr8k" if "flickr8k" in sets else "scenes"]
plots.plot_sampling(texts, len(texts) // 10)

# %% [markdown]
# The first 20 shards are a random sample only if somebody has shuffled the set. Nobody knows that of CC3M; so take 20 shards spread over
# all 576.
#
# **Whose is it?** CC3M's list may be used for any purpose, without warranty; the pictures belong to their owners. Flickr8k is for
# non-commercial research and education. Scenes are yours.

# %% [markdown]
# ## 6. Augmentation
#
# A random crop keeps half to all of the picture, a flip swaps its sides, and RandAugment draws two of ten operations, each done half of the
# time. **What you should see:** all of them at the course's strength.

# %%
pairs = sets.get("flickr8k", sets["scenes"])
picture = pairs.pixels(torch.tensor([3]))[0]
plots.show_operations(picture)

# %% [markdown]
# One of them **from scratch**: autocontrast makes the darkest value of each colour 0 and the brightest 255. **What you should see:** 0, or nearly.

# %%
from clipedu.data.augment import operate


def autocontrast(pixels):
    low = pixels.amin(dim=(2, 3), keepdim=True)
    high = pixels.amax(dim=(2, 3), keepdim=True)
    return 255 * (pixels - low) / (high - low)


one = picture[None].float()
difference = autocontrast(one) - operate("autocontrast", one)
print("largest difference:", difference.abs().max().item())

# %% [markdown]
# Now what a run sees, step by step. **What you should see:** the second row has the first row's crops, some mirrored; in the third some are also
# recoloured or moved.

# %%
plots.show_augmented(picture)

# %% [markdown]
# ### When a flip lies
#
# We know what a scene's captions claim: are they false of the mirror image? **What you should see:** two in five are, and
# exactly those that say "left" or "right". In Flickr8k 0.4 % do.

# %%
scenes, rows = sets["scenes"], range(500)
false = falsified(scenes, rows)
named = [survey.names_a_side(caption) for caption in captions["scenes"][: len(false)]]
print(f"scenes: {sum(false) / len(false):.1%} are false after a flip")
print("the same that name a side:", false == named)
for name, texts in captions.items():
    print(f"{name}: {sum(map(survey.names_a_side, texts)) / len(texts):.1%} of captions name a side")

# %% [markdown]
# **What you should see:** mirror images with their old captions, and our verdicts. Check them.

# %%
first = false[::5]  # of each scene's first caption
rows = [row for row in range(30) if first[row]][:3]
rows += [row for row in range(30) if not first[row]][:3]
plots.show_mirrored(scenes, rows, [first[row] for row in rows])

# %% [markdown]
# What does a model make of that? We trained `laptop` for three epochs and let it choose between the true caption of one object and the
# mirror image's. With `augment="crop"` it was right for 82 % of the scenes; with `"crop-flip"` for 49 %: chance.
#
# ### Exercise 5: mend the caption (medium, important, 8 minutes)
#
# If the picture is flipped, exchange "left" and "right" in its caption.


# %% tags=["exercise"]
def swap_sides(caption):
    """The caption of the mirror image."""
    ### BEGIN SOLUTION Split into words; exchange each that is 'left' or 'right'; join.
    other = {"left": "right", "right": "left"}
    return " ".join(other.get(word, word) for word in caption.split())
    ### END SOLUTION


# %% tags=["check"]
from clipedu.exercises import check_swap_sides

check_swap_sides(swap_sides)

# %% [markdown]
# ## 7. From rows to batches
#
# The order of an epoch is drawn from the seed and the number of the epoch. **What you should see:** each epoch has its own, and it can be
# drawn again.

# %%
from clipedu.data.batches import epoch_order

for epoch in (0, 1, 0):
    print(f"epoch {epoch}:", epoch_order(len(scenes), seed=0, epoch=epoch)[:10].tolist())

# %% [markdown]
# Two GPUs share each batch of 128: the first takes 64 rows, the second the others. Were each given half of the *epoch*, the batches would
# depend on the number of GPUs.
#
# ### Exercise 6: my rows (medium, very important, 8 minutes)
#
# Which rows does process `rank` of `ranks` need at a step? (The batch size can be divided by `ranks`.)


# %% tags=["exercise"]
def my_rows(order, step, batch_size, rank, ranks):
    """Rows of this process at this step, int64 [batch_size / ranks]."""
    ### BEGIN SOLUTION The batch starts at step * batch_size; add rank pieces to that.
    each = batch_size // ranks
    start = step * batch_size + rank * each
    return order[start : start + each]
    ### END SOLUTION


# %% tags=["check"]
from clipedu.exercises import check_my_rows

check_my_rows(my_rows)

# %% [markdown]
# While the GPU works on a batch, a thread gathers the next two from the decoded pixels. Here a "step" takes 20 milliseconds. **What you
# should see:** a few per cent of waiting or less, most of it for the first batch.

# %%
import time

from clipedu.data.batches import batches
from clipedu.data.prefetch import Prefetch
from clipedu.data.tokenizer import train_tokenizer

scenes.tokenize(train_tokenizer(captions["scenes"], length=30))
source = Prefetch(batches(scenes, batch_size=64, seed=0, epoch=0))
began = time.perf_counter()
for _ in source:
    time.sleep(0.02)  # the model's step
print(f"{source.waited / (time.perf_counter() - began):.1%} of the time was spent waiting")

# %% [markdown]
# Now all of it in a small run. (The red box is its progress, no error.) Its page `report.html` says which data, how many rows, which augmentation.

# %%
experiment = clipedu.Experiment.preset("tiny", train_size=2000, epochs=1, augment="crop")
# fast: experiment = experiment.replace(train_size=640)
run = clipedu.fit(experiment)
print(f"trained in {run.seconds:.0f} s: {run.folder}/report.html")

# %% [markdown]
# Does this model know left from right? **What you should see:** numbers near 50 %: so small a run has not learned it yet.

# %%
from clipedu.evaluation.foils import side_scores

test = clipedu.load_pairs("scenes", "val", image_size=32)
for objects, score in side_scores(run.model(), test).items():
    print(f"{objects}: {score:.0f} % right")

# %% [markdown]
# **Remember:** look at the data first, name the version you had, and ask of each augmentation whether the caption is still true.
