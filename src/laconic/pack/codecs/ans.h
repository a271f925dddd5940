/* The symbol stream's coder, shared by coder.c, adaptive.c and mixed.c (FORMAT.md, "Symbol stream"): an asymmetric numeral
 * system with 32-bit words, a 64-bit state and 24-bit probabilities. At the end, their common Python interface.
 *
 * All arithmetic is on integers, except one division and one multiplication of doubles in a draw's table. Nothing is
 * added to that product, so compilers cannot fuse it; it must be rounded to a double, which the x87 unit does not do.
 */
#ifndef LACONIC_ANS_H
#define LACONIC_ANS_H
#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000
#include <Python.h>
#include <float.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if FLT_EVAL_METHOD == 2 || FLT_EVAL_METHOD < 0
#error "products of doubles are not rounded to doubles here (32-bit x86 needs -msse2 -mfpmath=sse); NumPy reads instead"
#endif

#define ONE (1u << 15)
#define SLOTS (1u << 24)
#define MOST_CLASSES 4096
#define MOST_COUNTS ((int64_t)1 << 53) /* sums of counts are exact doubles */

typedef struct {
    const uint32_t *words;
    size_t left;
    uint64_t state;
} Stream;

static inline int dry(const Stream *s) { return s->left == 0 && s->state < (1u << 31); }

/* The symbol has `width` slots from `start` on. */
static inline void drop(Stream *s, uint32_t start, uint32_t width) {
    s->state = (s->state >> 24) * width + (s->state & (SLOTS - 1)) - start;
    if (s->state < ((uint64_t)1 << 32) && s->left) s->state = s->state << 32 | s->words[--s->left];
}

/* The first slot of a flag's symbol 1; `probability`: of 1, in units of 2^-15. */
static inline uint32_t flag_start(uint32_t probability) {
    return (uint32_t)((uint64_t)(ONE - probability) * (SLOTS - 2) / ONE) + 1;
}

static inline unsigned flag(Stream *s, uint32_t probability) {
    uint32_t start = flag_start(probability);
    unsigned yes = (s->state & (SLOTS - 1)) >= start;
    drop(s, yes ? start : 0, yes ? SLOTS - start : start);
    return yes;
}

/* The first slot of each class, from the counts; starts[classes] is SLOTS. */
static inline void tabulate(const int64_t *counts, size_t classes, uint32_t *starts) {
    int64_t sum = 0, before = 0;
    for (size_t c = 0; c < classes; c++) sum += counts[c];
    const double scale = (double)(SLOTS - classes) / (double)sum;
    for (size_t c = 0; c < classes; c++) {
        const double share = (double)before * scale;
        starts[c] = (uint32_t)share + (uint32_t)c;
        before += counts[c];
    }
    starts[classes] = SLOTS;
}

/* The class of `slot`: starts[class] <= slot < starts[class + 1]. */
static inline size_t search(const uint32_t *starts, size_t classes, uint32_t slot) {
    size_t low = 0, high = classes;
    while (high - low > 1) {
        size_t middle = (low + high) / 2;
        if (starts[middle] <= slot) low = middle;
        else high = middle;
    }
    return low;
}

/* ---- Python interface -------------------------------------------------------------------------------------- */

static const char NO_MEMORY[] = "no memory";

/* Converters for "O&". A size that overflows becomes the largest size, which every function refuses; a state that does
 * not fit 64 bits is a ValueError here. */
static int to_size(PyObject *object, void *size) {
    *(Py_ssize_t *)size = PyNumber_AsSsize_t(object, NULL);
    return *(Py_ssize_t *)size != -1 || !PyErr_Occurred();
}

static int to_state(PyObject *object, void *state) {
    *(uint64_t *)state = PyLong_AsUnsignedLongLong(object);
    if (*(uint64_t *)state != UINT64_MAX || !PyErr_Occurred()) return 1;
    if (PyErr_ExceptionMatches(PyExc_OverflowError)) PyErr_SetString(PyExc_ValueError, "wrong state");
    return 0;
}

/* Whether a buffer holds aligned items of `size` bytes. */
static inline int holds(const Py_buffer *b, size_t size) { return b->len % (Py_ssize_t)size == 0 && (uintptr_t)b->buf % size == 0; }

static inline int overlap(const Py_buffer *a, const Py_buffer *b) {
    const uintptr_t from = (uintptr_t)a->buf, other = (uintptr_t)b->buf;
    return from < other + (size_t)b->len && other < from + (size_t)a->len;
}

/* The start of every decoding function: the words, the number left, the state. */
static inline const char *opened(Stream *s, const Py_buffer *words, Py_ssize_t left, uint64_t state) {
    if (left < 0 || !holds(words, 4) || left > words->len / 4) return "wrong words";
    *s = (Stream){words->buf, (size_t)left, state};
    return NULL;
}

/* The end of every decoding function: the new number of words and state, or an exception. */
static inline PyObject *told(size_t words, uint64_t state, const char *wrong) {
    if (wrong == NO_MEMORY) return PyErr_NoMemory();
    if (!wrong) return Py_BuildValue("nK", (Py_ssize_t)words, (unsigned long long)state);
    PyErr_SetString(PyExc_ValueError, wrong);
    return NULL;
}
#endif
