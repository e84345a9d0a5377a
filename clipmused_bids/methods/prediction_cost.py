"""What predicting costs, before it is done."""

from __future__ import annotations

from clipmused_bids.decoder.cost import training_cost
from clipmused_bids.methods.base import Method
from clipmused_bids.methods.each_participant import EachParticipant
from clipmused_bids.methods.network import NetworkMethod
from clipmused_bids.records import TrialData


def operations_of_a_trial(method: Method, data: TrialData) -> float:
    """Floating-point operations of predicting one trial of the first participant of ``data``.

    Parameters
    ----------
    method : Method
        Fitted. Networks are traced without computing anything; what has a closed form is one product of the
        responses with a map of all labels.
    data : TrialData
    """
    own = method.own(data.participants[0]) if isinstance(method, EachParticipant) else method
    if not isinstance(own, NetworkMethod):
        return 2.0 * data.responses[0].n_voxels * len(data.label_names)
    fitted = own.fitted()
    n_voxels = tuple(fitted.signature.n_voxels.values())
    return float(
        sum(training_cost(one, n_voxels=n_voxels, batch_size=1).forward_flops for one in fitted.members)
    )
