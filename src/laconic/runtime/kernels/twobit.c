/* Matrices of two bits a weight: y = W x with W's weights among four consecutive integers times one step.
 *
 * x is rounded to 8 bits first: q = round(x / s) with s = max |x| / 127, one s for each row of x. The sums are of
 * integers and therefore exact, in any order: all code paths give the same bits.
 *   y = step * s * (sum of code * q + lowest * sum of q),   weight = step * (lowest + code), code = 0 .. 3
 * The error of y, compared with float32, is at most step * s / 2 * sum of |lowest + code|. A row of x with an infinity
 * or a NaN has no s: its y is NaN.
 *
 * Four rows of W are interleaved, 256 columns of each in 64 bytes, so that memory is read sequentially and x once for
 * four rows: byte b of the 64 holds columns b, 64 + b, 128 + b and 192 + b from its lowest bits upwards. One AND
 * leaves the codes of 64 columns in place, times 1, 4, 16 or 64; vpdpbusd multiplies them in this form, and the factor
 * is removed from the sums by one shift per row. The last columns, fewer than 256, take `tail` bytes per row (a
 * multiple of 16): column k * tail + b is in byte b.
 */
#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000
#include <Python.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "call.h"
#include "memory.h"

#ifdef X86
#include <immintrin.h>
#endif

#define CAPSULE "laconic.runtime.kernels.TwoBits"
#define GROUP 4           /* rows that are interleaved */
#define WIDE 256          /* columns of 64 bytes */
#define MOST_COLUMNS (1 << 20) /* sums stay within 32 bits */
#define AT_ONCE 64        /* rows of x that are rounded together */
#define AHEAD 4096        /* prefetch distance in bytes */

enum { BASELINE, AVX2, VNNI, VARIANTS };

typedef struct {
    size_t rows, cols, chunks, tail, group_bytes;
    int lowest;
    float step;
    const uint8_t *codes;
    Weights memory;
} Matrix;

/* A row of x rounded: [chunks + 1][4][64], its step and the sum of its integers. */
typedef struct {
    float step;
    int32_t sum;
} Rounded;

/* ---- rounding x ------------------------------------------------------------------------------------------- */

#define TO_INTEGER 12582912.0f /* 1.5 * 2^23: added to a small number it rounds it, ties to even */

INLINE uint32_t bits_of(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

/* `q` has room for [chunks + 1][4][64]. */
INLINE Rounded round_row(const Matrix *m, const float *x, int8_t *q) {
    const size_t n = m->cols, wide = m->chunks * WIDE;
    uint32_t largest = 0;
    for (size_t c = 0; c < n; c++) {
        uint32_t size = bits_of(x[c]) & 0x7fffffff;
        largest = size > largest ? size : largest;
    }
    float most;
    memcpy(&most, &largest, sizeof most);
    float times = 127.0f / most;
    if (largest >= 0x7f800000 || bits_of(times) >= 0x7f800000) { /* not finite; or tiny, or zero */
        memset(q, 0, wide + WIDE);
        return (Rounded){largest >= 0x7f800000 ? most - most : 0.0f, 0};
    }
    int32_t sum = 0;
    for (size_t c = 0; c < wide; c++) {
        int32_t whole = (int32_t)(bits_of(x[c] * times + TO_INTEGER) - bits_of(TO_INTEGER));
        q[c] = (int8_t)whole;
        sum += whole;
    }
    memset(q + wide, 0, WIDE);
    for (size_t c = wide; c < n; c++) {
        int32_t whole = (int32_t)(bits_of(x[c] * times + TO_INTEGER) - bits_of(TO_INTEGER));
        q[wide + (c - wide) / m->tail * 64 + (c - wide) % m->tail] = (int8_t)whole;
        sum += whole;
    }
    return (Rounded){most / 127.0f, sum};
}

/* ---- a group of rows times a row of x ---------------------------------------------------------------------- */

/* Steps of 64 bytes per row: the chunks, and the tail, whose further bytes are multiplied by zeros of x. */
INLINE void group_baseline(const Matrix *m, const uint8_t *w, const int8_t *q, int32_t *out) {
    for (int r = 0; r < GROUP; r++) {
        int32_t sum = 0;
        for (size_t s = 0; s <= m->chunks; s++) {
            const uint8_t *v = w + s * GROUP * 64 + r * (s < m->chunks ? 64 : m->tail);
            const int8_t *p = q + s * WIDE;
            const size_t n = s < m->chunks ? 64 : m->tail;
            for (size_t b = 0; b < n; b++)
                sum += (v[b] & 3) * p[b] + (v[b] >> 2 & 3) * p[64 + b] + (v[b] >> 4 & 3) * p[128 + b] +
                       (v[b] >> 6) * p[192 + b];
        }
        out[r] = sum;
    }
}

#ifdef X86
#define FOR_AVX2 __attribute__((target("avx2"))) static inline
#define FOR_VNNI __attribute__((target("avx512f,avx512bw,avx512vl,avx512vnni"))) static inline

FOR_AVX2 __m128i sums_of_four(__m256i a, __m256i b, __m256i c, __m256i d) {
    __m256i all = _mm256_hadd_epi32(_mm256_hadd_epi32(a, b), _mm256_hadd_epi32(c, d));
    return _mm_add_epi32(_mm256_castsi256_si128(all), _mm256_extracti128_si256(all, 1));
}

/* 32 bytes of one row: sums of two products fit in 16 bits, and so do four such sums. */
FOR_AVX2 __m256i half_avx2(__m256i sum, const uint8_t *w, const int8_t *q) {
    const __m256i three = _mm256_set1_epi8(3);
    __m256i v = _mm256_loadu_si256((const __m256i *)w), pairs = _mm256_setzero_si256();
    for (int k = 0; k < 4; k++) {
        __m256i codes = _mm256_and_si256(_mm256_srli_epi16(v, 2 * k), three);
        pairs = _mm256_add_epi16(pairs, _mm256_maddubs_epi16(codes, _mm256_loadu_si256((const __m256i *)(q + 64 * k))));
    }
    return _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}

FOR_AVX2 void group_avx2(const Matrix *m, const uint8_t *w, const int8_t *q, int32_t *out) {
    __m256i sum[GROUP];
    for (int r = 0; r < GROUP; r++) sum[r] = _mm256_setzero_si256();
    for (size_t s = 0; s < m->chunks + (m->tail > 0); s++) {
        const size_t apart = s < m->chunks ? 64 : m->tail;
        const uint8_t *v = w + s * GROUP * 64;
        for (int r = 0; r < GROUP; r++) {
            FETCH(v + r * 64 + AHEAD);
            sum[r] = half_avx2(sum[r], v + r * apart, q + s * WIDE);
            sum[r] = half_avx2(sum[r], v + r * apart + 32, q + s * WIDE + 32);
        }
    }
    _mm_storeu_si128((__m128i *)out, sums_of_four(sum[0], sum[1], sum[2], sum[3]));
}

/* Four sums per row, of codes times 1, 4, 16 and 64. */
#define STEP_OF_VNNI(APART)                                                                                  \
    for (int r = 0; r < GROUP; r++) {                                                                        \
        __m512i v = _mm512_loadu_si512(at + r * (APART));                                                    \
        for (int k = 0; k < 4; k++)                                                                          \
            sum[r][k] = _mm512_dpbusd_epi32(sum[r][k], _mm512_and_si512(v, mask[k]), x[k]);                  \
    }

FOR_VNNI void group_vnni(const Matrix *m, const uint8_t *w, const int8_t *q, int32_t *out) {
    __m512i sum[GROUP][4], mask[4], x[4];
    __m256i half[GROUP];
    const uint8_t *at = w;
    for (int k = 0; k < 4; k++) mask[k] = _mm512_set1_epi8((char)(3 << 2 * k));
    for (int r = 0; r < GROUP; r++)
        for (int k = 0; k < 4; k++) sum[r][k] = _mm512_setzero_si512();
    for (size_t s = 0; s < m->chunks; s++, at += GROUP * 64, q += WIDE) {
        for (int r = 0; r < GROUP; r++) FETCH(at + r * 64 + AHEAD);
        for (int k = 0; k < 4; k++) x[k] = _mm512_loadu_si512(q + 64 * k);
        STEP_OF_VNNI(64)
    }
    if (m->tail) {
        for (int k = 0; k < 4; k++) x[k] = _mm512_loadu_si512(q + 64 * k);
        STEP_OF_VNNI(m->tail)
    }
    for (int r = 0; r < GROUP; r++) {
        __m512i low = _mm512_add_epi32(sum[r][0], _mm512_srai_epi32(sum[r][1], 2));
        __m512i high = _mm512_add_epi32(_mm512_srai_epi32(sum[r][2], 4), _mm512_srai_epi32(sum[r][3], 6));
        __m512i all = _mm512_add_epi32(low, high);
        half[r] = _mm256_add_epi32(_mm512_castsi512_si256(all), _mm512_extracti64x4_epi64(all, 1));
    }
    __m256i four = _mm256_hadd_epi32(_mm256_hadd_epi32(half[0], half[1]), _mm256_hadd_epi32(half[2], half[3]));
    _mm_storeu_si128((__m128i *)out, _mm_add_epi32(_mm256_castsi256_si128(four), _mm256_extracti128_si256(four, 1)));
}
#endif

/* ---- rows of y ----------------------------------------------------------------------------------------------- */

/* A group's weights are multiplied by all rounded rows of x while they are in the cache. */
#define MULTIPLY(NAME, TARGET, GROUP_SUMS)                                                                   \
    TARGET void NAME(const Matrix *m, const Call *call, size_t b0, size_t n, int8_t *q, Rounded *of) {       \
        const size_t stride = (m->chunks + 1) * WIDE;                                                        \
        for (size_t b = 0; b < n; b++) of[b] = round_row(m, call->x + (b0 + b) * call->width, q + b * stride); \
        for (size_t r0 = call->row0; r0 < call->row1; r0 += GROUP) {                                         \
            const uint8_t *w = m->codes + r0 / GROUP * m->group_bytes;                                       \
            size_t high = call->row1 - r0 < GROUP ? call->row1 - r0 : GROUP;                                 \
            for (size_t b = 0; b < n; b++) {                                                                 \
                int32_t sums[GROUP];                                                                         \
                float y[GROUP];                                                                              \
                const float times = m->step * of[b].step;                                                    \
                GROUP_SUMS(m, w, q + b * stride, sums);                                                      \
                for (int r = 0; r < GROUP; r++) y[r] = (float)(sums[r] + m->lowest * of[b].sum) * times;     \
                finish(call, y, 1, r0, high, call->y + (b0 + b) * m->rows + r0);                             \
            }                                                                                                \
        }                                                                                                    \
    }
MULTIPLY(multiply_baseline, static, group_baseline)
#ifdef X86
MULTIPLY(multiply_avx2, __attribute__((target("avx2"))) static, group_avx2)
MULTIPLY(multiply_vnni, __attribute__((target("avx512f,avx512bw,avx512vl,avx512vnni"))) static, group_vnni)
#endif

static const char *const NAMES[VARIANTS] = {"baseline", "avx2", "avx512vnni"};

static int runs(int variant) {
    if (variant == BASELINE) return 1;
#ifdef X86
    __builtin_cpu_init();
    if (variant == AVX2) return !!__builtin_cpu_supports("avx2");
    if (variant == VNNI)
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
               __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni");
#endif
    return 0;
}

static void part(const Matrix *m, const Call *call, int variant, size_t b0, size_t n, int8_t *q, Rounded *of) {
#ifdef X86
    if (variant == VNNI) {
        multiply_vnni(m, call, b0, n, q, of);
        return;
    }
    if (variant == AVX2) {
        multiply_avx2(m, call, b0, n, q, of);
        return;
    }
#endif
    multiply_baseline(m, call, b0, n, q, of);
}

static int product(const void *matrix, const Call *call, int variant) {
    const Matrix *m = matrix;
    const size_t most = call->batch < AT_ONCE ? call->batch : AT_ONCE;
    Rounded of[AT_ONCE];
    void *memory;
    int8_t *q = aligned(most * (m->chunks + 1) * WIDE, &memory);
    if (!q) {
        PyErr_NoMemory();
        return -1;
    }
    Py_BEGIN_ALLOW_THREADS
    for (size_t b = 0; b < call->batch; b += AT_ONCE)
        part(m, call, variant, b, call->batch - b < AT_ONCE ? call->batch - b : AT_ONCE, q, of);
    Py_END_ALLOW_THREADS
    free(memory);
    return 0;
}

/* ---- Python interface ---------------------------------------------------------------------------------------- */

static Shape shape_of(const void *matrix) {
    const Matrix *m = matrix;
    return (Shape){m->rows, m->cols, 0};
}

static const Kernel KERNEL = {CAPSULE, GROUP, VARIANTS, NAMES, runs, shape_of, product};

static void release(PyObject *capsule) {
    Matrix *m = PyCapsule_GetPointer(capsule, CAPSULE);
    if (m) free_weights(m->memory);
    free(m);
}

/* A copy of the codes, and 64 more bytes, which the last tail reads and multiplies by zero. */
static PyObject *build(Matrix shape, const Py_buffer *codes) {
    Matrix *m = malloc(sizeof *m);
    if (!m) return PyErr_NoMemory();
    *m = shape;
    m->memory = take_weights((size_t)codes->len + 64);
    if (!m->memory.start) {
        free(m);
        return PyErr_NoMemory();
    }
    memcpy(m->memory.start, codes->buf, codes->len);
    memset(m->memory.start + codes->len, 0, 64);
    m->codes = (const uint8_t *)m->memory.start;
    PyObject *capsule = PyCapsule_New(m, CAPSULE, release);
    if (!capsule) {
        free_weights(m->memory);
        free(m);
    }
    return capsule;
}

static PyObject *pack(PyObject *self, PyObject *args) {
    Py_ssize_t rows, cols;
    Py_buffer codes;
    Matrix m = {0};
    if (!PyArg_ParseTuple(args, "nnify*", &rows, &cols, &m.lowest, &m.step, &codes)) return NULL;
    const char *wrong = NULL;
    if (rows < 0 || cols < 0 || rows > INT32_MAX || cols > MOST_COLUMNS) wrong = "impossible sizes";
    else if (m.lowest < -3 || m.lowest > 0) wrong = "the lowest weight must be -3 to 0 steps";
    else {
        m.rows = rows, m.cols = cols, m.chunks = m.cols / WIDE;
        m.tail = (m.cols % WIDE + 63) / 64 * 16;
        m.group_bytes = GROUP * (m.chunks * 64 + m.tail);
        if ((size_t)codes.len != (m.rows + GROUP - 1) / GROUP * m.group_bytes) wrong = "wrong number of bytes";
    }
    PyObject *capsule = NULL;
    if (wrong) PyErr_SetString(PyExc_ValueError, wrong);
    else capsule = build(m, &codes);
    PyBuffer_Release(&codes);
    return capsule;
}

static PyObject *multiply(PyObject *self, PyObject *args) { return multiply_by(&KERNEL, args); }

static PyObject *quick(PyObject *self, PyObject *args) { return new_quick(&KERNEL, args); }

static PyObject *variants(PyObject *self, PyObject *none) { return variants_of(&KERNEL); }

static PyObject *nbytes(PyObject *self, PyObject *capsule) {
    const Matrix *m = PyCapsule_GetPointer(capsule, CAPSULE);
    return m ? PyLong_FromSize_t(m->memory.bytes) : NULL;
}

static PyMethodDef METHODS[] = {
    {"pack", pack, METH_VARARGS, "pack(rows, cols, lowest, step, codes) -> matrix"},
    {"multiply", multiply, METH_VARARGS,
     "multiply(matrix, x, width, batch, y, bias, relu, add, row0, row1, variant): fills rows row0..row1 of y"},
    {"quick", quick, METH_VARARGS, "quick(matrix, numpy.empty, dtype, most rows of x, variant) -> function"},
    {"nbytes", nbytes, METH_O, "nbytes(matrix) -> bytes of memory that it holds"},
    {"variants", variants, METH_NOARGS, "variants() -> names of the code paths this processor runs, best last"},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot SLOTS[] = {{0, NULL}};
static struct PyModuleDef MODULE = {PyModuleDef_HEAD_INIT, "_twobit", NULL, 0, METHODS, SLOTS, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__twobit(void) { return PyModuleDef_Init(&MODULE); }
