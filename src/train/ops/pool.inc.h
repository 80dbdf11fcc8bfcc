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

/* |x|^p */
static REAL FN(power)(REAL x, int64_t p) {
    return p == 0 ? 1 : p == 1 ? M(fabs)(x) : p == 2 ? x * x : M(pow)(M(fabs)(x), (REAL)p);
}

static void FN(norm_positions)(void *arg, int64_t begin, int64_t end, int thread) {
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
            for (int64_t i = 0; i < k->channels; i++) y[i] += FN(power)(x[i], k->p);
        }
        for (int64_t i = 0; i < k->channels && k->p > 1; i++)
            y[i] = k->p == 2 ? M(sqrt)(y[i]) : M(pow)(y[i], 1 / (REAL)k->p);
    }
}

/* y = (sum of |x|^p)^(1/p): dy/dx = sign(x) (|x| / y)^(p - 1), and 0 where all are 0 */
static void FN(norm_back)(void *arg, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const espl__call *c = arg;
    const pool *k = c->state;
    for (int64_t n = begin; n < end; n++) {
        int64_t first = n * k->pixels * k->channels;
        REAL *gradient = (REAL *)c->din->data + first;
        if (!(c->add & 1)) memset(gradient, 0, (size_t)(k->pixels * k->channels) * sizeof(REAL));
        for (int64_t p = n * k->positions; p < (n + 1) * k->positions; p++) {
            const REAL *dy = (const REAL *)c->dout->data + p * k->channels;
            const REAL *y = (const REAL *)c->out->data + p * k->channels;
            taps t;
            for (begin_taps(k, p % k->positions, &t); !t.done; next_tap(k, &t)) {
                const REAL *x = (const REAL *)c->in->data + first + t.pixel * k->channels;
                REAL *dx = gradient + t.pixel * k->channels;
                for (int64_t i = 0; i < k->channels; i++) {
                    REAL slope = x[i] == 0 || y[i] == 0 ? 0 : FN(power)(x[i] / y[i], k->p - 1);
                    dx[i] += x[i] < 0 ? -dy[i] * slope : dy[i] * slope;
                }
            }
        }
    }
}
