"""The parts of a step on a GPU, each against the reference path on the CPU from the same inputs.

Shapes: G global views, V student views, B images, K outputs, P projection width, D features.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from repro.config.schema import (
    ClipKind,
    CodePath,
    HeadConfig,
    Operation,
    OptimiserName,
    Precision,
    RunConfig,
    TargetConfig,
    ViewsConfig,
)
from repro.data.views.batched import make_views
from repro.dino.backbones import build_backbone
from repro.dino.diagnostics import feature_statistics, spread
from repro.dino.fast.choice import choose_kernels
from repro.dino.fast.kernels import ATTENTION, REFERENCE, plain_attention
from repro.dino.heads import DinoHead
from repro.dino.method import Method, Targets
from repro.dino.optimiser import build_optimiser, clip_gradients, set_rates
from repro.dino.queues import Queue
from repro.dino.targets import Centre, sinkhorn_knopp
from repro.dino.teachers import move_towards, relative_distance
from repro.dino.vit import DinoViT
from tests.gpu.correctness.conftest import Figures, far

pytestmark = pytest.mark.gpu

CPU = torch.device("cpu")
TYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
ROUNDING = {torch.float32: 1e-5, torch.bfloat16: 2**-8}  # of a result; sums are kept in fp32


def drawn(*shape: int, seed: int = 0, scale: float = 1.0) -> Tensor:
    return scale * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def run_config(path: CodePath, outputs: int) -> RunConfig:
    config = RunConfig()
    config.resources.path = path
    config.head = HeadConfig(hidden_dim=16, bottleneck_dim=8, prototypes=outputs)
    return config


def loss_and_gradient(
    path: CodePath, device: torch.device, student_VBK: Tensor, teacher_GBK: Tensor
) -> tuple[dict[str, Tensor], Tensor]:
    """As a step computes them: targets, loss, statistics, gradient of the logits."""
    outputs = student_VBK.shape[-1]
    config = run_config(path, outputs)
    head = DinoHead(8, config.head)
    method = Method(config, head, outputs).to(device)
    teacher_GBK = teacher_GBK.to(device)
    targets = method.targets(teacher_GBK, torch.zeros(0), 0.04, head)
    logits_VBK = student_VBK.detach().to(device).requires_grad_()
    loss, statistics = method.loss(logits_VBK, targets)
    loss.backward()  # type: ignore[no-untyped-call]
    assert logits_VBK.grad is not None
    assert logits_VBK.grad.dtype is student_VBK.dtype
    return {"loss": loss, "targets": targets.values_GBK} | statistics, logits_VBK.grad


@TYPES
@pytest.mark.parametrize(
    "sizes", [(2, 12, 4, 4096), (2, 4, 3, 1000), (2, 2, 5, 65), (2, 10, 2, 65536)], ids=str
)
def test_the_loss_its_statistics_and_its_gradient(
    sizes: tuple[int, int, int, int], dtype: torch.dtype, device: torch.device, figures: Figures
) -> None:
    g, v, b, k = sizes
    student_VBK = drawn(v, b, k, seed=1, scale=0.3).to(dtype)
    teacher_GBK = drawn(g, b, k, seed=2, scale=0.1)
    truth, gradient = loss_and_gradient(CodePath.reference, CPU, student_VBK.float(), teacher_GBK)
    ours, our_gradient = loss_and_gradient(CodePath.fast, device, student_VBK, teacher_GBK)
    assert ours.keys() == truth.keys()
    for name, value in truth.items():
        # The error of the decomposition is rounding itself.
        figures[name] = 0.0 if name == "decomposition_error" else far(ours[name], value)
    figures["gradient"] = far(our_gradient, gradient)
    assert float(ours["decomposition_error"]) < 1e-4
    assert max(value for name, value in figures.items() if name != "gradient") < 1e-4
    assert figures["gradient"] < ROUNDING[dtype]


def test_a_loss_without_gradient_is_the_same(device: torch.device) -> None:
    config = run_config(CodePath.fast, 100)
    head = DinoHead(8, config.head)
    method = Method(config, head, 100).to(device)
    student_VBK, values_GBK = drawn(4, 3, 100).to(device), drawn(2, 3, 100).softmax(-1).to(device)
    targets = Targets(values_GBK, values_GBK.log())
    with torch.no_grad():
        alone, _ = method.loss(student_VBK, targets)
    followed, _ = method.loss(student_VBK.requires_grad_(), targets)
    assert float(alone) == pytest.approx(float(followed.detach()), rel=1e-6)


@pytest.mark.parametrize("operation", ["softmax", "sinkhorn_knopp", "softmax_batch"])
def test_targets_of_every_operation(operation: str, device: torch.device, figures: Figures) -> None:
    found = []
    for place, path in ((CPU, CodePath.reference), (device, CodePath.fast)):
        config = run_config(path, 300)
        config.target.operation = Operation(operation)
        head = DinoHead(8, config.head)
        method = Method(config, head, 300).to(place)
        method.centre.centre_K.copy_(drawn(300, seed=3, scale=0.1))
        teacher_GBK = drawn(2, 8, 300, seed=4).to(place)
        targets = method.targets(teacher_GBK, torch.zeros(0), 0.05, head)
        assert targets.logs_GBK is not None
        found.append((targets.values_GBK, targets.logs_GBK))
    figures |= {"values": far(found[1][0], found[0][0]), "logs": far(found[1][1], found[0][1])}
    assert figures["values"] < 1e-4
    assert figures["logs"] < 1e-5


def test_sinkhorn_knopp_with_a_queue(device: torch.device, figures: Figures) -> None:
    logits_BK, queue_QK = drawn(16, 500), drawn(64, 500, seed=1)
    truth = sinkhorn_knopp(logits_BK.double(), 0.05, 3, queue_QK.double())
    ours = sinkhorn_knopp(logits_BK.to(device), 0.05, 3, queue_QK.to(device))
    figures["logs"] = far(ours, truth)
    assert figures["logs"] < 1e-5
    torch.testing.assert_close(ours.exp().sum(dim=1).cpu(), torch.ones(16), rtol=1e-4, atol=0)


def test_the_centre_moves_alike(device: torch.device, figures: Figures) -> None:
    centres = [Centre(1000, TargetConfig()).to(place) for place in (CPU, device)]
    for step in range(5):
        teacher_GBK = drawn(2, 16, 1000, seed=step)
        for centre in centres:
            centre.update(teacher_GBK.to(centre.centre_K.device))
    figures["centre"] = far(centres[1].centre_K, centres[0].centre_K)
    assert figures["centre"] < 1e-6


@pytest.mark.parametrize("counts", [[3, 3, 3, 3], [5, 5], [4, 1, 12, 2], [10, 10]], ids=str)
def test_a_queue_wraps_round_alike(counts: list[int], device: torch.device) -> None:
    truth = Queue(10, 6)
    ours = copy.deepcopy(truth).to(device)
    for step, count in enumerate(counts):
        entries_GBP = drawn(1, count, 6, seed=step)
        truth.push(entries_GBP)
        ours.push(entries_GBP.to(device))
        assert torch.equal(ours.entries_QP.cpu(), truth.entries_QP)
        assert ours.full == truth.full
    assert ours.full


def test_statistics_of_features(device: torch.device, figures: Figures) -> None:
    shapes = {"wide": (64, 384), "tall": (300, 48)}
    for name, shape in shapes.items():
        features_MD = drawn(*shape) @ torch.diag(torch.linspace(1, 0.01, shape[1]))
        truth = feature_statistics(features_MD.double())
        for key, value in feature_statistics(features_MD.to(device)).items():
            figures[f"{key}, {name}"] = far(value, truth[key])
    figures["spread"] = far(spread(drawn(50, 20).to(device)), spread(drawn(50, 20)))
    assert max(figures.values()) < 1e-3


class Tensors(nn.Module):
    """Parameters of several shapes with given gradients, one of them large enough to be clipped."""

    SHAPES = ((64, 32), (32,), (1,), (300, 7), (5, 3, 2, 2))

    def __init__(self) -> None:
        super().__init__()
        for index, shape in enumerate(self.SHAPES):
            self.register_parameter(f"p{index}", nn.Parameter(drawn(*shape, seed=index)))

    def give_gradients(self, step: int) -> None:
        for index, parameter in enumerate(self.parameters()):
            gradient = drawn(*self.SHAPES[index], seed=100 + 10 * step + index, scale=10.0**-index)
            parameter.grad = gradient.to(parameter.device)


@pytest.mark.parametrize("kind", list(ClipKind), ids=lambda kind: kind.value)
@pytest.mark.parametrize("name", list(OptimiserName), ids=lambda name: name.value)
def test_clipping_optimiser_and_teacher(
    name: OptimiserName, kind: ClipKind, device: torch.device, figures: Figures
) -> None:
    found: list[list[Tensor]] = []
    for place in (CPU, device):
        student, teacher = Tensors().to(place), Tensors().to(place)
        optimiser = build_optimiser(student, name)
        values: list[Tensor] = []
        for step in range(4):
            student.give_gradients(step)
            set_rates(optimiser, 1e-2, 0.1)
            values.append(clip_gradients(student, kind, 0.3))
            optimiser.step()
            move_towards(teacher, student, 0.9)
            values.append(relative_distance(teacher, student))
        values += [p.detach() for p in (*student.parameters(), *teacher.parameters())]
        found.append(values)
    figures["worst"] = max(far(ours, truth) for truth, ours in zip(*found, strict=True))
    assert figures["worst"] < 1e-5


def with_gradients(
    call: Callable[..., Tensor], inputs: list[Tensor], device: torch.device, dtype: torch.dtype
) -> list[Tensor]:
    leaves = [tensor.to(device, dtype).requires_grad_() for tensor in inputs]
    result = call(*leaves)
    weights = torch.linspace(-1, 1, result.numel()).cos().view_as(result)
    result.backward(weights.to(device, dtype))  # type: ignore[no-untyped-call]
    return [result.detach(), *(leaf.grad for leaf in leaves if leaf.grad is not None)]


@TYPES
@pytest.mark.parametrize(
    "shape", [(37, 37, 64), (197, 197, 64), (1, 197, 64), (17, 17, 32)], ids=str
)
@pytest.mark.parametrize("name", ATTENTION)
def test_attention_and_its_gradients(
    name: str,
    shape: tuple[int, int, int],
    dtype: torch.dtype,
    device: torch.device,
    figures: Figures,
) -> None:
    queries, tokens, width = shape
    sizes = [(3, 6, queries, width), (3, 6, tokens, width), (3, 6, tokens, width)]
    inputs = [drawn(*size, seed=i).to(dtype) for i, size in enumerate(sizes)]
    truth = with_gradients(plain_attention, inputs, CPU, torch.float64)
    ours = with_gradients(ATTENTION[name], inputs, device, dtype)
    names = ("attended", "queries", "keys", "values")
    figures |= {n: far(a, b) for n, a, b in zip(names, ours, truth, strict=True)}
    # Weights and their gradients are rounded too, before products that sum them up.
    assert max(figures.values()) < 4 * ROUNDING[dtype]


def small_vit(
    path: CodePath, precision: Precision, device: torch.device, drop: float, **resources: bool
) -> DinoViT:
    """Heads of 64 as in the paper; the kernels that a run would have here."""
    config = RunConfig()
    config.model.dim, config.model.depth, config.model.heads = 192, 3, 3
    config.model.drop_path = drop
    config.resources = replace(config.resources, path=path, **resources)
    config.train.precision = precision
    kernels = REFERENCE if path is CodePath.reference else choose_kernels(config, device)
    torch.manual_seed(0)
    made = build_backbone(config.model, config.views.global_size, drop, kernels)
    assert isinstance(made, DinoViT)
    return made.to(device)


def features_and_gradients(
    vit: DinoViT, views: list[Tensor], precision: Precision, device: torch.device
) -> tuple[Tensor, dict[str, Tensor]]:
    torch.manual_seed(3)  # of stochastic depth
    with torch.autocast(device.type, torch.bfloat16, enabled=precision is Precision.bf16):
        features = vit.forward_views([view.to(device) for view in views])
    weights = torch.linspace(-3, 3, features.numel()).cos().view_as(features)
    (features * weights.to(device)).sum().backward()
    gradients = {n: p.grad for n, p in vit.named_parameters() if p.grad is not None}
    return features.detach(), gradients


def distances(
    ours: tuple[Tensor, dict[str, Tensor]], truth: tuple[Tensor, dict[str, Tensor]]
) -> dict[str, float | str]:
    """Of the features; of all gradients together, and of the worst: |ours - truth| / |truth|."""
    assert ours[1].keys() == truth[1].keys()
    found, apart, size = {}, 0.0, 0.0
    for name, gradient in truth[1].items():
        pair = [t.detach().double().cpu() for t in (ours[1][name], gradient)]
        if name.endswith("qkv.bias"):  # the keys' has no gradient but rounding errors
            pair = [torch.cat(t.chunk(3)[::2]) for t in pair]
        squares = float((pair[0] - pair[1]).square().sum()), float(pair[1].square().sum())
        found[name] = (squares[0] / max(squares[1], 1e-24)) ** 0.5
        apart, size = apart + squares[0], size + squares[1]
    worst = max(found, key=lambda name: found[name])
    together = (apart / size) ** 0.5
    features = far(ours[0], truth[0])
    return {"features": features, "gradient": together, "worst": found[worst], "of": worst}


def assert_close(figures: Figures, precision: Precision) -> None:
    """Three blocks of seven products one after the other, there and back. Gradients of biases are
    sums over tokens in which much cancels.
    """
    half = precision is Precision.bf16
    assert figures["features"] < (0.02 if half else 1e-5)
    assert figures["gradient"] < (0.03 if half else 1e-5)
    assert figures["worst"] < (0.2 if half else 1e-4)


def crops() -> list[Tensor]:
    return [drawn(2, 3, 224, 224), drawn(4, 3, 96, 96, seed=1)]


@pytest.mark.parametrize("precision", list(Precision), ids=lambda precision: precision.value)
@pytest.mark.parametrize("path", list(CodePath), ids=lambda path: path.value)
def test_features_and_gradients_of_a_vit_with_the_kernels_of_a_run(
    path: CodePath, precision: Precision, device: torch.device, figures: Figures
) -> None:
    views, single = crops(), Precision.fp32
    truth = features_and_gradients(
        small_vit(CodePath.reference, single, CPU, 0.0), views, single, CPU
    )
    ours = features_and_gradients(small_vit(path, precision, device, 0.0), views, precision, device)
    figures |= distances(ours, truth)
    assert_close(figures, precision)


def test_stochastic_depth_of_the_kernels_of_a_run_is_that_of_plain_blocks(
    device: torch.device, figures: Figures
) -> None:
    plain = small_vit(CodePath.fast, Precision.fp32, device, 0.5)
    truth = features_and_gradients(plain, crops(), Precision.fp32, device)
    chosen = small_vit(CodePath.fast, Precision.bf16, device, 0.5)
    ours = features_and_gradients(chosen, crops(), Precision.bf16, device)
    figures |= distances(ours, truth)
    assert_close(figures, Precision.bf16)


@pytest.mark.parametrize("path", list(CodePath), ids=lambda path: path.value)
def test_activations_computed_again_change_nothing(
    path: CodePath, device: torch.device, figures: Figures
) -> None:
    found = []
    for recompute in (False, True):  # by the kernels that a run which computes them again has
        vit = small_vit(path, Precision.bf16, device, 0.5, recompute=path is CodePath.fast)
        vit.kernels = replace(vit.kernels, recompute=recompute)
        found.append(features_and_gradients(vit, crops(), Precision.bf16, device))
    figures |= distances(found[1], found[0])
    assert figures["worst"] < 1e-3  # sums by atomic additions come in another order


def test_the_attention_of_the_last_layer(device: torch.device, figures: Figures) -> None:
    images, found = drawn(2, 3, 224, 224), []
    for place in (CPU, device):
        vit = small_vit(CodePath.fast, Precision.fp32, place, 0.0).eval()
        with torch.no_grad():
            found.append(vit.last_attention(images.to(place)))
    figures["weights"] = far(found[1], found[0])
    assert figures["weights"] < 1e-4


def test_prototypes_of_every_path(device: torch.device, figures: Figures) -> None:
    config = HeadConfig(hidden_dim=64, bottleneck_dim=32, prototypes=4096, norm_last_layer=False)
    run = RunConfig()
    found = []
    for place, kernels in ((CPU, REFERENCE), (device, choose_kernels(run, device))):
        torch.manual_seed(0)
        head = DinoHead(48, config, kernels=kernels).to(place)
        result = head(drawn(16, 48).to(place))
        result.backward(drawn(16, 4096, seed=1).to(place))
        found.append([result.detach(), *(p.grad for p in head.parameters())])
    figures["worst"] = max(far(ours, truth) for truth, ours in zip(*found, strict=True))
    assert figures["worst"] < 1e-4


@pytest.mark.parametrize("size", [32, 64, 80])  # up to 64 by Triton on a GPU
def test_views_of_images_in_memory(size: int, device: torch.device, figures: Figures) -> None:
    """The same parameters; pixels differ by rounding, which a threshold may make a level of."""
    config = ViewsConfig(global_size=size, local_size=size // 2, local_number=4)
    config.blur_sigma = [0.1, 1.0]
    images = torch.randint(0, 256, (16, 3, size, size), generator=torch.Generator().manual_seed(0))
    made: list[list[Tensor]] = []
    for place in (CPU, device):
        random = torch.Generator().manual_seed(7)
        made.append(make_views(images.to(place, torch.uint8), config, random))
    for name, truth, ours in zip(("global", "local"), *made, strict=True):
        assert ours.device.type == device.type
        apart = (ours.cpu() - truth).abs()
        figures[f"{name}, mean"] = float(apart.mean())
        figures[f"{name}, share beyond 0.01"] = float((apart > 0.01).float().mean())
    assert max(value for name, value in figures.items() if "mean" in name) < 1e-4
    assert max(value for name, value in figures.items() if "share" in name) < 1e-3
