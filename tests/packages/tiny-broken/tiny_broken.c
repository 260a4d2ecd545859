#include <Python.h>

static int broken(void)
{
    return 42
}
