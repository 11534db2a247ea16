"""Two processes with half a batch each do what one process does with the whole batch."""

from datetime import timedelta

import torch
import torch.distributed as dist
from torch import nn

from clipedu.losses import LOSSES, build_loss
from clipedu.losses.gathering import gather

STEPS, SIZE = 2, 6
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
    loss = build_loss(name, temperature=0.04, num_samples=9).double()
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


def work(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2, timeout=LIMIT)
    seen = {name: run(name, rank, 2) for name in LOSSES}
    loss = build_loss("clip").eval()
    if rank == 0:  # an evaluation by one process alone must not wait for the other
        seen["alone"] = {"total": loss(torch.eye(3), torch.eye(3), torch.arange(3)).total}
    torch.save(seen, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def test_two_processes_equal_one(tmp_path):
    torch.multiprocessing.spawn(work, (str(tmp_path),), nprocs=2)
    expected = {name: run(name, 0, 1) for name in LOSSES}
    for rank in range(2):
        seen = torch.load(tmp_path / f"{rank}.pt")
        for name in LOSSES:
            assert seen[name].keys() == expected[name].keys()
            for key, value in expected[name].items():
                torch.testing.assert_close(
                    seen[name][key], value, rtol=1e-12, atol=1e-12, msg=f"{name} {key} rank {rank}"
                )


def test_one_process_gets_its_own_batch_back():
    batch = torch.rand(3, 2), torch.rand(3, 2), torch.arange(3)
    assert all(out is given for out, given in zip(gather(*batch), batch, strict=True))
