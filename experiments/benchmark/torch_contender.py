"""PyTorch doing each piece of work, as its users would write it: eager, compiled, or as a CUDA graph."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from air_jax.runtime.parallel import num_cores
from experiments.benchmark.works import IMAGE_SIZE, STEPS_A_CALL, inference_images, train_images, warp_inputs

torch.set_num_threads(num_cores())
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
COMPILE_MODES = {"compile": "default", "cuda graph": "reduce-overhead"}
PATCH_SIZE, WIDTH, NUM_HEADS, FEED_FORWARD = 7, 16, 4, 64


class AiR(nn.Module):
    """The model of configs/mnist.py: 7 x 7 patches, width 16, one block each, control-grid head."""

    def __init__(self):
        super().__init__()
        self.grid_size = IMAGE_SIZE // PATCH_SIZE
        options = dict(nhead=NUM_HEADS, dim_feedforward=FEED_FORWARD, dropout=0.0, batch_first=True)
        self.embed = nn.Linear(PATCH_SIZE**2, WIDTH)
        self.position = nn.Parameter(0.1 * torch.randn(self.grid_size**2, WIDTH))
        self.encoder = nn.TransformerEncoderLayer(WIDTH, **options)
        self.decoder = nn.TransformerDecoderLayer(WIDTH, **options)
        self.head = nn.Linear(WIDTH, 2)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def tokens(self, image: torch.Tensor) -> torch.Tensor:
        patches = functional.unfold(image, PATCH_SIZE, stride=PATCH_SIZE).transpose(1, 2)
        return self.embed(patches) + self.position

    def forward(self, fixed: torch.Tensor, moving: torch.Tensor) -> torch.Tensor:
        """`[B, 1, H, W]` twice to a displacement `[B, 2, H, W]` in pixels, (x, y)."""
        memory = self.encoder(self.tokens(fixed))
        vectors = self.head(self.decoder(self.tokens(moving), memory))
        control = vectors.transpose(1, 2).reshape(-1, 2, self.grid_size, self.grid_size)
        return functional.interpolate(control, size=IMAGE_SIZE, mode="bicubic", align_corners=False)


def identity_grid(shape: tuple[int, ...]) -> torch.Tensor:
    """`[*S, N]` in [-1, 1], last axis first, as `grid_sample` wants it."""
    axes = torch.meshgrid(*(torch.linspace(-1, 1, size) for size in shape), indexing="ij")
    return torch.stack(axes[::-1], dim=-1).to(DEVICE)


def prepare(work: str, volume_shape: tuple[int, ...], mode: str, in_a_row: int) -> Callable[[], Any]:
    """A call of one piece of work, in a mode: `eager`, `compile` or `cuda graph`."""
    if work.startswith("train_"):
        return train(int(work.removeprefix("train_")), mode)
    if work == "inference":
        return inference(mode, in_a_row)
    if mode == "cuda graph":
        raise ValueError("a warp is a single kernel: nothing to gain from a graph")
    _, count, kind = work.split("_")
    return warping(int(count), kind, volume_shape, mode, in_a_row)


def compiled(function: Callable, mode: str) -> Callable:
    """`function` as the mode runs it."""
    return function if mode == "eager" else torch.compile(function, mode=COMPILE_MODES[mode])


def register(model: nn.Module, grid: torch.Tensor, fixed: torch.Tensor, moving: torch.Tensor) -> torch.Tensor:
    """The moving images, warped onto the fixed ones."""
    displacement = model(fixed, moving).permute(0, 2, 3, 1) * (2 / (IMAGE_SIZE - 1))
    return functional.grid_sample(moving, grid + displacement, align_corners=True)


def train(batch_size: int, mode: str) -> Callable[[], Any]:
    torch.manual_seed(0)
    images = torch.from_numpy(train_images()).to(DEVICE)
    model = AiR().to(DEVICE)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True, capturable=mode == "cuda graph")
    grid = identity_grid((IMAGE_SIZE, IMAGE_SIZE))

    def loss_of(fixed, moving):
        return functional.mse_loss(register(model, grid, fixed, moving), fixed)

    # Of the whole step, what torch.compile takes in one piece; a CUDA graph takes all of it.
    loss_of = loss_of if mode == "cuda graph" else compiled(loss_of, mode)

    def step():
        fixed = torch.randint(len(images), (batch_size,), device=DEVICE)
        moving = (fixed + torch.randint(1, len(images), (batch_size,), device=DEVICE)) % len(images)
        optimizer.zero_grad(set_to_none=True)
        loss_of(images[fixed, None] / 255.0, images[moving, None] / 255.0).backward()
        optimizer.step()

    take_step = captured(step) if mode == "cuda graph" else step

    def call():
        for _ in range(STEPS_A_CALL):
            take_step()
        synchronize()

    return call


def captured(step: Callable[[], None]) -> Callable[[], None]:
    """The whole step as one CUDA graph, as PyTorch's documentation captures it (whole-network capture)."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


def inference(mode: str, in_a_row: int) -> Callable[[], Any]:
    model = AiR().to(DEVICE).eval()
    grid = identity_grid((IMAGE_SIZE, IMAGE_SIZE))
    fixed, moving = (torch.from_numpy(images).to(DEVICE)[:, None] for images in inference_images())
    function = compiled(lambda fixed, moving: register(model, grid, fixed, moving), mode)

    def call():
        with torch.inference_mode():
            for _ in range(in_a_row):
                function(fixed, moving)
        synchronize()

    return call


def warping(count: int, kind: str, shape: tuple[int, ...], mode: str, in_a_row: int) -> Callable[[], Any]:
    volume, displacement, cotangent = warp_inputs(count, shape)
    volume, cotangent = (torch.from_numpy(array).to(DEVICE)[:, None] for array in (volume, cotangent))
    scale = (2 / (np.asarray(shape) - 1)).astype(np.float32)
    displacement = torch.from_numpy(displacement * scale)[..., [2, 1, 0]].to(DEVICE)
    grid = identity_grid(shape)
    argument = {"forward": None, "coordinates": displacement, "image": volume}[kind]
    if argument is not None:
        argument.requires_grad_(True)
    sample = compiled(lambda volume, u: functional.grid_sample(volume, grid + u, align_corners=True), mode)

    def call():
        for _ in range(in_a_row):
            with torch.set_grad_enabled(argument is not None):
                warped = sample(volume, displacement)
            if argument is not None:
                torch.autograd.grad(warped, argument, cotangent)
        synchronize()

    return call


def synchronize() -> None:
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
