/* Elements [begin, end) of the first axis; each output is a mean of the elements around where it lies. */
static void FN(resize_images)(void *arg, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const job *j = arg;
    const espl__call *c = j->call;
    const sampling *k = c->state;
    const espl_shape *y = &c->out->shape;
    int64_t slice = espl_shape_count(y) / y->dim[0], from[CORNERS], index[ESPL_MAX_RANK];
    float weight[CORNERS];
    for (int64_t i = begin * slice; i < end * slice; i++) {
        int64_t rest = i;
        for (int a = y->rank - 1; a >= 0; a--) {
            index[a] = rest % y->dim[a];
            rest /= y->dim[a];
        }
        int n = corners(k, y->rank, index, from, weight);
        REAL sum = 0;
        for (int p = 0; p < n && !j->back; p++) sum += ((const REAL *)c->in->data)[from[p]] * (REAL)weight[p];
        for (int p = 0; p < n && j->back; p++)
            ((REAL *)c->din->data)[from[p]] += ((const REAL *)c->dout->data)[i] * (REAL)weight[p];
        if (!j->back) ((REAL *)c->out->data)[i] = sum;
    }
}
