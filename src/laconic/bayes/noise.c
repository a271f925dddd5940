/* Noise on pre-activations in one pass over memory (bayes/layers/reparameterisation.py has the formula).
 *
 * The noise is looked up in a table of 2^16 quantiles by 16 random bits each, drawn by the caller. Look-ups take
 * most of the time, so there are no AVX2 or AVX-512 code paths: they are not faster.
 */
#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000
#include <Python.h>
#include <math.h>
#include <stdint.h>

#define QUANTILES 65536

/* mean += sqrt(max(variance, floor)) * noise; variance = the derivative noise / (2 sqrt(max(variance, floor))) */
static void draw_all(float *restrict mean, float *restrict variance, const int16_t *restrict bits,
                     const float *restrict table, float least, size_t n) {
    for (size_t i = 0; i < n; i++) {
        float v = variance[i] < least ? least : variance[i]; /* NaN is kept */
        float slope = 1.0f / sqrtf(v) * table[bits[i] + QUANTILES / 2];
        mean[i] = mean[i] + v * slope;
        variance[i] = 0.5f * slope;
    }
}

/* ---- Python interface ---------------------------------------------------------------------------------------- */

static PyObject *draw(PyObject *self, PyObject *args) {
    Py_buffer mean, variance, bits, table;
    float least;
    if (!PyArg_ParseTuple(args, "w*w*y*y*f", &mean, &variance, &bits, &table, &least)) return NULL;
    const size_t n = (size_t)mean.len / sizeof(float);
    const char *wrong = NULL;
    if (variance.len != mean.len) wrong = "mean and variance differ in length";
    else if ((size_t)bits.len / sizeof(int16_t) < n) wrong = "too few random bits";
    else if ((size_t)table.len != QUANTILES * sizeof(float)) wrong = "a wrong number of quantiles";
    else if (((uintptr_t)mean.buf | (uintptr_t)variance.buf | (uintptr_t)table.buf) % sizeof(float) ||
             (uintptr_t)bits.buf % sizeof(int16_t))
        wrong = "an array is not aligned";
    if (wrong) PyErr_SetString(PyExc_ValueError, wrong);
    else {
        Py_BEGIN_ALLOW_THREADS
        draw_all(mean.buf, variance.buf, bits.buf, table.buf, least, n);
        Py_END_ALLOW_THREADS
    }
    PyBuffer_Release(&mean);
    PyBuffer_Release(&variance);
    PyBuffer_Release(&bits);
    PyBuffer_Release(&table);
    return wrong ? NULL : Py_NewRef(Py_None);
}

static PyMethodDef METHODS[] = {
    {"draw", draw, METH_VARARGS,
     "draw(mean, variance, random bits, quantiles, least variance): mean becomes the draw, variance the slope"},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot SLOTS[] = {{0, NULL}};
static struct PyModuleDef MODULE = {PyModuleDef_HEAD_INIT, "_noise", NULL, 0, METHODS, SLOTS, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__noise(void) { return PyModuleDef_Init(&MODULE); }
