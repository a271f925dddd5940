/* What the compiled sweeps over weights share: elementary functions, sums of a block, and the processor's code paths.
 *
 * Include it after Python.h. The functions are straight-line code, which compilers turn into vectors; without fused
 * multiply-add they give the same bits on every code path.
 */
#ifndef LACONIC_BLOCKS_H
#define LACONIC_BLOCKS_H
#include <math.h>
#include <stdint.h>
#include <string.h>

#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
#define X86 1
#endif
#if defined(__GNUC__) || defined(__clang__)
#define INLINE static inline __attribute__((always_inline))
#else
#define INLINE static inline
#endif

#define BLOCK 64 /* weights at a time */
#define K1 0.63576f /* Molchanov's fit, as in sigmoid_fit.py */
#define K2 1.87320f
#define K3 1.48695f
#define EPSILON 1e-8f

enum { BASELINE, AVX2, AVX512, VARIANTS };

INLINE float float_of(int32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

INLINE int32_t bits_of(float x) {
    int32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

/* e^x, x clipped to [-87, 88], within 1e-7; NaN gives NaN. Polynomial of Cephes (S. Moshier, 1989: expf). */
INLINE float exponential(float x) {
    x = x < -87.0f ? -87.0f : x;
    x = x > 88.0f ? 88.0f : x;
    float shifted = x * 1.44269504088896341f + 12582912.0f; /* 1.5 * 2^23: rounds to a whole number */
    float n = shifted - 12582912.0f;
    float r = x - n * 0.693359375f;
    r = r + n * 2.12194440e-4f;
    float y = 1.9875691500e-4f;
    y = y * r + 1.3981999507e-3f;
    y = y * r + 8.3334519073e-3f;
    y = y * r + 4.1665795894e-2f;
    y = y * r + 1.6666665459e-1f;
    y = y * r + 5.0000001201e-1f;
    y = y * (r * r) + r + 1.0f;
    int32_t whole = bits_of(shifted) - bits_of(12582912.0f);
    return y * float_of((int32_t)((uint32_t)(whole + 127) << 23));
}

/* log x for x > 0 and not subnormal, within 1e-7; NaN and infinity give NaN. Cephes' logf. */
INLINE float logarithm(float x) {
    int32_t bits = bits_of(x);
    int32_t power = (bits - 0x3f3504f3) >> 23; /* x / 2^power lies in [sqrt 1/2, sqrt 2) */
    float f = float_of(bits - (int32_t)((uint32_t)power << 23)) - 1.0f;
    float e = (float)power, z = f * f;
    float y = 7.0376836292e-2f;
    y = y * f - 1.1514610310e-1f;
    y = y * f + 1.1676998740e-1f;
    y = y * f - 1.2420140846e-1f;
    y = y * f + 1.4249322787e-1f;
    y = y * f - 1.6668057665e-1f;
    y = y * f + 2.0000714765e-1f;
    y = y * f - 2.4999993993e-1f;
    y = y * f + 3.3333331174e-1f;
    y = y * f * z - 2.12194440e-4f * e - 0.5f * z;
    return f + y + 0.693359375f * e + (x - x);
}

/* F, the KL to the log-uniform prior, of weights theta - c, with its derivatives by theta and log variance. The loops
 * are short, so that they are vectorised. */
INLINE void fit(const float *mean, const float *log_variance, const float *variance, float c, float *value, float *theta,
                float *log_var) {
    float square[BLOCK], sum[BLOCK], t[BLOCK];
    for (int i = 0; i < BLOCK; i++) {
        float offset = mean[i] - c;
        square[i] = offset * offset + EPSILON;
        sum[i] = square[i] + variance[i];
    }
    for (int i = 0; i < BLOCK; i++) t[i] = K3 * (log_variance[i] - logarithm(square[i])) + K2;
    for (int i = 0; i < BLOCK; i++) t[i] = 1.0f / (1.0f + exponential(t[i]));
    for (int i = 0; i < BLOCK; i++) value[i] = K1 * t[i] + 0.5f * (logarithm(sum[i]) - log_variance[i]);
    for (int i = 0; i < BLOCK; i++) {
        float slope = 2.0f * K1 * K3 * (t[i] - t[i] * t[i]) + square[i] / sum[i];
        theta[i] = slope * ((mean[i] - c) / square[i]);
        log_var[i] = -0.5f * slope; /* dF / d log alpha */
    }
}

/* The sum of a block; the block is overwritten. */
INLINE double sum_of(float *x) {
    for (int half = BLOCK / 2; half >= 8; half /= 2)
        for (int i = 0; i < half; i++) x[i] += x[i + half];
    double sum = 0.0;
    for (int i = 0; i < 8; i++) sum += x[i];
    return sum;
}

static const char *const NAMES[VARIANTS] = {"baseline", "avx2", "avx512"};

static int runs(int variant) {
    if (variant == BASELINE) return 1;
#ifdef X86
    __builtin_cpu_init();
    if (variant == AVX2) return !!__builtin_cpu_supports("avx2");
    if (variant == AVX512)
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
               __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
#endif
    return 0;
}

static PyObject *variants(PyObject *self, PyObject *none) {
    PyObject *found = PyList_New(0);
    for (int k = 0; found && k < VARIANTS; k++) {
        if (!runs(k)) continue;
        PyObject *name = PyUnicode_FromString(NAMES[k]);
        if (!name || PyList_Append(found, name) < 0) Py_CLEAR(found);
        Py_XDECREF(name);
    }
    return found;
}

#endif
