"""Every threshold from which an answer is called good, doubtful or wrong, with its reason: the one table of them.

Those that chains must pass are keys (`optimization.cmc.validation`), the largest k-hat is the certificate's.
"""

NORMAL_95 = 1.959964
"""Half the width of a normal 95 % interval, in standard deviations."""

MISFIT_SIGNIFICANCE = 1.0e-4
"""Probability below which χ² says that the model does not describe the data."""

MISFIT_SIZE = 0.01
"""Smallest excess of reduced χ² worth a word: with 10⁷ pairs even 10⁻³ is significant."""

FEWEST_FREEDOM = 30.0
"""Degrees of freedom below which σ is too uncertain (13 %) for χ² to judge a model."""

GOOD_CHI_SQUARED = (0.9, 1.1)
"""Noise is estimated from the data, so a model that explains them has χ² per degree of freedom near 1; times what noise
that pairs share gives by itself."""

GOOD_WHITENED_CHI_SQUARED = (0.75, 1.25)
"""Speckles are known to relative order contrast, and so is χ² per degree of freedom of what they leave white."""

ACCEPTABLE_CHI_SQUARED = (0.7, 1.5)
"""Outside of this, the misfit (or a wrong σ) is as large as the noise, and no error bar can be trusted."""

SETTLED_BY = 4.0
"""Change of χ² up to which two fits are as good as each other: two standard deviations of one parameter."""

NOTABLE_INFLATION = 1.2
"""Robust over model-based error from which correlated noise is worth a remark."""

SERIOUS_INFLATION = 1.5
"""Robust over model-based error from which the model-based one misleads: its 95 % interval holds the truth in 81 %."""

DEGENERATE = 0.95
"""Correlation from which two parameters are hard to tell apart: three times wider than either alone."""

INSEPARABLE = 0.99
"""Correlation from which the data determine only a combination of two: seven times wider than either alone."""

DETECTED = 5.0
"""Standard errors above 0 from which the contrast of an angle counts as a signal."""

STILL_PHYSICAL = 3.0
"""Standard errors by which a contrast may lie below 0 or above 1."""

COUNTED_APART = 1.25
"""Ratio to what the file counts from which photons or pixels found in the noise are called into question: of the real
frames in docs/noise.md photons agree within 8 %, and pixels that share speckles make P smaller, never larger."""

NOT_SPECKLE = 3.0
"""Standard deviations by which a smooth part that is too small says that what pairs share is not speckle."""

WHITE = (0.7, 1.4)
"""Variances of whitened residuals over those expected that count as white: error bars then are right to a fifth, and
the robust ones allow for the rest."""

LARGEST_RATIO = 6.0
"""Smooth part, over what the other two imply, of speckles of 3.4 pixels: more than that is a model's or a beam's."""

SIGNIFICANCE = 0.01
"""Chance of reporting disagreement between shards where there is none, over all parameters together."""

R_HAT_GRADES = ((1.01, "good"), (1.05, "acceptable"), (1.1, "poor"))
"""R-hat below which chains agree so well; above the last one they fail. 1.01 is the limit of Vehtari et al., Bayesian
Analysis 16:667 (2021), 1.1 that of Gelman and Rubin, Statistical Science 7:457 (1992)."""

INFORMED = 0.5
"""Contraction below which most of what the posterior says about a parameter was put in by its prior."""

NOTABLE_Z = 0.5
"""Posterior standard deviations between posterior mean and point fit that a skewed posterior explains."""

SERIOUS_Z = 2.0
"""The same, from which a reader should ask why."""

FEWEST_EFFECTIVE = 400.0
"""Effective draws below which intervals are too noisy to quote: the error of a mean is then a twentieth of its sd."""

LARGEST_SHIFT = 0.1
"""Shift of a mean, in posterior standard deviations, up to which the consensus itself counts as right."""

LARGEST_STRETCH = 0.05
"""Relative error of a standard deviation up to which the consensus itself counts as right."""

GROSS_ERROR = 0.5
"""Compression error (nats) from which a posterior is rejected: half a nat moves means by a sizeable part of an sd."""

MIXED = 0.001
"""Share of draws with the components exchanged, in a posterior of two peaks, from which they are two answers in one."""
