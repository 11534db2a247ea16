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
# # Norm dynamics: how long a weight gets
#
# **Afterwards you can** say from a recipe alone how long the weights will be, how fast they turn and whether the run is long enough for
# that; write corrected weight decay; and read per-layer norms of a trained model against a prediction.
#
# | | |
# |---|---|
# | Time | 100 minutes; of these, computing: 2 minutes on two CPU cores (not measured on a GPU) |
# | Disk | 10 MB, in the folder `runs/` beside this notebook |
# | Download | none |
# | Before this | `05_train.ipynb`; `04_optimizers.ipynb` helps |

# %% [markdown]
# ## 0. Settings

# %%
import math

import matplotlib.pyplot as plt
import pandas
import torch

import clipedu
from clipedu.norms import predicted_norms, sandbox, steady_state
from clipedu.plots import norms as plots

# %%
SCALE = "tiny"
base = clipedu.Experiment.preset(SCALE, batch_size=32, epochs=5, norms_every=5)
base = base.replace(weight_decay=5.0)
# fast: base, walk_all = base.replace(train_size=640, epochs=1), sandbox
# fast: sandbox = lambda *names, **given: walk_all(*names, **{**given, "steps": 100, "chains": 20})

# %% [markdown]
# ## 1. A walk that forgets
#
# Every step of AdamW, Lion or Muon is two moves. The weight $w$ *shrinks* by a share $s = \gamma\lambda$ (learning rate times weight
# decay), then steps along an update $u$:
#
# $$w \leftarrow (1 - s)\, w - \gamma\, u$$
#
# Let nothing be learned: $u$ is noise that knows nothing of $w$. A random walk gets longer and longer. **Predict:** does this one?

# %%
chains, d, lr, weight_decay = 2000, 16, 0.02, 0.5
w = torch.zeros(chains, d)
for step in range(1, 401):
    u = torch.randn(chains, d)
    w = (1 - lr * weight_decay) * w - lr * u
    if step in (1, 10, 50, 100, 200, 400):
        print(f"step {step:3}: mean ||w||^2 = {w.square().sum(1).mean():.3f}")

# %% [markdown]
# It stops near 0.32. What is lost grows with the length, what is added does not; where the two balance, the walk settles. With
# $C = E\|u\|^2$ (here 16) and nothing in common between $u$ and $w$, the mean square $n$ goes
#
# $$n \leftarrow (1 - s)^2\, n + \gamma^2 C$$
#
# ### Exercise 1: where, and how soon (medium, very important, 12 minutes)
#
# Where does $n$ stand still? How many steps $\tau$ until the gap to that place has shrunk by $e$? Both exactly: $s$ need not be
# small.


# %% tags=["exercise"]
def settling(lr, weight_decay, C):
    """The settled ||w||^2, and its time constant in steps."""
    ### BEGIN SOLUTION Set n equal on both sides; the gap falls by (1 - s)^2 a step.
    s = lr * weight_decay
    norm_squared = lr**2 * C / (1 - (1 - s) ** 2)
    tau = -1 / (2 * math.log(1 - s))
    return norm_squared, tau
    ### END SOLUTION


# %% tags=["check"]
from clipedu.exercises import check_settling

check_settling(settling)

# %% [markdown]
# To first order in $s$: $n = \gamma C / 2\lambda$, and $\tau = 1/2s$. The first is worth knowing by heart.
#
# **The library's** `sandbox` walks for us, in units in which $C = 1$. **What you should see:** from above and from below, dots (thousands
# of walks) on lines (theory), to the same place, nearly there after 3 to 4 $\tau$, 150 to 200 steps.

# %%
recipe = {"lr": 0.02, "weight_decay": 0.5, "steps": 400}
walks = [sandbox("none", start=start, **recipe) for start in (0.0, 0.08)]
plots.plot_walk(walks)

# %% [markdown]
# **Remember:** the weight keeps nothing of its start, and the *product* $\gamma\lambda$ says for how long.

# %% [markdown]
# ## 2. Momentum
#
# Now $u$ is an average of gradients: the newest with weight $\alpha = 1 - \beta$, older ones fading by $r = 1 - \alpha$ a step. Let the
# optimizer give each $u$ the same length, as Scion and Muon do. Gradients still know nothing of $w$.
#
# **Predict:** with momentum 0.9, is the settled walk longer? And what is the cosine between $w$ and $u$?

# %%
for alpha in (1.0, 0.1):
    walk = sandbox("vector", alpha=alpha, lr=0.01, weight_decay=0.5, steps=1500)
    cosine = walk.cosine[len(walk.cosine) // 2 :].mean()
    print(f"alpha {alpha}: ||w||^2 = {walk.measured[-1]:.4f}, cosine {cosine:+.3f}")

# %% [markdown]
# **What you should see:** a square 18 times larger, and a cosine of $-0.2$: the step $-\gamma u$ points *outward*. Is that the loss at
# work? There is no loss. $w$ is made of past updates, with a minus; $u$ still holds the same gradients.
#
# ### Exercise 2: bookkeeping (medium, important, 10 minutes)
#
# An update and the one $k$ steps before it correlate by $r^k$. Adding up all that is still in $w$, with $a = 1 - s$:
#
# $$E\langle w, u \rangle = -\frac{\gamma C r}{1 - a r}, \qquad
#     n = \frac{\gamma^2 C}{1 - a^2} \cdot \frac{1 + a r}{1 - a r}$$
#
# Which cosine is that? ($C$ cancels.)


# %% tags=["exercise"]
def mean_cosine(lr, weight_decay, alpha):
    """cos(w, u) of a settled walk."""
    ### BEGIN SOLUTION A cosine is <w, u> over the root of n times C; put C = 1.
    a, r = 1 - lr * weight_decay, 1 - alpha
    inner = -lr * r / (1 - a * r)
    n = lr**2 / (1 - a**2) * (1 + a * r) / (1 - a * r)
    return inner / math.sqrt(n)
    ### END SOLUTION


# %% tags=["check"]
from clipedu.exercises import check_mean_cosine

check_mean_cosine(mean_cosine)

# %% [markdown]
# To first order it is $-r \sqrt{2\gamma\lambda / \alpha(2 - \alpha)}$. Before you explain a small negative cosine by the loss, subtract
# this.
#
# **Count gradients, not updates.** A gradient moves the weight at every step that remembers it. All it ever adds is its *total update
# contribution*, TUC. Contributions know nothing of $w$, so section 1 holds again, with
#
# $$\gamma_{\text{eff}} = \gamma \sqrt{\frac{2 - \alpha}{\alpha}} \quad \text{in place of } \gamma: \qquad n = \frac{\gamma_{\text{eff}}^2 C}{2 s}$$
#
# ### Exercise 3: the same walk (easy, important, 6 minutes)
#
# You change the momentum. Which learning rate keeps $\gamma_{\text{eff}}$?


# %% tags=["exercise"]
def same_walk(lr, alpha, new_alpha):
    """The learning rate that takes the same effective steps at new_alpha."""

    ### BEGIN SOLUTION Set the effective steps of both alphas equal, solve for the lr.
    def growth(a):
        return math.sqrt((2 - a) / a)

    return lr * growth(alpha) / growth(new_alpha)
    ### END SOLUTION


# %% tags=["check"]
from clipedu.exercises import check_same_walk

check_same_walk(same_walk)

# %% [markdown]
# **What you should see:** learning rates that differ tenfold, and nearly one curve. (The last, whose memory is 50 steps, stays 6 % lower: its
# gradients are partly forgotten before they have arrived.)

# %%
from clipedu.optim.scion import effective_step

walks, s = [], 0.00125
for alpha in (1.0, 0.1, 0.02):
    lr = 0.05 / effective_step(1.0, alpha)
    walks.append(sandbox("vector", alpha=alpha, lr=lr, weight_decay=s / lr, steps=2500))
plots.plot_walk(walks)

# %% [markdown]
# ## 3. Real optimizers settle
#
# Adam divides by $\sqrt{v}$, so each number of $u$ is about 1 without momentum. With momentum $u$ is shorter by
# $\sqrt{\alpha / (2 - \alpha)}$, and persists for longer: the two cancel. So for $d$ numbers the TUC is $d$, and
#
# $$\|w\|^2 = \frac{\gamma d}{2\lambda}, \qquad \text{angle of a step} \approx \frac{\gamma \|u\|}{\|w\|}$$
#
# ### Exercise 4: AdamW, predicted (medium, very important, 10 minutes)
#
# Nothing of the data is in it. Return $\|w\|$ and the angle in radians, to first order. ($\|u\|$ is that of the shorter $u$.)


# %% tags=["exercise"]
def adamw_steady(lr, weight_decay, size, beta1):
    """Settled ||w|| of `size` numbers, and the angle between w before and after a step."""
    ### BEGIN SOLUTION ||u|| is the root of size times (1 - beta1) / (1 + beta1).
    norm = math.sqrt(lr * size / (2 * weight_decay))
    update = math.sqrt(size * (1 - beta1) / (1 + beta1))
    return norm, lr * update / norm
    ### END SOLUTION


# %% tags=["check"]
from clipedu.exercises import check_adamw_steady

check_adamw_steady(adamw_steady)

# %% [markdown]
# Now the real optimizers, on a real layer that gets nothing but noise. `NormMonitor` looks on at each step.


# %%
def on_noise(name, rates, weight_decay, shape=(64, 64), **options):
    """Per-step norms of one layer, whose gradients are noise; and its optimizer."""
    torch.manual_seed(0)
    # fast: rates = rates[::8]
    layer = torch.nn.Linear(*shape, bias=False)
    settings = {"lr": max(rates), "weight_decay": weight_decay, **options}
    optimizer = clipedu.build_optimizer(layer, name, **settings)
    monitor = clipedu.NormMonitor(layer, optimizer)
    for lr in rates:
        optimizer.param_groups[0]["lr"] = lr
        layer.weight.grad = torch.randn_like(layer.weight)
        optimizer.step()
    return monitor.frame(), optimizer


# %% [markdown]
# `steady_state` knows your two formulas, and those of Lion (signs), Muon and Scion (matrices whose singular values are all equal).
# **Predict before you look:** which layer gets longest? **What you should see:** measured and predicted within 2 %.

# %%
rows = []
for name in ("adamw", "lion", "muon", "scion"):
    frame, optimizer = on_noise(name, [0.01] * 800, weight_decay=0.5)
    seen = frame[frame.step > 0.75 * frame.step.max()]
    expected = steady_state(optimizer, "weight")
    norms = [seen.weight.mean(), expected.norm]
    rows.append([name, *norms, seen.angle.mean(), expected.rotation])
columns = ["", "norm", "predicted", "angle", "predicted "]
pandas.DataFrame(rows, columns=columns).round(4)

# %% [markdown]
# At one learning rate Lion's weights are nearly six times as long as AdamW's, for all its numbers are 1 at any momentum. This is one reason why
# Lion wants a smaller $\gamma$ and a larger $\lambda$.
#
# **Remember:** in the long run a normalised optimizer's $\gamma$ and $\lambda$ choose two things: how long the weights are, and how far
# they turn in a step.

# %% [markdown]
# ## 4. A schedule breaks the balance
#
# The settled square is $\gamma C / 2\lambda$. A cosine takes $\gamma$ to 0. **Predict** what that does to the norm; and mind that near
# the end, forgetting is slow as well.
#
# **What you should see:** with a constant $\lambda$ the walk loses four fifths of its square, and ends *above* where it would settle, which
# is at 0.

# %%
cosine = {"schedule": "cosine", "start": None, "steps": 2000}
recipe = {"lr": 0.02, "weight_decay": 0.5}
plots.plot_walk(sandbox("none", **recipe, **cosine))

# %% [markdown]
# **Why care?** Behind a normalisation the length of $w$ changes nothing in the output, but the gradient goes with $1/\|w\|$: shorter
# weights, larger gradients. One line of arithmetic, for plain SGD on such a layer:

# %%
T, n = 2000, 1.0
for t in range(T):
    lr = 0.1 * (1 + math.cos(math.pi * t / T)) / 2
    n = (1 - lr * 0.05) ** 2 * n + lr**2 / n  # the last term: lr^2 ||g||^2
    if t % 500 == 0 or t == T - 1:
        print(f"step {t:4}: ||w|| = {n**0.5:.3f}, ||g|| = {n**-0.5:.3f}")

# %% [markdown]
# The gradient is half as large again at the end, though the task got no harder: the *gradient surge* that people see at the end of long
# runs.
#
# ### Exercise 5: corrected decay (easy, very important, 6 minutes)
#
# Choose $\lambda_t$ such that $\gamma_t C / 2\lambda_t$ stays where it is at the peak, where $\lambda$ is `weight_decay`.


# %% tags=["exercise"]
def corrected_decay(lr, lr_max, weight_decay):
    """lambda of a step with this lr."""
    ### BEGIN SOLUTION lr / lambda has to stay, so lambda is proportional to lr.
    return weight_decay * lr / lr_max
    ### END SOLUTION


# %% tags=["check"]
from clipedu.exercises import check_corrected_decay

check_corrected_decay(corrected_decay)

# %% [markdown]
# That is all of AdamC, SGDC, ScionC (Defazio 2025, Chou 2025). **What you should see:** `corrected` flat. `independent`, a shrink that
# no schedule touches, falls deepest: its balance goes with $\gamma^2$.

# %%
laws = ("constant", "corrected", "independent")
plots.plot_walk([sandbox("none", law=law, **recipe, **cosine) for law in laws])

# %% [markdown]
# **Which $\lambda$ is fair?** With the same $\lambda$ the corrected law decays less. How often a run forgets is
#
# $$\Lambda = 2 \sum_t \gamma_t \lambda_t$$
#
# ### Exercise 6: the same forgetting (medium, important, 8 minutes)
#
# Papers give the corrected law twice the $\lambda$. Which one gives it the same $\Lambda$?


# %% tags=["exercise"]
def fair_decay(lr, weight_decay):
    """lambda at the peak of the corrected law. lr [T]; weight_decay: of the constant law."""
    ### BEGIN SOLUTION Divide one Lambda by the other, that of the corrected law at 1.
    constant = (lr * weight_decay).sum()
    corrected_at_1 = (lr * lr / lr.max()).sum()
    return constant / corrected_at_1
    ### END SOLUTION


# %% tags=["check"]
from clipedu.exercises import check_fair_decay

check_fair_decay(fair_decay)

# %% [markdown]
# **Is there time at all?** $\Lambda$ counts the time constants of a run. Below 1, decay hardly matters, nor does its law. A run of 5,000
# steps, begun at twice the settled norm:
#
# **What you should see:** at $\lambda = 0.1$ ($\Lambda = 0.5$) two curves close together that remember their start; at $\lambda = 2$
# ($\Lambda = 10$) the start forgotten, and the laws far apart.

# %%
rates = [1e-3 * (1 + math.cos(math.pi * t / 5000)) / 2 for t in range(5000)]
lr = torch.tensor(rates, dtype=torch.float64).numpy()
figure, axes = plt.subplots(1, 2, figsize=(9, 3), sharey=True)
for ax, decay in zip(axes, (0.1, 2.0), strict=True):
    settled = math.sqrt(1e-3 / (2 * decay))
    for law, lambdas in (("constant", decay), ("corrected", decay * lr / 1e-3)):
        norms = predicted_norms(2 * settled, lr, lr * lambdas, tuc=1.0)
        ax.plot(norms / settled, "-" if law == "constant" else "--", label=law)
    ax.set(title=f"weight decay {decay}", xlabel="step", ylim=(0, 2.1))
axes[0].set_ylabel("norm, in units of the settled one")
legend = axes[1].legend()

# %% [markdown]
# A short run with a textbook decay is ruled by its initialisation. Compute $\Lambda$ before you compare two laws.

# %% [markdown]
# ## 5. Scion and ScionC
#
# Scion chooses the size of each step in the layer's own norm: $\|U\|$ is fixed, whatever the gradient. Its settled $\|w\|^2$ is
# $\gamma_{\text{eff}}^2 \|U\|^2 / 2s$ with $s \sim \gamma$. The same pathology.
#
# ScionC chooses the *target* $c^2 = \|w\|^2 / \|U\|^2$ instead, and lets the shrink follow.
#
# ### Exercise 7: ScionC's shrink (easy, important, 5 minutes)
#
# Solve for $s$. Momentum may have a schedule, too: keep $\alpha$ in it.


# %% tags=["exercise"]
def scionc_shrink(lr, alpha, target):
    """The share of w that this step takes away."""
    ### BEGIN SOLUTION target = (effective step)^2 / (2 s): section 2. Solve for s.
    return lr**2 * (2 - alpha) / alpha / (2 * target)
    ### END SOLUTION


# %% tags=["check"]
from clipedu.exercises import check_scionc_shrink

check_scionc_shrink(scionc_shrink)

# %% [markdown]
# The real ones on noise: $\gamma$ stays for 800 steps, then falls to 0.
#
# **What you should see:** both come down from their start together. Then Scion's norm falls by a third or more, and ScionC's stays on the
# grey line, which is predicted.

# %%
falling = [0.01 * (1 + math.cos(math.pi * t / 1500)) / 2 for t in range(1500)]
rates = [0.01] * 800 + falling
figure, ax = plt.subplots(figsize=(7, 3))
for name, dashes in (("scion", "-"), ("scionc", "--")):
    frame, optimizer = on_noise(name, rates, weight_decay=0.5, shape=(256, 16))
    ax.plot(frame.step, frame.weight, dashes, label=name)
ax.axhline(steady_state(optimizer, "weight").norm, color="grey", linewidth=0.8)
ax.set(xlabel="step", ylabel="norm of the weight", ylim=(0, None))
legend = ax.legend()

# %% [markdown]
# **Where theory bends.** That successive $u$ resemble each other by $r^k$ is exact for vectors. Signs and square matrices forget faster,
# so they walk less far. `contribution_factor` knows by how much.
#
# **What you should see:** signs at 0.69 and 16 x 16 matrices at 0.77 of the vector's square; measured and predicted within 3 %.

# %%
recipe = {"lr": 0.0115, "weight_decay": 0.109, "alpha": 0.1, "start": None, "steps": 2000}
rows = []
for normaliser, shape in [("vector", 256), ("sign", 256), ("polar", (16, 16)), ("polar", (8, 32))]:
    walk = sandbox(normaliser, shape=shape, records=50, **recipe)
    late = walk.measured[10:].mean()
    rows.append([normaliser, shape, late, walk.balance[-1]])
pandas.DataFrame(rows, columns=["step", "shape", "measured", "predicted"]).round(3)

# %% [markdown]
# ## 6. A control that cannot tell
#
# Why does a norm grow: because $u$ points outward, or because sideways steps leave the circle? Any step, whatever the optimizer, splits in
# three. With $\gamma u = (1 - s) w - w'$:
#
# $$\|w'\|^2 - \|w\|^2 = \underbrace{-2 (1 - s) \langle w, \gamma u \rangle}_{\text{alignment}}
#     + \underbrace{\|\gamma u\|^2}_{\text{injection}} - \underbrace{(1 - (1 - s)^2) \|w\|^2}_{\text{decay}}$$
#
# ### Exercise 8: the balance of a step (medium, important, 8 minutes)


# %% tags=["exercise"]
def balance(w, w_new, shrink):
    """alignment, injection and decay of a step from w to w_new, tensors of one shape."""
    ### BEGIN SOLUTION First lr u, the move without the shrink; then the three terms.
    step = (1 - shrink) * w - w_new
    alignment = -2 * (1 - shrink) * (w * step).sum()
    decay = -(1 - (1 - shrink) ** 2) * w.square().sum()
    return alignment, step.square().sum(), decay
    ### END SOLUTION


# %% tags=["check"]
from clipedu.exercises import check_balance

check_balance(balance)

# %% [markdown]
# An experiment: *renormalise* each step, so that its sideways part turns the weight and lengthens it no more. The paper did so with AdamW
# at $\beta = 0.9$: hardly a difference. So sideways steps are not the cause? **Predict** the same with $\beta = 0$.
#
# **What you should see:** at momentum 0.9 a square 5 % smaller. Without momentum, nothing is left of it.

# %%
rows = []
for alpha in (1.0, 0.5, 0.1):
    recipe = {"alpha": alpha, "lr": 0.01, "weight_decay": 0.5, "steps": 1500, "shape": 256}
    plain, control = (sandbox("vector", renormalised=yes, **recipe) for yes in (False, True))
    ratios = [control.measured[-1] / plain.measured[-1], 2 * (1 - alpha) / (2 - alpha)]
    rows.append([1 - alpha, plain.measured[-1], *ratios])
columns = ["beta", "plain ||w||^2", "renormalised / plain", "2 (1 - alpha) / (2 - alpha)"]
pandas.DataFrame(rows, columns=columns).round(3)

# %% [markdown]
# With momentum most of the growth has moved into the alignment: the same gradients, met again (section 2). So at 0.9 the control removes
# next to nothing, and *would not* tell, whoever is right. **Remember:** before you run a control, compute what it could show.

# %% [markdown]
# ## 7. A trained model
#
# Now gradients with something to learn. Two short runs, AdamW and AdamC, with a large $\lambda$ of 5: a tiny run needs it to get any
# $\Lambda$ at all. (The red boxes are progress, no error.)

# %%
runs, layers = {}, {}
for name in ("adamw", "adamc"):
    runs[name] = clipedu.fit(base.replace(optimizer=name))
    layers[name] = runs[name].layers
    print(f"{name}: Lambda = {layers[name].Lambda.max():.1f}")

# %% [markdown]
# `run.layers` has a row for each layer and every fifth step. Most logs show the *global* norm alone. **Predict:** will it show the
# difference?
#
# **What you should see:** global norms that differ by 3 %. Of the matrices, AdamW has kept about two thirds of what AdamC has; but *1-D*
# tensors, gains and biases, are never decayed and drown them.

# %%
rows = {}
for name, frame in layers.items():
    last = frame[frame.step == frame.step.max()]
    square = last.weight.pow(2).groupby(last.kind).sum()
    rows[name] = {"global": square.sum() ** 0.5, **square.pow(0.5)}
pandas.DataFrame(rows).T.round(2)

# %% [markdown]
# So look at matrices alone, a layer at a time. (Heads, the two projections, are not corrected: left out.)
#
# **What you should see:** first AdamW, whose norms fall to the end; then AdamC, whose norms level out.


# %%
def matrices(name):
    return layers[name][layers[name].kind == "matrix"]


plots.plot_layers(matrices("adamw"))

# %%
plots.plot_layers(matrices("adamc"))

# %% [markdown]
# **And the gradient?** We compare the last quarter of both runs. **What you should see:** in the image tower AdamW's weights are shorter,
# its gradients larger, and the *product* is near 1: the surge is in $1/\|w\|$, not in the task. Each of those convolutions is followed by a
# normalisation. In the text tower it need not be so.

# %%
late = {}
for name in runs:
    frame = matrices(name)
    frame = frame[frame.step > 0.75 * frame.step.max()]
    late[name] = frame.groupby(["part", "layer"])[["weight", "gradient"]].mean()
ratio = late["adamw"] / late["adamc"]
ratio["product"] = ratio.weight * ratio.gradient
ratio.groupby("part").median().round(2)

# %% [markdown]
# **The prediction.** Two of them: from the recipe alone, and with the updates' measured size, since many numbers of a real layer get no
# gradient (words that never came, units that are off).

# %%
model = runs["adamc"].model()
optimizer = clipedu.build_optimizer(model, "adamc", lr=base.lr, weight_decay=base.weight_decay)
recipe, sized = {}, {}
for layer, rows in matrices("adamc").groupby("layer", sort=False):
    recipe[layer] = steady_state(optimizer, layer)
    rows = rows[rows.step > rows.step.max() / 3]
    sized[layer] = steady_state(optimizer, layer, measured=rows)

# %% [markdown]
# **What you should see:** measured over predicted, after a first third. Image layers come to within 15 % of 1, nearly all from above; text layers
# end between 0.3 and 1.7.

# %%
frame = matrices("adamc")
frame = frame[frame.step > frame.step.max() / 3]
plots.plot_prediction(frame, sized)

# %% [markdown]
# Why does text not obey? The theory asks for contributions that know nothing of $w$. Exercise 2 tells what cosine that would make; here
# is what was measured, at the same shrink.
#
# **What you should see:** image layers (`conv`, `downsample`) near the bookkeeping. Feed-forward layers (`ffn`) far above it: gradients
# make them *shorter*. Queries and keys below: gradients make them *longer*. Nobody normalises their length away, so it is learned.

# %%
from clipedu.norms.equilibrium import mean_cosine as expected_cosine

frame = frame[frame.shrink > 0].copy()
pattern = r"(conv|downsample|embeddings|q_lin|k_lin|v_lin|out_lin|ffn)"
frame["what"] = frame.layer.str.extract(pattern, expand=False)
pairs = zip(frame.lr, frame.weight_decay, strict=True)
frame["bookkeeping"] = [expected_cosine(*pair, 0.1) for pair in pairs]
for state, name in ((recipe, "recipe"), (sized, "sized")):
    frame[name] = frame.weight / frame.layer.map({k: v.norm for k, v in state.items()})
columns = ["cosine", "bookkeeping", "recipe", "sized"]
frame.groupby("what", sort=False)[columns].median().round(2)

# %% [markdown]
# (`recipe` and `sized`: measured over predicted norm.)
#
# **The balance of one layer.** Alignment, injection and decay add up to the change of $\|w\|^2$, an identity. **What you should see:** at
# first decay wins, for the layer began too long; then the three cancel. Decay is paid for by the alignment, with momentum 0.9.

# %%
layer = "image_encoder.layer2.0.conv2.weight"
plots.plot_balance(layers["adamc"], layer)

# %% [markdown]
# **Rotation.** The steady state also says how far a layer turns in a step, in proportion to $\gamma$. **What you should see:** from the
# middle on, solid on dashed.

# %%
chosen = [layer, "image_encoder.conv1.3.weight"]
turns = {}
for name in chosen:
    rows = layers["adamc"].query("layer == @name")
    turns[name] = (sized[name].rotation * rows.lr / base.lr).to_numpy()
plots.plot_rotation(layers["adamc"], turns, chosen)

# %% [markdown]
# **Remember:** where a normalisation follows, and the run is long enough, norm and rotation are set by the recipe. Elsewhere the loss has
# a say, and the difference to the prediction tells you which.

# %% [markdown]
# ## 8. Measured on a long run
#
# `clipedu compare norms` trains AdamW at a constant rate, AdamW under a cosine and AdamC under a cosine, 4,000 steps each and three
# seeds ($\Lambda$ = 16, 8 and 6; half an hour). Of every layer it predicts the *whole curve* of $\|w\|$ from its start.
# Layers within 5 % and 10 %, AdamW constant / AdamC cosine:
#
# | what the prediction knows | 17 layers under a normalisation | 14 others |
# |---|---|---|
# | the settings alone | 65, 92 / 86, 96 % | 2, 17 / 14, 19 % |
# | and each minibatch's contribution, its size and its *drift* | 75, 98 / 86, 100 % | 67, 86 / 40, 64 % |
#
# *Drift* is cos(w, q), q what a minibatch contributes in all: 0 if it knows nothing of the weight. Under AdamW's cosine the normalised
# weights end at 0.61 of their balance and their gradients rise by a quarter; AdamC's weights stay. Their scores cannot be
# told apart. (Projections are among the 17.)
#
# **Your own run:** `norms_study` makes the same table of any AdamW run. Here of section 7's, whose $\lambda$ is larger.

# %%
from clipedu.studies.norms import steady_table, summary_table

tables = {name: steady_table(run) for name, run in runs.items()}
summary_table(tables).round(3)

# %% [markdown]
# Where does drift sit? **What you should see:** near 0 for `conv` and `downsample`, which a normalisation follows; positive for the feed-forward
# layers, which the loss wants shorter; negative for queries and keys.

# %%
frame = matrices("adamc")
frame = frame[frame.step > frame.step.max() / 2]
what = frame.layer.str.extract(r"(conv|downsample|embeddings|q_lin|k_lin|v_lin|out_lin|ffn)")[0]
frame[["drift", "radial", "cosine"]].groupby(what).mean().round(4)

# %% [markdown]
# ## 9. The lab
#
# A hundred walks at each move of a slider.
#
# 1. With a constant schedule from 0, find two recipes with the same settled norm, one of which gets there a hundred times sooner.
# 2. With a cosine and the constant law, which $\lambda$ costs the norm half of its length? What is $\Lambda$ then?
# 3. Show the cosine. Which momentum makes it 0? Does the normaliser matter?

# %%
from clipedu.widgets.norms import NormLab

lab = NormLab()
lab

# %% tags=["fast"]
lab.lr.value, lab.law.value = 0.02, "corrected"
lab.walk.predicted[-1]

# %% [markdown]
# Without widgets, each view is a call of `sandbox`; `lab.script` writes it down.

# %%
print(lab.script)

# %% [markdown]
# ## Your turn
#
# - Run section 7 with `optimizer="lion"` and its `lionc`, at a tenth of the learning rate and ten times the $\lambda$.
# - Give AdamC the $\lambda$ of exercise 6 instead. Does the comparison change?
# - Train your own model, and ask of each layer that no normalisation follows: do gradients know its length?
#
# **Remember:** $\gamma C / 2\lambda$ is how long, $1 / 2\gamma\lambda$ how soon, $\Lambda$ whether at all. Compute the three before a run;
# afterwards, look where they were wrong.
