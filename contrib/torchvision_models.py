"""lipsweep's residual network as a torchvision module: its checkpoints load into it with strict=True."""
from torch import nn
from torchvision.models.resnet import BasicBlock, ResNet


class ResNet18(ResNet):
    """torchvision's ResNet-18 with a stem for small images (3x3, no pooling), any width, shortcuts of a bare 1x1
    convolution, and, without batch norm, biases in the 3x3 convolutions."""

    def __init__(self, width, classes, channels=3, batch_norm=False):
        norm = nn.BatchNorm2d if batch_norm else nn.Identity
        super().__init__(BasicBlock, [2, 2, 2, 2], num_classes=classes, norm_layer=norm)
        self.inplanes = width
        self.conv1 = nn.Conv2d(channels, width, 3, padding=1, bias=False)
        self.bn1 = norm(width)
        self.maxpool = nn.Identity()
        for stage in range(4):
            blocks = self._make_layer(BasicBlock, width << stage, 2, stride=2 if stage else 1)
            setattr(self, f"layer{stage + 1}", blocks)
            if stage:
                blocks[0].downsample = nn.Sequential(blocks[0].downsample[0])
        self.fc = nn.Linear(8 * width, classes)
        if not batch_norm:
            for module in list(self.modules()):
                for name in ("conv1", "conv2"):
                    if hasattr(module, name):
                        setattr(module, name, with_bias(getattr(module, name)))


def with_bias(conv):
    return nn.Conv2d(conv.in_channels, conv.out_channels, conv.kernel_size, conv.stride, conv.padding)
