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
# # Optimizers: what one step does
#
# **Afterwards you can** write SGD, Adam, AdamW and Lion from memory, say why L2 inside Adam is no weight decay, see what Muon and
# Scion do to a gradient, list what a model's optimizer decays, and make a decay follow its schedule.
#
# | | |
# |---|---|
# | Time | 90 minutes; of these, computing: 1 to 2 minutes on two CPU cores (not measured on a GPU) |
# | Disk | 10 MB, in the folder `runs/` beside this notebook |
# | Download | none |
# | Before this | `00_start_here.ipynb` |

# %% [markdown]
# ## 0. Settings

# %%
import torch

import clipedu
from clipedu.plots import optimizers as plots
from clipedu.toys.landscapes import coupled_minimum, descend

# %%
SCALE = "tiny"
experiment = clipedu.Experiment.preset(SCALE)
# fast: experiment = experiment.replace(train_size=640, batch_size=32, epochs=1)

# %% [markdown]
# ## 1. SGD with momentum
#
# To *see* a step, here is a model of two weights. `descend` walks it with the library's real optimizers. Its loss is a narrow valley
# whose minimum is not at the origin, because weight decay pulls there.
#
# **Predict:** what does momentum buy, what does it cost? **What you should see:** without it, down to the floor of the valley, then a
# creep that is far from over after 100 steps. With 0.9, there in about 55, but across the floor and beyond first.

# %%
paths = {}
for momentum in (0.0, 0.9):
    path = descend("sgd", lr=0.02, momentum=momentum, steps=100)
    paths[f"momentum {momentum}"] = path
    print(f"momentum {momentum}: near the minimum after {path.steps_to(0.1)} steps")
plots.plot_descent({"SGD, lr 0.02, 100 steps": paths})

# %% [markdown]
# ### Exercise 1: SGD (easy, very important, 8 minutes)
#
# $$d = g + \lambda w \qquad v \leftarrow \mu v + d \qquad w \leftarrow w - \gamma v$$
#
# $\gamma$ is `lr`, $\lambda$ `weight_decay`, $\mu$ `momentum`. The decay is a part of the gradient: that of
# $L + \frac{\lambda}{2} \|w\|^2$, hence the name L2.


# %% tags=["exercise"]
def sgd_step(w, v, g, lr, momentum, weight_decay):
    """One step: new w and v. All three [N]; v is 0 before the first."""
    ### BEGIN SOLUTION Three lines, as in the formula; return w, v as a pair.
    d = g + weight_decay * w
    v = momentum * v + d
    return w - lr * v, v
    ### END SOLUTION


# %% tags=["check"]
from clipedu.exercises import check_sgd

check_sgd(sgd_step)

# %% [markdown]
# ## 2. Adam
#
# A step of SGD is as long as the gradient. So if the loss is 50 times smaller, as SogCLR's is beside CLIP's, SGD is 50 times
# slower. Adam divides by the gradient's usual size:
#
# $$m \leftarrow \beta_1 m + (1-\beta_1)\, g \qquad v \leftarrow \beta_2 v + (1-\beta_2)\, g^2 \qquad
# w \leftarrow w - \gamma\, \frac{m / (1-\beta_1^t)}{\sqrt{v / (1-\beta_2^t)} + \epsilon}$$
#
# ### Exercise 2: Adam (medium, very important, 12 minutes)
#
# $t$ counts from 1. Mind the brackets: one textbook adds $\epsilon$ to the weights.


# %% tags=["exercise"]
def adam_step(w, m, v, g, t, lr, b1, b2, eps):
    """One step: new w, m and v. m and v are 0 before the first."""
    ### BEGIN SOLUTION New m and v first; divide each by 1 - b ** t; return w, m, v.
    m = b1 * m + (1 - b1) * g
    v = b2 * v + (1 - b2) * g**2
    m_hat = m / (1 - b1**t)
    v_hat = v / (1 - b2**t)
    return w - lr * m_hat / (v_hat.sqrt() + eps), m, v
    ### END SOLUTION


# %% tags=["check"]
from clipedu.exercises import check_adam

check_adam(adam_step)

# %% [markdown]
# **Read it.** At $t = 1$ the fraction is $g / |g|$: the first step is $\gamma \cdot \mathrm{sign}(g)$. Later it is shorter where the
# gradient keeps turning round. Size is gone; what counts is agreement with the past.
#
# **What you should see:** with the small loss SGD gets only part of the way. Adam's two paths are one and the same.

# %%
panels = {}
for scale in (1, 1 / 50):
    names = ("sgd", "adam")
    paths = {name: descend(name, lr=0.1, scale=scale, schedule="cosine") for name in names}
    panels[f"loss x {scale:g}, no decay"] = paths
plots.plot_descent(panels)

# %% [markdown]
# ## 3. Two ways to decay
#
# Now with weight decay. **Coupled** (`sgd`, `adam`): $\lambda w$ joins the gradient, and goes through $m$ and $\sqrt v$ with it.
# **Decoupled** (`sgdw`, `adamw`): the weight is shrunk beside the step, $w \leftarrow (1 - \gamma\lambda)\, w - \gamma u$.
#
# **Predict:** who minds that the loss is 50 times smaller? **What you should see:** `adam` stops at the square, where loss plus L2 is
# smallest. On the right that is near the origin: the L2 was not scaled, so it weighs 50 times as much. `adamw` walks as before.

# %%
panels, squares = {}, {}
for scale in (1, 1 / 50):
    title = f"loss x {scale:g}, weight decay 0.1"
    settings = {"lr": 0.1, "weight_decay": 0.1, "scale": scale, "schedule": "cosine"}
    panels[title] = {name: descend(name, **settings) for name in ("sgd", "adam", "adamw")}
    squares[title] = coupled_minimum(0.1, scale)
plots.plot_descent(panels, pulled_to=squares)

# %% [markdown]
# `sgd` ends at the square too: it minimises the same sum. With a smaller decay it would be too slow to get there. Adam never is.
#
# ### Exercise 3: AdamW (easy, very important, 5 minutes)
#
# Shrink first, then Adam's step; $m$ and $v$ know nothing of the decay.


# %% tags=["exercise"]
def adamw_step(w, m, v, g, t, lr, b1, b2, eps, weight_decay):
    """One step: new w, m and v."""
    ### BEGIN SOLUTION Multiply w by 1 - lr * weight_decay, then do as Adam does.
    w = (1 - lr * weight_decay) * w
    m = b1 * m + (1 - b1) * g
    v = b2 * v + (1 - b2) * g**2
    m_hat, v_hat = m / (1 - b1**t), v / (1 - b2**t)
    return w - lr * m_hat / (v_hat.sqrt() + eps), m, v
    ### END SOLUTION


# %% tags=["check"]
from clipedu.exercises import check_adamw

check_adamw(adamw_step)

# %% [markdown]
# ### Exercise 4: who decides? (easy, important, 5 minutes)
#
# Adam with L2 steps by about $\gamma \cdot \mathrm{sign}(g + \lambda w)$. Where is the decay larger than the gradient, so that it
# decides the sign?


# %% tags=["exercise"]
def decay_decides(w, g, weight_decay):
    """Where the decay is larger than the gradient, bool [N]."""
    ### BEGIN SOLUTION Compare absolute values: of weight_decay * w, and of g.
    return (weight_decay * w).abs() > g.abs()
    ### END SOLUTION


# %% tags=["check"]
from clipedu.exercises import check_decides

check_decides(decay_decides)

# %% [markdown]
# There a weight moves to 0 by $\gamma$ a step, *however small $\lambda$ is*. For a real model it can happen to whole layers. Train CLIP
# for 20 steps and look at its gradients. (The red box is progress, no error.)

# %%
from clipedu.training import load_training_data, prepare

trainer = prepare(experiment, load_training_data(experiment))
records = trainer.run()
for _ in range(20):
    record = next(records)
print(f"step {record.step}: loss {record.loss:.2f}")

# %% [markdown]
# **What you should see:** inside the residual blocks (`layer...conv`), which begin with a last gain of 0 and so with tiny gradients,
# decay 0.02 decides nearly every weight; of the projections, one in four. With a loss 50 times smaller, it decides nearly all everywhere.

# %%
print("share of weights that decay decides: CLIP's loss, 50 times smaller")
for name, w in trainer.model.named_parameters():
    if w.ndim >= 2 and w.numel() > 8000 and "text_encoder" not in name:
        shares = [decay_decides(w, w.grad * scale, 0.02).float().mean() for scale in (1, 1 / 50)]
        print(f"{name:40} {100 * shares[0]:4.0f} %  {100 * shares[1]:4.0f} %")

# %% [markdown]
# ## 4. Steps without a size: Lion, Muon, Scion
#
# **Lion** takes the sign itself: one average, no $v$. It looks ahead with $\beta_1$, and remembers with $\beta_2$:
#
# $$w \leftarrow (1-\gamma\lambda)\, w - \gamma\, \mathrm{sign}(\beta_1 m + (1-\beta_1)\, g) \qquad m \leftarrow \beta_2 m + (1-\beta_2)\, g$$
#
# ### Exercise 5: Lion (medium, important, 8 minutes)


# %% tags=["exercise"]
def lion_step(w, m, g, lr, b1, b2, weight_decay):
    """One step: new w and m. m is 0 before the first."""
    ### BEGIN SOLUTION The step uses the old m and b1; only then renew m, with b2.
    ahead = b1 * m + (1 - b1) * g
    w = (1 - lr * weight_decay) * w - lr * torch.sign(ahead)
    return w, b2 * m + (1 - b2) * g
    ### END SOLUTION


# %% tags=["check"]
from clipedu.exercises import check_lion

check_lion(lion_step)

# %% [markdown]
# **Muon** and **Scion** do to a *matrix* what the sign does to a number. With $G = U S V^\top$ they step along $U V^\top$, the *polar
# factor*: the same directions, all equally long. From scratch, without an SVD: $x \leftarrow \frac32 x - \frac12 x^3$ drives each number in
# $(0, 1]$ to 1, and in matrix products it does so to all singular values.


# %%
def polar_factor(G, rounds=30):
    X = G / G.norm()  # now no singular value is above 1
    for _ in range(rounds):
        X = 1.5 * X - 0.5 * X @ X.T @ X
    return X


layer = "text_encoder.transformer.layer.0.attention.k_lin.weight"
G = trainer.model.get_parameter(layer).grad.double()
U, S, Vt = torch.linalg.svd(G)
print("difference from U V^T:", (polar_factor(G) - U @ Vt).abs().max().item())

# %% [markdown]
# The smallest singular values need more rounds (try 60). Optimizers take five rounds of a steeper polynomial and accept values *near* 1.
#
# **What you should see** in a real gradient: two directions hold nearly everything. Its sign spreads thinly over a few more. In both
# polar factors most directions count.

# %%
from clipedu.optim.lmo import polar

steps = {
    "gradient: SGD": G,
    "its sign: Lion": G.sign(),
    "Newton-Schulz: Muon": polar(G, "newton-schulz"),
    "Polar Express: Scion": polar(G, "polar-express"),
}
plots.plot_steps(steps)

# %% [markdown]
# Is that good? The few directions are what the batch agrees on; the many are rare words, and noise, which momentum averages away first.
#
# Scion goes on: of all updates of size 1 take the one along which the loss falls fastest, each kind of layer with a size of its own.
# For linear layers that is the polar factor, for embeddings each row by itself, for biases all entries together.
#
# Muon keeps to the matrices inside: tables, the layer that reads pixels, and heads are left to AdamW (`orthogonalise="all"` takes them too, and
# `clipedu groups --optimizer muon` shows which is which). Scion takes all of them, each by its own rule.

# %% [markdown]
# ## 5. Who is decayed, and when
#
# ### Exercise 6: which parameters? (easy, important, 6 minutes)
#
# Matrices and kernels are decayed; biases, gains of norms and a temperature are not. Much code says "its name ends in `weight`".
# Find a better rule.


# %% tags=["exercise"]
def decayed(model):
    """Names of the parameters to decay."""
    ### BEGIN SOLUTION Keep p.requires_grad and p.ndim >= 2 of model.named_parameters().
    pairs = model.named_parameters()
    return [name for name, p in pairs if p.requires_grad and p.ndim >= 2]
    ### END SOLUTION


# %% tags=["check"]
from clipedu.exercises import check_decayed

check_decayed(decayed)

# %% [markdown]
# The library's rule is the same, and can be printed. For `adamc`, AdamW with *corrected* decay, the heads are apart. **What you should
# see:** over nine tenths of all numbers are decayed, though most tensors are not.

# %%
from clipedu.optim import describe_groups

optimizer = clipedu.build_optimizer(trainer.model, "adamc", lr=1e-3, weight_decay=0.1)
print(describe_groups(optimizer))

# %% [markdown]
# Now *when*. A schedule lowers $\gamma$ to 0. Growth and shrink of $\|w\|^2$ balance near $\gamma C / 2\lambda$, with $C$ the squared
# size of a step: so with a constant $\lambda$ the weights' goal falls with $\gamma$. A shrink $\gamma\lambda$ that goes with
# $\gamma^2$ keeps it (`08_norm_dynamics` measures this).
#
# ### Exercise 7: corrected decay (easy, important, 4 minutes)
#
# Return $\lambda$ for a step: `weight_decay` at the peak, and a shrink that goes with $\gamma^2$.


# %% tags=["exercise"]
def corrected_lambda(lr, lr_max, weight_decay):
    """The coefficient of this step; the optimizer shrinks by lr times it."""
    ### BEGIN SOLUTION The shrink lr * lambda has one lr already: lambda needs the other.
    return weight_decay * lr / lr_max
    ### END SOLUTION


# %% tags=["check"]
from clipedu.exercises import check_corrected

check_corrected(corrected_lambda)

# %% [markdown]
# All laws that `decay_law=` takes. **What you should see:** equal at the peak. `independent` keeps the shrink, not $\lambda$;
# `corrected` ends decay well before the steps end; its exact form lies on top of it.

# %%
plots.plot_decay_laws(lr_max=1e-3, weight_decay=0.1)

# %% [markdown]
# Train with it: a name is all it takes. **What you should see:** an average far above chance (0.1, 0.1 and 1 %).

# %%
run = clipedu.fit(experiment.replace(optimizer="adamc"))
for name in ("tr@1", "ir@1", "top1", "average"):
    print(f"{name:8} {run.metrics[name]:.1f}")

# %% [markdown]
# Two dozen more. A learning rate belongs to its optimizer: SGD wants about ten times AdamW's, Lion a tenth.

# %%
for entry in clipedu.OPTIMIZERS.values():
    print(f"{entry.name:19} {entry.description}")

# %% [markdown]
# ## 6. The course's table, explained
#
# There SogCLR wins under AdamW and fails under Adam. Its gradient is about $2\tau$ times CLIP's. Two numbers of each layer show what coupled
# decay makes of that: the *pressure* $\|\lambda w\| / \|g\|$, and what is left of $\|W\|$.
#
# Six short runs; `-scaled` is SogCLR's loss times $1/(2\tau)$. **Predict:** which loses most of its weights?

# %%
from clipedu.studies.decay import coincide, decay_table, plot_decay
from clipedu.studies.runner import comparison_cells, run_comparison

only = [
    "clip+adam",
    "sogclr+adam",
    "sogclr+adamw",
    "sogclr-scaled+adam",
    "sogclr+adam-no-decay",
    "sogclr+adamw-no-decay",
]
base = experiment.replace(epochs=3)
# fast: base = experiment
cells = comparison_cells("decay", base, [0], only=only)
runs = list(run_comparison(cells, f"runs/04-decay-{SCALE}", jobs=None))

# %% [markdown]
# **What you should see:** nothing lost under AdamW, at any pressure. Under Adam SogCLR, whose pressure starts above 1, sinks lowest; scaled,
# it goes with CLIP. (Scores of runs this short say little.)

# %%
plot_decay(runs)

# %%
print(coincide(runs))
decay_table(runs).round(2)

# %% [markdown]
# `clipedu compare decay` runs all five losses on 16,000 scenes, 7 minutes. TR@1, and what it leaves of the median layer, image / text
# tower, in percent (one seed):
#
# | | CLIP | SogCLR | scaled | decay 0 |
# |---|---|---|---|---|
# | AdamW | 62; 106 / 160 | 68; 107 / 162 | | 65; 107 / 162 |
# | Adam | 59; 17 / 5 | 55; 9 / 0.1 | 64; 17 / 13 | 65; 107 / 162 |
# | SGD | 53; 47 / 48 | 42; 47 / 47 | 53; 47 / 48 | |
#
# SGD erases all alike; there SogCLR's steps are just ten times too small.

# %% [markdown]
# ## 7. The lab
#
# Choose several optimizers (Ctrl or Cmd and click) and turn what they are set to.
#
# 1. `sgd`, `adam`, `adamw`: which decay, down to which scale of the loss, does `adam` survive?
# 2. `adamw` with decay 0.5: compare the laws. Why does `independent` end nearest to the origin? Try a constant schedule.
# 3. `lion`, `muon` and `scion` at a constant schedule: why do they never arrive?
# 4. Noise 5: who needs momentum?

# %%
from clipedu.widgets.optimizers import OptimizerLab

lab = OptimizerLab()
lab

# %% tags=["fast"]
lab.optimizers.value, lab.scale.value, lab.law.value = ("adamw", "scion"), 0.02, "corrected"
{name: path.distance for name, path in lab.paths.items()}

# %% [markdown]
# Without widgets, each view is a call; `lab.script` writes it down.

# %%
print(lab.script)

# %% [markdown]
# **Remember:** ask of an optimizer what it does with the *size* of a gradient, and where decay enters. SGD keeps the size, Adam, Lion,
# Muon and Scion drop it. What is coupled into a gradient loses its size as well.
