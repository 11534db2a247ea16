"""A DistilBERT is a BERT."""

import pytest
import torch

from clipedu.exports.bert import bert_config, bert_state
from tests.helpers.releases import same

pytestmark = pytest.mark.xdist_group("exports")


@torch.no_grad()
@pytest.mark.parametrize("more", [{}, {"activation": "relu", "n_layers": 1}, {"sinusoidal_pos_embds": True}])
def test_states_are_equal(more):
    from transformers import BertModel, DistilBertConfig, DistilBertModel

    torch.manual_seed(0)
    sizes = {"dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 32, "vocab_size": 50, "max_position_embeddings": 20}
    small = DistilBertModel(DistilBertConfig(**sizes | more)).eval()
    for parameter in small.parameters():
        parameter.add_(0.1 * torch.randn_like(parameter))
    bert = BertModel(bert_config(small.config), add_pooling_layer=False).eval()
    bert.load_state_dict(bert_state(small.state_dict()))
    ids, mask = torch.randint(0, 50, (3, 9)), torch.ones(3, 9, dtype=torch.long)
    mask[1, 5:] = 0
    ours, theirs = (model(input_ids=ids, attention_mask=mask).last_hidden_state for model in (small, bert))
    assert same(theirs[mask == 1], ours[mask == 1], 1e-6)
