/* Convolution and depthwise convolution: packed once, one step each. */
#include "runtime/linear.h"
#include "runtime/winograd.h"
#include "passes/passes.h"

enum {
    BAND_LINES = 384,       /* lines of memory in half of the first-level cache */
    BAND_BYTES = 256 << 10, /* of floats in the second-level cache */
    IMAGE_BYTES = 1 << 20,  /* which an image of this size does not leave */
    MAX_HALO = 512,         /* pixels of padding on one side */
    FEW_ROWS = 64           /* of which the first and the last are worth being computed apart */
};

static bool gapless(const view *v) {
    return v->stride[2] == v->dim[3] * v->stride[3] &&
           (v->dim[0] == 1 || v->stride[0] == v->dim[2] * v->stride[2]);
}

static int64_t beyond(const espl__window *g, int d) {
    int64_t last = (g->out[d] - 1) * g->stride[d] + (g->kernel[d] - 1) * g->dilation[d] - g->begin[d];
    return ESPL_MAX(last - g->in[d] + 1, 0);
}

/* Borders that are better skipped than stored, and rows too far apart for the kernels' 32-bit offsets, are
 * left to the reference. */
static bool near_enough(const espl__window *g, const espl_shape *x) {
    for (int d = 0; d < 2; d++)
        if (g->begin[d] < 0 || g->begin[d] > MAX_HALO || beyond(g, d) > MAX_HALO) return false;
    double pixel = 4.0 * (double)(x->dim[1] + 3), row = pixel * (double)(x->dim[3] + 2 * MAX_HALO);
    return (double)(g->kernel[0] - 1) * (double)g->dilation[0] * row +
               (double)(g->kernel[1] - 1) * (double)g->dilation[1] * pixel <
           INT32_MAX;
}

static bool conv_geometry(const espl__node *n, espl__window *g) {
    const espl__value *x = n->inputs[0], *w = n->inputs[1];
    return x->shape.rank == 4 && w->constant && w->shape.rank == 4 &&
           espl__window_resolve(n, &x->shape, &w->shape, g, NULL) == ESPL_OK && near_enough(g, &x->shape);
}

void espl__lower_conv_halo(const espl__node *n, int halo[4]) {
    espl__window g;
    if (!conv_geometry(n, &g)) return;
    int own[4] = {(int)g.begin[0], (int)g.begin[1], (int)beyond(&g, 0), (int)beyond(&g, 1)};
    for (int i = 0; i < 4; i++) halo[i] = ESPL_MAX(halo[i], own[i]);
}

static espl_status depthwise_taps(espl_session *s, const espl__node *n, const espl__window *g, const void *w,
                                  linear_step *l, espl_diag *diag) {
    int64_t c = n->inputs[1]->shape.dim[0], taps = g->kernel[0] * g->kernel[1];
    int32_t *off = espl__arena_alloc(&s->arena, sizeof *off * (uint64_t)taps);
    if (!off) return espl__nomem(diag, sizeof *off * (uint64_t)taps);
    for (int64_t t = 0; t < taps; t++)
        off[t] = (int32_t)(t / g->kernel[1] * g->dilation[0] * l->in.stride[2] +
                           t % g->kernel[1] * g->dilation[1] * l->in.stride[3]);
    l->d = (espl__dwconv){.taps = (int32_t)taps,
                          .tap_off = off,
                          .in_step = l->p.in_step,
                          .out_step = l->p.out_step,
                          .res_step = l->p.res_step,
                          .width = l->rows_per_image ? (int32_t)l->pixels : 0,
                          .in_row = l->in_row,
                          .out_row = l->out_row,
                          .res_row = l->res_row,
                          .w = w,
                          .bias = l->p.bias,
                          .channels = (int32_t)c,
                          .q = l->p.q,
                          .flo = l->p.flo,
                          .fhi = l->p.fhi};
    l->blocks = (int)(pad16(c) / ESPL__NR);
    l->group_blocks = l->blocks;
    /* Kernels do all rows of a few channels before the next. Of bytes, 64 channels are a line, and the lines
     * that they have in a band fit the first-level cache; floats take four lines side by side and rows in
     * pairs, and a band of what does not stay in the second-level cache by itself does. */
    const int64_t row = ESPL_MAX(l->in.stride[2], 1);
    const int64_t bytes = l->u8_in                        ? BAND_LINES * l->in.stride[3]
                          : l->in.stride[0] > IMAGE_BYTES ? (int64_t)BAND_BYTES
                                                          : l->in.stride[0];
    l->band_rows = ESPL_MAX((ESPL_MAX(bytes / row, 1) - g->kernel[0] + 1) / g->stride[0], 1);
    if (!l->u8_in) l->band_rows = (l->band_rows + 1) / 2 * 2;
    return ESPL_OK;
}

static espl_status conv_segments(espl_session *s, const espl__window *g, bool by_row, int64_t k,
                                 linear_step *l, espl_diag *diag) {
    int64_t count = by_row ? g->kernel[0] : g->kernel[0] * g->kernel[1];
    int32_t *off = espl__arena_alloc(&s->arena, sizeof *off * (uint64_t)count);
    if (!off) return espl__nomem(diag, sizeof *off * (uint64_t)count);
    for (int64_t i = 0; i < count; i++) {
        int64_t ky = by_row ? i : i / g->kernel[1], kx = by_row ? 0 : i % g->kernel[1];
        off[i] = (int32_t)(ky * g->dilation[0] * l->in.stride[2] + kx * g->dilation[1] * l->in.stride[3]);
    }
    l->p.segments = (int32_t)count;
    l->p.seg_off = off;
    l->p.seg_k = (int32_t)(l->u8_in ? k / 4 : k);
    return ESPL_OK;
}

/* Products of zeros with these are zeros, and may be left out: a sum stays what it is. (One that is -0, because it is too small
 * for a float, would become +0.) */
static bool are_finite(const float *w, int64_t count) {
    uint32_t most = 0;
    for (int64_t i = 0; i < count; i++) {
        uint32_t bits;
        memcpy(&bits, &w[i], sizeof bits);
        most = ESPL_MAX(most, bits & 0x7fffffff);
    }
    return most < 0x7f800000;
}

/* What the first and the last pixel of a row meet of the border (dilation 1). */
static void conv_edges(const espl__window *g, linear_step *l) {
    const int64_t kernel = g->kernel[1], tap = l->p.seg_k / kernel;
    const int64_t end = g->in[1] + g->begin[1] - (g->out[1] - 1) * g->stride[1]; /* of the image, for the last pixel */
    const int64_t left = ESPL_MIN(g->begin[1], kernel), right = ESPL_MIN(ESPL_MAX(kernel - end, 0), kernel);
    if (!l->rows_per_image || l->pixels < 2 || left + right > kernel) return;
    l->p.edge[0] = (int32_t)(left * tap);
    l->p.edge[1] = (int32_t)(right * tap);
}

static void conv_rows(const espl__window *g, linear_step *l) {
    const view *in = &l->in, *out = &l->out;
    l->p.in_step = g->stride[1] * in->stride[3];
    l->p.out_step = out->stride[3];
    l->p.res_step = l->has_res ? l->res.stride[3] : 0;
    l->in_origin = -(g->begin[0] * in->stride[2] + g->begin[1] * in->stride[3]);
    bool point = g->kernel[0] == 1 && g->kernel[1] == 1 && g->stride[0] == 1 && g->stride[1] == 1 &&
                 g->begin[0] + g->begin[1] + g->end[0] + g->end[1] == 0;
    if (point && gapless(in) && gapless(out) && (!l->has_res || gapless(&l->res))) {
        espl__linear_flatten(l, in->dim[0] * in->dim[2] * in->dim[3], l->p.in_step, l->p.out_step,
                             l->p.res_step);
        return;
    }
    l->rows_per_image = out->dim[2];
    l->rows = out->dim[0] * out->dim[2];
    if (g->begin[0] + g->end[0] + g->begin[1] + g->end[1] > 0 && out->dim[2] <= FEW_ROWS) {
        l->border.rows = g->kernel[0];
        l->border.dilation = g->dilation[0];
        l->border.stride = g->stride[0];
        l->border.top = g->begin[0];
        l->border.in_rows = in->dim[2];
    }
    l->pixels = l->last_pixels = out->dim[3];
    l->in_row = g->stride[0] * in->stride[2];
    l->in_image = in->stride[0];
    l->out_row = out->stride[2];
    l->out_image = out->stride[0];
    l->res_row = l->has_res ? l->res.stride[2] : 0;
    l->res_image = l->has_res ? l->res.stride[0] : 0;
}

/* No window of 16 inputs at a tap of an output has more than `most` weights. */
static bool is_banked(const weights *w, int64_t channels, int64_t inputs, int64_t taps, int most) {
    const uint8_t *code = w->data;
    for (int64_t c = 0; c < channels; c++, code += inputs * taps)
        for (int64_t i = 0; i < inputs; i += ESPL__BANK)
            for (int64_t t = 0; t < taps; t++) {
                int left = 0;
                for (int64_t k = i; k < ESPL_MIN(i + ESPL__BANK, inputs); k++) left += code[k * taps + t] != w->flip;
                if (left > most) return false;
            }
    return true;
}

/* So few weights are left that the direct way, without the others, beats Winograd's with tiles of `side`: two ninths of floats; of
 * codes with VNNI a sixth, or six in each bank (Zen 4). In f32 it is a rule on the weights alone: the two ways round differently,
 * and the same input shall give the same bytes everywhere. */
static bool mostly_zero(const espl_session *s, const weights *w, int64_t channels, int64_t inputs, int64_t taps, int side) {
    enum { BANK_MOST = ESPL__BANK / 8 * 3 };
    const float *x = w->data;
    const uint8_t *code = w->data;
    const int64_t count = channels * inputs * taps;
    const bool vnni = w->integer && side != 2 && !espl__winograd_small_pays(s);
    int64_t left = 0, most = !w->integer ? count / 9 * 2 : side == 2 ? count / 4 : vnni ? count / 6 : count / 8;
    for (int64_t i = 0; i < count && left <= most; i++) left += w->integer ? code[i] != w->flip : x[i] != 0;
    return left <= most || (vnni && is_banked(w, channels, inputs, taps, BANK_MOST));
}

espl_status espl__lower_conv(espl_session *s, espl__node *n, bool *taken, espl_diag *diag) {
    espl_status status = ESPL_OK;
    espl__window g;
    weights w = {0};
    fusion f;
    view in, final;
    if (!conv_geometry(n, &g)) return ESPL_OK;
    const espl__value *x = n->inputs[0], *wv = n->inputs[1];
    const espl__value *bias = n->input_count > 2 ? n->inputs[2] : NULL;
    if (bias && !bias->constant) return ESPL_OK;
    int64_t groups = espl__attr_int(n, "group", 1), oc = wv->shape.dim[0], cg = wv->shape.dim[1];
    int64_t taps = g.kernel[0] * g.kernel[1];
    bool depthwise = groups > 1 && cg == 1 && oc == groups;
    bool integer = espl__plan_store_type(x) == ESPL_U8 && espl__weights_integer(wv, 0, &w) &&
                   accumulator_fits(cg * taps) && (groups == 1 || depthwise || cg % 4 == 0) &&
                   (!depthwise || espl__plan_store_type(n->outputs[0]) == ESPL_U8 || !s->observer);
    espl__plan_fuse(s, n, integer ? FUSE_INTEGER : FUSE_FLOAT, &f);
    if (depthwise && espl__plan_store_type(f.out) != ESPL_U8) integer = false; /* the kernel stores u8 only */
    *taken = true;
    ESPL_TRY(espl__plan_require(s, n, x, integer ? ESPL_U8 : ESPL_F32, WANT_NHWC, 1, &in, diag));
    ESPL_TRY(espl__plan_fill_halo(s, n, x, &in, diag));
    view res = {0}, out;
    if (f.residual)
        ESPL_TRY(
            espl__plan_require(s, n, f.residual, integer ? ESPL_U8 : ESPL_F32, WANT_NHWC, 1, &res, diag));
    ESPL_TRY(espl__plan_store(s, f.out, integer, &out, &final, diag));
    if (!integer) ESPL_TRY(espl__weights_float(s, wv, &w, diag));
    int side = 0; /* of Winograd's tiles */
    if (!integer && espl__winograd_pays(&g, groups, cg, oc)) side = 2;
    if (integer && out.type == ESPL_U8) side = espl__winograd_pays_codes(s, &g, groups, &w, cg, oc);
    if (side && !mostly_zero(s, &w, oc, cg, taps, side)) {
        status = espl__lower_winograd(s, n, &g, side, &f, &w, &in, &res, &out, &final, diag);
        goto done;
    }
    linear_step *l = espl__plan_step(s, sizeof *l, n, "conv", espl__linear_run);
    if (!l) return espl__nomem(diag, sizeof *l);
    l->depthwise = depthwise;
    l->has_res = f.residual != NULL;
    l->u8_in = integer;
    l->u8_out = integer && out.type == ESPL_U8;
    l->in = in;
    l->out = out;
    l->res = res;
    conv_rows(&g, l);
    int64_t channels = depthwise ? oc : oc / groups;
    const void *taps_packed = NULL;
    l->groups = depthwise ? 1 : (int)groups;
    if (depthwise) {
        if (!(taps_packed = espl__weights_depthwise(s, &w, oc, taps)))
            ESPL_TRY(espl__nomem(diag, 4 * (uint64_t)(oc * taps)));
    } else {
        bool by_row = groups == 1 && g.dilation[1] == 1;
        espl__weight_order order = {.channels = channels,
                                    .segments = by_row ? g.kernel[0] : taps,
                                    .taps = by_row ? g.kernel[1] : 1,
                                    .stored = groups == 1 ? in.cs : cg,
                                    .real = cg,
                                    .by_channel = cg * taps,
                                    .by_segment = by_row ? g.kernel[1] : 1,
                                    .by_tap = 1,
                                    .by_input = taps};
        l->p.channels = (int32_t)channels;
        ESPL_TRY(conv_segments(s, &g, by_row, order.taps * order.stored, l, diag));
        if (by_row) conv_edges(&g, l);
        if (!integer && (l->p.edge[0] || l->p.edge[1]) && !are_finite(w.data, oc * cg * taps))
            memset(l->p.edge, 0, sizeof l->p.edge);
        ESPL_TRY(espl__linear_pack(s, &w, &order, groups, l, diag));
        l->in_group = cg * in.stride[1];
        l->out_group = channels * out.stride[1];
        l->channels_padded = pad16(channels);
    }
    if (integer)
        ESPL_TRY(espl__weights_scale(s, &w, &in, &f, l->groups, channels, l->u8_out, &l->res, &l->p, diag));
    else
        ESPL_TRY(espl__weights_bias(s, &f, l->groups, channels, &l->p, diag));
    if (!depthwise) ESPL_TRY(espl__linear_border(s, groups == 1 && g.dilation[1] == 1, l, diag));
    if (depthwise) ESPL_TRY(depthwise_taps(s, n, &g, taps_packed, l, diag));
    if (depthwise) l->base.weight_bytes = (uint64_t)(oc * taps) * (integer ? 1 : 4);
    ESPL_TRY(espl__linear_finish(s, n, &f, l, &final, diag));
done:
    espl__weights_done(s, &w);
    return status;
}
