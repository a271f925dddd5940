/* VNQ's windowed KL and its derivatives for many weights (formulas: bayes/kl/spikes_sweep.py), in one pass.
 *
 * Intermediate values stay in registers and in the L1 cache; memory is read once and written once. The log-uniform
 * prior is the codebook whose only level is zero. All code paths do the same operations in the same order, without
 * fused multiply-add, and give the same bits.
 */
#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000
#include <Python.h>
#include "blocks.h"

#define MOST_LEVELS 256

typedef struct {
    size_t levels;
    int zero; /* the first level is zero; its window has the rest of the other windows' weight */
    float inverse_scale, twice_log_scale;
    const float *level, *pull; /* c_k, -1 / tau_k^2 */
} Code;

typedef struct {
    const float *mean, *log_var;
    float *to_mean, *to_log_var, *value; /* value may be NULL */
    size_t start, end;
} Weights;

typedef struct {
    double value, mean_times_slope, log_var_slope;
} Sums;

/* One block: F (the KL of a level) and its derivatives. */
typedef struct {
    float theta[BLOCK], log_var[BLOCK], variance[BLOCK];
    float f[BLOCK], f_theta[BLOCK], f_log_var[BLOCK];           /* of the current level */
    float base[BLOCK], base_theta[BLOCK], base_log_var[BLOCK];  /* of the zero level */
    float value[BLOCK], to_theta[BLOCK], to_log_var[BLOCK];
    float most[BLOCK], total[BLOCK], pull[BLOCK], pulled[BLOCK];
} Block;

/* Windows beside the zero level: KL = F_0 + sum of share_k (F_k - F_0). */
INLINE void with_zero(Block *b, const Code *code) {
    fit(b->theta, b->log_var, b->variance, code->level[0], b->base, b->base_theta, b->base_log_var);
    memcpy(b->value, b->base, sizeof b->value);
    memcpy(b->to_theta, b->base_theta, sizeof b->to_theta);
    memcpy(b->to_log_var, b->base_log_var, sizeof b->to_log_var);
    for (size_t k = 1; k < code->levels; k++) {
        const float c = code->level[k], pull = code->pull[k];
        fit(b->theta, b->log_var, b->variance, c, b->f, b->f_theta, b->f_log_var);
        for (int i = 0; i < BLOCK; i++) {
            float offset = b->theta[i] - c, above = b->f[i] - b->base[i];
            float share = exponential(0.5f * pull * offset * offset);
            b->value[i] += share * above;
            b->to_theta[i] += share * (b->f_theta[i] - b->base_theta[i] + pull * offset * above);
            b->to_log_var[i] += share * (b->f_log_var[i] - b->base_log_var[i]);
        }
    }
}

/* Without a zero level: KL = sum of softmax_k F_k. */
INLINE void without_zero(Block *b, const Code *code) {
    for (int i = 0; i < BLOCK; i++) b->most[i] = -INFINITY;
    memset(b->value, 0, sizeof b->value);
    memset(b->to_theta, 0, sizeof b->to_theta);
    memset(b->to_log_var, 0, sizeof b->to_log_var);
    memset(b->total, 0, sizeof b->total);
    memset(b->pull, 0, sizeof b->pull);
    for (size_t k = 0; k < code->levels; k++)
        for (int i = 0; i < BLOCK; i++) {
            float offset = b->theta[i] - code->level[k], exponent = 0.5f * code->pull[k] * offset * offset;
            b->most[i] = exponent > b->most[i] ? exponent : b->most[i];
        }
    for (size_t k = 0; k < code->levels; k++) {
        const float c = code->level[k], pull = code->pull[k];
        fit(b->theta, b->log_var, b->variance, c, b->f, b->f_theta, b->f_log_var);
        for (int i = 0; i < BLOCK; i++) {
            float offset = b->theta[i] - c;
            float share = exponential(0.5f * pull * offset * offset - b->most[i]);
            b->total[i] += share;
            b->pull[i] += share * (pull * offset);
            b->value[i] += share * b->f[i];
            b->to_theta[i] += share * (b->f_theta[i] + pull * offset * b->f[i]);
            b->to_log_var[i] += share * b->f_log_var[i];
        }
    }
    for (int i = 0; i < BLOCK; i++) {
        float inverse = 1.0f / b->total[i];
        b->value[i] *= inverse;
        b->to_log_var[i] *= inverse;
        b->to_theta[i] = (b->to_theta[i] - b->pull[i] * b->value[i]) * inverse;
    }
}

INLINE void take(Block *b, const Code *code, const float *mean, const float *log_var, size_t n) {
    if (n < BLOCK) {
        memset(b->theta, 0, sizeof b->theta);
        memset(b->log_var, 0, sizeof b->log_var);
    }
    memcpy(b->theta, mean, n * sizeof *mean);
    memcpy(b->log_var, log_var, n * sizeof *log_var);
    for (int i = 0; i < BLOCK; i++) {
        b->theta[i] *= code->inverse_scale;
        b->log_var[i] -= code->twice_log_scale;
        b->variance[i] = exponential(b->log_var[i]);
    }
}

INLINE Sums sweep_of(const Weights *w, const Code *code) {
    Block b;
    Sums sums = {0.0, 0.0, 0.0};
    for (size_t at = w->start; at < w->end; at += BLOCK) {
        const size_t n = w->end - at < BLOCK ? w->end - at : BLOCK;
        take(&b, code, w->mean + at, w->log_var + at, n);
        if (code->zero) with_zero(&b, code);
        else without_zero(&b, code);
        for (int i = 0; i < BLOCK; i++) b.pulled[i] = b.to_theta[i] * b.theta[i]; /* = to_mean * mean */
        for (int i = 0; i < BLOCK; i++) b.to_theta[i] *= code->inverse_scale;
        memcpy(w->to_mean + at, b.to_theta, n * sizeof(float));
        memcpy(w->to_log_var + at, b.to_log_var, n * sizeof(float));
        if (w->value) memcpy(w->value + at, b.value, n * sizeof(float));
        for (size_t i = n; i < BLOCK; i++) b.value[i] = b.pulled[i] = b.to_log_var[i] = 0.0f;
        sums.value += sum_of(b.value);
        sums.mean_times_slope += sum_of(b.pulled);
        sums.log_var_slope += sum_of(b.to_log_var);
    }
    return sums;
}

static Sums sweep_baseline(const Weights *w, const Code *code) { return sweep_of(w, code); }
#ifdef X86
__attribute__((target("avx2"))) static Sums sweep_avx2(const Weights *w, const Code *code) {
    return sweep_of(w, code);
}
__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl"))) static Sums sweep_avx512(const Weights *w,
                                                                                       const Code *code) {
    return sweep_of(w, code);
}
#endif

static Sums sweep_by(int variant, const Weights *w, const Code *code) {
#ifdef X86
    if (variant == AVX512) return sweep_avx512(w, code);
    if (variant == AVX2) return sweep_avx2(w, code);
#endif
    return sweep_baseline(w, code);
}

/* ---- Python interface ---------------------------------------------------------------------------------------- */

/* The error message for a call's arguments, or NULL. */
static const char *misfit(const Py_buffer *arrays, const Py_buffer *value, const Py_buffer *code, Py_ssize_t start,
                          Py_ssize_t end, int zero) {
    const Py_ssize_t bytes = arrays[0].len;
    for (int k = 0; k < 4; k++) {
        if (arrays[k].len != bytes) return "the arrays differ in length";
        if ((uintptr_t)arrays[k].buf % sizeof(float)) return "an array is not aligned";
    }
    if (value->buf && value->len != bytes) return "the arrays differ in length";
    if (((uintptr_t)value->buf | (uintptr_t)code->buf) % sizeof(float)) return "an array is not aligned";
    if (start < 0 || end < start || end > bytes / (Py_ssize_t)sizeof(float)) return "a wrong range of weights";
    const Py_ssize_t levels = code->len / (Py_ssize_t)(2 * sizeof(float));
    if (levels < 1 || levels > MOST_LEVELS || code->len % (Py_ssize_t)(2 * sizeof(float)))
        return "a wrong number of levels";
    if (zero && *(const float *)code->buf != 0.0f) return "the first level is not zero";
    return NULL;
}

static PyObject *sweep(PyObject *self, PyObject *args) {
    Py_buffer a[4], value, levels;
    Py_ssize_t start, end;
    double scale;
    int zero, variant;
    if (!PyArg_ParseTuple(args, "y*y*w*w*z*y*pdnni", &a[0], &a[1], &a[2], &a[3], &value, &levels, &zero, &scale,
                          &start, &end, &variant))
        return NULL;
    const char *wrong = misfit(a, &value, &levels, start, end, zero);
    if (!wrong && (variant < 0 || variant >= VARIANTS || !runs(variant))) wrong = "not on this processor";
    Sums sums = {0.0, 0.0, 0.0};
    if (!wrong) {
        const float *level = levels.buf;
        const size_t count = levels.len / (2 * sizeof(float));
        Code code = {count, zero, (float)(1.0 / scale), (float)(2.0 * log(scale)), level, level + count};
        Weights w = {a[0].buf, a[1].buf, a[2].buf, a[3].buf, value.buf, start, end};
        Py_BEGIN_ALLOW_THREADS
        sums = sweep_by(variant, &w, &code);
        Py_END_ALLOW_THREADS
    } else
        PyErr_SetString(PyExc_ValueError, wrong);
    for (int k = 0; k < 4; k++) PyBuffer_Release(&a[k]);
    if (value.buf) PyBuffer_Release(&value);
    PyBuffer_Release(&levels);
    if (wrong) return NULL;
    return Py_BuildValue("ddd", sums.value, sums.mean_times_slope, sums.log_var_slope);
}

static PyMethodDef METHODS[] = {
    {"sweep", sweep, METH_VARARGS,
     "sweep(mean, log_var, to_mean, to_log_var, value, levels and pulls, zero first, scale, start, end, variant) -> "
     "(sum of value, sum of mean * to_mean, sum of to_log_var)"},
    {"variants", variants, METH_NOARGS, "variants() -> names of the code paths this processor runs, best last"},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot SLOTS[] = {{0, NULL}};
static struct PyModuleDef MODULE = {PyModuleDef_HEAD_INIT, "_sweep", NULL, 0, METHODS, SLOTS, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__sweep(void) { return PyModuleDef_Init(&MODULE); }
