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
# # Two encoders: what the towers know before they meet
#
# **Afterwards you can** follow a picture and a caption through their encoders, pool a text without its padding, say what a projection keeps,
# join the halves of two models that never saw each other, and look into a model of your own.
#
# | | |
# |---|---|
# | Time | 75 minutes; of these, computing: 2 minutes on two CPU cores (not measured on a GPU) |
# | Disk | 20 MB, in the folder `runs/` beside this notebook |
# | Download | none |
# | Before this | `05_train.ipynb` |

# %% [markdown]
# ## 0. Settings

# %%
import math
from tempfile import TemporaryDirectory

import matplotlib.pyplot as plt
import pandas
import torch

import clipedu

# %%
SCALE = "tiny"
experiment = clipedu.Experiment.preset(SCALE, batch_size=64, epochs=4)
# fast: experiment = experiment.replace(train_size=640, epochs=1)
pairs = clipedu.load_pairs("scenes", "val", size=200)
rows = torch.arange(8)

# %% [markdown]
# ## 1. Two towers
#
# CLIP is two models that know nothing of each other: a network for pictures, without its last layer, and a transformer for texts. Each ends in
# *features*, in a width of its own.
#
# **Predict:** which of the two has more parameters?

# %%
from clipedu.training import build_tokenizer, load_train

tokenizer = build_tokenizer(experiment, load_train(experiment))
special = tokenizer.special_tokens
untrained = clipedu.build_model(experiment, tokenizer.vocab_size, special_tokens=special).eval()
untrained.tokenizer = tokenizer
for name, part in untrained.named_children():
    print(f"{name:18} {sum(p.numel() for p in part.parameters()):>9,} parameters")
table = untrained.text_encoder.get_input_embeddings().weight
print("of these, the table of tokens:", f"{table.numel():,}", list(table.shape))

# %% [markdown]
# **What you should see:** features of two widths, and one width, 128, for both behind the projections.

# %%
pairs.tokenize(tokenizer)
pixels, (ids, mask) = pairs.pixels(rows), pairs.tokens(rows)
with torch.no_grad():
    image = untrained.image_features(pixels)
    states = untrained.text_encoder(input_ids=ids, attention_mask=mask.long())[0]
    text = untrained.text_features(ids, mask)
print("pixels", list(pixels.shape), "-> image features", list(image.shape))
print("tokens", list(ids.shape), "-> states", list(states.shape), "-> text features", list(text.shape))
both = untrained.project_image(image), untrained.project_text(text)
print("embeddings", *(list(side.shape) for side in both))

# %% [markdown]
# The text encoder gives a *state* for each token, and *pooling* makes one vector of them. (The image encoder, a small ResNet, pools inside.)

# %% [markdown]
# ## 2. What a text encoder gets
#
# The tokenizer, trained on these captions, cuts a text into pieces that it knows; `##` goes on with a word.
#
# **Predict:** "hexagon" is in none of our captions. What happens to it?

# %%
for caption in ("a large red star", "a large red hexagon", "A LARGE red star!"):
    numbers, lengths = tokenizer.encode([caption])
    print(lengths[0], *tokenizer.tokenizer.convert_ids_to_tokens(numbers[0][: lengths[0]]))

# %% [markdown]
# **What you should see:** an unknown word falls to letters, and takes 7 of the 24 places that a text has (CLIP: 77). Capitals are gone; "!" is
# `[UNK]`, for no caption has it.
#
# **Remember:** a tokenizer belongs to its weights. Token 17 of another is another word, and nothing fails.

# %% [markdown]
# ## 3. Pooling
#
# Short captions of a batch are filled up with `[PAD]`; the *mask* is true where a token is real.
#
# ### Exercise 1: the mean of a text (medium, very important, 8 minutes)
#
# `states` is [B, L, H], `mask` bool [B, L]. Return each text's mean over its own tokens, [B, H].


# %% tags=["exercise"]
def mean_pooling(states, mask):
    """Mean of the states where the mask is true, [B, H]."""
    ### BEGIN SOLUTION Zero the padding, add up, divide by how many are real.
    real = mask[..., None].to(states.dtype)
    return (states * real).sum(1) / real.sum(1)
    ### END SOLUTION


# %% tags=["check"]
from clipedu.exercises import check_mean_pooling

check_mean_pooling(mean_pooling)

# %% [markdown]
# BERT's tokens all see each other, so the mean, or the first token (`cls`), will do. GPT and CLIP's text encoder read from left to right: their first
# token has seen nothing. Only the last one knows the whole text.
#
# ### Exercise 2: the last token (easy, very important, 5 minutes)
#
# Return the state of each text's last *real* token, [B, H].


# %% tags=["exercise"]
def last_pooling(states, mask):
    """State of each text's last token, [B, H]."""
    ### BEGIN SOLUTION A text of n tokens ends in place n - 1; index rows and places.
    last = mask.sum(1) - 1
    return states[torch.arange(len(states)), last]
    ### END SOLUTION


# %% tags=["check"]
from clipedu.exercises import check_last_pooling

check_last_pooling(last_pooling)

# %% [markdown]
# **What does forgetting the mask cost?** The same caption, with more and more padding. **Predict.**
#
# **What you should see:** under the mask a cosine of 1.00: padding changes nothing. Without it, the embedding moves away: it would depend on the
# longest caption of its batch.

# %%
from clipedu.inference.texts import read_text

caption = "a large red star above a small blue ring"
for length in (11, 14, 18, 24):
    right = read_text(untrained, caption, length=length)
    wrong = read_text(untrained, caption, length=length, masked=False)
    print(f"{length} tokens: masked {right.cosine:.2f}, not masked {wrong.cosine:.2f}")

# %% [markdown]
# ## 4. Train two models
#
# Same data, same recipe, another seed: other first weights, another order of pairs. (Red boxes are progress.)

# %%
runs = [clipedu.fit(experiment.replace(seed=seed)) for seed in (0, 1)]
models = [run.model() for run in runs]
scores = pandas.DataFrame([run.metrics for run in runs], index=["A", "B"])
scores[["tr@1", "ir@1", "top1"]].round(1)

# %% [markdown]
# **What you should see:** two models about equally good.
#
# **Which words does a trained text encoder listen to?** Leave out one token at a time; how far does the embedding move?
#
# **Predict** the order of "large", "red", "star", "above". **What you should see:** colours far ahead: the model tells colours apart, and hardly
# shapes or places. In the upper panel each token has an equal share: this pooling does not choose.

# %%
from clipedu.plots.texts import plot_reading

plot_reading(read_text(models[0], caption, length=14))

# %% [markdown]
# ## 5. Before and after the projection
#
# A projection is one matrix: it can turn, stretch and drop. To see what a vector *knows*, train a simple classifier on it, a *probe*: here logistic
# regression, on 16 labelled pictures of each of 100 classes ("a red star").
#
# **Predict** an order: features and embeddings, of the untrained and the trained model. Chance is 1 %.

# %%
from clipedu.data.labelled import labelled_training
from clipedu.evaluation import probe_scores

labelled = clipedu.load_pairs("scenes", "zeroshot")
shots, found = [16], {}
# fast: shots = [2]
more = labelled_training(labelled, scenes_a_class=shots[0] + 4)
for name, model in {"untrained": untrained, "trained": models[0]}.items():
    frame = probe_scores(model, more, labelled, probes=["linear"], shots=shots, seeds=[0])
    found[name] = {f"{row.probe}, {row.features}": row.top1 for row in frame.itertuples()}
pandas.DataFrame(found).round(1)

# %% [markdown]
# **What you should see:** a probe of the untrained network is *not* at chance: random filters see colours. Zero-shot it is: the towers have not met.
# Training lifts all rows. Behind the projection a probe finds about as much as before it, or a little less: a matrix adds nothing.
#
# **Remember:** what a vector knows (probe) and what the towers agree on (zero-shot) are two things.

# %% [markdown]
# ## 6. Cut apart, and stitched
#
# Take A's image tower and B's text tower. Both models put matching pairs side by side, in 128 numbers.
#
# **Predict** TR@1 of this pair. Chance is well below 1 %.

# %%
from clipedu.evaluation import retrieval
from clipedu.inference.embed import embed_pairs

a, b = (embed_pairs(model, pairs) for model in models)
cosine, owner = models[0].geometry, a.owner
both = {"A with A": (a, a), "B with B": (b, b), "A with B": (a, b)}
scores = {name: retrieval(x.image, y.text, owner, cosine) for name, (x, y) in both.items()}
pandas.DataFrame(scores).T[["tr@1", "tr@10", "ir@1"]].round(1)

# %% [markdown]
# **What you should see:** A with B is at chance. The loss sees only cosines within a model, and these stay when the whole space is turned. So
# number 17 of A means nothing to B.
#
# What *can* be compared? Choose a few pairs, the **anchors**. Do not ask where a vector lies; ask how similar it is to each anchor. These *relative
# representations* (Moschella et al., arXiv:2209.15430) need no axes.
#
# ### Exercise 3: relative representations (easy, very important, 6 minutes)
#
# `x` is [N, D], `anchors` [K, D], of any length. Return the cosine of each to each, [N, K].


# %% tags=["exercise"]
def relative(x, anchors):
    """Cosines to the anchors, [N, K]."""
    ### BEGIN SOLUTION Divide all rows by their lengths; one matrix product does the rest.
    x = x / x.norm(dim=1, keepdim=True)
    anchors = anchors / anchors.norm(dim=1, keepdim=True)
    return x @ anchors.T
    ### END SOLUTION


# %% tags=["check"]
from clipedu.exercises import check_relative

check_relative(relative)

# %% [markdown]
# Turn A's space at random. **What you should see:** coordinates move by more than they are long; relative ones by rounding.

# %%
turn = torch.linalg.qr(torch.randn(128, 128, dtype=torch.double)).Q
x, anchors = a.image[10:].double(), a.image[:10].double()
before, after = relative(x, anchors), relative(x @ turn, anchors @ turn)
print(f"coordinates move by {(x @ turn - x).norm() / x.norm():.2f} of their length")
print(f"relative ones by at most {(after - before).abs().max():.0e}")

# %% [markdown]
# Now stitch. Anchors are pairs of the training set: A's image tower embeds their pictures, B's text tower their captions. A new picture is K
# cosines to pictures, a new caption K cosines to captions. Nothing is trained.
#
# *Centred* takes the anchors' mean from each side first: all embeddings of a side share a direction (the *modality gap*), and it is in every
# cosine.
#
# **Predict:** how many anchors reach half of A's own score?

# %%
from clipedu.evaluation.relative import stitched_retrieval

known = clipedu.load_pairs("scenes", "train", size=300)
pictures, words = embed_pairs(models[0], known).image, embed_pairs(models[1], known).first_text
counts, curves = [3, 10, 30, 100, 300], {}
for centred in (False, True):
    curves[centred] = []
    for k in counts:
        given = {"image_anchors": pictures[:k], "text_anchors": words[:k], "centred": centred}
        curves[centred].append(stitched_retrieval(a.image, b.text, owner, **given)["tr@1"])

# %% [markdown]
# **What you should see:** ten anchors are far above chance; with a hundred, halves that never met reach more than half of A's own score. Plain
# cosines stay well below.

# %%
figure, ax = plt.subplots(figsize=(8, 3.6), layout="constrained")
ax.axhline(scores["A with A"]["tr@1"], color="black", label="A with A")
ax.plot(counts, curves[True], "o-", label="A with B, relative, centred")
ax.plot(counts, curves[False], "s--", label="A with B, relative, plain")
at_chance = scores["A with B"]["tr@1"]
ax.axhline(at_chance, color="grey", linestyle=":", label="A with B, coordinates")
ax.set(xscale="log", xlabel="anchors", ylabel="TR@1 (%)")
ax.set_xticks(counts, counts)
legend = figure.legend(loc="outside right upper", fontsize=8)

# %% [markdown]
# **Remember:** two trainings find the same *arrangement*, in other axes. A few pairs known to both are enough to translate.

# %% [markdown]
# ## 7. The lab
#
# Type captions of your own; the last lines repeat your view in Python.
#
# 1. Add padding and take it out of the mask. Which pooling does it hurt most? Why?
# 2. Which word moves the embedding most? Try "a star", then "a red star", then a word that the tokenizer does not know.
# 3. Take a pooling that the model was not trained with. How much of its own embedding is left?

# %%
from clipedu.widgets.texts import TextLab

lab = TextLab(models[0])
lab

# %% tags=["fast"]
lab.padding.value, lab.mask.value = 8, False
assert lab.reading.real == 11 and len(lab.reading.tokens) == 19, lab.status.value
lab.status.value

# %% [markdown]
# Without widgets, a view is two calls, `read_text` and `plot_reading`:

# %%
print(lab.script)

# %% [markdown]
# ## 8. Your own model in
#
# `clipedu.adopt` takes a CLIP or SigLIP of transformers or open_clip, from the hub, a folder or memory. Without a network, we make a small one with
# random weights.

# %%
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel

size = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
size |= {"num_attention_heads": 4}
marks = {f"{name}_token_id": special[name] for name in ("bos", "eos", "pad")}
marks |= {"vocab_size": tokenizer.vocab_size, "max_position_embeddings": 24}
towers = {"text_config": size | marks}
towers |= {"vision_config": size | {"image_size": 32, "patch_size": 8}}
torch.manual_seed(0)
config = CLIPConfig(**towers, projection_dim=24)
theirs, processor = CLIPModel(config), CLIPImageProcessor()
mine = clipedu.adopt(theirs, tokenizer=tokenizer.tokenizer, image_processor=processor)
print(mine.image_size, mine.resize, f"logit scale {math.exp(mine.logit_scale):.1f}", mine.widths)

# %% [markdown]
# Saved to a folder and read again, it is the same model:

# %%
with TemporaryDirectory() as folder:
    for part in (theirs, tokenizer.tokenizer, processor):
        part.save_pretrained(folder)
    saved = clipedu.adopt(folder)
with torch.no_grad():
    print(torch.equal(saved.encode_image(pixels), mine.encode_image(pixels)))
scores = clipedu.evaluate(mine, pairs)
print({name: round(scores[name], 1) for name in ("tr@1", "ir@1", "modality_gap")})

# %% [markdown]
# **What you should see:** True, then scores at chance, and a gap above 1 (it is 2 at most): the two sides of an untrained CLIP lie far apart.
#
# Its image encoder is a vision transformer: a picture becomes patches, and each a token.
#
# ### Exercise 4: how many tokens (easy, important, 5 minutes)
#
# Square pictures, square patches that do not overlap, one class token. What does not fill a patch is left out.


# %% tags=["exercise"]
def image_tokens(image_size, patch_size):
    """Tokens of a vision transformer, the class token included."""
    ### BEGIN SOLUTION How many whole patches fit along one side? Square, add one.
    side = image_size // patch_size
    return side**2 + 1
    ### END SOLUTION


# %% tags=["check"]
from clipedu.exercises import check_image_tokens

check_image_tokens(image_tokens)

# %% [markdown]
# **Attention** says where a token looks. **Predict:** where does an untrained model look?
#
# **What you should see:** everywhere: each token spreads its attention over more than 16 of 17. The largest weight in a map (written above it) is 6 or
# 7 %, where equal ones are 6 %. What attention maps show is learned; `09_registers_and_fractal_vit` has trained ones.

# %%
from clipedu.inference.attention import name_tokens
from clipedu.plots.attention import plot_attention

maps = clipedu.attention_maps(mine, pixels)
spread = torch.special.entr(maps).sum(-1).exp().mean()
print(f"{image_tokens(32, 8)} tokens; attention is spread over {spread:.1f} of them")
plot_attention(maps, name_tokens(mine), pixels)

# %% [markdown]
# **Another image size:** the positions are resampled, as the model's library does it. What cannot work is one line:

# %%
larger = clipedu.adopt(theirs, tokenizer=tokenizer.tokenizer, image_processor=processor, image_size=64)
print(len(name_tokens(larger).names), "tokens at 64 pixels")
for given in ({"tokenizer": tokenizer.tokenizer, "image_size": 50}, {}):
    try:
        clipedu.adopt(theirs, image_processor=processor, **given)
    except clipedu.ClipeduError as error:
        print(error)

# %% [markdown]
# With a network, a real one is one line, and every cell above takes it in place of `mine`:
#
# ```python
# model = clipedu.adopt("hf:openai/clip-vit-base-patch32")
# model = clipedu.adopt("open_clip:ViT-B-32", weights="laion2b_s34b_b79k")
# ```
#
# Open pairs with `image_size=model.image_size, resize=model.resize`.

# %% [markdown]
# ## Your turn
#
# - Stitch with anchors that are captions on *both* sides, by A's and B's text towers. Why are fewer needed?
# - Do A and B stitch if they have different encoders (`image_encoder="fractal_vit_nano_patch4_32"`)? Or another `embedding_dim`?
# - Train with `text_pooling="cls"`, then open the lab: which words matter now?
# - Adopt two real models, and stitch one's image tower to the other's text tower, with anchors of Flickr8k.
#
# **Remember:** pool what is real; a projection keeps what the loss asks for; the arrangement is the model, the axes are an accident.
