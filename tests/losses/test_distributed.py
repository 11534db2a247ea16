"""Two processes with half a batch each do what one process does with the whole batch."""

from datetime import timedelta

import torch
import torch.distributed as dist
from torch import nn

from clipedu.geometry import build_geometry
from clipedu.losses import LOSSES, Entailed, build_loss
from clipedu.losses.distributed import gather

STEPS, SIZE = 2, 6
LEARNING = ("clip", "sogclr", "siglip")
LIMIT = timedelta(seconds=120)  # a process that waits in vain fails, instead of hanging the tests


class Towers(nn.Module):
    """Two linear encoders, the same wherever it is built."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.image, self.text = nn.Linear(5, 4, dtype=torch.float64), nn.Linear(3, 4, dtype=torch.float64)
        for parameter in self.parameters():
            parameter.data = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)

    def forward(self, pixels, words):
        return self.image(pixels), self.text(words)


def run(name: str, rank: int, world: int) -> dict[str, torch.Tensor]:
    """Two steps; the loss, the gradients and the memory after each. Rank r holds rows r * SIZE / world and on."""
    towers = Towers()
    loss = build_loss(name, temperature=0.04, num_samples=9, learn_temperature=name != "isogclr").double()
    loss.stream_above = SIZE - 1 if name in ("dcl", "siglip") else SIZE
    seen = {}
    for step in range(STEPS):
        generator = torch.Generator().manual_seed(step)
        pixels = torch.randn(SIZE, 5, generator=generator, dtype=torch.float64)
        words = torch.randn(SIZE, 3, generator=generator, dtype=torch.float64)
        index = torch.randperm(9, generator=generator)[:SIZE]
        own = slice(rank * SIZE // world, (rank + 1) * SIZE // world)
        towers.zero_grad()
        loss.zero_grad()
        output = loss(*towers(pixels[own], words[own]), index[own])
        output.total.backward()
        for parameter in towers.parameters() if world > 1 else ():  # as DistributedDataParallel does
            dist.all_reduce(parameter.grad)
            parameter.grad /= world
        seen |= {f"{step}.total": output.total.detach()}
        seen |= {f"{step}.{key}": parameter.grad.clone() for key, parameter in towers.named_parameters()}
        seen |= {f"{step}.loss.{key}": parameter.grad.clone() for key, parameter in loss.named_parameters()}
        seen |= {f"{step}.{key}": buffer.clone() for key, buffer in loss.named_buffers()}
    return seen


def run_learning(name: str, rank: int, world: int) -> dict[str, torch.Tensor]:
    """Gradients of towers, curvature, alpha and temperature, with the entailment term, averaged over the processes."""
    geometry = build_geometry("lorentz", 4)
    loss = build_loss(name, temperature=0.2, num_samples=9, geometry=geometry, learn_temperature=True)
    model = nn.ModuleDict({"towers": Towers(), "loss": Entailed(loss, 0.3, min_radius=0.05).double()})
    generator = torch.Generator().manual_seed(5)
    pixels = torch.randn(SIZE, 5, generator=generator, dtype=torch.float64)
    words = torch.randn(SIZE, 3, generator=generator, dtype=torch.float64)
    own = slice(rank * SIZE // world, (rank + 1) * SIZE // world)
    image, text = model["towers"](pixels[own], words[own])
    image, text = geometry.tangent(image, "image"), geometry.tangent(text, "text")
    model["loss"](image, text, torch.arange(SIZE)[own]).total.backward()
    for parameter in model.parameters() if world > 1 else ():
        dist.all_reduce(parameter.grad)
        parameter.grad /= world
    return {key: parameter.grad.clone() for key, parameter in model.named_parameters()}


def work(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2, timeout=LIMIT)
    seen = {name: run(name, rank, 2) for name in LOSSES}
    seen |= {f"learning {name}": run_learning(name, rank, 2) for name in LEARNING}
    loss = build_loss("clip").eval()
    if rank == 0:  # an evaluation by one process alone must not wait for the other
        seen["alone"] = {"total": loss(torch.eye(3), torch.eye(3), torch.arange(3)).total}
    torch.save(seen, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def test_two_processes_equal_one(tmp_path):
    torch.multiprocessing.spawn(work, (str(tmp_path),), nprocs=2)
    expected = {name: run(name, 0, 1) for name in LOSSES}
    expected |= {f"learning {name}": run_learning(name, 0, 1) for name in LEARNING}
    for name in LEARNING:
        learned = {key.split(".")[-1] for key in expected[f"learning {name}"]}
        assert {"log_curvature", "log_alpha_image", "log_alpha_text", "logit_scale"} <= learned
    for rank in range(2):
        seen = torch.load(tmp_path / f"{rank}.pt")
        for name in expected:
            assert seen[name].keys() == expected[name].keys()
            for key, value in expected[name].items():
                torch.testing.assert_close(
                    seen[name][key], value, rtol=1e-12, atol=1e-12, msg=f"{name} {key} rank {rank}"
                )


def test_one_process_gets_its_own_batch_back():
    batch = torch.rand(3, 2), torch.rand(3, 2), torch.arange(3)
    assert all(out is given for out, given in zip(gather(*batch), batch, strict=True))
