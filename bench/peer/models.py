"""Networks of the benches in PyTorch that take more than a line; parameters in the order of lipsweep's."""
from torch import nn


class Block(nn.Module):
    """Two 3x3 convolutions beside the identity, or beside a bare 1x1 convolution where the shape changes."""

    def __init__(self, c, o, stride, bn):
        super().__init__()
        self.conv1 = nn.Conv2d(c, o, 3, stride, 1, bias=not bn)
        self.bn1 = nn.BatchNorm2d(o) if bn else nn.Identity()
        self.conv2 = nn.Conv2d(o, o, 3, 1, 1, bias=not bn)
        self.bn2 = nn.BatchNorm2d(o) if bn else nn.Identity()
        self.shortcut = nn.Conv2d(c, o, 1, stride, bias=False) if stride > 1 else nn.Identity()
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x):
        branch = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        return self.relu(branch + self.shortcut(x))


def resnet18(w, k, bn=False):
    """For 3x32x32: a 3x3 stem of w channels, four stages of two blocks of w, 2w, 4w, 8w, one linear layer."""
    layers, c = [nn.Conv2d(3, w, 3, 1, 1, bias=not bn)], w
    layers += [nn.BatchNorm2d(w)] if bn else []
    layers += [nn.ReLU(inplace=True)]
    for stage in range(4):
        for block in range(2):
            layers.append(Block(c, w << stage, 2 if stage and not block else 1, bn))
            c = w << stage
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(c, k))
