/* Decodes and encodes the symbol stream's three kinds of symbols (FORMAT.md, "Symbol stream"). ans.py does the same
 * in Python where this file was not compiled, with the same arguments and results.
 *
 * A decoding function takes the stream's words, the number of words left and the state, and returns the new number and
 * state. The caller must detect an exhausted stream (no words left and a state below 2^31).
 * An encoding function goes from the last symbol to the first. It takes room for one word per symbol (two for integers
 * of more than 16 bits; a symbol has at least one slot, so none takes more) and the state, and returns the number of
 * words written and the state.
 */
#include "ans.h"

#if defined(_MSC_VER) && (defined(_M_X64) || defined(_M_ARM64))
#include <intrin.h>
#endif

#define BUCKET_BITS 11
#define BUCKETS (1u << BUCKET_BITS)
#define PART 16 /* bits that one symbol carries at most */

/* ---- decoding ------------------------------------------------------------------------------------------------ */

static const char *read_flags(Stream *s, const int64_t *probabilities, size_t n, int32_t *out) {
    for (size_t k = 0; k < n; k++) {
        if (probabilities[k] < 1 || probabilities[k] >= (int64_t)ONE) return "wrong probability";
        out[k] = (int32_t)flag(s, (uint32_t)probabilities[k]);
    }
    return NULL;
}

/* A table for many draws: `first` is the class at the start of each of 2^BUCKET_BITS equal ranges of slots. The class
 * `likely` is tested first: if it has three quarters of the slots, the branch costs less than the look-up. */
typedef struct {
    uint32_t starts[MOST_CLASSES + 1];
    uint16_t first[BUCKETS];
    size_t classes, likely;
    uint32_t likely_width; /* 0: there is no such class */
} Table;

static void prepare(Table *t, const int64_t *counts, size_t classes, size_t n) {
    t->classes = classes;
    t->likely = 0;
    tabulate(counts, classes, t->starts);
    for (size_t c = 1; c < classes; c++)
        if (t->starts[c + 1] - t->starts[c] > t->starts[t->likely + 1] - t->starts[t->likely]) t->likely = c;
    t->likely_width = t->starts[t->likely + 1] - t->starts[t->likely];
    if (t->likely_width < SLOTS / 4 * 3) t->likely_width = 0;
    if (n < BUCKETS / 8) return; /* few draws use a search */
    for (uint32_t b = 0, c = 0; b < BUCKETS; b++) {
        while (t->starts[c + 1] <= b * (SLOTS / BUCKETS)) c++;
        t->first[b] = (uint16_t)c;
    }
}

static void read_draws(Stream *stream, const Table *t, size_t n, int32_t *out) {
    Stream s = *stream; /* a copy stays in registers */
    const uint32_t likely_start = t->starts[t->likely], likely_width = t->likely_width;
    const int few = n < BUCKETS / 8;
    for (size_t k = 0; k < n; k++) {
        const uint32_t slot = s.state & (SLOTS - 1);
        if (slot - likely_start < likely_width) {
            out[k] = (int32_t)t->likely;
            drop(&s, likely_start, likely_width);
            continue;
        }
        size_t c = few ? search(t->starts, t->classes, slot) : t->first[slot / (SLOTS / BUCKETS)];
        while (slot >= t->starts[c + 1]) c++;
        out[k] = (int32_t)c;
        drop(&s, t->starts[c], t->starts[c + 1] - t->starts[c]);
    }
    *stream = s;
}

static void read_bits(Stream *s, int width, size_t n, int32_t *out) {
    memset(out, 0, n * sizeof *out);
    for (int shift = 0; shift < width; shift += PART) {
        const int part = width - shift < PART ? width - shift : PART;
        for (size_t k = 0; k < n; k++) {
            const uint32_t start = (s->state & (SLOTS - 1)) >> (24 - part) << (24 - part);
            out[k] |= (int32_t)(start >> (24 - part) << shift);
            drop(s, start, SLOTS >> part);
        }
    }
}

/* ---- encoding ------------------------------------------------------------------------------------------------ */

typedef struct {
    uint32_t *words;
    size_t used;
    uint64_t state;
} Pile;

/* Keeps the state below 2^64 when a symbol of `width` slots is encoded. */
static inline void make_room(Pile *p, uint32_t width) {
    if (p->state >> 40 < width) return;
    p->words[p->used++] = (uint32_t)p->state;
    p->state >>= 32;
}

static inline void put(Pile *p, uint32_t start, uint32_t width) {
    make_room(p, width);
    p->state = (p->state / width << 24) + p->state % width + start;
}

static const char *write_flags(Pile *p, const int64_t *probabilities, const int32_t *symbols, size_t n) {
    for (size_t k = n; k-- > 0;) {
        if (probabilities[k] < 1 || probabilities[k] >= (int64_t)ONE) return "wrong probability";
        if (symbols[k] != 0 && symbols[k] != 1) return "wrong symbol";
        const uint32_t start = flag_start((uint32_t)probabilities[k]);
        put(p, symbols[k] ? start : 0, symbols[k] ? SLOTS - start : start);
    }
    return NULL;
}

/* The upper 64 bits of a product. */
static inline uint64_t high(uint64_t a, uint64_t b) {
#if defined(__SIZEOF_INT128__)
    return (uint64_t)((unsigned __int128)a * b >> 64);
#elif defined(_MSC_VER) && (defined(_M_X64) || defined(_M_ARM64))
    return __umulh(a, b);
#else
    const uint64_t a0 = (uint32_t)a, a1 = a >> 32, b0 = (uint32_t)b, b1 = b >> 32;
    const uint64_t middle = a1 * b0 + (a0 * b0 >> 32), other = a0 * b1 + (uint32_t)middle;
    return a1 * b1 + (middle >> 32) + (other >> 32);
#endif
}

typedef struct {
    uint64_t inverse; /* floor((2^64 - 1) / width) */
    uint32_t start, width;
} Class;

/* `put` without a division: state * inverse / 2^64 is the quotient or at most 1 less. */
static inline void put_class(Pile *p, const Class *c) {
    const uint32_t width = c->width;
    make_room(p, width);
    const uint64_t quotient = high(p->state, c->inverse), rest = p->state - quotient * width;
    const uint64_t next = (quotient << 24) + rest + c->start;
    p->state = rest < width ? next : next + (SLOTS - width);
}

static void classify(const int64_t *counts, size_t classes, uint32_t *starts, Class *table) {
    tabulate(counts, classes, starts);
    for (size_t c = 0; c < classes; c++) {
        const uint32_t width = starts[c + 1] - starts[c];
        table[c] = (Class){UINT64_MAX / width, starts[c], width};
    }
}

static const char *write_draws(Pile *pile, const Class *table, size_t classes, const int32_t *symbols, size_t n) {
    Pile p = *pile; /* a copy stays in registers */
    for (size_t k = n; k-- > 0;) {
        const uint32_t symbol = (uint32_t)symbols[k];
        if (symbol >= classes) return "wrong symbol";
        put_class(&p, table + symbol);
    }
    *pile = p;
    return NULL;
}

static const char *write_bits(Pile *p, int width, const int32_t *symbols, size_t n) {
    for (size_t k = 0; k < n; k++)
        if (symbols[k] < 0 || (int64_t)symbols[k] >> width) return "wrong symbol";
    for (int shift = width > PART ? PART : 0; shift >= 0; shift -= PART) { /* the upper part is decoded last */
        const int part = width - shift < PART ? width - shift : PART;
        for (size_t k = n; part && k-- > 0;) {
            const uint32_t piece = (uint32_t)symbols[k] >> shift & ((1u << part) - 1);
            put(p, piece << (24 - part), SLOTS >> part);
        }
    }
    return NULL;
}

/* ---- Python interface -------------------------------------------------------------------------------------- */

/* The error message for a table's counts, or NULL. */
static const char *miscounted(const Py_buffer *counts) {
    const int64_t *count = counts->buf;
    const size_t classes = (size_t)counts->len / sizeof *count;
    int64_t sum = 0;
    if (!holds(counts, sizeof *count) || classes < 2 || classes > MOST_CLASSES) return "wrong classes";
    for (size_t c = 0; c < classes; c++) {
        if (count[c] < 0 || count[c] > MOST_COUNTS - sum) return "wrong counts";
        sum += count[c];
    }
    return sum ? NULL : "wrong counts";
}

static PyObject *flags(PyObject *self, PyObject *args) {
    Py_buffer words, probabilities, out;
    Py_ssize_t left;
    uint64_t state;
    Stream s = {0};
    if (!PyArg_ParseTuple(args, "y*O&O&y*w*", &words, to_size, &left, to_state, &state, &probabilities, &out)) return NULL;
    const char *wrong = opened(&s, &words, left, state);
    if (!wrong && (!holds(&probabilities, 8) || !holds(&out, 4) || probabilities.len / 8 != out.len / 4)) wrong = "wrong sizes";
    if (!wrong) {
        Py_BEGIN_ALLOW_THREADS
        wrong = read_flags(&s, probabilities.buf, (size_t)out.len / 4, out.buf);
        Py_END_ALLOW_THREADS
    }
    PyBuffer_Release(&words);
    PyBuffer_Release(&probabilities);
    PyBuffer_Release(&out);
    return told(s.left, s.state, wrong);
}

static PyObject *draws(PyObject *self, PyObject *args) {
    Py_buffer words, counts, out;
    Py_ssize_t left;
    uint64_t state;
    Stream s = {0};
    if (!PyArg_ParseTuple(args, "y*O&O&y*w*", &words, to_size, &left, to_state, &state, &counts, &out)) return NULL;
    const char *wrong = opened(&s, &words, left, state);
    if (!wrong && !holds(&out, 4)) wrong = "wrong sizes";
    if (!wrong) wrong = miscounted(&counts);
    Table *table = wrong ? NULL : malloc(sizeof *table);
    if (!wrong && !table) wrong = NO_MEMORY;
    if (!wrong) {
        prepare(table, counts.buf, (size_t)counts.len / 8, (size_t)out.len / 4); /* under the GIL */
        Py_BEGIN_ALLOW_THREADS
        read_draws(&s, table, (size_t)out.len / 4, out.buf);
        Py_END_ALLOW_THREADS
    }
    free(table);
    PyBuffer_Release(&words);
    PyBuffer_Release(&counts);
    PyBuffer_Release(&out);
    return told(s.left, s.state, wrong);
}

static PyObject *bits(PyObject *self, PyObject *args) {
    Py_buffer words, out;
    Py_ssize_t left, width;
    uint64_t state;
    Stream s = {0};
    if (!PyArg_ParseTuple(args, "y*O&O&O&w*", &words, to_size, &left, to_state, &state, to_size, &width, &out))
        return NULL;
    const char *wrong = opened(&s, &words, left, state);
    if (!wrong && (width < 0 || width > 31)) wrong = "wrong width";
    if (!wrong && !holds(&out, 4)) wrong = "wrong sizes";
    if (!wrong) {
        Py_BEGIN_ALLOW_THREADS
        read_bits(&s, (int)width, (size_t)out.len / 4, out.buf);
        Py_END_ALLOW_THREADS
    }
    PyBuffer_Release(&words);
    PyBuffer_Release(&out);
    return told(s.left, s.state, wrong);
}

/* The error message for the room and the symbols of an encoding function, or NULL. */
static const char *piled(Pile *p, const Py_buffer *room, uint64_t state, const Py_buffer *symbols, int parts) {
    *p = (Pile){room->buf, 0, state};
    if (!holds(room, 4) || !holds(symbols, 4)) return "wrong sizes";
    return room->len / parts < symbols->len || overlap(room, symbols) ? "wrong room" : NULL;
}

static PyObject *put_flags(PyObject *self, PyObject *args) {
    Py_buffer room, probabilities, symbols;
    uint64_t state;
    Pile p;
    if (!PyArg_ParseTuple(args, "w*O&y*y*", &room, to_state, &state, &probabilities, &symbols)) return NULL;
    const char *wrong = piled(&p, &room, state, &symbols, 1);
    if (!wrong && (!holds(&probabilities, 8) || probabilities.len / 8 != symbols.len / 4)) wrong = "wrong sizes";
    if (!wrong) {
        Py_BEGIN_ALLOW_THREADS
        wrong = write_flags(&p, probabilities.buf, symbols.buf, (size_t)symbols.len / 4);
        Py_END_ALLOW_THREADS
    }
    PyBuffer_Release(&room);
    PyBuffer_Release(&probabilities);
    PyBuffer_Release(&symbols);
    return told(p.used, p.state, wrong);
}

static PyObject *put_draws(PyObject *self, PyObject *args) {
    Py_buffer room, counts, symbols;
    uint64_t state;
    Pile p;
    if (!PyArg_ParseTuple(args, "w*O&y*y*", &room, to_state, &state, &counts, &symbols)) return NULL;
    const char *wrong = piled(&p, &room, state, &symbols, 1);
    if (!wrong) wrong = miscounted(&counts);
    const size_t classes = (size_t)counts.len / 8;
    uint32_t *starts = wrong ? NULL : malloc((classes + 1) * sizeof *starts);
    Class *table = wrong ? NULL : malloc(classes * sizeof *table);
    if (!wrong && !(starts && table)) wrong = NO_MEMORY;
    if (!wrong) {
        classify(counts.buf, classes, starts, table); /* under the GIL */
        Py_BEGIN_ALLOW_THREADS
        wrong = write_draws(&p, table, classes, symbols.buf, (size_t)symbols.len / 4);
        Py_END_ALLOW_THREADS
    }
    free(starts);
    free(table);
    PyBuffer_Release(&room);
    PyBuffer_Release(&counts);
    PyBuffer_Release(&symbols);
    return told(p.used, p.state, wrong);
}

static PyObject *put_bits(PyObject *self, PyObject *args) {
    Py_buffer room, symbols;
    Py_ssize_t width;
    uint64_t state;
    Pile p;
    if (!PyArg_ParseTuple(args, "w*O&O&y*", &room, to_state, &state, to_size, &width, &symbols)) return NULL;
    const char *wrong = piled(&p, &room, state, &symbols, width > PART ? 2 : 1);
    if (!wrong && (width < 0 || width > 31)) wrong = "wrong width";
    if (!wrong) {
        Py_BEGIN_ALLOW_THREADS
        wrong = write_bits(&p, (int)width, symbols.buf, (size_t)symbols.len / 4);
        Py_END_ALLOW_THREADS
    }
    PyBuffer_Release(&room);
    PyBuffer_Release(&symbols);
    return told(p.used, p.state, wrong);
}

static PyMethodDef methods[] = {
    {"flags", flags, METH_VARARGS, "flags(words, left, state, probabilities, out): one flag per probability."},
    {"draws", draws, METH_VARARGS, "draws(words, left, state, counts, out): classes drawn by their counts."},
    {"bits", bits, METH_VARARGS, "bits(words, left, state, width, out): integers of equally likely bits."},
    {"put_flags", put_flags, METH_VARARGS, "put_flags(room, state, probabilities, symbols): what `flags` reads."},
    {"put_draws", put_draws, METH_VARARGS, "put_draws(room, state, counts, symbols): what `draws` reads."},
    {"put_bits", put_bits, METH_VARARGS, "put_bits(room, state, width, symbols): what `bits` reads."},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef module = {PyModuleDef_HEAD_INIT, .m_name = "_coder", .m_size = 0, .m_methods = methods};

PyMODINIT_FUNC PyInit__coder(void) { return PyModuleDef_Init(&module); }
