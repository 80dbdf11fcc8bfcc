/* The vector form of epilogue.h. The bounds are applied before rounding, relative to the zero point: rounding is monotone
 * and the bounds are integers, so the result is that of espl__requantize for every float, NaN included (max takes its second
 * operand then, which is the lower bound). */
#include <assert.h>

typedef struct {
    vf lo, hi;
    vi zero;
} bounds;

static INLINE bounds bounds_of(int32_t zero, int32_t lo, int32_t hi) {
    assert(0 <= lo && lo <= hi && hi <= 255 && 0 <= zero && zero <= 255);
    return (bounds){vf_set1((float)(lo - zero)), vf_set1((float)(hi - zero)), vi_set1(zero)};
}

/* The code less its zero point. */
static INLINE vi round_within(vf x, bounds b) { return vi_rne(vf_min(vf_max(x, b.lo), b.hi)); }

typedef struct {
    bounds first, second;
    vf own, scale;
    vi zero;
} epilogue;

static INLINE epilogue epilogue_of(const espl__epilogue_u8 *q, const void *res) {
    epilogue e = {.first = bounds_of(q->zero, q->lo, q->hi)};
    if (!res) return e;
    e.second = bounds_of(q->zero2, q->lo2, q->hi2);
    e.own = vf_set1(q->res_scale_own);
    e.scale = vf_set1(q->res_scale);
    e.zero = vi_set1(q->res_zero);
    return e;
}

static INLINE vi finish(const epilogue *e, vi acc, vf mult) {
    return vi_add(round_within(vf_mul(vf_of(acc), mult), e->first), e->first.zero);
}

static INLINE vi finish_residual(const epilogue *e, vi acc, vf mult, vi res) {
    vf own = vf_of(round_within(vf_mul(vf_of(acc), mult), e->first));
    vf other = vf_mul(vf_of(vi_sub(res, e->zero)), e->scale);
    return vi_add(round_within(vf_fma(own, e->own, other), e->second), e->second.zero);
}

/* NaN passes: min and max return their second operand then. */
static INLINE vf clamp(vf x, vf lo, vf hi) { return vf_min(hi, vf_max(lo, x)); }
