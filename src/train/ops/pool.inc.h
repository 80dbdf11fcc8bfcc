/* Output positions [begin, end) of all images: rows of `channels` elements. */

static void FN(max_positions)(void *arg, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const espl__call *c = arg;
    const pool *k = c->state;
    for (int64_t p = begin; p < end; p++) {
        const REAL *image = (const REAL *)c->in->data + p / k->positions * k->pixels * k->channels;
        REAL *y = (REAL *)c->out->data + p * k->channels;
        int32_t *from = (int32_t *)c->saved + p * k->channels;
        for (int64_t i = 0; i < k->channels; i++) {
            y[i] = -(REAL)INFINITY;
            from[i] = -1;
        }
        taps t;
        for (begin_taps(k, p % k->positions, &t); !t.done; next_tap(k, &t)) {
            const REAL *x = image + t.pixel * k->channels;
            for (int64_t i = 0; i < k->channels; i++) {
                bool more = x[i] > y[i] || x[i] != x[i];
                from[i] = more || from[i] < 0 ? (int32_t)t.pixel : from[i];
                y[i] = more ? x[i] : y[i];
            }
        }
    }
}

static void FN(mean_positions)(void *arg, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const espl__call *c = arg;
    const pool *k = c->state;
    for (int64_t p = begin; p < end; p++) {
        const REAL *image = (const REAL *)c->in->data + p / k->positions * k->pixels * k->channels;
        REAL *y = (REAL *)c->out->data + p * k->channels;
        for (int64_t i = 0; i < k->channels; i++) y[i] = 0;
        taps t;
        for (begin_taps(k, p % k->positions, &t); !t.done; next_tap(k, &t)) {
            const REAL *x = image + t.pixel * k->channels;
            for (int64_t i = 0; i < k->channels; i++) y[i] += x[i];
        }
        int64_t n = divisor(k, &t);
        REAL factor = n > 0 ? 1 / (REAL)n : 0;
        for (int64_t i = 0; i < k->channels; i++) y[i] *= factor;
    }
}

/* Images [begin, end), whose windows may overlap. */
static void FN(max_back)(void *arg, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const espl__call *c = arg;
    const pool *k = c->state;
    for (int64_t n = begin; n < end; n++) {
        REAL *dx = (REAL *)c->din->data + n * k->pixels * k->channels;
        if (!(c->add & 1)) memset(dx, 0, (size_t)(k->pixels * k->channels) * sizeof(REAL));
        for (int64_t p = n * k->positions; p < (n + 1) * k->positions; p++) {
            const REAL *dy = (const REAL *)c->dout->data + p * k->channels;
            const int32_t *from = (const int32_t *)c->saved + p * k->channels;
            for (int64_t i = 0; i < k->channels; i++)
                if (from[i] >= 0) dx[from[i] * k->channels + i] += dy[i];
        }
    }
}

static void FN(mean_back)(void *arg, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const espl__call *c = arg;
    const pool *k = c->state;
    for (int64_t n = begin; n < end; n++) {
        REAL *image = (REAL *)c->din->data + n * k->pixels * k->channels;
        if (!(c->add & 1)) memset(image, 0, (size_t)(k->pixels * k->channels) * sizeof(REAL));
        for (int64_t p = n * k->positions; p < (n + 1) * k->positions; p++) {
            const REAL *dy = (const REAL *)c->dout->data + p * k->channels;
            taps t;
            begin_taps(k, p % k->positions, &t);
            int64_t count = divisor(k, &t);
            REAL factor = count > 0 ? 1 / (REAL)count : 0;
            for (; !t.done; next_tap(k, &t)) {
                REAL *dx = image + t.pixel * k->channels;
                for (int64_t i = 0; i < k->channels; i++) dx[i] += dy[i] * factor;
            }
        }
    }
}
