/* Minus the log of a Gaussian mixture under Gaussian weights, and its derivatives (formulas: mixture_sweep.py).
 *
 * One pass over memory; a component that is negligible for a whole block is skipped. All code paths do the same
 * operations in the same order, without fused multiply-add, and give the same bits.
 */
#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000
#include <Python.h>
#include "blocks.h"

#define MOST_COMPONENTS 256
#define NEGLIGIBLE -30.0f /* e^-30 of the largest term is below float32's rounding */

typedef struct {
    size_t count;
    const float *log_weight, *curve, *mean; /* a_j, -lambda_j / 2, mu_j */
    int broad;                              /* whether there is a log-uniform part beside the Gaussians */
    float broad_log_weight;
} Mixture;

typedef struct {
    const float *mean, *log_var, *weight; /* log_var and weight may be NULL: variance 0 and weight 1 */
    float *value, *to_mean, *to_log_var;  /* each may be NULL */
    size_t start, end;
} Weights;

typedef struct {
    float theta[BLOCK], log_var[BLOCK], variance[BLOCK], weight[BLOCK];
    float broad[BLOCK], broad_theta[BLOCK], broad_log_var[BLOCK];
    float most[BLOCK], total[BLOCK], to_theta[BLOCK], to_log_var[BLOCK], value[BLOCK];
    float share[BLOCK], first[BLOCK], second[BLOCK];
    float term[MOST_COMPONENTS][BLOCK];
    int near[MOST_COMPONENTS];
} Block;

INLINE void take(Block *b, const Weights *w, size_t at, size_t n) {
    memset(b->theta, 0, sizeof b->theta);
    memset(b->variance, 0, sizeof b->variance);
    memset(b->weight, 0, sizeof b->weight);
    memcpy(b->theta, w->mean + at, n * sizeof(float));
    memset(b->log_var, 0, sizeof b->log_var);
    if (w->log_var) {
        memcpy(b->log_var, w->log_var + at, n * sizeof(float));
        for (int i = 0; i < BLOCK; i++) b->variance[i] = exponential(b->log_var[i]);
    }
    if (w->weight) memcpy(b->weight, w->weight + at, n * sizeof(float));
    else
        for (size_t i = 0; i < n; i++) b->weight[i] = 1.0f;
}

/* Exponents a_j - lambda_j / 2 ((theta - mu_j)^2 + v), and the largest of each weight. */
INLINE void exponents(Block *b, const Mixture *m) {
    for (int i = 0; i < BLOCK; i++) b->most[i] = -3.4e38f;
    if (m->broad) { /* a_0 - F - log sigma */
        fit(b->theta, b->log_var, b->variance, 0.0f, b->broad, b->broad_theta, b->broad_log_var);
        for (int i = 0; i < BLOCK; i++) b->broad[i] = m->broad_log_weight - b->broad[i] - 0.5f * b->log_var[i];
        memcpy(b->most, b->broad, sizeof b->most);
    }
    for (size_t j = 0; j < m->count; j++) {
        const float a = m->log_weight[j], curve = m->curve[j], mu = m->mean[j];
        float *t = b->term[j];
        for (int i = 0; i < BLOCK; i++) {
            float d = b->theta[i] - mu;
            t[i] = a + curve * (d * d + b->variance[i]);
        }
        for (int i = 0; i < BLOCK; i++) b->most[i] = t[i] < b->most[i] ? b->most[i] : t[i]; /* NaN goes on */
    }
}

/* The value of each weight and its derivatives. */
INLINE void values(Block *b, const Mixture *m) {
    memset(b->total, 0, sizeof b->total);
    memset(b->to_theta, 0, sizeof b->to_theta);
    memset(b->to_log_var, 0, sizeof b->to_log_var);
    for (size_t j = 0; j < m->count; j++) {
        const float curve = m->curve[j], mu = m->mean[j];
        float *t = b->term[j];
        int near = 0;
        for (int i = 0; i < BLOCK; i++) near |= !(t[i] - b->most[i] < NEGLIGIBLE);
        b->near[j] = near;
        if (!near) continue;
        for (int i = 0; i < BLOCK; i++) t[i] = exponential(t[i] - b->most[i]);
        for (int i = 0; i < BLOCK; i++) {
            float pull = curve * t[i];
            b->total[i] += t[i];
            b->to_theta[i] -= pull * (b->theta[i] - mu);
            b->to_log_var[i] -= pull * b->variance[i];
        }
    }
    for (int i = 0; i < BLOCK; i++) b->to_theta[i] *= 2.0f;
    if (m->broad) {
        for (int i = 0; i < BLOCK; i++) b->broad[i] = exponential(b->broad[i] - b->most[i]);
        for (int i = 0; i < BLOCK; i++) {
            b->total[i] += b->broad[i];
            b->to_theta[i] += b->broad[i] * b->broad_theta[i];
            b->to_log_var[i] += b->broad[i] * (b->broad_log_var[i] + 0.5f);
        }
    }
    for (int i = 0; i < BLOCK; i++) {
        float inverse = 1.0f / b->total[i];
        b->value[i] = -(b->most[i] + logarithm(b->total[i]));
        b->to_theta[i] *= inverse;
        b->to_log_var[i] *= inverse;
        b->total[i] = inverse;
    }
}

/* Adds to the sums by component: of the responsibilities, and of these times d and times d^2 + v. */
INLINE void responsibilities(Block *b, const Mixture *m, double *sums) {
    if (m->broad) { /* its row comes after the Gaussians' */
        for (int i = 0; i < BLOCK; i++) b->share[i] = b->weight[i] * (b->broad[i] * b->total[i]);
        sums[3 * m->count] += sum_of(b->share);
    }
    for (size_t j = 0; j < m->count; j++) {
        if (!b->near[j]) continue;
        const float mu = m->mean[j], *t = b->term[j];
        for (int i = 0; i < BLOCK; i++) {
            float d = b->theta[i] - mu, r = b->weight[i] * (t[i] * b->total[i]);
            b->share[i] = r;
            b->first[i] = r * d;
            b->second[i] = r * (d * d + b->variance[i]);
        }
        sums[3 * j] += sum_of(b->share);
        sums[3 * j + 1] += sum_of(b->first);
        sums[3 * j + 2] += sum_of(b->second);
    }
}

INLINE double sweep_of(const Weights *w, const Mixture *m, double *sums) {
    Block b;
    double total = 0.0;
    for (size_t at = w->start; at < w->end; at += BLOCK) {
        const size_t n = w->end - at < BLOCK ? w->end - at : BLOCK;
        take(&b, w, at, n);
        exponents(&b, m);
        values(&b, m);
        responsibilities(&b, m, sums);
        if (w->value) memcpy(w->value + at, b.value, n * sizeof(float));
        if (w->to_mean) memcpy(w->to_mean + at, b.to_theta, n * sizeof(float));
        if (w->to_log_var) memcpy(w->to_log_var + at, b.to_log_var, n * sizeof(float));
        for (int i = 0; i < BLOCK; i++) b.value[i] *= b.weight[i];
        for (size_t i = n; i < BLOCK; i++) b.value[i] = 0.0f;
        total += sum_of(b.value);
    }
    return total;
}

static double sweep_baseline(const Weights *w, const Mixture *m, double *s) { return sweep_of(w, m, s); }
#ifdef X86
__attribute__((target("avx2"))) static double sweep_avx2(const Weights *w, const Mixture *m, double *s) {
    return sweep_of(w, m, s);
}
__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl"))) static double sweep_avx512(const Weights *w,
                                                                                         const Mixture *m,
                                                                                         double *s) {
    return sweep_of(w, m, s);
}
#endif

static double sweep_by(int variant, const Weights *w, const Mixture *m, double *sums) {
#ifdef X86
    if (variant == AVX512) return sweep_avx512(w, m, sums);
    if (variant == AVX2) return sweep_avx2(w, m, sums);
#endif
    return sweep_baseline(w, m, sums);
}

/* ---- Python interface ---------------------------------------------------------------------------------------- */

/* Order of the buffers: what is read, then what is written. */
enum { MEAN, LOG_VAR, WEIGHT, TABLE, VALUE, TO_MEAN, TO_LOG_VAR, SUMS, BUFFERS };

/* The error message for a call's arguments, or NULL. */
static const char *misfit(const Py_buffer *b, int broad, Py_ssize_t start, Py_ssize_t end) {
    const Py_ssize_t bytes = b[MEAN].len, row = 3 * (Py_ssize_t)sizeof(float);
    for (int k = 0; k < BUFFERS; k++) {
        if (!b[k].buf) continue;
        if ((uintptr_t)b[k].buf % (k == SUMS ? sizeof(double) : sizeof(float))) return "an array is not aligned";
        if (k >= VALUE && b[k].readonly) return "an array is read-only";
        if (k != TABLE && k != SUMS && b[k].len != bytes) return "the arrays differ in length";
    }
    if (start < 0 || end < start || end > bytes / (Py_ssize_t)sizeof(float)) return "a wrong range of weights";
    const Py_ssize_t count = b[TABLE].len / row;
    if (count < 1 || count > MOST_COMPONENTS || b[TABLE].len % row) return "a wrong number of components";
    if (broad && !b[LOG_VAR].buf) return "a log-uniform part needs variances";
    if (b[SUMS].len != 3 * (count + broad) * (Py_ssize_t)sizeof(double)) return "a wrong number of sums";
    return NULL;
}

static PyObject *sweep(PyObject *self, PyObject *args) {
    Py_buffer b[BUFFERS];
    Py_ssize_t start, end;
    int broad, variant;
    double log_weight;
    if (!PyArg_ParseTuple(args, "y*z*z*y*pdz*z*z*w*nni", &b[MEAN], &b[LOG_VAR], &b[WEIGHT], &b[TABLE], &broad,
                          &log_weight, &b[VALUE], &b[TO_MEAN], &b[TO_LOG_VAR], &b[SUMS], &start, &end, &variant))
        return NULL;
    const char *wrong = misfit(b, broad, start, end);
    if (!wrong && (variant < 0 || variant >= VARIANTS || !runs(variant))) wrong = "not on this processor";
    double total = 0.0;
    if (!wrong) {
        const float *table = b[TABLE].buf;
        const size_t count = b[TABLE].len / (3 * sizeof(float));
        Mixture m = {count, table, table + count, table + 2 * count, broad, (float)log_weight};
        Weights w = {b[MEAN].buf,    b[LOG_VAR].buf,    b[WEIGHT].buf, b[VALUE].buf,
                     b[TO_MEAN].buf, b[TO_LOG_VAR].buf, start,         end};
        double *sums = b[SUMS].buf;
        Py_BEGIN_ALLOW_THREADS
        total = sweep_by(variant, &w, &m, sums);
        Py_END_ALLOW_THREADS
    } else
        PyErr_SetString(PyExc_ValueError, wrong);
    for (int k = 0; k < BUFFERS; k++)
        if (b[k].buf) PyBuffer_Release(&b[k]);
    return wrong ? NULL : PyFloat_FromDouble(total);
}

static PyMethodDef METHODS[] = {
    {"sweep", sweep, METH_VARARGS,
     "sweep(mean, log_var, weight, log weights and curves and means, log-uniform part or not, its log weight, value, "
     "to_mean, to_log_var, sums, start, end, variant) -> weighted sum of value; adds to sums"},
    {"variants", variants, METH_NOARGS, "variants() -> names of the code paths this processor runs, best last"},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot SLOTS[] = {{0, NULL}};
static struct PyModuleDef MODULE = {PyModuleDef_HEAD_INIT, "_mixture", NULL, 0, METHODS, SLOTS, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__mixture(void) { return PyModuleDef_Init(&MODULE); }
