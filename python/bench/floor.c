// A C extension method that takes bytes or str and returns fresh bytes: the floor under every
// binding that returns a copy.
#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030a0000
#include <Python.h>
#include <string.h>

static char value[1 << 16];

static PyObject *fresh(PyObject *module, PyObject *key)
{
    if (!PyUnicode_Check(key) && !PyBytes_Check(key)) {
        PyErr_SetString(PyExc_TypeError, "a key is bytes or str");
        return NULL;
    }
    return PyBytes_FromStringAndSize(value, 64);
}

static PyObject *fresh_16k(PyObject *module, PyObject *key)
{
    return PyBytes_FromStringAndSize(value, 16384);
}

static PyMethodDef methods[] = {
    {"fresh", fresh, METH_O, "64 fresh bytes"},
    {"fresh_16k", fresh_16k, METH_O, "16 KiB of fresh bytes"},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "floor", NULL, -1, methods};

PyMODINIT_FUNC PyInit_floor(void)
{
    // Pages that were never written are all the one page of zeros: 16 KiB of them would be read as
    // the same 4 KiB.
    memset(value, 'v', sizeof value);
    return PyModule_Create(&module);
}
