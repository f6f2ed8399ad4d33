"""torchvision's detectors, built as torchvision builds them except for anchors, input transform and weights.

With pretrained weights torchvision freezes batch norms (in its first recipes) and the first stages of the
trunk. The norms are frozen here too; all convolutions train, as images may be far from the pretraining's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import nn
from torchvision.models import (
    MobileNet_V3_Large_Weights,
    ResNet50_Weights,
    VGG16_Weights,
    mobilenet_v3_large,
    resnet50,
    vgg16,
)
from torchvision.models.detection import FCOS, FasterRCNN, RetinaNet
from torchvision.models.detection._utils import retrieve_out_channels
from torchvision.models.detection.backbone_utils import _mobilenet_extractor, _resnet_fpn_extractor
from torchvision.models.detection.faster_rcnn import FastRCNNConvFCHead
from torchvision.models.detection.retinanet import RetinaNetHead
from torchvision.models.detection.rpn import RPNHead
from torchvision.models.detection.ssd import SSD, SSDHead, _vgg_extractor
from torchvision.models.detection.ssdlite import SSDLiteHead
from torchvision.models.detection.ssdlite import _mobilenet_extractor as _ssdlite_extractor
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from tuner.config.errors import ConfigError
from tuner.config.trial import AnchorSizes, TrialConfig
from tuner.config.weights import DETECTOR_PREFIX
from tuner.models.batch_norm import BatchNorm, FrozenBatchNorm
from tuner.models.catalog import family
from tuner.models.detector import Detector
from tuner.models.input_convention import IMAGENET_MEAN, IMAGENET_STD, take_normalised
from tuner.models.torchvision_anchors import ExplicitAnchors, ExplicitDefaultBoxes
from tuner.models.torchvision_detectors import FCOSDetector, RetinaNetDetector, SSDDetector, TwoStageDetector
from tuner.models.weights import Pretrained, StateDict, load_pretrained

_CHANNELS = 256
_SSD300_MIN_SIDE = 288
"""SSD300's last layers have nothing left of smaller images: those are padded."""
_MOBILENET_EPS = 1e-3
"""Added to the variances of MobileNetV3's batch norms: what its classifier was trained with. With PyTorch's 1e-5 its
channels of small variance come out up to ten times larger than its weights expect."""
_DETECTOR_EPS = 1e-5
"""The same in torchvision's whole Faster R-CNN on MobileNetV3, which was trained with PyTorch's default."""
_HALVES = [0.5] * 3
"""Mean and deviation with which torchvision normalises the images of SSDlite."""
_EPS_MARK = "eps_of_classifier"
"""Buffer of a backbone whose norms have `_MOBILENET_EPS`: a state says by it how it is to be computed with."""


def build_torchvision(config: TrialConfig, num_classes: int, trained: StateDict | None = None) -> Detector:
    """Build the torchvision detector that a resolved config names.

    Args:
        config: With `anchor_sizes` filled in where the family has anchors.
        num_classes: K, without background.
        trained: What the detector is to be filled with, as far as its build depends on it.

    Raises:
        ConfigError: No such family.
        WeightsError: The pretrained weights are missing, out of reach or of another shape.
    """
    if config.model not in _BUILDERS:
        raise ConfigError(f"model: {config.model} is not one of torchvision's")
    builder: Callable[..., Detector] = _BUILDERS[config.model]
    if config.model == "ssdlite320-mobilenet" and trained is not None:
        builder = partial(_ssdlite, whole_tail=_has_whole_tail(trained, DETECTOR_PREFIX))
    if config.model.startswith("fasterrcnn-mobilenet") and trained is not None:
        builder = partial(builder, small_eps=f"{DETECTOR_PREFIX}backbone.{_EPS_MARK}" not in trained)
    return builder(config.weights, config.anchor_sizes or (), num_classes)


def _resnet(weights: str, *, v2: bool, retina: bool) -> nn.Module:
    """ResNet-50 with a feature pyramid; v2 is torchvision's newer recipe."""
    default = ResNet50_Weights.IMAGENET1K_V2 if v2 else ResNet50_Weights.IMAGENET1K_V1
    pretrained = load_pretrained(weights, default)
    trunk = pretrained.fill_trunk(resnet50(norm_layer=_norm(pretrained, frozen=not v2)), unused=("fc.",))
    if pretrained.is_classifier:
        take_normalised(trunk.get_submodule("conv1"), trunk.get_submodule("bn1"), IMAGENET_MEAN, IMAGENET_STD)
    if retina:
        extra = LastLevelP6P7(2048 if v2 else _CHANNELS, _CHANNELS)
        backbone: nn.Module = _resnet_fpn_extractor(trunk, 5, returned_layers=[2, 3, 4], extra_blocks=extra)
    else:
        backbone = _resnet_fpn_extractor(trunk, 5, norm_layer=BatchNorm if v2 else None)
    return backbone


def _norm(pretrained: Pretrained, *, frozen: bool) -> type[nn.Module]:
    return FrozenBatchNorm if pretrained and frozen else BatchNorm


def _faster_rcnn(weights: str, anchors: AnchorSizes, classes: int) -> Detector:
    generator = ExplicitAnchors(anchors)
    backbone = _resnet(weights, v2=False, retina=False)
    return TwoStageDetector(FasterRCNN(backbone, classes + 1, rpn_anchor_generator=generator))


def _faster_rcnn_v2(weights: str, anchors: AnchorSizes, classes: int) -> Detector:
    backbone = _resnet(weights, v2=True, retina=False)
    network = FasterRCNN(
        backbone,
        classes + 1,
        rpn_anchor_generator=ExplicitAnchors(anchors),
        rpn_head=RPNHead(_CHANNELS, len(anchors[0]), conv_depth=2),
        box_head=FastRCNNConvFCHead((_CHANNELS, 7, 7), [_CHANNELS] * 4, [1024], norm_layer=BatchNorm),
    )
    return TwoStageDetector(network)


def _faster_rcnn_mobilenet(
    weights: str, anchors: AnchorSizes, classes: int, proposals: int = 1000, *, small_eps: bool = False
) -> Detector:
    # torchvision drops proposals below 0.05 here, which leaves a network trained from scratch without any.
    pretrained = load_pretrained(weights, MobileNet_V3_Large_Weights.IMAGENET1K_V1)
    if pretrained.state is not None and not pretrained.is_classifier:
        small_eps = f"backbone.{_EPS_MARK}" not in pretrained.state
    norm = partial(_norm(pretrained, frozen=True), eps=_DETECTOR_EPS if small_eps else _MOBILENET_EPS)
    trunk = _mobilenet(pretrained, mobilenet_v3_large(norm_layer=norm), IMAGENET_MEAN, IMAGENET_STD)
    backbone = _mobilenet_extractor(trunk, True, 6)
    if not small_eps:
        backbone.register_buffer(_EPS_MARK, torch.tensor(1))
    network = FasterRCNN(
        backbone,
        classes + 1,
        rpn_anchor_generator=ExplicitAnchors(anchors),
        rpn_pre_nms_top_n_test=proposals,
        rpn_post_nms_top_n_test=proposals,
    )
    return TwoStageDetector(network)


def _mobilenet(pretrained: Pretrained, trunk: nn.Module, mean: Sequence[float], std: Sequence[float]) -> nn.Module:
    """Fill a MobileNetV3 with a classifier's weights, if that is what they are, for images so normalised."""
    pretrained.fill_trunk(trunk, unused=("classifier.",))
    if pretrained.is_classifier:
        take_normalised(trunk.get_submodule("features.0.0"), trunk.get_submodule("features.0.1"), mean, std)
    return trunk


def _retinanet(weights: str, anchors: AnchorSizes, classes: int) -> Detector:
    backbone = _resnet(weights, v2=False, retina=True)
    return RetinaNetDetector(RetinaNet(backbone, classes, anchor_generator=ExplicitAnchors(anchors)))


def _retinanet_v2(weights: str, anchors: AnchorSizes, classes: int) -> Detector:
    backbone = _resnet(weights, v2=True, retina=True)
    head = RetinaNetHead(_CHANNELS, len(anchors[0]), classes, norm_layer=partial(nn.GroupNorm, 32))
    head.regression_head._loss_type = "giou"
    return RetinaNetDetector(RetinaNet(backbone, classes, anchor_generator=ExplicitAnchors(anchors), head=head))


def _fcos(weights: str, anchors: AnchorSizes, classes: int) -> Detector:
    # FCOS has no anchors, but torchvision's places a box of the stride's size on each position.
    points = ExplicitAnchors(tuple(((s, s),) for s in family("fcos-resnet50").strides))
    return FCOSDetector(FCOS(_resnet(weights, v2=False, retina=True), classes, anchor_generator=points))


def _ssd300(weights: str, anchors: AnchorSizes, classes: int) -> Detector:
    pretrained = load_pretrained(weights, VGG16_Weights.IMAGENET1K_FEATURES)
    trunk = pretrained.fill_trunk(vgg16(), unused=("classifier.",))
    backbone = _vgg_extractor(trunk, False, 5)
    size = (300, 300)
    generator = ExplicitDefaultBoxes(anchors)
    network = SSD(
        backbone,
        generator,
        size,
        classes + 1,
        head=SSDHead(retrieve_out_channels(backbone, size), generator.num_anchors_per_location(), classes + 1),
        image_mean=[0.48235, 0.45882, 0.40784],
        image_std=[1.0 / 255.0] * 3,
    )
    return SSDDetector(network, min_side=_SSD300_MIN_SIDE)


def _has_whole_tail(trained: StateDict, prefix: str = "") -> bool:
    """Whether the last stages of a trained SSDlite are not halved: it was started from a classifier's weights."""
    first = trained.get(f"{prefix}backbone.features.1.0.3.0.weight")
    return first is not None and first.shape[:1] == (160,)


def _ssdlite(weights: str, anchors: AnchorSizes, classes: int, *, whole_tail: bool = False) -> Detector:
    pretrained = load_pretrained(weights, MobileNet_V3_Large_Weights.IMAGENET1K_V1)
    norm = partial(BatchNorm, eps=_MOBILENET_EPS, momentum=0.03)
    # The last stages are halved (MobileNetV3, table 6) unless a classifier's weights are to fit them, or once were.
    whole_tail = whole_tail or pretrained.is_classifier or _has_whole_tail(pretrained.state or {})
    trunk = mobilenet_v3_large(norm_layer=norm, reduced_tail=not whole_tail)
    if not pretrained:
        for layer in trunk.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.normal_(layer.weight, std=0.03)
    trunk = _mobilenet(pretrained, trunk, _HALVES, _HALVES)
    backbone = _ssdlite_extractor(trunk, 6, norm)
    size = (320, 320)
    generator = ExplicitDefaultBoxes(anchors)
    counts = generator.num_anchors_per_location()
    network = SSD(
        backbone,
        generator,
        size,
        classes + 1,
        head=SSDLiteHead(retrieve_out_channels(backbone, size), counts, classes + 1, norm),
        image_mean=_HALVES,
        image_std=_HALVES,
    )
    return SSDDetector(network)


_BUILDERS: dict[str, Callable[[str, AnchorSizes, int], Detector]] = {
    "fasterrcnn-resnet50": _faster_rcnn,
    "fasterrcnn-resnet50-v2": _faster_rcnn_v2,
    "fasterrcnn-mobilenet": _faster_rcnn_mobilenet,
    "fasterrcnn-mobilenet-320": partial(_faster_rcnn_mobilenet, proposals=150),
    "retinanet-resnet50": _retinanet,
    "retinanet-resnet50-v2": _retinanet_v2,
    "fcos-resnet50": _fcos,
    "ssd300-vgg16": _ssd300,
    "ssdlite320-mobilenet": _ssdlite,
}
