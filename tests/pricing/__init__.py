"""What tokens cost: charges, ceilings, the catalogue, overrides, and what others say of the same usage."""
