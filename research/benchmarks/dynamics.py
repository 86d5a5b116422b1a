"""The common dynamics of all contenders: the paper's LIF neuron, whose reset has no gradient.

``u_pre[t] = u[t - 1] / 2 + I[t]``, a spike where ``u_pre > 1``, then ``u = 0``. snnTorch detaches the reset from
the graph, so the others do too. Every library runs the two surrogates on its fastest path.
"""

import numpy as np

DECAY = 0.5
THRESHOLD = 1.0
# SpikingJelly fires at >= its threshold: the next float32 makes that the same as > 1.
NEXT_THRESHOLD = float(np.nextafter(np.float32(THRESHOLD), np.float32(2.0)))
# Of the networks: alpha / 2 / (1 + (pi / 2 * alpha * v)^2).
ATAN_ALPHA = 2.0
# Of the neuron alone: max(0, 1 - |v|), which Norse has too.
TRIANGLE_HEIGHT = 1.0
