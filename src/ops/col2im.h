/* Col2Im as its node says: the window is that of the convolution which the columns belong to (in: the image,
 * out: the blocks). */
#ifndef ESPL_OPS_COL2IM_H
#define ESPL_OPS_COL2IM_H

#include "ops/ops.h"

/* known: the sizes of image and block are constants; blocks and taps: how many there are. */
ESPL_NODISCARD espl_status espl__col2im_resolve(const espl__node *node, espl__window *w, bool *known,
                                                int64_t *blocks, int64_t *taps, espl_diag *diag);

#endif
