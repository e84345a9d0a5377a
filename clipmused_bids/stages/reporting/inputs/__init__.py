"""What went into the decoder of one participant, from the plan, the catalogue, the split and the stored responses."""
