import pytest
import torch
from torchvision.models import get_model, mobilenet_v3_large
from torchvision.models.detection import fasterrcnn_mobilenet_v3_large_fpn

from tuner.config.errors import WeightsError
from tuner.config.trial import TrialConfig
from tuner.data.letterbox import Canvas
from tuner.models.batch_norm import BatchNorm, FrozenBatchNorm
from tuner.models.build import build_detector
from tuner.models.catalog import FAMILIES
from tuner.models.input_convention import IMAGENET_MEAN, IMAGENET_STD
from tuner.models.torchvision_build import build_torchvision

ANCHORS = FAMILIES["fasterrcnn-mobilenet"].default_anchors(Canvas(64, 64))


def build(name, weights):
    anchors = FAMILIES[name].default_anchors(Canvas(64, 64))
    return build_torchvision(TrialConfig(model=name, image_size=64, weights=str(weights), anchor_sizes=anchors), 2)


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    torch.manual_seed(5)
    network = mobilenet_v3_large(num_classes=7)
    path = tmp_path_factory.mktemp("weights") / "mobilenet.pth"
    torch.save(network.state_dict(), path)
    return network.state_dict(), path


@pytest.mark.parametrize("name", ["fasterrcnn-mobilenet", "ssdlite320-mobilenet"])
def test_a_classifiers_file_fills_the_trunk(name, classifier):
    state, path = classifier
    network = build(name, path).network
    trunk = network.backbone.body if name.startswith("fasterrcnn") else network.backbone.features[0]
    own = dict(trunk.named_parameters()) | dict(trunk.named_buffers())
    stem = next(value for key, value in own.items() if value.shape == state["features.0.0.weight"].shape)
    assert torch.equal(stem, state["features.0.0.weight"])
    every = {tensor.double().sum().item() for tensor in network.backbone.state_dict().values()}
    for key in ("features.5.block.1.0.weight", "features.15.block.3.0.weight", "features.16.0.weight"):
        assert state[key].double().sum().item() in every
    assert all(parameter.requires_grad for parameter in network.parameters())


@pytest.mark.parametrize("name", ["fasterrcnn-mobilenet", "ssdlite320-mobilenet"])
def test_the_backbone_is_what_a_classifiers_file_fills(name, classifier):
    """It alone may learn more slowly."""
    state, path = classifier
    detector = build(name, path)
    filled = {tensor.double().sum().item() for tensor in state.values()}
    backbone = {id(parameter) for parameter in detector.backbone.parameters()}
    assert backbone
    for parameter in detector.parameters():
        if parameter.ndim > 1:
            assert (parameter.double().sum().item() in filled) == (id(parameter) in backbone)


def test_norms_of_a_pretrained_trunk_are_frozen_in_the_first_recipes(classifier):
    def norms(weights):
        return {type(m) for m in build("fasterrcnn-mobilenet", weights).modules() if "BatchNorm" in type(m).__name__}

    assert norms(classifier[1]) == {FrozenBatchNorm}
    assert norms("none") == {BatchNorm}


@pytest.mark.parametrize("name", ["fasterrcnn-mobilenet", "fasterrcnn-mobilenet-320", "ssdlite320-mobilenet"])
def test_a_pretrained_trunk_computes_what_the_classifier_does(name, tmp_path):
    """Also where variances are so small that what is added to them decides."""
    torch.manual_seed(9)
    classifier = mobilenet_v3_large(num_classes=7).eval()
    for module in classifier.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_var.uniform_(0, 2e-4)
            module.weight.data.mul_(0.1)
    torch.save(classifier.state_dict(), tmp_path / "classifier.pth")
    backbone = build(name, tmp_path / "classifier.pth").eval().network.backbone
    images = torch.rand(1, 3, 64, 64)
    trunk = backbone.body if name.startswith("fasterrcnn") else backbone.features
    with torch.inference_mode():
        found = trunk(images)
        # SSDlite stops within block 13, to take the first features after its expansion.
        expected = classifier.features(images) if name.startswith("fasterrcnn") else classifier.features[:13](images)
        if not name.startswith("fasterrcnn"):
            expected, found = classifier.features[13].block[0](expected), trunk[0](images)
    last = found if torch.is_tensor(found) else list(found.values())[-1]
    torch.testing.assert_close(last, expected)


def stem_of(network):
    """The first convolution and its norm."""
    kinds = torch.nn.Conv2d, (torch.nn.BatchNorm2d, FrozenBatchNorm)
    return torch.nn.Sequential(*(next(m for m in network.modules() if isinstance(m, kind)) for kind in kinds))


@pytest.mark.parametrize("convention", ["rgb", "bgr", "normalised"])
@pytest.mark.parametrize(
    ("name", "trunk"),
    [
        ("fasterrcnn-mobilenet-320", "mobilenet_v3_large"),
        ("ssdlite320-mobilenet", "mobilenet_v3_large"),
        ("retinanet-resnet50", "resnet50"),
    ],
)
def test_a_classifier_is_given_the_images_that_it_was_trained_on(name, trunk, convention, tmp_path):
    torch.manual_seed(4)
    smooth = torch.nn.functional.interpolate(torch.randn(8, 3, 6, 6), size=(64, 64), mode="bilinear")
    mean, deviation = (torch.tensor(values).view(3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    images = (mean + 0.2 * smooth).clamp(0, 1).mul(255).to(torch.uint8)
    rgb = images / 255
    wanted = {"rgb": rgb, "bgr": rgb.flip(1), "normalised": (rgb - mean) / deviation}[convention]
    classifier = get_model(trunk, weights=None)
    stem = stem_of(classifier)
    stem[1].momentum = 1.0  # it remembers these images
    stem(wanted)
    torch.save(classifier.state_dict(), tmp_path / "weights.pth")

    network = build(name, tmp_path / "weights.pth").eval().network
    if (name, convention) == ("ssdlite320-mobilenet", "normalised"):
        assert torch.equal(stem_of(network)[0].weight, stem[0].weight)  # torchvision gives it images in -1 … 1
        return
    with torch.no_grad():
        given, _ = network.transform(images)
        found, expected = stem_of(network)(given.tensors), stem.eval()(wanted)
    inside = (..., slice(3, -3), slice(3, -3))  # at the borders convolutions are padded with another colour
    torch.testing.assert_close(found[inside], expected[inside], rtol=1e-3, atol=1e-3)


def test_a_whole_detectors_trunk_keeps_the_constant_that_torchvision_trained_it_with(tmp_path):
    torch.manual_seed(10)
    theirs = fasterrcnn_mobilenet_v3_large_fpn(weights=None, weights_backbone=None, num_classes=3)
    torch.save(theirs.state_dict(), tmp_path / "detector.pth")
    ours = build("fasterrcnn-mobilenet", tmp_path / "detector.pth")
    assert {m.eps for m in ours.modules() if isinstance(m, FrozenBatchNorm)} == {1e-5}
    config = TrialConfig(model="fasterrcnn-mobilenet", anchor_sizes=ANCHORS)
    rebuilt = build_detector(config, 2, ours.state_dict())
    assert {m.eps for m in rebuilt.modules() if isinstance(m, BatchNorm)} == {1e-5}


@pytest.mark.parametrize(
    ("name", "trunk"),
    [
        ("ssdlite320-mobilenet", "mobilenet_v3_large"),
        ("ssdlite320-mobilenet", None),
        ("fasterrcnn-mobilenet-320", "mobilenet_v3_large"),
        ("dense-shufflenet", "shufflenet_v2_x0_5"),
        ("dense-small", "resnet18"),
        ("dense-tiny", None),
    ],
)
def test_a_trained_state_is_rebuilt_without_the_weights_that_it_started_from(name, trunk, tmp_path):
    torch.manual_seed(8)
    path = tmp_path / "trunk.pth"
    if trunk is not None:
        torch.save(get_model(trunk, weights=None, num_classes=7).state_dict(), path)
    config = TrialConfig(
        model=name,
        weights=str(path) if trunk is not None else "none",
        image_size=64,
        anchor_sizes=FAMILIES[name].default_anchors(Canvas(64, 64)),
    )
    detector = build_detector(config, 2).eval()
    path.unlink(missing_ok=True)
    rebuilt = build_detector(config, 2, detector.state_dict()).eval()
    images = torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8)
    with torch.inference_mode():
        for found, expected in zip(rebuilt.candidates(images), detector.candidates(images), strict=True):
            torch.testing.assert_close(found, expected)


def test_weights_of_another_network_are_refused_with_names(classifier, tmp_path):
    with pytest.raises(WeightsError, match=r"0 of \d+ parameters match.*conv1\.weight"):
        build("retinanet-resnet50", classifier[1])
    cut = dict(classifier[0])
    del cut["features.3.block.0.0.weight"]
    torch.save(cut, tmp_path / "cut.pth")
    with pytest.raises(WeightsError, match=r"features\.3\.block\.0\.0\.weight"):
        build("fasterrcnn-mobilenet", tmp_path / "cut.pth")


@pytest.mark.parametrize("content", [b"", b"not weights", b"PK\x03\x04 broken", b"q", b"K", b"R", b"]\0\0\0", b"}"])
def test_a_file_that_holds_no_weights_is_named(content, tmp_path):
    path = tmp_path / "broken.pth"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=r"broken\.pth"):
        build("ssdlite320-mobilenet", path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(WeightsError, match="no file"):
        build("ssdlite320-mobilenet", tmp_path / "none.pth")


class Evil:
    def __reduce__(self):
        return (print, ("this must not run",))


def test_code_in_a_file_is_not_run(tmp_path, capsys):
    path = tmp_path / "evil.pth"
    torch.save({"a": Evil()}, path)
    with pytest.raises(WeightsError, match=r"evil\.pth"):
        build("ssdlite320-mobilenet", path)
    assert capsys.readouterr().out == ""


def test_a_file_of_something_else_is_refused(tmp_path):
    path = tmp_path / "list.pth"
    torch.save([1, 2], path)
    with pytest.raises(WeightsError, match="no state dict"):
        build("ssdlite320-mobilenet", path)


def test_default_weights_out_of_reach_name_the_file_and_its_place(tmp_path, monkeypatch):
    # A port that nothing listens on stands for a host out of reach; the cache is empty.
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    with pytest.raises(WeightsError) as caught:
        build("fasterrcnn-mobilenet", "default")
    assert "mobilenet_v3_large-8738ca79.pth" in caught.value.hint
    assert str(tmp_path / "checkpoints") in caught.value.hint


def test_default_weights_in_torchs_cache_need_no_network(tmp_path, monkeypatch, classifier):
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    torch.save(classifier[0], tmp_path / "checkpoints" / "mobilenet_v3_large-8738ca79.pth")
    network = build("fasterrcnn-mobilenet", "default").network
    assert torch.equal(network.backbone.body["0"][0].weight, classifier[0]["features.0.0.weight"])
