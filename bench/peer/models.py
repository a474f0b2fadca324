"""Networks of the benches in PyTorch that take more than a line; parameters in the order of lipsweep's."""
import torch
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


class Encoder(nn.Module):
    """x += attention(ln(x)), x += mlp(ln(x))."""

    def __init__(self, w):
        super().__init__()
        self.heads = w // 32 if w % 32 == 0 else 1
        self.ln_1, self.in_proj, self.out_proj = nn.LayerNorm(w, 1e-6), nn.Linear(w, 3 * w), nn.Linear(w, w)
        self.ln_2, self.mlp = nn.LayerNorm(w, 1e-6), nn.Sequential(nn.Linear(w, 4 * w), nn.GELU(), nn.Linear(4 * w, w))

    def forward(self, x):
        b, n, w = x.shape
        q, k, v = self.in_proj(self.ln_1(x)).view(b, n, 3, self.heads, w // self.heads).permute(2, 0, 3, 1, 4)
        y = nn.functional.scaled_dot_product_attention(q, k, v)
        x = x + self.out_proj(y.transpose(1, 2).reshape(b, n, w))
        return x + self.mlp(self.ln_2(x))


class Vit(nn.Module):
    """For 3x32x32: patches of 4x4, a class token, learned positions, six blocks, one linear layer."""

    def __init__(self, w, k, depth=6):
        super().__init__()
        self.conv_proj, tokens = nn.Conv2d(3, w, 4, 4), nn.Module()
        tokens.class_token = nn.Parameter(torch.zeros(1, 1, w))
        tokens.positions = nn.Parameter(0.02 * torch.randn(1, 65, w))
        self.tokens, self.blocks = tokens, nn.Sequential(*(Encoder(w) for _ in range(depth)))
        self.ln, self.head = nn.LayerNorm(w, 1e-6), nn.Linear(w, k)

    def forward(self, x):
        x = self.conv_proj(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.tokens.class_token.expand(len(x), -1, -1), x], 1) + self.tokens.positions
        return self.head(self.ln(self.blocks(x)[:, 0]))
