"""What the tokens of a fitted network become for given trials: z_llv and z_hlv.

Shape suffixes: n trials, E members of the average, D width.
"""

from __future__ import annotations

import numpy as np

from clipmused_bids.decoder.network import DecoderOutput, Network
from clipmused_bids.methods.network import NetworkMethod
from clipmused_bids.records import FloatArray, IntArray, TrialData
from clipmused_bids.training.batches import TrialReader
from clipmused_bids.training.health import named_tokens
from clipmused_bids.training.monitor import decode_logits


def token_outputs(method: NetworkMethod, data: TrialData) -> dict[str, FloatArray]:
    """Decode trials and return the last states of the tokens; no label, stimulus or target is looked at.

    Parameters
    ----------
    method : NetworkMethod
        Fitted.
    data : TrialData

    Returns
    -------
    dict of str to ndarray of shape (n, E * D), float32
        ``low`` and ``high``, or ``token`` where there is a single one. Members of an average stand side by side, so
        that a cosine of two rows is a mean over the members' cosines.

    Raises
    ------
    DataError
        If the data are not what the method was fitted to.
    """
    fitted = method.fitted()
    fitted.signature.check(data)
    index = {p: n for n, p in enumerate(fitted.signature.masks)}
    reader = TrialReader(data, device=method.device, token=[index.get(p, 0) for p in data.participants])
    of_members = [_of_member(one.to(method.device), reader) for one in fitted.members]
    return {name: np.hstack([one[name] for one in of_members]) for name in of_members[0]}


def _of_member(network: Network, reader: TrialReader) -> dict[str, FloatArray]:
    found: dict[str, FloatArray] = {}

    def keep(index: IntArray, output: DecoderOutput) -> None:
        for name, token_BD in named_tokens(output).items():
            if name not in found:
                found[name] = np.zeros((reader.data.n_trials, token_BD.shape[1]), dtype=np.float32)
            found[name][index] = token_BD.float().cpu().numpy()

    decode_logits(network, reader, watch=keep)
    return found
