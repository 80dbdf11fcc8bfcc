/* Parts of lines: of each of `outer` lines, `length` elements at offset `at` of the long side. */
static void FN(copy_parts)(const joint *k, int64_t at, int64_t length, REAL *whole, REAL *part, bool out,
                           bool add) {
    for (int64_t o = 0; o < k->outer; o++) {
        REAL *long_side = whole + o * k->line + at, *own = part + o * length;
        REAL *to = out ? long_side : own;
        const REAL *from = out ? own : long_side;
        if (!add)
            memcpy(to, from, (size_t)length * sizeof(REAL));
        else
            for (int64_t i = 0; i < length; i++) to[i] += from[i];
    }
}

static void FN(join)(espl__call *c, bool back) {
    const joint *k = c->state;
    for (int j = 0; j < c->inputs; j++) {
        REAL *whole = back ? c->dout->data : c->out->data, *part = back ? c->din[j].data : c->in[j].data;
        if (part && k->at[j + 1] > k->at[j] && (!back || j < ESPL__GRAD_INPUTS))
            FN(copy_parts)
            (k, k->at[j], k->at[j + 1] - k->at[j], whole, part, !back, back && (c->add >> j & 1));
    }
}

static void FN(split)(espl__call *c, bool back) {
    const joint *k = c->state;
    REAL *whole = back ? c->din->data : c->in->data;
    bool add = back && (c->add & 1);
    bool gaps = false;
    for (int j = 0; j < c->outputs; j++) gaps |= !c->dout[j].data;
    if (back && gaps && !add) memset(whole, 0, espl__tensor_bytes(c->din));
    for (int j = 0; j < c->outputs; j++) {
        REAL *part = back ? c->dout[j].data : c->out[j].data;
        if (part && k->at[j + 1] > k->at[j])
            FN(copy_parts)(k, k->at[j], k->at[j + 1] - k->at[j], whole, part, back, add);
    }
}
