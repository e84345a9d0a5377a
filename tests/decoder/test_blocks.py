from __future__ import annotations

import torch
from torch import nn

from clipmused_bids.decoder.blocks import Block


def torch_layer(block: Block, *, width: int, heads: int, hidden: int) -> nn.TransformerEncoderLayer:
    """PyTorch's own pre-norm layer with the block's weights."""
    layer = nn.TransformerEncoderLayer(
        width, heads, hidden, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
    )
    layer.self_attn.in_proj_weight.data = block.attention.qkv.weight.data
    layer.self_attn.in_proj_bias.data = block.attention.qkv.bias.data
    layer.self_attn.out_proj.load_state_dict(block.attention.out.state_dict())
    layer.linear1.load_state_dict(block.mlp[0].state_dict())
    layer.linear2.load_state_dict(block.mlp[2].state_dict())
    layer.norm1.load_state_dict(block.attention_norm.state_dict())
    layer.norm2.load_state_dict(block.mlp_norm.state_dict())
    return layer


def test_a_block_is_pytorchs_pre_norm_layer() -> None:
    torch.manual_seed(0)
    block = Block(12, heads=3, mlp_ratio=2.0, dropout=0.0)
    for parameter in block.parameters():
        nn.init.normal_(parameter, std=0.5)
    layer = torch_layer(block, width=12, heads=3, hidden=24).train()
    z = torch.randn(2, 5, 12)
    torch.testing.assert_close(block(z), layer(z))


def test_asking_for_maps_changes_nothing_and_rows_sum_to_one() -> None:
    torch.manual_seed(0)
    block = Block(12, heads=3, mlp_ratio=2.0, dropout=0.0)
    nn.init.normal_(block.attention.qkv.weight)
    z = torch.randn(2, 5, 12)
    result, maps = block.with_maps(z)
    torch.testing.assert_close(result, block(z))
    assert maps.shape == (2, 3, 5, 5)
    torch.testing.assert_close(maps.sum(dim=-1), torch.ones(2, 3, 5))


def test_maps_are_those_of_pytorchs_attention() -> None:
    torch.manual_seed(0)
    block = Block(12, heads=3, mlp_ratio=2.0, dropout=0.0)
    nn.init.normal_(block.attention.qkv.weight)
    layer = torch_layer(block, width=12, heads=3, hidden=24)
    z = torch.randn(2, 5, 12)
    normed = block.attention_norm(z)
    _, expected = layer.self_attn(normed, normed, normed, need_weights=True, average_attn_weights=False)
    torch.testing.assert_close(block.with_maps(z)[1], expected)


def test_dropout_acts_while_training_only() -> None:
    torch.manual_seed(0)
    block = Block(12, heads=3, mlp_ratio=2.0, dropout=0.5)
    z = torch.randn(2, 5, 12)
    assert not torch.equal(block.train()(z), block(z))
    assert torch.equal(block.eval()(z), block(z))
