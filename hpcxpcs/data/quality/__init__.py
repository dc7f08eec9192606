"""How good data are: measured without a model, scored with every deduction named, repaired by masking alone."""
