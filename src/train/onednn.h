/* oneDNN behind the table of dense.h. Built without it, there is none. */
#ifndef ESPL_TRAIN_ONEDNN_H
#define ESPL_TRAIN_ONEDNN_H

#include "train/dense.h"

/* Changes the entries of the table that oneDNN has; false: it is not there, or does not run here. */
bool espl__onednn_open(espl__dense *table);

#endif
